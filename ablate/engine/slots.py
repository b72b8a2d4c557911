"""Places on devices, shared by every `ablate run` of a user on a machine.

A run that trains holds a file in the folder of its device, locked with `flock` by the worker itself: the kernel
frees it when the worker dies, however it dies, and whoever looks next removes the file. Nothing has to be cleaned up.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablate.engine.devices import Device, host_memory
from ablate.errors import UsageError

_SAFE = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Slot:
    """A place on a device. `descriptor` is inherited by the worker, which holds it until it ends."""

    device: Device
    path: Path
    descriptor: int | None

    @property
    def inherited(self) -> tuple[int, ...]:
        """What the worker's process has to be given."""
        return () if self.descriptor is None else (self.descriptor,)

    def hand_over(self) -> None:
        """The worker has the place now: this process's own hold on it is given up."""
        for descriptor in self.inherited:
            os.close(descriptor)

    def clear(self) -> None:
        """The worker has ended; its file is only in the way."""
        with contextlib.suppress(OSError):
            self.path.unlink()


@dataclass(frozen=True)
class Busy:
    """Why no place was to be had now."""

    why: str


@dataclass(frozen=True)
class _Taken:
    run: str
    pid: int
    memory: int


class Slots:
    """The places that are taken, in a folder of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, device: Device, limit: int | None, memory: int, run: str) -> Slot | Busy:
        """A place on `device`, unless `limit` of them are taken or `memory` bytes do not fit beside the others'.

        Where the folder cannot be used (a full disk), the place is one that other processes do not know of.
        """
        folder = self.folder / re.sub(r"[^A-Za-z0-9-]", "-", device.key)
        try:
            return self._take(folder, device, limit, memory, run)
        except OSError:
            return Slot(device, folder / "none", None)

    def _take(self, folder: Path, device: Device, limit: int | None, memory: int, run: str) -> Slot | Busy:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder / "lock") as locked:
            if not locked:
                return Busy(f"another process is looking for a place on {device.name}")
            taken = list(_taken(folder))
            if why := _why_not(device, taken, limit, memory):
                return Busy(why)
            path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.slot"
            descriptor = os.open(path, _SAFE | os.O_EXCL, 0o600)
            _flock(descriptor, fcntl.LOCK_EX)
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "run": run, "memory": memory}
            os.write(descriptor, json.dumps({"v": 1, **holder, "since": time.time()}).encode())
            return Slot(device, path, descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the lock on the folder was to be had at once; its holders need it for an instant."""
    descriptor = os.open(path, _SAFE, 0o600)
    try:
        yield _flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken(folder: Path) -> Iterator[_Taken]:
    """The places held by living processes; files of dead ones are removed."""
    for path in sorted(folder.glob("*.slot")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if _flock(descriptor, fcntl.LOCK_SH):
                path.unlink(missing_ok=True)
            else:
                yield _read(descriptor)
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> _Taken:
    try:
        value = json.loads(os.read(descriptor, 65536))
        return _Taken(str(value["run"]), int(value["pid"]), max(0, int(value["memory"])))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return _Taken("a run", 0, 0)


def _why_not(device: Device, taken: Sequence[_Taken], limit: int | None, memory: int) -> str | None:
    held = ", ".join(f"{one.run} (of process {one.pid})" for one in taken[:3]) + (", …" if len(taken) > 3 else "")
    if limit is not None and len(taken) >= limit:
        return f"{device.name} has {len(taken)} of {limit} places taken: {held}"
    if not memory or device.memory is None:
        return None
    reserved = sum(one.memory for one in taken)
    if reserved + memory > device.memory:
        of = f"{show_size(reserved)} of {show_size(device.memory)} are reserved: {held}"
        return f"{device.name} has no {show_size(memory)} left; {of}"
    available = host_memory().get("available") if device.is_cpu else None
    if available is not None and memory > available:
        return f"this machine has no {show_size(memory)} of memory left, only {show_size(available)}"
    return None


def show_size(size: int) -> str:
    """Bytes as people write them: 6000000000 -> '6 GB'."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


def shared_folder(fallback: Path) -> Path:
    """The folder of this user's places on this machine; `fallback` if there can be none in the temporary folder."""
    folder = Path(tempfile.gettempdir()) / f"ablate-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return fallback
    mine = status.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
    return folder if mine and os.access(folder, os.W_OK) else fallback


@dataclass
class Pool:
    """The devices of one invocation, and how many runs it may have on each and in all."""

    devices: tuple[Device, ...]
    per_device: int
    workers: int
    slots: Slots
    shared_limit: bool = False
    """Whether runs of other processes count on the CPU too. On GPUs they always do."""
    _own: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, devices: tuple[Device, ...], workers: int | None, per_device: int | None, slots: Slots) -> Pool:
        """One run per device unless more are asked for, by device or in all."""
        each = per_device or math.ceil((workers or 1) / len(devices))
        total = min(workers or each * len(devices), each * len(devices))
        return cls(devices, each, total, slots, shared_limit=per_device is not None)

    def check(self, memory: int, what: str) -> None:
        """Raises UsageError if a reservation fits none of the devices, not even an empty one."""
        largest = [device.memory for device in self.devices]
        if all(size is not None and memory > size for size in largest):
            size = max(size for size in largest if size is not None)
            raise UsageError(
                f"{what}: reserves {show_size(memory)}, and {', '.join(device.name for device in self.devices)} "
                f"has {show_size(size)}; lower `resources:` in the study, or name another device"
            )

    def take(self, memory: int, run: str, *, alone: bool = False) -> Slot | Busy:
        """A place on the device where this process has the fewest runs."""
        busy = Busy("all places are taken by this process")
        for device in sorted(self.devices, key=lambda device: self._own.get(device.key, 0)):
            if self._own.get(device.key, 0) >= (1 if alone else self.per_device):
                continue
            limit = self.per_device if self.shared_limit or not device.is_cpu else None
            found = self.slots.take(device, 1 if alone else limit, memory, run)
            if isinstance(found, Slot):
                self._own[device.key] = self._own.get(device.key, 0) + 1
                return found
            busy = found
        return busy

    def give_back(self, slot: Slot) -> None:
        """After the worker has ended."""
        self._own[slot.device.key] -= 1
        slot.clear()
