"""Exclusive leases on runs and studies.

A lease is an `flock`: the kernel frees it when its holder dies, however it dies, so that a crash never
leaves a lock to be removed by hand. The text in the file only says who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ablate.errors import HeldError
from ablate.runs import disk

_PATIENCE = 0.5
"""Seconds to try: somebody who only asks whether a lease is held takes it for an instant."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. `boot` and `started` tell a process from a later one with the same pid."""

    host: str
    pid: int
    boot: str
    started: int
    since: float

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host} since {since}"


def this_process() -> Holder:
    return Holder(socket.gethostname(), os.getpid(), _boot_id(), process_started(os.getpid()), time.time())


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return ""


def process_started(pid: int) -> int:
    """Start time of a process in clock ticks since boot; 0 if unknown."""
    try:
        # The name in parentheses may hold spaces and parentheses: count fields after the last one.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0


class Lease:
    """Held from `acquire` until `release` or the death of the process."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    @classmethod
    def acquire(cls, path: Path, what: str, patience: float = _PATIENCE) -> Self:
        """Raises HeldError, naming the holder, if another process has it for `patience` seconds.

        `what` names it in the text.
        """
        descriptor = disk.open_lock(path)
        deadline = time.monotonic() + patience
        while not _lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                disk.close(descriptor)
                raise HeldError(f"{what} is held by {_read_holder(path) or 'another process'}; wait for it, or stop it")
            time.sleep(0.02)
        disk.truncate(descriptor, 0)
        disk.write(descriptor, json.dumps(asdict(this_process())).encode())
        return cls(descriptor, path)

    def release(self) -> None:
        if self._descriptor >= 0:
            disk.truncate(self._descriptor, 0)
            disk.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lease."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds the lease, if it is held and its holder has said so."""
    return _read_holder(path) if is_held(path) else None
