"""Scores a network on one split, at each resolution, by the published protocol (see `protocol`)."""

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

from ablate.depth.config import EvalSettings
from ablate.depth.data.kitti import Frame, load_depth, load_image
from ablate.depth.losses import silog, trainable
from ablate.depth.metrics import KEYS
from ablate.depth.protocol import MAX_DEPTH, MIN_DEPTH, Box, kb_crop, network_size, score
from ablate.errors import DataError, DivergedError
from ablate.task import Evaluation, ImageScore, Tick

Predict = Callable[[Tensor], Tensor]
"""RGB in [-1, 1] (13HW, on the CPU) -> depth in metres (11HW, on the CPU)."""


def evaluate(
    predict: Predict, split: str, frames: Sequence[Frame], settings: EvalSettings, target: tuple[int, int], tick: Tick
) -> Iterator[Evaluation]:
    """One evaluation per resolution of `settings`; every image is decoded once.

    target: what `reduced` resizes towards (height, width). Raises DataError for a file that cannot be used and
    DivergedError if a prediction is not finite.
    """
    targets = {name: target if name == "reduced" else None for name in settings.resolutions}
    tallies = {name: _Tally() for name in settings.resolutions}
    for frame in frames:
        tick()
        picture = _load(frame)
        for name, towards in targets.items():
            size = network_size(picture.box.height, picture.box.width, towards)
            prediction = _predict(predict, picture, size)
            if not torch.isfinite(prediction).all():
                raise DivergedError(f"the prediction for {frame.name} is not finite at {name} resolution")
            tallies[name].add(frame.name, size, picture, prediction, settings)
    for name in settings.resolutions:
        yield tallies[name].evaluation(split, name, settings)


@dataclass(frozen=True)
class _Picture:
    """One frame: the crop that the network sees (13HW), and the whole ground truth (HW metres, 0 = none)."""

    box: Box
    crop: Tensor
    truth: NDArray[np.float32]


def _load(frame: Frame) -> _Picture:
    image_HW3, truth_HW = load_image(frame.image), load_depth(frame.depth)
    if image_HW3.shape[:2] != truth_HW.shape:
        raise DataError(
            f"{frame.image} is {image_HW3.shape[:2]}, but {frame.depth} is {truth_HW.shape} (height, width)"
        )
    box = kb_crop(*truth_HW.shape)
    crop_HW3 = np.ascontiguousarray(image_HW3[box.rows, box.columns])
    crop = torch.from_numpy(crop_HW3).permute(2, 0, 1)[None].float().div_(127.5).sub_(1)
    return _Picture(box, crop.contiguous(), truth_HW)


def _predict(predict: Predict, picture: _Picture, size: tuple[int, int]) -> Tensor:
    """Depth of the crop, 11HW in metres at the crop's own size."""
    crop = (picture.box.height, picture.box.width)
    input_13HW = picture.crop if size == crop else _resized(picture.crop, size)
    depth_11HW = predict(input_13HW)
    return depth_11HW if size == crop else _resized(depth_11HW, crop)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, a = -0.75, no antialiasing: OpenCV's INTER_CUBIC, which isl-org/DPT uses."""
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False)


@dataclass
class _Tally:
    scores: list[ImageScore] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)

    def add(
        self, image: str, size: tuple[int, int], picture: _Picture, prediction: Tensor, settings: EvalSettings
    ) -> None:
        box = picture.box
        frame_HW = np.zeros(picture.truth.shape, dtype=np.float32)
        frame_HW[box.rows, box.columns] = prediction[0, 0].numpy()
        metrics = score(frame_HW, picture.truth, settings.mask)
        self.scores.append(ImageScore(image, metrics if metrics is not None else dict.fromkeys(KEYS)))
        truth = torch.from_numpy(np.ascontiguousarray(picture.truth[box.rows, box.columns]))[None, None]
        valid = trainable(truth)
        if valid.any():
            self.losses.append(float(silog(prediction.clamp(min=MIN_DEPTH), truth, valid)))
        key = f"{size[0]}x{size[1]}"
        self.inputs[key] = self.inputs.get(key, 0) + 1

    def evaluation(self, split: str, resolution: str, settings: EvalSettings) -> Evaluation:
        scored = [score for score in self.scores if score.metrics[KEYS[0]] is not None]
        return Evaluation(
            split=split,
            resolution=resolution,
            metrics={key: _mean([score.metrics[key] for score in scored]) for key in KEYS},
            loss=_mean(self.losses),
            images=len(scored),
            skipped=len(self.scores) - len(scored),
            protocol=self._protocol(settings),
            scores=tuple(self.scores),
        )

    def _protocol(self, settings: EvalSettings) -> dict[str, Any]:
        sizes = sorted(self.inputs.items())
        return {
            "network_input": sizes[0][0] if len(sizes) == 1 else ", ".join(f"{size} ({n})" for size, n in sizes),
            "crop": "kb",
            "mask": settings.mask,
            "cap": f"{MIN_DEPTH:g}-{MAX_DEPTH:g} m",
            "resize": "bicubic",
            "alignment": "none",
        }


def _mean(values: Sequence[float | None]) -> float | None:
    """Every image counts the same; None if there is none."""
    numbers = [value for value in values if value is not None]
    return fsum(numbers) / len(numbers) if numbers else None
