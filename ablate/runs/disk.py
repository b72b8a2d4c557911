"""Every call that changes a run directory, one function each.

Nothing else in `ablate.runs` asks the operating system to change a file. The proof of `docs/reliability.md` rests on
it: whoever records these calls has everything that a power cut may undo, and whoever ends the process before one
of them has every moment at which a kill can come.

Each raises OSError. Descriptors are not inherited, and symbolic links are never followed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC


def open_new(path: Path) -> int:
    """A descriptor to write `path` from its first byte; what was there is gone."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _SAFE, 0o666)


def open_append(path: Path) -> int:
    """A descriptor that writes behind the end of `path`, which is made if there is none."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _SAFE, 0o644)


def open_lock(path: Path) -> int:
    """A descriptor to lock `path` with and to write who holds it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, 0o644)


def close(descriptor: int) -> None:
    os.close(descriptor)


def write(descriptor: int, data: bytes | bytearray | memoryview) -> int:
    """One system call; returns how many bytes were written, which may be fewer on a full disk."""
    return os.write(descriptor, data)


def truncate(descriptor: int, size: int) -> None:
    os.ftruncate(descriptor, size)


def sync(descriptor: int) -> None:
    """What was written to a file survives a power cut from now on; its name may not, see `sync_folder`."""
    os.fsync(descriptor)


def sync_data(descriptor: int) -> None:
    """As `sync`, without times and the like."""
    os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Names made, changed and removed in `folder` survive a power cut from now on."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Renames a file, over what `target` was."""
    source.replace(target)


def rename_folder(source: Path, target: Path) -> None:
    """Renames a folder; fails if `target` is there and not empty."""
    source.rename(target)


def unlink(path: Path) -> None:
    path.unlink()


def make_folder(folder: Path) -> None:
    """Makes one folder in one that exists."""
    folder.mkdir()


def remove_tree(folder: Path) -> None:
    """Removes what can be removed of a folder that was never in use."""
    shutil.rmtree(folder, ignore_errors=True)
