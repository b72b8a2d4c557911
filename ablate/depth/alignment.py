"""From a network's output to metres before the first step: one scale and one shift for a whole training set.

DPT (Ranftl et al. 2021, supplement) aligns the initial network to each KITTI training sample, averages scales and shifts
over the set, and fine-tunes from there; its published constants for KITTI, 0.00006016 and 0.00579 per metre, are such
averages. Here `train.alignment: estimated` finds those of the weights at hand (`losses.robust_scale_shift`) and folds
them into the last convolution, so that a run's checkpoints and exports keep the published constants: with x the
network's output, depth = 1 / (scale' x + shift') = 1 / (scale (a x + c) + shift), where a = scale' / scale and
c = (shift' - shift) / scale.

The last convolution is followed by a ReLU, so the fold is exact where the convolution gave x > 0 and a x + c >= 0. Where
it gave less, x was 0 and the aligned depth 1 / shift'; folded, the same line goes on below 0 and is cut off where
depth is 1 / shift (KITTI: 172.7 m). The share of valid pixels at x = 0 is therefore stored with the estimate.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ablate.depth.config import DataSettings, DepthConfig
from ablate.depth.data.base import Frame, Reader
from ablate.depth.data.datasets import find
from ablate.depth.data.images import squash_depth
from ablate.depth.data.loader import squash_image, to_network
from ablate.depth.data.order import epoch_order
from ablate.depth.data.splits import reader
from ablate.depth.losses import disparity, mean_alignment, robust_scale_shift, trainable
from ablate.depth.model import source
from ablate.depth.model.dpt import DPT
from ablate.depth.predict import Origin, network_of
from ablate.depth.protocol import DepthProtocol
from ablate.errors import DataError, UsageError
from ablate.runs.files import write_atomic
from ablate.task import Json

VERSION = 1
"""Raised when the same weights and images would give another estimate."""

_READ_AHEAD = 16


@dataclass(frozen=True)
class Estimate:
    """depth = 1 / (scale * x + shift), in 1/m, of network output x: means over `images` images.

    The spreads are standard deviations over those images. `undecided` images were left out: they have no two depths, or
    the prediction is the same all over them. `at_zero` is the share of valid pixels where x is 0.
    """

    scale: float
    shift: float
    scale_spread: float
    shift_spread: float
    images: int
    undecided: int
    at_zero: float


def estimate(
    model: DPT, frames: Sequence[Frame], size: tuple[int, int], reads: Reader, protocol: DepthProtocol, workers: int = 0
) -> Estimate:
    """Aligns the network's output to each frame, and averages. One image at a time, so that nothing else matters.

    size: network input (height, width). workers: threads that read files.
    Raises DataError, naming the file, for one that cannot be used, and if no image decides anything.
    """
    device = next(model.parameters()).device
    found: list[tuple[Tensor, Tensor]] = []
    valid_pixels = zeros = 0
    with torch.inference_mode(), _evaluating(model):
        for image_3HW, depth_1HW in _samples(frames, size, reads, workers):
            # not by calling the module: torch.compile would compile it for this one shape and mode
            output_11HW = model.forward(image_3HW[None].to(device)).float().cpu()
            valid_11HW = trainable(depth_1HW[None], protocol)
            found.append(robust_scale_shift(output_11HW, disparity(depth_1HW[None], valid_11HW), valid_11HW))
            valid_pixels += int(valid_11HW.sum())
            zeros += int((valid_11HW & (output_11HW <= 0)).sum())
    mean = mean_alignment(found)
    decided = [(float(scale), float(shift)) for scale, shift in found if torch.isfinite(scale + shift)]
    scale_spread, shift_spread = (statistics.pstdev(values) for values in zip(*decided, strict=True))
    at_zero = zeros / max(1, valid_pixels)
    return Estimate(mean.scale, mean.shift, scale_spread, shift_spread, mean.images, mean.undecided, at_zero)


def _samples(
    frames: Sequence[Frame], size: tuple[int, int], reads: Reader, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (3HW in [-1, 1]) and depth (1HW in metres, 0 = none), as training sees them, unflipped."""

    def load(frame: Frame) -> tuple[Tensor, Tensor]:
        image, depth = reads.load_image(frame.image), reads.truth(frame)
        if image.shape[:2] != depth.shape:
            raise DataError(f"{frame.image} is {image.shape[:2]}, but {frame.depth} is {depth.shape} (height, width)")
        return to_network(squash_image(image, size)), torch.from_numpy(squash_depth(depth, size))[None]

    if not workers:
        yield from map(load, frames)
        return
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(frames), _READ_AHEAD):
            yield from pool.map(load, frames[start : start + _READ_AHEAD])


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def fold(model: DPT, scale: float, shift: float, protocol: DepthProtocol) -> None:
    """Makes the network predict under the protocol's constants what it predicted under `scale` and `shift` (1/m)."""
    last = cast(nn.Conv2d, model.scratch.output_conv[4])
    factor, offset = scale / protocol.scale, (shift - protocol.shift) / protocol.scale
    with torch.no_grad():
        last.weight.mul_(factor)
        cast(Tensor, last.bias).mul_(factor).add_(offset)


def align_start(
    model: DPT, config: DepthConfig, frames: Sequence[Frame], protocol: DepthProtocol, cache_dir: Path | None
) -> dict[str, Json] | None:
    """Does to a network, once it has its weights, what `train.alignment` says; returns the facts to store.

    frames: of the training list. None, and nothing is done, for networks without weights, for `published`, and for
    inverse depth that is to stay relative. An estimate is kept in `cache_dir`, so that a resumed run need not wait.
    Raises DataError as `estimate` and `source.digest` do.
    """
    how, weights = config.train.alignment, config.model.weights
    if how == "published" or weights is None or config.model.output == "relative":
        return None
    published = {"scale": protocol.scale, "shift": protocol.shift}
    if how == "none":
        fold(model, 1.0, 0.0, protocol)
        return {"how": how, "scale": 1.0, "shift": 0.0, "published": published}
    found = _cached_estimate(model, config, _trained_on(config, frames), protocol, cache_dir)
    fold(model, found.scale, found.shift, protocol)
    return {"how": how, **asdict(found), "published": published}


def lines(facts: Mapping[str, Json] | None) -> list[str]:
    """What logs and `ablate show` say of it."""
    if facts is None:
        return []
    relation = f"depth = 1 / ({facts['scale']:.6g} x + {facts['shift']:.6g}) of the weights' output x"
    published = f"published: {facts['published']['scale']:.6g} and {facts['published']['shift']:.6g}"
    if facts["how"] == "none":
        return [f"alignment    none: {relation}, folded into the last convolution ({published})"]
    undecided = f", {facts['undecided']} more left out" if facts["undecided"] else ""
    return [
        f"alignment    estimated over {facts['images']} training images{undecided}: {relation} ({published}); "
        f"folded into the last convolution; x is 0 at {facts['at_zero']:.1%} of their valid pixels"
    ]


def _trained_on(config: DepthConfig, frames: Sequence[Frame]) -> list[Frame]:
    """The frames that all epochs draw from, in the list's order."""
    subset = config.data.subset
    if subset is None or subset.redraw:
        return list(frames)
    return [frames[index] for index in sorted(epoch_order(config.seed, 1, len(frames), subset))]


def _cached_estimate(
    model: DPT, config: DepthConfig, frames: Sequence[Frame], protocol: DepthProtocol, cache_dir: Path | None
) -> Estimate:
    def compute() -> Estimate:
        size, reads = config.data.resolution, reader(config.data, "train")
        return estimate(model, frames, size, reads, protocol, config.data.workers)

    if cache_dir is None:
        return compute()
    path = cache_dir / "alignment" / f"{_key(config, frames, next(model.parameters()).device)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):  # a cache that cannot be read is none
        return Estimate(**json.loads(path.read_text(encoding="utf-8")))
    found = compute()
    with contextlib.suppress(OSError):  # one that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(found)).encode())
    return found


def _key(config: DepthConfig, frames: Sequence[Frame], device: torch.device) -> str:
    """Of the weights' content, what is built around them, and every file's size and time."""
    assert config.model.weights is not None
    what: list[Any] = [VERSION, source.digest(config.model.weights), config.seed, device.type]
    what += [config.model.model_dump(mode="json", exclude={"weights"})]
    what += [config.data.name, config.data.labels, list(config.data.resolution)]
    what += [[frame.name, *_stamp(frame.image), *_stamp(frame.depth)] for frame in frames]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    return status.st_size, status.st_mtime_ns


def estimate_for(
    origin: Origin, data: DataSettings, images: int | None = None, device: str = "cpu"
) -> tuple[Estimate, int]:
    """The estimate for weights on the training list of `data`, and how many frames the list has.

    images: only so many, spread evenly over the list. Raises DataError and UsageError.
    """
    split = find(data.name).read_split(data.root, data.split, "train")
    count = len(split.frames)
    if not count:
        raise DataError(f"{data.root}: no frame of the train list has a depth map; check --data and --split")
    if images is not None and images > count:
        raise UsageError(f"--images {images}: the train list has {count} frames with depth; leave --images out for all")
    wanted = images or count
    frames = [split.frames[place * count // wanted] for place in range(wanted)]
    model = network_of(origin).to(torch.device(device))
    return estimate(model, frames, data.resolution, reader(data, "train"), origin.protocol, data.workers), count
