"""The encoder of DPT: timm's hybrid ViT, run block by block so that its maps can be tapped without hooks.

Shapes: B batch, C channels, H x W map, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import GroupNormAct, HybridEmbed, StdConv2dSame
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ablate.depth.attention.base import replacements
from ablate.depth.model.specs import NetworkSpec

STRIDE = 16
"""Input pixels per token, each way."""
PREFIX = 1
"""Tokens before the patches: the class token."""


class Encoder(nn.Module):
    """Image -> four maps of 1/4, 1/8, 1/16 and 1/32. Names of parameters are the published `main` layout's."""

    def __init__(self, spec: NetworkSpec, attention: str, options: Mapping[str, int]) -> None:
        super().__init__()
        self.taps = spec.taps
        self.position_grid = spec.position_grid
        self.model = _vision_transformer(spec)
        theirs = [block.attn for block in self.model.blocks]
        ours = replacements(theirs, attention, spec.embed_dim, spec.heads, **options)
        for block, module in zip(self.model.blocks, ours, strict=True):
            block.attn = module
        self.act_postprocess3 = Reassemble(spec.embed_dim, halve=False)
        self.act_postprocess4 = Reassemble(spec.embed_dim, halve=True)

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Of the four maps."""
        stages = self.model.patch_embed.backbone.feature_info[1:3]
        width = self.model.embed_dim
        return (stages[0]["num_chs"], stages[1]["num_chs"], width, width)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Raises ValueError if H or W is not a multiple of 32."""
        if image_B3HW.shape[-2] % (2 * STRIDE) or image_B3HW.shape[-1] % (2 * STRIDE):
            height, width = image_B3HW.shape[-2:]
            raise ValueError(f"an input of {height}x{width} is not made of multiples of {2 * STRIDE}")
        backbone = self.model.patch_embed.backbone
        maps = []
        x_BCHW = backbone.stem(image_B3HW)
        for number, stage in enumerate(backbone.stages):
            x_BCHW = stage(x_BCHW)
            if number < 2:
                maps.append(x_BCHW)
        x_BCHW = self.model.patch_embed.proj(x_BCHW)
        grid = (x_BCHW.shape[-2], x_BCHW.shape[-1])
        third_BND, fourth_BND = self._tokens(x_BCHW.flatten(2).transpose(1, 2), grid)
        return [*maps, self.act_postprocess3(third_BND, grid), self.act_postprocess4(fourth_BND, grid)]

    def _tokens(self, patches_BND: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """The tokens after the tapped blocks. Blocks are run here because timm's cannot pass the grid on."""
        prefix_BND = self.model.cls_token.expand(patches_BND.shape[0], -1, -1)
        x_BND = torch.cat([prefix_BND, patches_BND], dim=1) + self._positions(grid)
        tapped = []
        for number, block in enumerate(self.model.blocks):
            x_BND = x_BND + block.attn(block.norm1(x_BND), grid=grid, prefix=PREFIX)
            x_BND = x_BND + block.mlp(block.norm2(x_BND))
            if number in self.taps:
                tapped.append(x_BND)
        return tapped

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """1ND; another grid than the learned one is interpolated bilinearly, as isl-org/DPT does."""
        positions_1ND = cast(Tensor, self.model.pos_embed)
        if grid == self.position_grid:
            return positions_1ND
        prefix_1ND, patches_1ND = positions_1ND[:, :PREFIX], positions_1ND[:, PREFIX:]
        grid_1DHW = patches_1ND.transpose(1, 2).reshape(1, -1, *self.position_grid)
        resized_1DHW = F.interpolate(grid_1DHW, size=grid, mode="bilinear", align_corners=False)
        return torch.cat([prefix_1ND, resized_1DHW.flatten(2).transpose(1, 2)], dim=1)


class Readout(nn.Module):
    """The class token joined to every patch (Ranftl et al. 2021, `project` of section 3)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU())

    def forward(self, x_BND: Tensor) -> Tensor:
        patches_BND = x_BND[:, PREFIX:]
        class_BND = x_BND[:, :1].expand_as(patches_BND)
        return cast(Tensor, self.project(torch.cat([patches_BND, class_BND], dim=-1)))


class Reassemble(nn.ModuleDict):
    """Tokens -> map of 1/16, or of 1/32 with `halve`. The published layout numbers its layers 0, 3 and 4."""

    def __init__(self, dim: int, halve: bool) -> None:
        layers: dict[str, nn.Module] = {"0": Readout(dim), "3": nn.Conv2d(dim, dim, 1)}
        if halve:
            layers["4"] = nn.Conv2d(dim, dim, 3, stride=2, padding=1)
        super().__init__(layers)

    def forward(self, x_BND: Tensor, grid: tuple[int, int]) -> Tensor:
        x_BDHW = self["0"](x_BND).transpose(1, 2).unflatten(2, grid)
        x_BDHW = self["3"](x_BDHW)
        return cast(Tensor, self["4"](x_BDHW) if "4" in self else x_BDHW)


def _vision_transformer(spec: NetworkSpec) -> VisionTransformer:
    """timm's `vit_base_r50_s16_384` at the sizes of `spec`; a test holds the two against each other."""
    backbone = ResNetV2(
        layers=list(spec.stage_blocks),
        channels=spec.stage_channels,
        stem_chs=spec.stem_channels,
        bottle_ratio=spec.bottleneck,
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="same",
        conv_layer=partial(StdConv2dSame, eps=1e-8),
        norm_layer=partial(GroupNormAct, num_groups=spec.norm_groups),
    )
    return VisionTransformer(
        img_size=tuple(STRIDE * side for side in spec.position_grid),
        patch_size=1,
        num_classes=spec.classes,
        embed_dim=spec.embed_dim,
        depth=spec.blocks,
        num_heads=spec.heads,
        mlp_ratio=spec.mlp_ratio,
        embed_layer=partial(HybridEmbed, backbone=backbone),
    )
