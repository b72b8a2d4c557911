"""The networks, as data: one row for each value of `model.name`. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Literal

from ablate import plugins
from ablate.errors import UsageError

INVERSE_FLOOR = 1e-8
"""Smallest inverse depth, in 1/m."""

MAPS = 4
"""Maps that the decoder fuses: 4, 2, 1 and 1/2 cells per token, each way."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB values in [0, 1]."""

Readout = Literal["ignore", "add", "project"]
DecoderNorm = Literal["none", "batch"]


@dataclass(frozen=True, kw_only=True)
class Stem:
    """A ResNetV2 before the transformer, as DPT-Hybrid has it: its first two stages are the two finest maps."""

    channels: int
    stage_blocks: tuple[int, int, int]
    """Bottleneck blocks of the stages at 1/4, 1/8 and 1/16 of the input."""
    stage_channels: tuple[int, int, int]
    bottleneck: float
    """Inner width of a bottleneck block over its outer width."""
    norm_groups: int


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A DPT: timm's ViT, four maps made of tapped tokens, convolutional decoder.

    Other packages register one as an entry point of the group `ablate.models`, best in a module that does not import
    torch, since studies are read without it. Raises ValueError if the numbers do not fit together.
    """

    patch: int = 16
    """Input pixels per token, each way; 16 with a stem."""
    stride: int = 32
    """Inputs are multiples of this, each way."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """By which the encoder's inputs are normalised, of RGB values in [0, 1]."""
    embed_dim: int
    blocks: int
    """Transformer blocks of the published encoder; those after the last tap are not built."""
    heads: int
    mlp_ratio: float = 4.0
    taps: tuple[int, ...]
    """Blocks, from 0, whose tokens become maps: four, or with a stem two, for the coarsest maps."""
    stem: Stem | None = None
    position_grid: tuple[int, int] | None
    """Rows and columns of learned positions, which are interpolated for other inputs; None for rotary positions."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Of learned positions: bilinear as isl-org/DPT, bicubic as DINOv2."""
    registers: int = 0
    """Tokens between the class token and the patches."""
    layer_scale: float | None = None
    """Start of the factors on what a block adds; None for a block without."""
    tap_norm: bool = False
    """Whether tapped tokens pass the encoder's last norm, as in Depth Anything."""
    readout: Readout = "ignore"
    """What becomes of the class token: nothing, added to every patch, or joined and projected (Ranftl et al. 2021)."""
    classes: int = 0
    """Outputs of the classifier that timm's encoder carries along, unused; 0 for none."""
    map_channels: tuple[int, ...]
    """Of the maps made of tapped tokens."""
    features: int
    """Channels of the decoder."""
    head_channels: tuple[int, int]
    decoder_norm: DecoderNorm = "none"
    """`batch`: batch normalisation in the residual units, DPT's `use_bn`."""

    def __post_init__(self) -> None:
        problems = [
            heads_problem(self, self.heads),
            taps_problem(self, self.taps),
            None if len(self.map_channels) == self.tap_count else f"{self.tap_count} map_channels are needed",
            "a stem makes tokens of 16 pixels: patch must be 16" if self.stem and self.patch != 16 else None,
            "a stem needs learned positions" if self.stem and self.rotary else None,
            None if self.stride % self.patch == 0 else f"stride must be a multiple of patch, {self.patch}",
        ]
        if found := [problem for problem in problems if problem]:
            raise ValueError("; ".join(found))

    @property
    def rotary(self) -> bool:
        """Whether positions turn queries and keys instead of being added to the tokens."""
        return self.position_grid is None

    @property
    def prefix(self) -> int:
        """Tokens before the patches: the class token and the registers."""
        return 1 + self.registers

    @property
    def built(self) -> int:
        """Transformer blocks that exist."""
        return self.taps[-1] + 1

    @property
    def tap_count(self) -> int:
        return MAPS if self.stem is None else MAPS - 2

    def head_choices(self) -> tuple[int, ...]:
        """Numbers of heads that can share the width."""
        return tuple(heads for heads in range(1, self.embed_dim + 1) if heads_problem(self, heads) is None)

    def tailored(
        self,
        *,
        heads: int | None = None,
        taps: tuple[int, ...] | None = None,
        readout: Readout | None = None,
        decoder_norm: DecoderNorm | None = None,
    ) -> NetworkSpec:
        """This network with other heads, taps, readout or decoder normalisation, where given. Raises ValueError."""
        return replace(
            self,
            heads=self.heads if heads is None else heads,
            taps=self.taps if taps is None else taps,
            readout=self.readout if readout is None else readout,
            decoder_norm=self.decoder_norm if decoder_norm is None else decoder_norm,
        )


def heads_problem(spec: NetworkSpec, heads: int) -> str | None:
    """Why so many heads cannot share the network's width, if they cannot."""
    if heads < 1 or spec.embed_dim % heads:
        return f"{heads} heads cannot share {spec.embed_dim} channels evenly"
    if spec.rotary and spec.embed_dim // heads % 4:
        width = spec.embed_dim // heads
        return f"{heads} heads are {width} channels wide each, and rotary positions need a multiple of 4"
    return None


def taps_problem(spec: NetworkSpec, taps: tuple[int, ...]) -> str | None:
    """Why these blocks cannot feed the decoder, if they cannot."""
    if len(taps) != spec.tap_count:
        coarse = " (its two finest maps come from the ResNet stages)" if spec.stem else ""
        return f"{len(taps)} taps, and the decoder takes {spec.tap_count}{coarse}"
    if list(taps) != sorted(set(taps)):
        return f"taps {list(taps)} are not in ascending order, each once"
    if taps[0] < 0 or taps[-1] >= spec.blocks:
        return f"tap {taps[0] if taps[0] < 0 else taps[-1]} is none of the blocks 0 to {spec.blocks - 1}"
    return None


_DINOV2 = NetworkSpec(
    # timm's vit_small_patch14_dinov2 and the decoder of Depth-Anything-V2-Small
    patch=14,
    stride=14,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    embed_dim=384,
    blocks=12,
    heads=6,
    taps=(2, 5, 8, 11),
    position_grid=(37, 37),
    interpolation="bicubic",
    layer_scale=1e-5,
    tap_norm=True,
    map_channels=(48, 96, 192, 384),
    features=64,
    head_channels=(32, 32),
)

_DINOV3 = replace(_DINOV2, patch=16, stride=32, position_grid=None, registers=4)
"""timm's vit_small_patch16_dinov3; there is no published decoder, so it has that of its DINOv2 sister."""


def _base(small: NetworkSpec) -> NetworkSpec:
    return replace(
        small, embed_dim=768, heads=12, map_channels=(96, 192, 384, 768), features=128, head_channels=(64, 32)
    )


def _large(small: NetworkSpec) -> NetworkSpec:
    return replace(
        small,
        embed_dim=1024,
        blocks=24,
        heads=16,
        taps=(4, 11, 17, 23),
        map_channels=(256, 512, 1024, 1024),
        features=256,
        head_channels=(128, 32),
    )


SPECS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        # timm's vit_base_r50_s16_384 and the decoder of the published DPT-Hybrid: 123,146,985 parameters
        "dpt_hybrid": NetworkSpec(
            stem=Stem(
                channels=64,
                stage_blocks=(3, 4, 9),
                stage_channels=(256, 512, 1024),
                bottleneck=0.25,
                norm_groups=32,
            ),
            position_grid=(24, 24),
            embed_dim=768,
            blocks=12,
            heads=12,
            taps=(8, 11),
            readout="project",
            classes=1000,
            map_channels=(768, 768),
            features=256,
            head_channels=(128, 32),
        ),
        # timm's vit_large_patch16_384 and the decoder of the published DPT-Large
        "dpt_large": NetworkSpec(
            position_grid=(24, 24),
            embed_dim=1024,
            blocks=24,
            heads=16,
            taps=(5, 11, 17, 23),
            readout="project",
            classes=1000,
            map_channels=(256, 512, 1024, 1024),
            features=256,
            head_channels=(128, 32),
        ),
        "dpt_dinov2_small": _DINOV2,
        "dpt_dinov2_base": _base(_DINOV2),
        "dpt_dinov2_large": _large(_DINOV2),
        "dpt_dinov3_small": _DINOV3,
        "dpt_dinov3_base": _base(_DINOV3),
        "dpt_dinov3_large": _large(_DINOV3),
        # learns depth from small pictures within a minute on one CPU core
        "dpt_tiny": NetworkSpec(
            stem=Stem(
                channels=16,
                stage_blocks=(1, 1, 1),
                stage_channels=(32, 64, 96),
                bottleneck=0.5,
                norm_groups=8,
            ),
            position_grid=(6, 20),
            embed_dim=64,
            blocks=4,
            heads=4,
            mlp_ratio=2.0,
            taps=(1, 3),
            readout="project",
            map_channels=(64, 64),
            features=16,
            head_channels=(8, 8),
        ),
    }
)


def names() -> tuple[str, ...]:
    """All values of `model.name`, those of other packages last."""
    return (*SPECS, *_plugged())


def load(name: str) -> NetworkSpec:
    """The row of `model.name: name`, from this package or from a plug-in.

    Raises ValueError for a name that is not registered, and UsageError if what is registered is no `NetworkSpec`.
    """
    if name in SPECS:
        return SPECS[name]
    point = _plugged().get(name)
    if point is None:
        raise ValueError(f"no network {name!r}; expected one of {', '.join(names())}")
    try:
        found = point.load()
    except (ImportError, AttributeError, ValueError) as error:  # ValueError: the row's numbers do not fit together
        raise UsageError(f"network {name!r}: its plug-in's {point.value} cannot be loaded: {error}") from error
    if not isinstance(found, NetworkSpec):
        raise UsageError(f"network {name!r}: its plug-in's {point.value} is a {type(found).__name__}, no NetworkSpec")
    return found


def _plugged() -> Mapping[str, EntryPoint]:
    """The networks of other packages. Raises UsageError if one has the name of a built-in."""
    found = plugins.entries("ablate.models")
    for name in sorted(found.keys() & SPECS.keys()):
        raise UsageError(
            f"ablate.models {name!r} of {found[name].value} has the name of a built-in network; "
            "give it another name in the package's entry points"
        )
    return found
