"""Every file is decoded once, and what it showed is remembered: by path, size and modification time."""

from __future__ import annotations

import hashlib
import inspect
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.base import Dataset, Frame
from ablate.depth.data.verified import Seen, VerifiedFiles
from ablate.errors import DataError

_PROGRESS_SECONDS = 5.0

Say = Callable[[str], None]
Role = Literal["image", "depth"]


@dataclass(frozen=True)
class File:
    role: Role
    path: Path
    frame: Frame
    """The first that has it."""

    def key(self) -> str:
        """What its inspection depends on beside the file itself. Raises DataError for a mask that is absent."""
        frame = self.frame
        if self.role == "image" or (frame.mask, frame.stored, frame.scale) == (None, "metric", 1.0):
            return self.role
        mask = VerifiedFiles.key("mask", frame.mask, _status(frame.mask)) if frame.mask else ""
        return f"{self.role}|{frame.stored}|{frame.scale!r}|{mask}"


@dataclass
class Inspected:
    """What each readable file showed and its size in bytes, and a sentence for each that cannot be read."""

    seen: dict[Path, Seen] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)


def inspect_files(dataset: Dataset, files: Sequence[File], root: Path, cache_dir: Path | None, say: Say) -> Inspected:
    """Looks at every file; those that passed before and have not changed are not decoded again."""
    cache = VerifiedFiles(cache_dir, root)
    found = Inspected()
    reader = _reader_id(dataset)
    unknown: list[tuple[File, str]] = []
    for file in files:
        try:
            status, role = _status(file.path), file.key()
        except DataError as error:
            found.bad.append(str(error))
            continue
        found.sizes[file.path] = status.st_size
        key = VerifiedFiles.key(f"{role}|{reader}", file.path, status)
        known = cache.get(key)
        if known is None:
            unknown.append((file, key))
        else:
            found.seen[file.path] = known
    try:
        results = _decoded(dataset, [file for file, _ in unknown], say)
        for (file, key), result in zip(unknown, results, strict=True):
            if isinstance(result, DataError):
                found.bad.append(str(result))
            else:
                found.seen[file.path] = result
                cache.add(key, result)
    finally:  # an interrupted check goes on where it stopped
        cache.save()
    return found


def _reader_id(dataset: Dataset) -> str:
    """Changes whenever a plug-in's code does: its files must be looked at again. Ours has a version of its own."""
    kind = type(dataset)
    if kind.__module__.partition(".")[0] == "ablate":
        return dataset.name
    try:
        code = Path(inspect.getsourcefile(kind) or "").read_bytes()
    except (OSError, TypeError):
        code = b""
    return f"{dataset.name}-{hashlib.sha256(code).hexdigest()[:12]}"


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a plain file")
    return status


def _decoded(dataset: Dataset, files: Sequence[File], say: Say) -> Iterator[Seen | DataError]:
    """In the order of `files`; decoding releases the interpreter's lock, so threads do."""
    pool = ThreadPoolExecutor(os.cpu_count())
    told = time.monotonic()
    try:
        for done, result in enumerate(pool.map(partial(_decode, dataset), files), 1):
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                say(f"checking the data: {done:,} of {len(files):,} files")
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(dataset: Dataset, file: File) -> Seen | DataError:
    try:
        content = file.path.read_bytes()
        if file.role == "depth" and file.frame.mask is not None:
            content += file.frame.mask.read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        if file.role == "image":
            return _image(dataset.load_image(file.path), digest, file.path)
        return _depth(dataset.truth(file.frame), digest, dataset.depth_bits(file.path), file.path)
    except DataError as error:
        return error
    except OSError as error:
        return DataError(f"{file.path}: cannot be read: {error.strerror or error}")
    except Exception as error:  # whatever the reader of a plug-in raises
        return DataError(f"{file.path}: data set {dataset.name!r} cannot read it: {type(error).__name__}: {error}")


def _image(image_HW3: NDArray[np.uint8], digest: str, path: Path) -> Seen:
    if image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.dtype != np.uint8:
        raise DataError(f"{path}: an image must be read as HW3 uint8, not {image_HW3.shape} {image_HW3.dtype}")
    height, width, _ = image_HW3.shape
    return Seen(height, width, digest, distinct=1 if np.all(image_HW3 == image_HW3[0, 0]) else 2)


def _depth(depth_HW: NDArray[np.float32], digest: str, bits: int | None, path: Path) -> Seen:
    if depth_HW.ndim != 2 or not np.issubdtype(depth_HW.dtype, np.floating):
        raise DataError(f"{path}: depth must be read as HW float32, not {depth_HW.shape} {depth_HW.dtype}")
    height, width = depth_HW.shape
    found = depth_HW[depth_HW != 0]
    if not found.size:
        return Seen(height, width, digest, distinct=0, bits=bits)
    lowest, highest = float(found.min()), float(found.max())
    if not (np.isfinite(lowest) and np.isfinite(highest) and lowest > 0):
        raise DataError(f"{path}: holds depth that is negative or not finite; 0 means that there is none")
    distinct = np.unique(found)
    whole = not np.any(distinct % 1)
    return Seen(height, width, digest, int(distinct.size), bits, int(found.size), lowest, highest, whole)
