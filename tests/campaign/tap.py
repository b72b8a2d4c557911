"""Watching every call of `ablate.runs.disk` from outside: what is called, on which file, and what to do before it."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ablate.runs import disk, journal

OPERATIONS = tuple(
    name for name, value in vars(disk).items() if inspect.isfunction(value) and value.__module__ == disk.__name__
)
"""The functions of `disk`, all of them."""

NO_CHANGE = ("close",)
"""Operations that a kill cannot come between in any way that matters: the kernel does them for a dead process."""


@dataclass(frozen=True)
class Call:
    """One call of a disk function. `path` is the file or folder; a descriptor is resolved to what it was opened as."""

    operation: str
    path: Path
    descriptor: int | None = None
    data: bytes = b""
    size: int = 0
    target: Path | None = None


class Watcher(Protocol):
    def before(self, call: Call) -> None: ...

    def after(self, call: Call) -> None:
        """Only if the call succeeded."""
        ...


class Tap:
    """Replaces the functions of `disk` by ones that tell a watcher. It opens nothing and changes nothing itself."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._open: dict[int, Path] = {}
        self.real: dict[str, Callable[..., Any]] = {name: getattr(disk, name) for name in OPERATIONS}

    def install(self) -> None:
        for name in OPERATIONS:
            setattr(disk, name, self._wrapped(name))

    def remove(self) -> None:
        for name, function in self.real.items():
            setattr(disk, name, function)

    def close_all(self) -> None:
        """What the kernel does for a dead process: leases are free again."""
        while self._open:
            os.close(self._open.popitem()[0])

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self.real[name]

        def tapped(*arguments: Any) -> Any:
            call = self._call(name, arguments)
            self._watcher.before(call)
            result = real(*arguments)
            if name.startswith("open"):
                self._open[result] = call.path
                call = Call(name, call.path, result)
            elif name == "close":
                self._open.pop(arguments[0], None)
            elif name == "write":
                call = Call(name, call.path, call.descriptor, call.data[:result])
            self._watcher.after(call)
            return result

        return tapped

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Call:
        first, *rest = arguments
        if isinstance(first, int):
            path = self._open.get(first, Path("?"))
            if name == "write":
                return Call(name, path, first, bytes(rest[0]))
            return Call(name, path, first, size=rest[0] if rest else 0)
        return Call(name, Path(first), target=Path(rest[0]) if rest else None)


@contextmanager
def tapped(watcher: Watcher) -> Iterator[Tap]:
    tap = Tap(watcher)
    tap.install()
    try:
        yield tap
    finally:
        tap.remove()


def place(path: Path, runs: Path) -> str:
    """The name of a file's role, the same in every run: `checkpoints/#.weights.pt.tmp`, `journal.jsonl`, …"""
    try:
        parts = path.relative_to(runs).parts
    except ValueError:
        return "outside"
    if not parts:
        return "runs"
    if parts[0] in ("studies", ".cache"):
        return "/".join((parts[0], *(re.sub(r"^[^.]+", "*", part) for part in parts[1:])))
    if parts[0].startswith("."):  # it gets its name when it is whole
        return "/".join(("new run", *parts[1:]))
    return re.sub(r"\d{6}", "#", "/".join(parts[1:])) or "run"


def describe(call: Call, runs: Path) -> str:
    """The name of the moment before a call: `write journal.jsonl epoch`, `replace checkpoints/#.json.tmp`, …"""
    name = f"{call.operation} {place(call.path, runs)}"
    if call.operation != "write" or call.path.name != "journal.jsonl":
        return name
    try:
        record = journal.decode(call.data)
    except ValueError:
        return name
    return f"{name} {record.body.get('name', '') if record.type == 'event' else record.type}"
