"""One run open in wandb. All that is asked of the package wandb is asked here, in processes that train nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

from ablate.engine import brought
from ablate.engine.mirror_rows import EPOCH, OF_EPOCHS, OF_STEPS, STEP, Row, Rows
from ablate.engine.mirror_target import Target
from ablate.engine.panels import pictures
from ablate.engine.tasks import find_task
from ablate.errors import AblateError
from ablate.runs import directory, journal, notes, states
from ablate.runs.journal import Record
from ablate.runs.notes import Notes
from ablate.runs.paths import RunPaths
from ablate.runs.states import State
from ablate.task import Metric

_ENVIRONMENT = ("device", "threads", "host", "processor", "versions", "git")
"""What of an attempt's record goes into wandb's configuration."""
INIT_SECONDS = 60.0
"""For which wandb's server may be silent before a mirror gives up."""


def metrics_of(paths: RunPaths) -> Sequence[Metric]:
    """The metrics of the run's task; none if it cannot be had, and then names are the journal's."""
    try:
        brought.require(paths)
        return tuple(find_task(directory.read_identity(paths).task).metrics)
    except AblateError:
        return ()


def rows_of(paths: RunPaths, target: Target) -> Rows:
    return Rows(metrics_of(paths), target.every)


class Session:
    """A run in wandb from `open` to `close`. Everything raises what wandb raises."""

    def __init__(self, run: Any, paths: RunPaths) -> None:
        self._run, self._paths = run, paths
        self._known: dict[str, Any] = {}
        self._shown: set[tuple[int, str]] = set()
        self._waiting: list[Row] = []
        self.sent = 0
        self._noted = _note_text(paths)

    @classmethod
    def open(cls, paths: RunPaths, target: Target, folder: Path, *, pid: int | None = None, patience: float) -> Self:
        """The run's id is wandb's, so that whatever is sent of a run, and whenever, is one run there.

        `folder` gets wandb's files, `pid` is the process whose use of the machine is recorded, if it trains now, and
        `patience` how many seconds wandb may take to finish.
        """
        import wandb

        identity = directory.read_identity(paths)
        noted = _note_text(paths)
        run = wandb.init(
            id=identity.run_id,
            name=identity.name,
            project=target.project,
            entity=target.entity,
            group=target.group,
            job_type=_job_type(paths),
            notes=noted[0] or None,
            tags=list(noted[1]) or None,
            mode=cast(Any, target.mode),
            resume="allow",
            config=_config(paths),
            dir=str(folder),
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                host=_host(paths),
                program="ablate",
                init_timeout=INIT_SECONDS,
                finish_timeout=patience,
                finish_timeout_raises=True,
                **_measured(pid),
            ),
        )
        for name in (EPOCH, STEP):
            run.define_metric(name, hidden=True)
        for name in OF_STEPS:
            run.define_metric(name, step_metric=STEP)
        for name in (*OF_EPOCHS.values(), "val/*", "test/*", "panels/*"):
            run.define_metric(name, step_metric=EPOCH)
        return cls(run, paths)

    @property
    def has(self) -> int:
        """Rows that wandb's server has already; 0 where there is no server."""
        return int(self._run.starting_step)

    @property
    def url(self) -> str | None:
        """None without a server."""
        if self._run.offline:
            return None
        return str(self._run.url) if self._run.url else None

    def take(self, record: Record, rows: Rows, *, arrived: bool = False) -> None:
        """Sends what the next record of the journal says. The rows of one that has `arrived` are only counted.

        An evaluation waits for what comes after it: its panels are stored once its records are written.
        """
        found = list(rows.of(record))
        name = record.body.get("name") if record.type == "event" else record.type
        if name not in ("evaluation", "selected", "breakdown"):
            self._send_waiting()
        self._waiting += [] if arrived else found
        if found and not found[0].split:
            self._send_waiting()
        if name == "attempt":
            known = {key: record.body[key] for key in _ENVIRONMENT if key in record.body}
            self._run.config.update({"environment": known}, allow_val_change=True)
        elif name == "selected":
            self._summarise(rows.summary())

    def _send_waiting(self) -> None:
        for row in self._waiting:
            self._send(row)
        self._waiting.clear()

    def _send(self, row: Row) -> None:
        """A row that wandb has is left out there, and so it is here."""
        if row.step >= self.has:
            self._run.log({**row.values, "_timestamp": row.wall, **self._panels(row)}, step=row.step, commit=True)
            self.sent += 1

    def _panels(self, row: Row) -> dict[str, Any]:
        """Pictures of the epoch, with the first of its evaluations of their split."""
        if not row.split or (row.epoch, row.split) in self._shown:
            return {}
        import wandb

        self._shown.add((row.epoch, row.split))
        found = pictures(self._paths, row.split, row.epoch)
        return {f"panels/{row.split}/{name}": wandb.Image(image, caption=name) for name, image in found.items()}

    def _summarise(self, values: Mapping[str, Any]) -> None:
        """Beside wandb's own summary, which is the last row of everything."""
        new = {key: value for key, value in values.items() if value is not None and self._known.get(key) != value}
        if new:
            self._run.summary.update(new)
            self._known |= new

    def heed_notes(self) -> None:
        """Notes and tags that were written meanwhile."""
        noted = _note_text(self._paths)
        if noted != self._noted:
            self._run.notes, self._run.tags = noted
            self._noted = noted

    def close(self, rows: Rows) -> None:
        """Says how the run stands and waits until wandb has everything. A run that is not done is `preempted` there."""
        status = states.status(self._paths)
        self._send_waiting()
        self.heed_notes()
        state = State.PAUSED if status.state is State.RUNNING else status.state
        reason = None if status.reason is None else str(status.reason)
        self._summarise({"state": str(state), "reason": reason or "", **rows.summary()})
        if state not in (State.COMPLETE, State.FAILED):
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if state is State.COMPLETE else 1)


def _measured(pid: int | None) -> dict[str, Any]:
    """What wandb measures: the training process and its children; nothing of the machine that only sends records."""
    if pid:
        return {"x_stats_pid": pid, "x_stats_track_process_tree": True}
    return {
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_disable_meta": True,
        "x_save_requirements": False,
    }


def _config(paths: RunPaths) -> dict[str, Any]:
    identity, stored = directory.read_identity(paths), directory.read_config(paths)
    about: dict[str, Any] = {
        "run_id": identity.run_id,
        "hash": identity.hash,
        "task": identity.task,
        "settings": dict(identity.settings),
        "command": stored.command,
    }
    if identity.external is not None:
        about["external"] = asdict(identity.external)
    return {**stored.config, "ablate": about}


def _host(paths: RunPaths) -> str | None:
    """The machine that the run began on; None for this one."""
    attempts = (line.record for line in journal.read(paths.journal) if line.record.type == "attempt")
    first = next(attempts, None)
    return str(first.body["host"]) if first and first.body.get("host") else None


def _job_type(paths: RunPaths) -> str:
    train = directory.read_config(paths).config.get("train")
    return "eval" if isinstance(train, Mapping) and train.get("epochs") == 0 else "train"


def _note_text(paths: RunPaths) -> tuple[str, tuple[str, ...]]:
    """The notes of a run as one text, and its tags. A damaged file is for `ablate doctor` to speak of."""
    try:
        found = notes.read_notes(paths)
    except (AblateError, OSError):
        found = Notes()
    return "\n\n".join(note.text for note in found.notes), found.tags
