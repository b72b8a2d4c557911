"""Scores a network on one split, at each resolution, by a data set's protocol (see `protocol`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ablate.depth.align import align
from ablate.depth.config import EvalSettings
from ablate.depth.data.base import Frame, Reader
from ablate.depth.data.kitti import KITTI as KITTI_READER
from ablate.depth.losses import silog, trainable
from ablate.depth.metrics import all_metrics
from ablate.depth.metrics import names as metric_names
from ablate.depth.panels import panel
from ablate.depth.protocol import KITTI, Box, DepthProtocol, crop_box, network_size, scored_pixels, valid_mask
from ablate.depth.ranges import Ranges
from ablate.errors import DataError, DivergedError
from ablate.evaluated import Panel, chosen
from ablate.task import Evaluation, ImageScore, Json, Tick

Predict = Callable[[Tensor], Tensor]
"""RGB in [-1, 1] (13HW, on the CPU) -> depth in metres, or relative inverse depth (11HW, on the CPU)."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the numbers depend on beside the settings and the network's weights."""

    protocol: DepthProtocol = KITTI
    reader: Reader = KITTI_READER
    multiple: int = 32
    """Sides of the network's input are multiples of this."""
    relative: bool = False
    """Predictions are inverse depth up to a scale and a shift."""
    labels: str = "metric"
    """How depth is read (`data.labels`)."""


def evaluate(
    predict: Predict,
    split: str,
    frames: Sequence[Frame],
    settings: EvalSettings,
    target: tuple[int, int],
    tick: Tick,
    conditions: Conditions | None = None,
) -> Iterator[Evaluation]:
    """One evaluation per resolution of `settings`; every image is decoded once. Panels are of `select`'s resolution.

    target: what `reduced` resizes towards (height, width). conditions: KITTI's if not given. Raises DataError for a
    file that cannot be used and DivergedError if a prediction is not finite.
    """
    conditions = conditions or Conditions()
    targets = {name: target if name == "reduced" else None for name in settings.resolutions}
    tallies = {name: _Tally(name, settings, conditions) for name in settings.resolutions}
    shown = set(chosen(len(frames), settings.panels.images))
    for place, frame in enumerate(frames):
        tick()
        picture = _load(frame, settings, conditions)
        for name, towards in targets.items():
            size = network_size(picture.box.height, picture.box.width, towards, conditions.multiple)
            prediction = predict_crop(predict, picture.crop, size, flip=settings.flip)
            if not torch.isfinite(prediction).all():
                raise DivergedError(f"the prediction for {frame.name} is not finite at {name} resolution")
            depth_HW = tallies[name].add(frame.name, size, picture, prediction[0, 0].numpy())
            if place in shown and name == settings.select.resolution:
                image_HW3 = picture.image
                tallies[name].panels.append(panel(frame.name, image_HW3, picture.truth, depth_HW, conditions.protocol))
    for name in settings.resolutions:
        yield tallies[name].evaluation(split)


@dataclass(frozen=True)
class _Picture:
    """One frame's crop: as it was read, as the network sees it (13HW), the ground truth (HW metres, 0 = none), where it is scored."""

    box: Box
    image: NDArray[np.uint8]
    crop: Tensor
    truth: NDArray[np.float32]
    scored: NDArray[np.bool_]


def _load(frame: Frame, settings: EvalSettings, conditions: Conditions) -> _Picture:
    image_HW3, truth_HW = conditions.reader.load_image(frame.image), conditions.reader.truth(frame)
    if image_HW3.shape[:2] != truth_HW.shape:
        raise DataError(
            f"{frame.image} is {image_HW3.shape[:2]}, but {frame.depth} is {truth_HW.shape} (height, width)"
        )
    box = crop_box(truth_HW.shape[0], truth_HW.shape[1], conditions.protocol)
    scored_HW = valid_mask(truth_HW, settings.mask, conditions.protocol)
    crop_HW3 = np.array(image_HW3[box.rows, box.columns])  # a copy: torch refuses what a decoder made read-only
    crop = torch.from_numpy(crop_HW3).permute(2, 0, 1)[None].float().div_(127.5).sub_(1)
    truth = np.array(truth_HW[box.rows, box.columns])
    return _Picture(box, crop_HW3, crop.contiguous(), truth, scored_HW[box.rows, box.columns])


def predict_crop(predict: Predict, crop_13HW: Tensor, size: tuple[int, int], *, flip: bool = False) -> Tensor:
    """The prediction at the crop's own size (11HW), made at the network input `size` (height, width).

    flip: average the prediction with that of the mirrored image, at the network's size. Resized bicubically, a = -0.75
    without antialiasing: OpenCV's INTER_CUBIC, which isl-org/DPT uses.
    """
    crop = (crop_13HW.shape[-2], crop_13HW.shape[-1])
    input_13HW = crop_13HW if size == crop else _resized(crop_13HW, size)
    output_11HW = predict(input_13HW)
    if flip:
        output_11HW = (output_11HW + predict(input_13HW.flip(-1)).flip(-1)) / 2
    return output_11HW if size == crop else _resized(output_11HW, crop)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False)


@dataclass
class _Tally:
    resolution: str
    settings: EvalSettings
    conditions: Conditions
    scores: list[ImageScore] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ranges = Ranges(self.conditions.protocol)

    def add(
        self, image: str, size: tuple[int, int], picture: _Picture, prediction: NDArray[np.float32]
    ) -> NDArray[np.floating] | None:
        """prediction: HW of the crop. Returns the depth that was scored, in metres.

        An image that has no pixel to be aligned at has no depth, and no loss either.
        """
        key = f"{size[0]}x{size[1]}"
        self.inputs[key] = self.inputs.get(key, 0) + 1
        how, protocol = self.settings.align, self.conditions.protocol
        metrics, depth = None, None
        if how == "none" or picture.scored.any():
            depth = align(prediction, picture.truth, picture.scored, how, protocol, inverse=self.conditions.relative)
            if picture.scored.any():
                pixels = scored_pixels(depth, picture.truth, picture.scored, protocol)
                metrics = all_metrics(*pixels)
                self.ranges.add(*pixels)
            self._add_loss(depth.astype(np.float32, copy=False), picture.truth)
        self.scores.append(ImageScore(image, metrics if metrics is not None else dict.fromkeys(metric_names())))
        return depth

    def _add_loss(self, depth: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        truth_11HW, depth_11HW = torch.from_numpy(truth)[None, None], torch.from_numpy(depth)[None, None]
        valid = trainable(truth_11HW, self.conditions.protocol)
        if valid.any():
            self.losses.append(
                float(silog(depth_11HW.clamp(min=self.conditions.protocol.min_depth), truth_11HW, valid))
            )

    def evaluation(self, split: str) -> Evaluation:
        keys = metric_names()
        scored = [score for score in self.scores if score.metrics[keys[0]] is not None]
        return Evaluation(
            split=split,
            resolution=self.resolution,
            metrics={key: _mean([score.metrics[key] for score in scored]) for key in keys},
            loss=_mean(self.losses),
            images=len(scored),
            skipped=len(self.scores) - len(scored),
            protocol=self._protocol(),
            scores=tuple(self.scores),
            breakdown=self.ranges.breakdown(),
            panels=tuple(self.panels),
        )

    def _protocol(self) -> dict[str, Json]:
        protocol, sizes = self.conditions.protocol, sorted(self.inputs.items())
        entries: dict[str, Any] = {
            "network_input": sizes[0][0] if len(sizes) == 1 else ", ".join(f"{size} ({n})" for size, n in sizes),
            "crop": protocol.crop.name if protocol.crop else "none",
            "mask": self.settings.mask,
            "cap": protocol.cap,
            "resize": resize_rule(self.resolution, self.conditions.multiple),
            "alignment": self.settings.align,
            "flip": self.settings.flip,
        }
        return entries if self.conditions.labels == "metric" else {**entries, "labels": self.conditions.labels}


def resize_rule(resolution: str, multiple: int) -> str:
    """How `network_size` came about, and by which filter: 'minimal bicubic to multiples of 32'."""
    return f"{'minimal ' if resolution == 'reduced' else ''}bicubic to multiples of {multiple}"


def _mean(values: Sequence[float | None]) -> float | None:
    """Every image counts the same; None if there is none."""
    numbers = [value for value in values if value is not None]
    return fsum(numbers) / len(numbers) if numbers else None
