"""What an evaluation gives: means, scores of images, breakdowns, and panels of a few images. Part of `ablate.task`.

The engine stores breakdowns and panels, and reports draw them, and neither knows what they are of: everything that is
needed to show them is in these values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Json = Any
"""What `json.dumps(…, allow_nan=False)` takes."""


@dataclass(frozen=True)
class ImageScore:
    """The metrics of one image; None where the image has no valid pixel."""

    image: str
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class Column:
    """A number of each row of a breakdown: its key, its header, and its unit ('' if it has none)."""

    key: str
    header: str
    unit: str = ""


@dataclass(frozen=True)
class Breakdown:
    """An evaluation by ranges of some quantity, such as ground-truth depth, pooled over the images.

    `by` names the quantity, `unit` its unit. Each of `rows` has `low` and `high`, the range (low excluded), and the
    keys of `columns`: None where the range holds nothing.
    """

    by: str
    unit: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, float | int | None], ...]


@dataclass(frozen=True)
class Shades:
    """What the colours of a scalar layer mean: from `low` to `high`; the `near` end is light."""

    low: float
    high: float
    logarithmic: bool = False
    near: Literal["low", "high"] = "low"


@dataclass(frozen=True)
class Layer:
    """One picture of a panel: `image` values are HW3, 8-bit sRGB; `scalar` ones HW numbers, NaN where there is none.

    Numbers are kept in 16 bits: `per_unit` steps per unit, from 1 / per_unit to 65535 / per_unit. A layer that is
    `fixed` is the same at every evaluation of the run, and is stored once.
    """

    name: str
    kind: Literal["image", "scalar"]
    values: Any
    unit: str = ""
    per_unit: int = 256
    shades: Shades | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Subtracted:
    """The error that a panel shows: layer `first` minus layer `second`, in colours up to +-`limit` of their unit."""

    first: str
    second: str
    limit: float


@dataclass(frozen=True)
class Panel:
    """What one image of an evaluation looks like; all layers have one height and width."""

    image: str
    layers: tuple[Layer, ...]
    error: Subtracted | None = None


@dataclass(frozen=True)
class Evaluation:
    """One split at one resolution. `metrics` are means over the images that have one; None if none has.

    `protocol` is everything that makes two such numbers comparable (crop, mask, cap, network input HxW …).
    `panels` show a few images, always the same ones of a split, at one of the resolutions.
    """

    split: str
    resolution: str
    metrics: Mapping[str, float | None]
    loss: float | None
    images: int
    skipped: int = 0
    protocol: Mapping[str, Json] = field(default_factory=dict)
    scores: tuple[ImageScore, ...] = ()
    breakdown: Breakdown | None = None
    panels: tuple[Panel, ...] = field(default=(), compare=False)


def chosen(images: int, wanted: int) -> Sequence[int]:
    """The places in a list of `images` that panels show: `wanted` of them, spread evenly, the same for every run.

    >>> chosen(100, 4)
    [12, 37, 62, 87]
    """
    count = min(images, wanted)
    return [(2 * number + 1) * images // (2 * count) for number in range(count)]
