"""`ablate doctor`: what is wrong with the environment, the database and the runs, each with its remedy.

Looks, and changes nothing but that the database is brought up to date, as every report does.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ablate.engine import collect, machine
from ablate.engine.environment import versions
from ablate.engine.mirror_target import lacking
from ablate.errors import AblateError, HeldError, RecordError
from ablate.results import verify
from ablate.runs import directory, files, journal, lease, states
from ablate.runs.certificate import read_certificate
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.notes import read_notes
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Reason, State
from ablate.study.record import StudyRecord

_LOW_SPACE = 2**30
"""Free bytes below which checkpoints of a DPT no longer fit."""
_CLOCK = 300.0
"""Seconds by which a record may lie in the future."""
_OLDEST = 1_704_067_200.0
"""2024-01-01: this tool did not exist before."""
_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "lustre", "beegfs", "gpfs")


class Level(StrEnum):
    FINE = "fine"
    NOTE = "note"
    """Worth knowing; nothing to mend."""
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One sentence about one thing, and what to do about it."""

    about: str
    level: Level
    text: str
    remedy: str | None = None


def examine(db: Path, runs_dir: Path) -> Iterator[Finding]:
    """Everything, cheap things first."""
    runs = RunsDir(runs_dir)
    yield from _python()
    yield from _packages()
    yield from _disk(runs_dir)
    yield from _clock(runs)
    yield from _studies(runs)
    yield from _runs(runs)
    yield from _left_behind(runs)
    yield from _mirrors(runs)
    yield from _processes(runs)
    yield from _database(db, runs_dir)


def _fine(about: str, text: str) -> Finding:
    return Finding(about, Level.FINE, text)


def _wrong(about: str, text: str, remedy: str) -> Finding:
    return Finding(about, Level.WRONG, text, remedy)


def _python() -> Iterator[Finding]:
    shown = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield _fine("python", f"{sys.executable}: {shown}")
    if not sys.platform.startswith("linux"):
        text = f"{sys.platform}: workers do not end by themselves when their coordinator is killed"
        yield Finding("python", Level.NOTE, text, "`ablate stop` ends them")


def _packages() -> Iterator[Finding]:
    found = machine.probe()
    if "error" in found:
        yield _wrong("packages", found["error"], "install ablate-depth again in a fresh virtual environment")
        return
    for name, why in found["missing"].items():
        yield _wrong("packages", f"{name} cannot be imported ({why})", "install ablate-depth again, or that package")
    if not found["missing"]:
        yield _fine("packages", "all can be imported")
    yield _fine("devices", ", ".join(found["devices"]))


def _disk(runs_dir: Path) -> Iterator[Finding]:
    folder = runs_dir if runs_dir.is_dir() else Path.cwd()
    free = shutil.disk_usage(folder).free
    if free < _LOW_SPACE:
        text = f"{folder}: {free / 2**20:,.0f} MiB free"
        yield _wrong("disk", text, "make room: `ablate gc`, `ablate rm`; runs pause before they fill a disk")
    else:
        yield _fine("disk", f"{folder}: {free / 2**30:,.1f} GiB free")
    if not os.access(folder, os.W_OK | os.X_OK):
        yield _wrong("disk", f"{folder}: may not be written", "mend its permissions, or give another --runs-dir")
    if kind := _network(folder):
        text = f"{folder} is on {kind}: locks and fsync are as good as its server"
        yield Finding("disk", Level.NOTE, text, "keep runs on a local disk if you can")


def _network(folder: Path) -> str | None:
    """The kind of a network file system that a folder is on, as far as /proc says."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    place = folder.resolve()
    around = [(len(mount[1]), mount[2]) for mount in mounts if place.is_relative_to(mount[1])]
    kind = max(around, default=(0, ""))[1]
    return kind if kind.startswith(_NETWORK) else None


def _clock(runs: RunsDir) -> Iterator[Finding]:
    now = time.time()
    newest = max(((_newest_wall(paths), paths.name) for paths in runs.runs()), default=(0.0, ""))
    if now < _OLDEST:
        yield _wrong("clock", f"it is {time.ctime(now)}, says the clock", "set the clock of this machine")
    elif newest[0] > now + _CLOCK:
        text = f"{newest[1]} has a record of {time.ctime(newest[0])}, which is in the future"
        yield _wrong("clock", text, "set the clock; results are right all the same, they are ordered by number")
    else:
        yield _fine("clock", "no record is from the future")


def _newest_wall(paths: RunPaths) -> float:
    try:
        return paths.journal.stat().st_mtime
    except OSError:
        return 0.0


def _studies(runs: RunsDir) -> Iterator[Finding]:
    whole = 0
    for path in sorted(runs.studies.glob("*.json")) if runs.studies.is_dir() else []:
        try:
            StudyRecord.from_json(files.read_plain(path), str(path))
            whole += 1
        except (OSError, RecordError) as error:
            yield _wrong(
                "studies", str(error), f"delete {path}, then `ablate run` the study again: runs are not touched"
            )
    yield _fine("studies", f"{whole} recorded")


def _runs(runs: RunsDir) -> Iterator[Finding]:
    everything = runs.runs()
    sound = 0
    for paths in everything:
        found = list(_run(paths))
        yield from found
        sound += not found
    yield _fine("runs", f"{sound} of {len(everything)} are sound")


def _run(paths: RunPaths) -> Iterator[Finding]:
    held = lease.is_held(paths.lease)
    yield from _records(paths)
    yield from _journal(paths, held)
    if not held:
        yield from _checkpoints(paths)
        yield from _leftovers(paths)


def _records(paths: RunPaths) -> Iterator[Finding]:
    remedy = f"restore it from a backup, or `ablate rm {paths.name}` and run the study again"
    aside: dict[Callable[[RunPaths], object], str] = {
        read_certificate: f"delete it; `ablate verify {paths.name}` makes another",
        read_notes: "restore it from a backup or mend it by hand; without it the run has no notes and tags",
    }
    for read in (directory.read_identity, directory.read_config, states.read_outcome, *aside):
        try:
            read(paths)
        except (OSError, RecordError) as error:
            yield _wrong("records", str(error), aside.get(read, remedy))


def _journal(paths: RunPaths, held: bool) -> Iterator[Finding]:
    end = acknowledged = 0
    for line in journal.read(paths.journal):
        end, acknowledged = line.end, line.record.seq
    size = paths.journal.stat().st_size if paths.journal.exists() else 0
    newest = next(iter(_manifests(paths)), None)
    if newest is not None and newest.seq > acknowledged:
        text = f"{paths.journal}: ends with record {acknowledged} (byte {end}), a checkpoint vouches for {newest.seq}"
        remedy = f"restore it from a backup, or `ablate resume {paths.name} --from-scratch`"
        yield _wrong("journals", text, remedy)
    elif size > end and not held:
        lost = size - end
        text = f"{paths.journal}: {lost} bytes after record {acknowledged} are not a record"
        yield _wrong("journals", text, f"`ablate resume {paths.name}` cuts them off; nothing acknowledged is in them")


def _manifests(paths: RunPaths) -> Iterator[Manifest]:
    for path in Checkpoints(paths.checkpoints).manifests():
        try:
            yield Manifest.read(path)
        except (OSError, RecordError):
            continue


def _checkpoints(paths: RunPaths) -> Iterator[Finding]:
    store = Checkpoints(paths.checkpoints)
    whole, problems = 0, []
    for path in store.manifests():
        try:
            store.verify(Manifest.read(path))
            whole += 1
        except (OSError, RecordError) as error:
            problems.append(str(error))
    back = "an earlier checkpoint is whole, `ablate resume` goes back to it"
    anew = f"restore it from a backup, or train anew: `ablate resume {paths.name} --from-scratch`"
    yield from (_wrong("checkpoints", problem, back if whole else anew) for problem in problems)


def _leftovers(paths: RunPaths) -> Iterator[Finding]:
    """What a process that was killed left behind: no harm, but somebody should go on."""
    torn = [path for path in paths.root.rglob(f"*{files.TEMPORARY}") if path.is_file()]
    if torn:
        text = f"{paths.root}: {len(torn)} half-written files of a process that was killed"
        yield _wrong("leftovers", text, "`ablate gc --yes` removes them")
    try:
        status = states.status(paths)
    except RecordError:  # said already
        return
    if status.state is State.PAUSED and status.reason is Reason.KILLED:
        yield _wrong("leftovers", f"{paths.name}: {status.message}", f"`ablate resume {paths.name}`, or run its study")


def _mirrors(runs: RunsDir) -> Iterator[Finding]:
    for paths in runs.runs():
        if why := lacking(paths):
            text = f"{paths.name}: wandb lacks something of it: {why}"
            yield Finding("wandb", Level.NOTE, text, f"`ablate wandb sync {paths.name}` sends it; all is kept here")


def _left_behind(runs: RunsDir) -> Iterator[Finding]:
    for folder in collect.left_behind(runs):
        yield _wrong("leftovers", f"{folder}: left behind by a process that is gone", "`ablate gc --yes` removes it")


def _processes(runs: RunsDir) -> Iterator[Finding]:
    found = list(machine.strays(runs))
    for worker, text in found:
        remedy = f"kill -CONT {worker.pid}" if worker.stopped else f"kill {worker.pid}: it saves and ends"
        yield _wrong("processes", text, remedy)
    if not found:
        yield _fine("processes", f"{sum(1 for _ in machine.workers(runs))} train; none is astray")


def _database(db: Path, runs_dir: Path) -> Iterator[Finding]:
    if not db.exists() or not runs_dir.is_dir():
        yield _fine("database", f"{db}: none yet")
        return
    try:
        found = verify.verify(db, runs_dir, wait=5.0)
    except HeldError as error:
        yield Finding("database", Level.NOTE, str(error), "training and reports go on without it")
        return
    except AblateError as error:
        yield _wrong("database", str(error), "`ablate db rebuild`")
        return
    yield from (Finding("database", Level.NOTE, problem, "see above") for problem in found.problems)
    yield from (_wrong("database", text, "`ablate db rebuild`") for text in found.differences)
    if not found.differences:
        yield _fine("database", f"{db}: opens, and its {found.rows:,} rows are what the runs say")


def as_json(findings: list[Finding]) -> str:
    return json.dumps([vars(finding) for finding in findings], indent=1)
