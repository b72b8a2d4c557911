"""timm's vision transformers at the sizes of a `NetworkSpec`, with untrained weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.layers import GroupNormAct, HybridEmbed, LayerNorm, StdConv2dSame
from timm.models.eva import Eva
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer

from ablate.depth.model.specs import NetworkSpec, Stem

DINOV3_EPSILON = 1e-5
"""Of the layer norms in timm's DINOv3; its other ViTs have 1e-6."""
DINOV3_TEMPERATURE = 100.0
"""Base of the rotary periods."""


def vision_transformer(spec: NetworkSpec) -> Any:
    """timm's `vit_base_r50_s16_384`, `vit_*_patch*`, or with rotary positions `vit_*_dinov3`, up to the last tap.

    Names of parameters are timm's; tests hold each against timm's own.
    """
    return _dinov3(spec) if spec.rotary else _learned(spec)


def _learned(spec: NetworkSpec) -> VisionTransformer:
    rows, columns = spec.position_grid or (0, 0)
    embedding = {} if spec.stem is None else {"embed_layer": partial(HybridEmbed, backbone=_resnet(spec.stem))}
    return VisionTransformer(
        img_size=(spec.patch * rows, spec.patch * columns),
        patch_size=1 if spec.stem else spec.patch,
        num_classes=spec.classes,
        embed_dim=spec.embed_dim,
        depth=spec.built,
        num_heads=spec.heads,
        mlp_ratio=spec.mlp_ratio,
        init_values=spec.layer_scale,
        reg_tokens=spec.registers,
        no_embed_class=spec.registers > 0,
        **embedding,
    )


def _resnet(stem: Stem) -> ResNetV2:
    return ResNetV2(
        layers=list(stem.stage_blocks),
        channels=stem.stage_channels,
        stem_chs=stem.channels,
        bottle_ratio=stem.bottleneck,
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="same",
        conv_layer=partial(StdConv2dSame, eps=1e-8),
        norm_layer=partial(GroupNormAct, num_groups=stem.norm_groups),
    )


def _dinov3(spec: NetworkSpec) -> Eva:
    return Eva(
        img_size=spec.stride,
        patch_size=spec.patch,
        num_classes=spec.classes,
        embed_dim=spec.embed_dim,
        depth=spec.built,
        num_heads=spec.heads,
        qkv_bias=False,
        mlp_ratio=spec.mlp_ratio,
        init_values=spec.layer_scale,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="dinov3",
        rope_temperature=DINOV3_TEMPERATURE,
        rope_rotate_half=True,
        dynamic_img_size=True,
        num_reg_tokens=spec.registers,
        use_fc_norm=False,
        norm_layer=partial(LayerNorm, eps=DINOV3_EPSILON),
    )
