"""`ablate wandb sync`: which runs wandb lacks something of, and a process that sends them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

from ablate.engine.mirror_push import MARK, Done, Errand, offline_folders
from ablate.engine.mirror_session import INIT_SECONDS
from ablate.engine.mirror_target import Target, digest_of, journal_size, read_mirrored, target_of
from ablate.errors import RecordError, UsageError
from ablate.runs import directory, files, lease
from ablate.runs.paths import RunPaths, RunsDir
from ablate.study.record import StudyRecord

_LEAVE = 15.0
"""Seconds that wandb has to end once everything is sent."""


class Standing(StrEnum):
    """What would be done with a run."""

    SEND = "send"
    SAME = "same"
    """wandb has all of it."""
    BUSY = "busy"
    """It trains, or its mirror is at it."""
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Planned:
    paths: RunPaths
    standing: Standing
    why: str
    target: Target


@dataclass(frozen=True)
class Wanted:
    """What the user asked for, beside the runs. With `into` files are written there and nothing is sent."""

    project: str | None = None
    entity: str | None = None
    into: Path | None = None
    force: bool = False
    """Also what has arrived already: it may have been deleted there."""
    patience: float = 600.0
    """Seconds that wandb may take to finish one run."""


def check_environment() -> None:
    """Raises UsageError if WANDB_MODE forbids what was asked for."""
    mode = os.environ.get("WANDB_MODE", "").strip().lower()
    if mode in ("offline", "dryrun", "disabled"):
        raise UsageError(
            f"WANDB_MODE={mode} forbids to send anything; unset it, or write files with `ablate wandb sync --offline DIR`"
        )


def asks_for_a_mirror(paths: RunPaths) -> bool:
    """Whether the study of a run says `wandb`. A damaged record is for `ablate doctor` to speak of."""
    try:
        return str(directory.read_config(paths).wandb.get("mode") or "disabled") != "disabled"
    except (RecordError, OSError):
        return False


def groups(runs: RunsDir) -> dict[str, str]:
    """By run id the study that holds it; the newest declaration, if several do."""
    found: dict[str, tuple[float, str]] = {}
    for path in sorted(runs.studies.glob("*.json")) if runs.studies.is_dir() else []:
        try:
            record = StudyRecord.from_json(files.read_plain(path), str(path))
        except (OSError, RecordError):
            continue
        for cell in record.cells:
            found[cell.run_id] = max(found.get(cell.run_id, (0.0, "")), (record.declared, record.study))
    return {run_id: study for run_id, (_, study) in found.items()}


def plan(chosen: Iterable[RunPaths], runs: RunsDir, wanted: Wanted) -> list[Planned]:
    """Looks at the runs and at what is known to have arrived; asks nobody."""
    studies = groups(runs)
    return [_planned(paths, studies, wanted) for paths in chosen]


def _planned(paths: RunPaths, studies: dict[str, str], wanted: Wanted) -> Planned:
    mode = "online" if wanted.into is None else "offline"
    target = Target(mode, wanted.project or "ablate")
    try:
        identity = directory.read_identity(paths)
        settings: dict[str, Any] = dict(directory.read_config(paths).wandb)
        settings.setdefault("group", studies.get(identity.run_id))
        target = target_of(settings, mode)
        target = replace(target, project=wanted.project or target.project, entity=wanted.entity or target.entity)
        standing, why = _standing(paths, target, wanted)
        if identity.external is not None and identity.external.kind == "wandb":
            standing, why = Standing.SKIPPED, "it was imported from wandb"
    except (RecordError, OSError) as error:
        standing, why = Standing.SKIPPED, str(error)
    return Planned(paths, standing, why, target)


def _standing(paths: RunPaths, target: Target, wanted: Wanted) -> tuple[Standing, str]:
    if holder := lease.holder(paths.lease):
        return Standing.BUSY, f"it is being trained by {holder}"
    if holder := lease.holder(paths.mirror_lock):
        return Standing.BUSY, f"its mirror is at it: {holder}"
    if not journal_size(paths):
        return Standing.SKIPPED, "it has not begun"
    if wanted.force:
        return Standing.SEND, "--force"
    digest = digest_of(paths, target)
    if wanted.into is not None:
        run_id = directory.read_identity(paths).run_id
        here = [_mark(folder) for folder in offline_folders(wanted.into, run_id)]
        return (Standing.SAME, "written already") if here == [digest] else (Standing.SEND, "changed" if here else "new")
    arrived = read_mirrored(paths).places.get(target.place)
    if arrived is None:
        return Standing.SEND, "new"
    return (Standing.SAME, "sent already") if arrived.digest == digest else (Standing.SEND, "changed since it was sent")


def _mark(folder: Path) -> str | None:
    try:
        return str(files.read_json(folder / MARK).get("digest"))
    except (OSError, RecordError):
        return None


def carry_out(planned: Sequence[Planned], wanted: Wanted) -> Iterator[Done]:
    """Sends the runs that are to be sent, one after the other, and says what became of each.

    Stops at the first that wandb did not even take: whatever is wrong there is wrong for all.
    """
    into = None if wanted.into is None else wanted.into.absolute()
    errands = [
        Errand(item.paths.root.absolute(), item.target, wanted.patience, into)
        for item in planned
        if item.standing is Standing.SEND
    ]
    with _Courier() as courier:
        for errand in errands:
            done = courier.send(errand)
            yield done
            if done.unreachable:
                return


class _Courier:
    """The process that talks to wandb: it may hang, and then it is ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Courier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(at_once=kind is not None)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ablate.engine.mirror_push"]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def send(self, errand: Errand) -> Done:
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        patience = INIT_SECONDS + 2 * errand.patience
        try:
            process.stdin.write(errand.to_json().encode() + b"\n")
            process.stdin.flush()
            answer = self._answer(process, time.monotonic() + patience)
        except BrokenPipeError:
            answer = b""
        if answer:
            return Done(**json.loads(answer))
        self._end(at_once=True)
        text = "its process ended without a word" if answer == b"" else f"no answer within {patience:.0f} s"
        return Done(errand.run.name, error=f"wandb: {text}", unreachable=answer is None)

    def _answer(self, process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
        """A line; nothing if the process is gone, None if the time is up."""
        assert process.stdout is not None
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([process.stdout], [], [], min(left, 1.0))
            if ready:
                return process.stdout.readline()
        return None

    def _end(self, *, at_once: bool) -> None:
        """Lets it go if it has nothing left to do; if it does not go, ends it with all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0 if at_once else _LEAVE)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
