"""Training images as tensors: brought to the training resolution, augmented, cached, batched. Needs torch.

What a batch holds is a pure function of the frames, the settings and its keys: workers, cache and the first step
cannot change it.
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

from ablate.depth import augment
from ablate.depth.data.base import Frame, Reader
from ablate.depth.data.images import squash_depth
from ablate.depth.data.kitti import KITTI
from ablate.depth.data.order import flipped
from ablate.depth.data.sets import TrainingSet
from ablate.errors import DataError, TrainingError

WORKER_TIMEOUT = 120.0
"""Seconds to wait for a batch from a loader process; one that was killed or hangs must fail the run, not hang it."""


@dataclass(frozen=True)
class Batch:
    """`image`: B3HW float32 in [-1, 1]; `depth`: B1HW float32 metres, 0 = none; `names` of the frames.

    tasks: the number of each image's data set; relative: whether its `depth` is inverse depth without a unit instead.
    """

    image: Tensor
    depth: Tensor
    names: tuple[str, ...]
    tasks: tuple[int, ...]
    relative: tuple[bool, ...]


Key = tuple[int, int, int]
"""(data set, image, pass over the images) of a sample: everything that it depends on."""


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
        image, depth = _read(self.frames[index], self._reader)
        resized = squash_image(image, self.size), squash_depth(depth, self.size)
        if index < self._cached_frames:
            self._cache[index] = resized
        return resized


class Samples:
    """Samples of one or several data sets, by `Key`. Images of all sets are numbered through, for augmentation.

    A recipe that squashes whole frames reads through the cache, which the sets share evenly. Raises DataError as
    `TrainingData`, and for a frame that is smaller than the crop of its protocol, if the recipe has one.
    """

    def __init__(
        self, sets: Sequence[TrainingSet], recipe: augment.Recipe, seed: int, cache_mb: int, *, squashed: bool
    ) -> None:
        self.sets, self._recipe, self._seed, self._squashed = tuple(sets), recipe, seed, squashed
        self._squash = [TrainingData(one.frames, recipe.size, cache_mb // len(sets), one.reader) for one in sets]
        self._first = [sum(len(one.frames) for one in sets[:number]) for number in range(len(sets))]

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        number, index, passed = key
        place = self._first[number] + index
        if self._squashed:
            return self._squash[number][index, flipped(self._seed, passed, place, self._recipe.flip)]
        one = self.sets[number]
        frame = one.frames[index]
        image, depth = _read(frame, one.reader)
        try:
            planned = augment.plan(self._recipe, self._seed, passed, place, depth.shape, one.protocol)
        except DataError as error:
            raise DataError(f"{frame.image}: {error}; or leave train.augment.crop out") from error
        pixels, metres, _ = augment.apply(planned, image, depth, None, _resize)
        return to_network(torch.from_numpy(pixels).permute(2, 0, 1)).contiguous(), torch.from_numpy(metres)[None]

    def batch(self, keys: Sequence[Key]) -> Batch:
        images, depths = zip(*(self[key] for key in keys), strict=True)
        chosen = [(self.sets[number], self.sets[number].frames[index]) for number, index, _ in keys]
        return Batch(
            torch.stack(images),
            torch.stack(depths),
            tuple(frame.name for _, frame in chosen),
            tuple(number for number, _, _ in keys),
            tuple(one.dataset.kind_of(frame) == "relative" for one, frame in chosen),
        )


def _read(frame: Frame, reader: Reader) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    image, depth = reader.load_image(frame.image), reader.truth(frame)
    if image.shape[:2] != depth.shape:
        raise DataError(f"{frame.image} is {image.shape[:2]}, but {frame.depth} is {depth.shape} (height, width)")
    return image, depth


def _resize(image_HW3: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = squash_image(image_HW3, size).permute(1, 2, 0).numpy()
    return pixels


def batches(data: Samples, keys: Sequence[Key], batch_size: int, first_step: int, workers: int) -> Iterator[Batch]:
    """The batches of one epoch from step `first_step` on; a last one may be smaller.

    keys: one per sample. No global random state is read or changed. Raises DataError as `Samples`, and TrainingError
    if a loader process was killed or gives nothing for `WORKER_TIMEOUT` seconds.
    """
    steps = _Steps(data, [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)])
    remaining = range(first_step, len(steps))
    fetched = _fetched(steps, remaining, workers) if workers and len(remaining) else (steps[step] for step in remaining)
    for batch in fetched:
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Steps(Dataset["Batch | DataError"]):
    """Whole batches by step. A bad file is a value, since torch would wrap an exception's text in a traceback."""

    def __init__(self, data: Samples, keys: list[Sequence[Key]]) -> None:
        self._data, self._keys = data, keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, step: int) -> Batch | DataError:
        try:
            return self._data.batch(self._keys[step])
        except DataError as error:
            return error


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
