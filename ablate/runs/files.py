"""Files that survive a kill and a power cut.

A file is written aside, fsynced, renamed over the old one, and then the folder is fsynced: at every
moment a reader finds the old bytes or the new ones, and after `write_atomic` returns, the new ones for good.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from ablate.errors import DiskError, RecordError

TEMPORARY = ".tmp"
"""Suffix of files that are being written; whatever bears it may be swept once nobody writes."""

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


def is_disk_error(error: BaseException) -> bool:
    """Whether an error means that the disk is full, read-only or failing, rather than a bug."""
    return isinstance(error, DiskError) or (isinstance(error, OSError) and error.errno in _DISK_ERRORS)


def fsync_folder(folder: Path) -> None:
    """Makes renames and deletions in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Creates `folder` and its parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


class _HashingWriter:
    """Writes to a file and hashes on the way, so that a checkpoint is not read again to name it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> int:
        self._file.write(data)
        view = memoryview(data)
        self.sha256.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        self._file.flush()


def write_aside(path: Path, save: Callable[[BinaryIO], None]) -> tuple[str, int]:
    """Writes `path` atomically and durably through `save`; returns its (SHA-256, bytes)."""
    aside = path.with_name(path.name + TEMPORARY)
    with aside.open("wb") as file:
        writer = _HashingWriter(file)
        save(cast(BinaryIO, writer))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    fsync_folder(path.parent)
    return writer.sha256.hexdigest(), writer.bytes


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces `path` by `data`, atomically and durably."""

    def save(file: BinaryIO) -> None:
        file.write(data)

    write_aside(path, save)


def write_lagging(path: Path, data: bytes) -> None:
    """Replaces `path` atomically but not durably: for progress that nobody needs after a power cut."""
    aside = path.with_name(path.name + TEMPORARY)
    aside.write_bytes(data)
    aside.replace(path)


def open_plain(path: Path) -> BinaryIO:
    """Opens a file of a run directory for reading; refuses symbolic links, which could point anywhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RecordError(f"{path}: is a symbolic link; run directories hold plain files only") from error
        raise
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path) -> bytes:
    with open_plain(path) as file:
        return file.read()


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises FileNotFoundError, or RecordError naming the file if it holds anything else."""
    try:
        value = json.loads(read_plain(path))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path}: expected a JSON object")
    return value


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def need_space(folder: Path, needed: int) -> None:
    """Raises DiskError unless `needed` bytes are free where `folder` lies."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            f"{folder}: {needed / 2**20:,.0f} MiB needed for a checkpoint, {free / 2**20:,.0f} MiB free; "
            "make room, then resume"
        )
