"""Recording what a run does to the disk, promise by promise, through kills."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from ablate.engine import environment, worker
from ablate.runs import directory, states
from ablate.runs.checkpoint import Checkpoints
from ablate.runs.directory import RunConfig, RunIdentity
from ablate.runs.journal import Journal
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Outcome, Reason, State
from tests.campaign.model import Operation
from tests.campaign.tap import Call, Tap, tapped

NAME = "toy-aaaaaaaa"


class Killed(BaseException):
    """Stands for SIGKILL inside one process: whatever runs after it changes nothing any more."""


@dataclass(frozen=True)
class Fate:
    """To be killed before a call, once so many have passed; of any operation, or of one."""

    passes: int
    before: str | None = None
    named: bool = False
    """Only once a checkpoint of this process has got its name."""


class Recorder:
    """A watcher that writes every call down, and kills before a given one."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.fate: Fate | None = None
        self._left = 0
        self._named = False
        self.dead = False
        self.tap: Tap | None = None

    def before(self, call: Call) -> None:
        if call.operation == "close":
            return
        if self.fate is not None and self._counts(self.fate, call):
            self._left -= 1
            self.dead = self.dead or self._left < 0
        if self.dead:
            raise Killed

    def _counts(self, fate: Fate, call: Call) -> bool:
        return fate.before in (None, call.operation) and (self._named or not fate.named)

    def after(self, call: Call) -> None:
        manifest = (
            call.target is not None and call.target.parent.name == "checkpoints" and call.target.suffix == ".json"
        )
        self._named = self._named or (manifest and call.operation == "replace")
        if not self.dead and call.operation != "close":
            self.operations.append(
                Operation(
                    call.operation,
                    call.path,
                    call.target,
                    -1 if call.descriptor is None else call.descriptor,
                    call.data,
                    call.size,
                )
            )

    def promise(self, what: str, fact: object) -> None:
        if not self.dead:
            self.operations.append(Operation("mark", mark=(what, fact)))

    def revive(self, fate: Fate | None) -> None:
        """A new process, which meets its fate."""
        assert self.tap is not None
        self.tap.close_all()
        self.dead = self._named = False
        self.fate, self._left = fate, fate.passes if fate else 0


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """Records the operations of this process, and what the product promises on return of the calls that promise."""
    recorder = Recorder()
    with contextlib.ExitStack() as stack:
        recorder.tap = stack.enter_context(tapped(recorder))
        stack.enter_context(_then(Journal, "append", lambda record, **k: _appended(recorder, record, k)))
        stack.enter_context(_then(Checkpoints, "save", lambda manifest, **k: recorder.promise("saved", manifest)))
        stack.enter_context(_then(states, "write_outcome", lambda _, **k: recorder.promise("outcome", None)))
        stack.enter_context(_then(directory, "ensure_run", lambda _, **k: recorder.promise("made", None)))
        yield recorder


def _appended(recorder: Recorder, record: Any, options: dict[str, Any]) -> None:
    if options.get("durable", True):
        recorder.promise("acknowledged", record.seq)


@contextlib.contextmanager
def _then(owner: Any, name: str, tell: Callable[..., None]) -> Iterator[None]:
    real = getattr(owner, name)

    @functools.wraps(real)
    def told(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        tell(result, **options)
        return result

    setattr(owner, name, told)
    try:
        yield
    finally:
        setattr(owner, name, real)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """A worker inside this process: its signal handlers, its output and its questions about the machine stay out."""
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
    }
    threads = os.environ.get("OMP_NUM_THREADS")
    with contextlib.ExitStack() as stack:
        for name in ("git_state", "versions", "_processor"):
            if hasattr(environment, name):
                stack.callback(setattr, environment, name, getattr(environment, name))
                setattr(environment, name, functools.cache(getattr(environment, name)))
        stack.enter_context(mock.patch.object(worker, "end_with_parent"))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if threads is None:
                os.environ.pop("OMP_NUM_THREADS", None)
            else:
                os.environ["OMP_NUM_THREADS"] = threads


def attempt(paths: RunPaths) -> int:
    """One attempt at the run, in this process. Use inside `quick`."""
    return worker.main([str(paths.root), "--threads", "1"])


def make(root: Path, seed: int) -> RunPaths:
    config = {"seed": seed, "train": {"epochs": 4, "checkpoint": {"every": "2 steps"}}}
    identity = RunIdentity(NAME[-8:], "a" * 64, NAME, "toy", 1, {"seed": seed}, {}, 1.0)
    return directory.ensure_run(RunsDir(root / "runs"), identity, RunConfig(config, "ablate run toy.yaml", {}))


def _fate(draw: random.Random) -> Fate:
    """Half of them die between a change of a folder and its fsync: what was done is seen, and may yet be undone."""
    if draw.random() < 0.5:
        return Fate(draw.randrange(20), "sync_folder")
    return Fate(draw.randrange(4, 100))


def _fates(draw: random.Random, kills: int) -> list[Fate | None]:
    """In one recording of three every process is killed between naming its first checkpoint and making that name certain.

    The last checkpoint is among them: then the next process ends the run on a name that no fsync has made certain.
    """
    if draw.random() < 1 / 3:
        return [*[Fate(0, "sync_folder", named=True)] * 20, None]
    return [Fate(draw.randrange(12)), *(_fate(draw) for _ in range(kills)), None]


def record(root: Path, seed: int, kills: int = 8) -> list[Operation]:
    """One run from the making of its directory to its end, killed between some operations on the way.

    `root` must be an empty folder; the operations are those on everything in it.
    """
    draw = random.Random(f"record:{seed}")
    with quick(), recording() as recorder:
        for fate in _fates(draw, kills):
            recorder.revive(fate)
            with contextlib.suppress(Killed):
                paths = make(root, seed)
                if attempt(paths) == 0:
                    break
            recorder.revive(None)
            paths = RunPaths(root / "runs" / NAME)
            if draw.random() < 0.3 and paths.root.exists() and states.read_outcome(paths) is None:
                states.write_outcome(paths, Outcome(State.FAILED, Reason.KILLED, "as the coordinator says it"))
    return recorder.operations
