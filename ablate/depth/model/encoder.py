"""The encoders of all networks: timm's ViTs, run block by block so that they can be tapped without hooks.

Shapes: B batch, C channels, H x W map, N tokens (class token, registers, then patches row by row), D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ablate.depth.attention.base import replacements
from ablate.depth.model import positions
from ablate.depth.model.reassemble import Reassemble
from ablate.depth.model.specs import MAPS, NetworkSpec
from ablate.depth.model.transformer import vision_transformer

Blocks = Literal["all"] | Sequence[int]


class Encoder(nn.Module):
    """Image -> four maps, of 4, 2, 1 and 1/2 cells per token each way. Names of parameters are the `main` layout's."""

    def __init__(
        self,
        spec: NetworkSpec,
        attention: str = "standard",
        options: Mapping[str, Any] | None = None,
        *,
        blocks: Blocks = "all",
        share: bool = False,
    ) -> None:
        """`attention` with its `options` for `blocks`; `share`: one module for all of them."""
        super().__init__()
        self.spec = spec
        self.recompute = False
        model = vision_transformer(spec)
        theirs = [block.attn for block in model.blocks]
        ours = replacements(
            theirs, attention, spec.embed_dim, spec.heads, blocks=blocks, share=share, **(options or {})
        )
        for block, module in zip(model.blocks, ours, strict=True):
            block.attn = module
        self.model: Any = model
        self._numbers = range(MAPS - spec.tap_count + 1, MAPS + 1)
        for number, channels in zip(self._numbers, spec.map_channels, strict=True):
            self.add_module(f"act_postprocess{number}", Reassemble(spec, number, channels))

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the four maps."""
        return (*(self.spec.stem.stage_channels[:2] if self.spec.stem else ()), *self.spec.map_channels)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Raises ValueError if H or W is not a multiple of the network's stride."""
        height, width = image_B3HW.shape[-2:]
        if height % self.spec.stride or width % self.spec.stride:
            raise ValueError(f"an input of {height}x{width} is not made of multiples of {self.spec.stride}")
        maps, x_BDHW = self._embedded(image_B3HW)
        grid = (x_BDHW.shape[-2], x_BDHW.shape[-1])
        tapped = self._tokens(x_BDHW.flatten(2).transpose(1, 2), grid)
        for number, x_BND in zip(self._numbers, tapped, strict=True):
            maps.append(self.get_submodule(f"act_postprocess{number}")(x_BND, grid))
        return maps

    def _embedded(self, image_B3HW: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps of the ResNet stages, if there are any, and the patches as a map (BDHW)."""
        maps: list[Tensor] = []
        x_BCHW = image_B3HW
        if self.spec.stem is not None:
            backbone = self.model.patch_embed.backbone
            x_BCHW = backbone.stem(image_B3HW)
            for number, stage in enumerate(backbone.stages):
                x_BCHW = self._run(stage, x_BCHW)
                if number < MAPS - self.spec.tap_count:
                    maps.append(x_BCHW)
        return maps, self.model.patch_embed.proj(x_BCHW)

    def _tokens(self, patches_BND: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """The tokens after the tapped blocks. Blocks are run here because timm's cannot pass the grid on."""
        x_BND = self._positioned(patches_BND, grid)
        rope = self.model.rope.get_embed(grid) if self.spec.rotary else None
        tapped = []
        for number, block in enumerate(self.model.blocks):
            x_BND = self._run(partial(self._block, block, grid=grid, rope=rope), x_BND)
            if number in self.spec.taps:
                tapped.append(self.model.norm(x_BND) if self.spec.tap_norm else x_BND)
        return tapped

    def _block(self, block: Any, x_BND: Tensor, grid: tuple[int, int], rope: Tensor | None) -> Tensor:
        attended_BND = block.attn(block.norm1(x_BND), grid=grid, prefix=self.spec.prefix, rope=rope)
        x_BND = x_BND + _scaled(block, 1, attended_BND)
        return x_BND + _scaled(block, 2, block.mlp(block.norm2(x_BND)))

    def _run(self, layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`layer(x)`, keeping nothing but `x` for the backward pass if activations are to be computed again."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)

    def _positioned(self, patches_BND: Tensor, grid: tuple[int, int]) -> Tensor:
        """The class token, registers and patches, with learned positions added if the network has them."""
        prefix = [self.model.cls_token] + ([self.model.reg_token] if self.spec.registers else [])
        prefix_BND = torch.cat(prefix, dim=1).expand(patches_BND.shape[0], -1, -1)
        if self.spec.rotary:
            return torch.cat([prefix_BND, patches_BND], dim=1)
        positions_1ND = self._positions(grid)
        if self.spec.registers:  # they and the class token have no positions then
            return torch.cat([prefix_BND, patches_BND + positions_1ND], dim=1)
        return torch.cat([prefix_BND, patches_BND], dim=1) + positions_1ND

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """1ND: the learned positions for a grid of (rows, columns)."""
        learned = self.spec.position_grid
        if learned is None:
            raise TypeError("a network with rotary positions has no learned ones")
        return positions.resized(cast(Tensor, self.model.pos_embed), learned, grid, self.spec.interpolation)


def _scaled(block: Any, number: int, x_BND: Tensor) -> Tensor:
    """What a block adds, times its layer scale, if it has one: timm's DINOv3 keeps it elsewhere than its other ViTs."""
    if hasattr(block, f"ls{number}"):
        return cast(Tensor, getattr(block, f"ls{number}")(x_BND))
    gamma_D = getattr(block, f"gamma_{number}")
    return x_BND if gamma_D is None else cast(Tensor, gamma_D * x_BND)
