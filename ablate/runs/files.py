"""Files that survive a kill and a power cut.

A file is written aside, fsynced, renamed over the old one, and then the folder is fsynced: at every
moment a reader finds the old bytes or the new ones, and after `write_atomic` returns, the new ones for good.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from ablate.errors import DiskError, RecordError
from ablate.runs import disk

TEMPORARY = ".tmp"
"""Suffix of files that are being written; whatever bears it may be swept once nobody writes."""

_BUFFER = 2**20
"""Bytes that are gathered before they are written."""

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


def is_disk_error(error: BaseException) -> bool:
    """Whether an error means that the disk is full, read-only or failing, rather than a bug."""
    return isinstance(error, DiskError) or (isinstance(error, OSError) and error.errno in _DISK_ERRORS)


def fsync_folder(folder: Path) -> None:
    """Makes renames and deletions in `folder` survive a power cut."""
    disk.sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Makes `folder` and its parents, durably: also one that a process made which then was killed."""
    if not folder.is_dir():
        make_folder(folder.parent)
        try:
            disk.make_folder(folder)
        except FileExistsError:
            if not folder.is_dir():  # else another process was faster
                raise
    with contextlib.suppress(PermissionError):  # a folder that only lets pass was there long before us
        disk.sync_folder(folder.parent)


class _HashingWriter:
    """Writes to a file and hashes on the way, so that a checkpoint is not read again to name it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = bytearray()
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self.bytes += view.nbytes
        if len(self._waiting) + view.nbytes > _BUFFER:
            self.flush()
        if view.nbytes > _BUFFER:
            write_all(self._descriptor, view)
        else:
            self._waiting += view
        return view.nbytes

    def flush(self) -> None:
        write_all(self._descriptor, bytes(self._waiting))
        self._waiting.clear()


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Writes all of `data`, in as many calls as the system takes."""
    left = memoryview(data)
    while left.nbytes:
        left = left[disk.write(descriptor, left) :]


def write_aside(path: Path, save: Callable[[BinaryIO], None]) -> tuple[str, int]:
    """Writes `path` atomically and durably through `save`; returns its (SHA-256, bytes)."""
    aside = path.with_name(path.name + TEMPORARY)
    descriptor = disk.open_new(aside)
    try:
        writer = _HashingWriter(descriptor)
        save(cast(BinaryIO, writer))
        writer.flush()
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    disk.replace(aside, path)
    disk.sync_folder(path.parent)
    return writer.sha256.hexdigest(), writer.bytes


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces `path` by `data`, atomically and durably."""

    def save(file: BinaryIO) -> None:
        file.write(data)

    write_aside(path, save)


def write_lagging(path: Path, data: bytes) -> None:
    """Replaces `path` atomically but not durably: for progress that nobody needs after a power cut."""
    aside = path.with_name(path.name + TEMPORARY)
    descriptor = disk.open_new(aside)
    try:
        write_all(descriptor, data)
    finally:
        disk.close(descriptor)
    disk.replace(aside, path)


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
            f"{folder}: {needed / 2**20:,.1f} MiB needed for a checkpoint, {free / 2**20:,.1f} MiB free; "
            "make room, then resume"
        )
