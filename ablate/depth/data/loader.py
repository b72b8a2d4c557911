"""Training images as tensors: squashed to the training resolution, mirrored, cached, batched. Needs torch.

What a batch holds is a pure function of (frames, size, order, flips): workers, cache and the first step cannot
change it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ablate.depth.data.base import Frame, Reader
from ablate.depth.data.images import squash_depth
from ablate.depth.data.kitti import KITTI
from ablate.errors import DataError, TrainingError

WORKER_TIMEOUT = 120.0
"""Seconds to wait for a batch from a loader process; one that was killed or hangs must fail the run, not hang it."""


@dataclass(frozen=True)
class Batch:
    """`image`: B3HW float32 in [-1, 1]; `depth`: B1HW float32 metres, 0 = none; `names` of the frames."""

    image: Tensor
    depth: Tensor
    names: tuple[str, ...]


def squash_image(image_HW3: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """An image resized to `size` (height, width), whatever its aspect: 3HW uint8.

    Bicubic with a = -0.75 and no antialiasing, which is OpenCV's INTER_CUBIC, as in the progress log and in DPT
    (Pillow's cubic is another filter: a = -0.5, antialiased). Rounded to 8 bits, so that a cached image is exact.
    """
    image_1CHW = torch.from_numpy(np.array(image_HW3)).permute(2, 0, 1)[None].float()
    resized = F.interpolate(image_1CHW, size=size, mode="bicubic", align_corners=False, antialias=False)
    return resized[0].round_().clamp_(0, 255).to(torch.uint8)


def to_network(image_uint8: Tensor) -> Tensor:
    """0..255 -> [-1, 1], which is mean 0.5 and standard deviation 0.5, as the ViT encoder was trained with."""
    return image_uint8.float().div_(127.5).sub_(1)


class TrainingData(Dataset[tuple[Tensor, Tensor]]):
    """Training frames keyed by (index, flip): image 3HW float32 in [-1, 1] and depth 1HW float32 in metres.

    The first frames that fit into `cache_mb` MiB are kept resized in memory (8-bit pixels and 32-bit depth) once they
    were read. Loader processes fork with what is cached then and keep what they add to themselves.
    Raises DataError, naming the file, if one cannot be decoded or if image and depth differ in size.
    """

    def __init__(self, frames: Sequence[Frame], size: tuple[int, int], cache_mb: int, reader: Reader = KITTI) -> None:
        self.frames, self.size, self._reader = tuple(frames), size, reader
        self._cache: dict[int, tuple[Tensor, NDArray[np.float32]]] = {}
        bytes_per_frame = size[0] * size[1] * (3 + 4)
        self._cached_frames = cache_mb * 2**20 // bytes_per_frame

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: tuple[int, bool]) -> tuple[Tensor, Tensor]:
        index, flip = key
        pixels, metres = self._resized(index)
        image = to_network(pixels)
        depth = torch.from_numpy(metres)[None]
        if flip:
            image, depth = image.flip(-1), depth.flip(-1)
        return image, depth

    def _resized(self, index: int) -> tuple[Tensor, NDArray[np.float32]]:
        if index in self._cache:
            return self._cache[index]
        frame = self.frames[index]
        image, depth = self._reader.load_image(frame.image), self._reader.load_depth(frame.depth)
        if image.shape[:2] != depth.shape:
            raise DataError(f"{frame.image} is {image.shape[:2]}, but {frame.depth} is {depth.shape} (height, width)")
        resized = squash_image(image, self.size), squash_depth(depth, self.size)
        if index < self._cached_frames:
            self._cache[index] = resized
        return resized


def batches(
    data: TrainingData,
    order: NDArray[np.int64],
    flips: NDArray[np.bool_],
    batch_size: int,
    first_step: int,
    workers: int,
) -> Iterator[Batch]:
    """The batches of one epoch from step `first_step` on; a last one may be smaller.

    order: indices into `data`, one per sample; flips: whether each of those samples is mirrored. No global random
    state is read or changed. Raises DataError as `TrainingData`, and TrainingError if a loader process was killed or
    gives nothing for `WORKER_TIMEOUT` seconds.
    """
    keys = [(int(index), bool(flip)) for index, flip in zip(order, flips, strict=True)]
    steps = _Steps(data, [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)])
    remaining = range(first_step, len(steps))
    fetched = _fetched(steps, remaining, workers) if workers and len(remaining) else (steps[step] for step in remaining)
    for batch in fetched:
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Steps(Dataset["Batch | DataError"]):
    """Whole batches by step. A bad file is a value, since torch would wrap an exception's text in a traceback."""

    def __init__(self, data: TrainingData, keys: list[list[tuple[int, bool]]]) -> None:
        self._data, self._keys = data, keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, step: int) -> Batch | DataError:
        keys = self._keys[step]
        try:
            samples = [self._data[key] for key in keys]
        except DataError as error:
            return error
        images, depths = zip(*samples, strict=True)
        names = tuple(self._data.frames[index].name for index, _ in keys)
        return Batch(torch.stack(images), torch.stack(depths), names)


def _fetched(steps: _Steps, remaining: range, workers: int) -> Iterator[Batch | DataError]:
    loader = DataLoader(
        steps,
        batch_size=None,  # an item is a batch already
        sampler=remaining,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_leave_signals_to_the_trainer,
        timeout=WORKER_TIMEOUT,
        generator=torch.Generator(),  # its own: DataLoader would draw a seed from the global one
    )
    others = set(multiprocessing.active_children())
    iterator = iter(loader)
    processes = set(multiprocessing.active_children()) - others
    try:
        yield from iterator
    except RuntimeError as error:
        raise TrainingError(
            f"a loader process died or hangs ({str(error).splitlines()[0]}); "
            "if memory ran out, lower data.workers or data.cache_mb"
        ) from error
    finally:
        _end(iterator, processes)


def _end(iterator: Any, processes: Iterable[BaseProcess]) -> None:
    """Ends loader processes. One that hangs does not heed SIGTERM, and Python waits for it at exit: SIGKILL.

    torch must stop watching them first (its own `_shutdown_workers`), or it would take the kill for a crash.
    """
    iterator._shutdown_workers()
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()


def _unchanged(item: Any) -> Any:
    return item


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach the whole process group, but the trainer still finishes its step.

    Loader processes end when the trainer says so, or within seconds of its death.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
