"""`ablate retry`: runs that failed are trained again, from where they stood."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.engine import brought
from ablate.engine import plan as planning
from ablate.engine.launch import Say, Where
from ablate.engine.scheduler import Ended, Scheduler, Watch
from ablate.engine.stop import StopFlag
from ablate.engine.tasks import find_task
from ablate.errors import RecordError, UsageError
from ablate.runs import directory, states
from ablate.runs.paths import RunPaths
from ablate.runs.states import Reason, State, Status
from ablate.study.overrides import with_settings

REASONS = tuple(str(reason) for reason in Reason if reason is not Reason.SIGNAL)


@dataclass(frozen=True)
class Failed:
    paths: RunPaths
    status: Status


def failed_runs(runs: Iterable[RunPaths], reasons: Sequence[str]) -> list[Failed]:
    """Those that failed for one of `reasons`; by default for any but `diverged`, which would only diverge again.

    Raises UsageError for an unknown reason.
    """
    if unknown := sorted(set(reasons) - set(REASONS)):
        raise UsageError(f"--reason {unknown[0]!r}: expected one of {', '.join(REASONS)}")
    found = []
    for paths in runs:
        try:
            status = states.status(paths)
        except RecordError as error:  # an outcome that cannot be read: nobody knows why it ended
            status = Status(State.FAILED, Reason.CRASH, str(error))
        if _wanted(status, reasons) and not _imported(paths):
            found.append(Failed(paths, status))
    return found


def _wanted(status: Status, reasons: Collection[str]) -> bool:
    if reasons:
        return status.state in (State.FAILED, State.PAUSED) and str(status.reason) in reasons
    return status.state is State.FAILED and status.reason is not Reason.DIVERGED


def _imported(paths: RunPaths) -> bool:
    """A failure that somebody else recorded cannot be tried again here."""
    try:
        return directory.read_identity(paths).external is not None
    except RecordError:
        return False


def train_again(
    failed: Sequence[Failed], where: Where, command: Sequence[str], watch: Watch, stop: StopFlag, say: Say
) -> list[Ended]:
    """Trains them.

    Raises UsageError if a device is not there, and DataError if data is missing or damaged, before anything is written.
    """
    pool = where.pool()
    ready = []
    for item in failed:
        brought.require(item.paths)
        stored = directory.read_config(item.paths)
        task = find_task(directory.read_identity(item.paths).task)
        config = task.absolute(with_settings(task.Config, stored.config, []), Path.cwd())
        for note in task.check(config, where.runs.cache.absolute(), say).notes:
            say(note)
        ready.append((item.paths, planning.run_config(config, command, stored.wandb)))
    for paths, run_config in ready:
        directory.write_config(paths, run_config)
    jobs = [where.job(paths, run_config.wandb, pool) for paths, run_config in ready]
    stop.install()
    return Scheduler(pool.workers, watch, stop, pool, where.rules).run(jobs)
