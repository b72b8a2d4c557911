"""The networks, as data: one row for each value of `model.name`. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ablate import plugins

INVERSE_FLOOR = 1e-8
"""Smallest inverse depth, in 1/m."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A DPT: ResNetV2 stem, ViT, four maps of 1/4 … 1/32 of the input, convolutional decoder."""

    position_grid: tuple[int, int]
    """Rows and columns of learned positions; other inputs interpolate them."""
    stem_channels: int
    stage_blocks: tuple[int, int, int]
    """Bottleneck blocks of the ResNet stages at 1/4, 1/8 and 1/16; the first two are tapped."""
    stage_channels: tuple[int, int, int]
    bottleneck: float
    """Inner width of a bottleneck block over its outer width."""
    norm_groups: int
    embed_dim: int
    blocks: int
    heads: int
    mlp_ratio: float
    taps: tuple[int, int]
    """Transformer blocks whose tokens become the maps of 1/16 and 1/32."""
    classes: int
    """Outputs of the classifier that timm's encoder carries along, unused; 0 for none."""
    features: int
    """Channels of the decoder."""
    head_channels: tuple[int, int]


SPECS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        # timm's vit_base_r50_s16_384 and the decoder of the published DPT-Hybrid: 123,146,985 parameters
        "dpt_hybrid": NetworkSpec(
            position_grid=(24, 24),
            stem_channels=64,
            stage_blocks=(3, 4, 9),
            stage_channels=(256, 512, 1024),
            bottleneck=0.25,
            norm_groups=32,
            embed_dim=768,
            blocks=12,
            heads=12,
            mlp_ratio=4.0,
            taps=(8, 11),
            classes=1000,
            features=256,
            head_channels=(128, 32),
        ),
        # learns depth from small pictures within a minute on one CPU core
        "dpt_tiny": NetworkSpec(
            position_grid=(6, 20),
            stem_channels=16,
            stage_blocks=(1, 1, 1),
            stage_channels=(32, 64, 96),
            bottleneck=0.5,
            norm_groups=8,
            embed_dim=64,
            blocks=4,
            heads=4,
            mlp_ratio=2.0,
            taps=(1, 3),
            classes=0,
            features=16,
            head_channels=(8, 8),
        ),
    }
)


def names() -> tuple[str, ...]:
    """All values of `model.name`, those of other packages last."""
    return tuple(dict.fromkeys([*SPECS, *plugins.entries("ablate.models")]))
