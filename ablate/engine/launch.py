"""From a study, or one run, to jobs: load, plan, check the data, make directories, train."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.engine import brought
from ablate.engine import plan as planning
from ablate.engine.devices import find_devices
from ablate.engine.environment import default_threads
from ablate.engine.mirror_target import mode_of
from ablate.engine.plan import Action, Order, Planned
from ablate.engine.policy import Rules
from ablate.engine.scheduler import Ended, Job, Scheduler, Watch
from ablate.engine.slots import Pool, Slots, shared_folder
from ablate.engine.stop import StopFlag
from ablate.engine.tasks import Tasks, find_task
from ablate.errors import DataError, HeldError, UsageError
from ablate.runs import directory, external, files, lease, states
from ablate.runs.directory import RunConfig
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State
from ablate.study import Cell, Study, expand, identify, load_study, select
from ablate.study.overrides import with_settings
from ablate.study.record import StudyRecord, join, merge, record
from ablate.study.scheduling import Scheduling
from ablate.task import RunSettings, Task

Say = Callable[[str], None]


@dataclass(frozen=True)
class Where:
    """Where runs are kept, and how the ones of this invocation are placed."""

    runs: RunsDir
    device: str = "cpu"
    """As `--device` takes it: one or several."""
    workers: int | None = None
    """Runs at a time in all; one per device if not given."""
    threads: int | None = None
    from_scratch: bool = False
    per_device: int | None = None
    rules: Rules = field(default_factory=Rules)
    order: Order = Order.PRIORITY

    def pool(self) -> Pool:
        """The places for runs. Raises UsageError if a device is not there."""
        slots = Slots(shared_folder(self.runs.cache / "devices"))
        return Pool.of(find_devices(self.device), self.workers, self.per_device, slots)

    def job(self, paths: RunPaths, wandb: Mapping[str, Any], pool: Pool | None = None) -> Job:
        pool = pool or self.pool()
        threads = self.threads or default_threads(pool.workers)
        mirrored = mode_of(wandb) != "disabled"
        device = pool.devices[0].name
        return Job(paths, device, threads, self.runs.cache.absolute(), self.from_scratch, mirrored)


@dataclass(frozen=True)
class StudyPlan:
    """A study, what it expands to, and what would be done with each cell."""

    study: Study
    task: Task
    cells: tuple[Planned, ...]
    """All cells of the study."""
    chosen: tuple[Planned, ...]
    """The ones that `--only` leaves."""
    joins: bool = False
    """Whether the cells are added to what the study declared, instead of taking its place."""

    @property
    def to_train(self) -> list[Planned]:
        return [planned for planned in self.chosen if planned.action.trains]


def plan_study(
    path: Path,
    runs: RunsDir,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    max_cells: int = 100_000,
    *,
    deferred: bool = False,
) -> StudyPlan:
    """Reads a study and looks at its runs; writes nothing. Cells that the study defers are trained if `deferred`.

    Raises StudyError, DataError.
    """
    tasks = Tasks()
    study = load_study(path, tasks, overrides)
    task = tasks[study.task]
    here = Path.cwd()
    declared = expand(study, task, max_cells)
    cells = [replace(cell, config=task.absolute(cell.config, here)) for cell in declared]
    wanted = {cell.position for cell in select(cells, only)}
    scheduling = Scheduling(study)  # looks at paths as they were written
    planned = tuple(
        _scheduled(item, scheduling, declared[item.cell.position], deferred)
        for item in planning.plan(cells, task, runs)
    )
    return StudyPlan(study, task, planned, tuple(item for item in planned if item.cell.position in wanted))


def _scheduled(item: Planned, scheduling: Scheduling, cell: Cell, deferred: bool) -> Planned:
    item = replace(item, priority=scheduling.priority(cell), memory=scheduling.memory(cell))
    reason = None if deferred else scheduling.deferred(cell)
    return replace(item, action=Action.DEFERRED, why=reason) if reason and item.action.trains else item


def check_data(task: Task, planned: Sequence[Planned], cache: Path, say: Say) -> None:
    """Looks at every file that the runs will read, once for all cells that read the same.

    Raises DataError before anything is written.
    """
    seen: set[str] = set()
    for item in planned:
        values = item.cell.config.model_dump(mode="json")
        key = json.dumps(values.get("data", values), sort_keys=True)
        if key not in seen:
            seen.add(key)
            for note in task.check(item.cell.config, cache, say).notes:
                say(note)


def train_study(
    plan: StudyPlan, where: Where, command: Sequence[str], watch: Watch, stop: StopFlag, say: Say
) -> list[Ended]:
    """Trains what is left of a study.

    Raises UsageError if a device is not there, HeldError if another process is at the study, DataError.
    """
    pool = where.pool()
    for item in plan.to_train:
        pool.check(item.memory, item.identity.name)
    with hold_study(where.runs, plan.study.study):
        if not plan.to_train:
            record_study(plan, where.runs)
            return []
        check_data(plan.task, plan.to_train, where.runs.cache.absolute(), say)
        record_study(plan, where.runs)
        mirror: dict[str, Any] = {"group": plan.study.study}
        mirror |= plan.study.wandb.model_dump(mode="json", exclude_none=True)
        jobs = []
        for item in planning.in_order(plan.to_train, where.order, plan.task):
            config = planning.run_config(item.cell.config, command, mirror)
            job = where.job(planning.create(item, where.runs, plan.task, config), mirror, pool)
            jobs.append(replace(job, architecture=item.architecture, memory=item.memory))
        proven = frozenset(item.architecture for item in plan.cells if item.is_proven)
        stop.install()  # not earlier: until here Ctrl-C may end everything at once
        return Scheduler(pool.workers, watch, stop, pool, where.rules, proven).run(jobs)


def hold_study(runs: RunsDir, study: str) -> Lease:
    """The study's lease. Raises HeldError, naming who holds it."""
    files.make_folder(runs.studies)
    return Lease.acquire(runs.study_lease(study), f"study {study}")


def record_study(plan: StudyPlan, runs: RunsDir) -> None:
    """Writes down which runs the study holds; runs that an earlier version of it held stay in the record."""
    path = runs.study(plan.study.study)
    before = StudyRecord.from_json(files.read_plain(path), str(path)) if path.exists() else None
    declared = record(plan.study, [(item.cell, item.identity) for item in plan.cells], time.time())
    files.write_atomic(path, (join if plan.joins else merge)(before, declared).to_json().encode())


def resume_run(
    paths: RunPaths,
    where: Where,
    overrides: Sequence[str],
    command: Sequence[str],
    watch: Watch,
    stop: StopFlag,
    say: Say,
) -> list[Ended]:
    """Goes on with one run.

    Raises HeldError if another process is at it, DataError if its data is missing or damaged, UsageError if an
    override would make it another run, a device is not there, or the run was imported.
    """
    external.refuse(paths, "resume")
    pool = where.pool()
    if holder := lease.holder(paths.lease):
        raise HeldError(f"run {paths.name} is held by {holder}; wait for it, or stop it")
    if states.status(paths).state is State.COMPLETE and not where.from_scratch:
        say(f"{paths.name}: complete, nothing left to do")
        return []
    stored = directory.read_config(paths)
    config, task = _settings(paths, stored, overrides)
    for note in task.check(config, where.runs.cache.absolute(), say).notes:
        say(note)
    directory.write_config(paths, planning.run_config(config, command, stored.wandb))
    stop.install()
    return Scheduler(1, watch, stop, pool, where.rules).run([where.job(paths, stored.wandb, pool)])


def _settings(paths: RunPaths, stored: RunConfig, overrides: Sequence[str]) -> tuple[RunSettings, Task]:
    """The configuration of a run with paths, cadences and the like changed, and nothing that decides its results."""
    identity = directory.read_identity(paths)
    brought.require(paths)
    task = find_task(identity.task)
    config = task.absolute(with_settings(task.Config, stored.config, overrides), Path.cwd())
    now = identify(task, config)
    if now.settings != identity.settings:
        changed = sorted(
            key for key in {*now.settings, *identity.settings} if now.settings.get(key) != identity.settings.get(key)
        )
        raise UsageError(
            f"{paths.name}: another {', '.join(changed)} would make it another run; change the study instead, and `ablate run` it"
        )
    edited = {key for key in {*now.digests, *identity.digests} if now.digests.get(key) != identity.digests.get(key)}
    if edited:  # refused before the outcome is touched: the run may be complete, and asked for from scratch
        raise DataError(
            f"{paths.name}: {', '.join(sorted(edited))} changed since the run began, so it cannot go on; put the file "
            "back, or `ablate run` the study, which makes a new run"
        )
    return config, task
