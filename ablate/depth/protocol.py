"""The published evaluations, as data: crop, masks, cap, units, and the scale and shift of the network's head.

KITTI and NYU are rows of `PROTOCOLS`; a data set of another package names one of them or brings its own row. The rules
are those of isl-org/DPT's `run_monodepth.py` and of the evaluator that BTS published (`eval_with_pngs.py`). Sizes are
(height, width) in pixels; depths are metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data import datasets
from ablate.depth.metrics import all_metrics
from ablate.errors import DataError, UsageError

Mask = Literal["garg", "eigen", "none"]


class Box(NamedTuple):
    """A rectangle of pixels: `image[box.rows, box.columns]`."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Region:
    """Where a mask lets pixels through: rows top:bottom, columns left:right of the uncropped frame."""

    top: float
    bottom: float
    left: float
    right: float
    unit: Literal["share", "pixel"] = "share"

    def of(self, height: int, width: int) -> Box:
        """In pixels of a frame, rounded down as published."""
        y, x = (height, width) if self.unit == "share" else (1, 1)
        top, bottom, left, right = int(self.top * y), int(self.bottom * y), int(self.left * x), int(self.right * x)
        return Box(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Crop:
    """What of a frame the network sees: a rectangle at the bottom, centred."""

    name: str
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class DepthProtocol:
    """How a data set is evaluated."""

    name: str
    crop: Crop | None = None
    """None: the whole frame."""
    masks: Mapping[Mask, Region] = field(default_factory=dict)
    """The masks that this protocol knows beside `none`; the first is what is usual."""
    frame: tuple[int, int] | None = None
    """The only size of frames that the protocol is defined for."""
    min_depth: float = 1e-3
    max_depth: float
    """Ground truth is valid strictly between these; predictions are clamped to them."""
    scale: float
    shift: float
    """DPT's head predicts x >= 0 with depth = 1 / (scale * x + shift); both in 1/m."""
    units_per_metre: int
    """What 16-bit PNGs of depth hold per metre, 0 standing for no measurement."""

    @property
    def usual_mask(self) -> Mask:
        return next(iter(self.masks), "none")

    @property
    def cap(self) -> str:
        return f"{self.min_depth:g}-{self.max_depth:g} m"


KITTI = DepthProtocol(
    name="kitti",
    crop=Crop("kb", 352, 1216),
    # Garg et al. 2016, Eigen et al. 2014
    masks=MappingProxyType(
        {
            "garg": Region(0.40810811, 0.99189189, 0.03594771, 0.96405229),
            "eigen": Region(0.3324324, 0.91351351, 0.0359477, 0.96405229),
        }
    ),
    max_depth=80.0,
    scale=0.00006016,
    shift=0.00579,
    units_per_metre=256,
)

NYU = DepthProtocol(
    name="nyu",
    masks=MappingProxyType({"eigen": Region(45, 471, 41, 601, "pixel")}),
    frame=(480, 640),
    max_depth=10.0,
    scale=0.000305,
    shift=0.1378,
    units_per_metre=1000,
)

PROTOCOLS: Mapping[str, DepthProtocol] = MappingProxyType({row.name: row for row in (KITTI, NYU)})

MIN_DEPTH, MAX_DEPTH = KITTI.min_depth, KITTI.max_depth
KITTI_SCALE, KITTI_SHIFT = KITTI.scale, KITTI.shift


def protocol_of(dataset: str) -> DepthProtocol:
    """The protocol of a data set, by `data.name`.

    Raises UsageError for a data set that is not known, or whose `protocol` is neither a row's name nor a row.
    """
    named = datasets.find(dataset).protocol
    row = PROTOCOLS.get(named) if isinstance(named, str) else named
    if not isinstance(row, DepthProtocol):
        raise UsageError(
            f"data set {dataset!r}: its protocol is {named!r}; expected {', '.join(PROTOCOLS)}, or a DepthProtocol"
        )
    return row


def crop_box(height: int, width: int, protocol: DepthProtocol) -> Box:
    """What of a frame the network sees. Raises DataError if the protocol is not defined for frames of this size."""
    if protocol.frame is not None and protocol.frame != (height, width):
        raise DataError(
            f"a frame of {height}x{width} (height x width) is not of the size that the {protocol.name.upper()} protocol "
            f"evaluates, {protocol.frame[0]}x{protocol.frame[1]}; evaluate on frames at their original size"
        )
    crop = protocol.crop
    if crop is None:
        return Box(0, 0, height, width)
    if height < crop.height or width < crop.width:
        raise DataError(
            f"a frame of {height}x{width} (height x width) is smaller than the {crop.height}x{crop.width} crop that the "
            f"{protocol.name.upper()} protocol evaluates; evaluate on frames at their original size, about 375x1242"
        )
    return Box(height - crop.height, (width - crop.width) // 2, crop.height, crop.width)


def kb_crop(height: int, width: int) -> Box:
    """The KITTI benchmark's crop of a frame: 352x1216. Raises DataError if the frame is smaller."""
    return crop_box(height, width, KITTI)


def network_size(height: int, width: int, target: tuple[int, int] | None, multiple: int = 32) -> tuple[int, int]:
    """The size that a frame of `height` x `width` is given to the network at.

    DPT's rule "minimal": the aspect is kept by the axis whose scale towards `target` is nearer 1, then both sides
    are rounded to multiples (352x1216 towards 192x640 gives 192x672). Without a target both sides are rounded to
    multiples, which leaves 352x1216 as it is for 32 and makes it 350x1218 for 14.
    """
    if target is None:
        return _to_multiple(height, multiple), _to_multiple(width, multiple)
    scale_y, scale_x = target[0] / height, target[1] / width
    scale = scale_x if abs(1 - scale_x) < abs(1 - scale_y) else scale_y
    return _to_multiple(scale * height, multiple), _to_multiple(scale * width, multiple)


def valid_mask(gt: NDArray[np.floating], mask: Mask, protocol: DepthProtocol = KITTI) -> NDArray[np.bool_]:
    """Where an uncropped ground truth (HW, metres, 0 = none) is scored: within the depth cap and the mask's borders.

    Raises UsageError for a mask that the protocol does not have.
    """
    valid = (gt > protocol.min_depth) & (gt < protocol.max_depth)
    if mask == "none":
        return valid
    check_mask(mask, protocol)
    inside = np.zeros_like(valid)
    box = protocol.masks[mask].of(*gt.shape)
    inside[box.rows, box.columns] = True
    return valid & inside


def check_mask(mask: Mask, protocol: DepthProtocol) -> None:
    """Raises UsageError if the protocol does not have the mask."""
    if mask != "none" and mask not in protocol.masks:
        known = ", ".join([*protocol.masks, "none"])
        raise UsageError(f"the {protocol.name.upper()} protocol has no mask {mask!r}; expected one of {known}")


def score(
    prediction: NDArray[np.floating], gt: NDArray[np.floating], mask: Mask, protocol: DepthProtocol = KITTI
) -> dict[str, float] | None:
    """The metrics of one image at native resolution, or None if it has no valid pixel.

    prediction: HW metres over the full frame; only what lies in the protocol's crop is read, so that the
    fill outside it is never scored, not even without a mask. Clamped to the cap; NaN counts as its minimum, as published.
    Raises ValueError if the shapes differ, DataError as `crop_box`, and UsageError as `valid_mask`.
    """
    if prediction.shape != gt.shape:
        raise ValueError(f"prediction {prediction.shape} and ground truth {gt.shape} differ in shape")
    box = crop_box(gt.shape[0], gt.shape[1], protocol)
    valid = valid_mask(gt, mask, protocol)[box.rows, box.columns]
    return score_crop(prediction[box.rows, box.columns], gt[box.rows, box.columns], valid, protocol)


def score_crop(
    prediction: NDArray[np.floating],
    gt: NDArray[np.floating],
    valid: NDArray[np.bool_],
    protocol: DepthProtocol,
) -> dict[str, float] | None:
    """As `score`, of what lies in the crop; valid: where to score it. All three of one shape."""
    if not valid.any():
        return None
    return all_metrics(*scored_pixels(prediction, gt, valid, protocol))


def scored_pixels(
    prediction: NDArray[np.floating],
    gt: NDArray[np.floating],
    valid: NDArray[np.bool_],
    protocol: DepthProtocol,
) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """What of a crop is scored, as lists: ground truth, and the prediction clamped to the cap (NaN is its minimum)."""
    low, high = protocol.min_depth, protocol.max_depth
    predicted = prediction[valid].astype(np.float64)
    return gt[valid], np.clip(np.where(np.isnan(predicted), low, predicted), low, high)


def _to_multiple(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
