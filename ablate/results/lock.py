"""The lock beside `results.duckdb`, without which DuckDB 2.0 loses rows.

Processes that take turns opening a database with DuckDB 2.0.0 can overwrite each other's commits, because it
reads the header before it locks the file. Everything in this room therefore holds an `flock` on
`results.duckdb.lock` while the database is attached: exclusive to write, shared to read. The kernel frees
it when its holder dies. The text in the file only says who wrote last, and whether the database is ours.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ablate.errors import HeldError
from ablate.runs.lease import Holder, this_process

_POLL = 0.02
"""Seconds between two tries."""


def lock_path(db: Path) -> Path:
    return db.with_name(db.name + ".lock")


class DatabaseLock:
    """A held lock. Use `hold` to get one."""

    def __init__(self, path: Path, descriptor: int, exclusive: bool, created: bool) -> None:
        self.path, self.exclusive = path, exclusive
        self._descriptor, self._created = descriptor, created
        self.ours = _read(path).get("ours") is True
        """Whether a database that this tool made was ever opened under this lock."""

    def mark_ours(self) -> None:
        """Remembers that the database is one of ours: only such a file may be moved aside when it is damaged."""
        if self.exclusive and not self.ours:
            self.ours = True
            self.write(this_process())

    def write(self, holder: Holder | None) -> None:
        text = json.dumps({"ours": self.ours, "holder": asdict(holder) if holder else None}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def release(self) -> None:
        """Leaves no lock file behind beside a file that turned out to be somebody else's."""
        if self._descriptor < 0:
            return
        try:
            if self.exclusive and self._created and not self.ours:
                self.path.unlink(missing_ok=True)
            elif self.exclusive:
                self.write(None)
        except OSError:  # a full or read-only disk: the text is only a courtesy
            pass
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def hold(db: Path, *, exclusive: bool, wait: float) -> Iterator[DatabaseLock]:
    """Holds the lock of `db`, waiting at most `wait` seconds for it.

    Raises HeldError, naming the holder, if it stays taken, and OSError if the lock file cannot be made.
    """
    lock = _acquire(lock_path(db), exclusive, wait)
    try:
        if exclusive:
            lock.write(this_process())
        yield lock
    finally:
        lock.release()


def _acquire(path: Path, exclusive: bool, wait: float) -> DatabaseLock:
    deadline = time.monotonic() + wait
    while True:
        descriptor, created = _open(path, exclusive)
        locked = False
        try:
            locked = _try(descriptor, exclusive, deadline)
            if not locked:
                raise HeldError(f"{path.with_suffix('')} is in use by {_who(path)}; wait for it, or stop it")
            if _is_at(path, descriptor):
                return DatabaseLock(path, descriptor, exclusive, created)
            locked = False  # somebody removed the file while we waited: this lock protects nothing
        finally:
            if not locked:
                os.close(descriptor)


def _open(path: Path, exclusive: bool) -> tuple[int, bool]:
    """A descriptor and whether the file is new. Readers make do with a file that they may not write."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, flags | (os.O_RDWR if exclusive else os.O_RDONLY)), False
    except OSError:
        if exclusive:
            raise
        return os.open(path, flags | os.O_RDONLY), False


def _try(descriptor: int, exclusive: bool, deadline: float) -> bool:
    how = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    while True:
        try:
            fcntl.flock(descriptor, how)
            return True
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_POLL, left))


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _read(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _who(path: Path) -> str:
    holder = _read(path).get("holder")
    try:
        return str(Holder(**holder)) if isinstance(holder, dict) else "another process"
    except TypeError:
        return "another process"
