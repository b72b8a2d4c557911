"""More epochs for a finished run: another run, which begins where the finished one ended.

At a constant learning rate a run of 10 epochs that is extended to 20 is, bit for bit, the run of 20: records and
checkpoint are taken over, and what a shorter run did at its end alone (the test split) is left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ablate.engine import plan as planning
from ablate.engine.shown import BREAKDOWN
from ablate.engine.tasks import find_task
from ablate.errors import UsageError
from ablate.runs import directory, disk, external, files, journal, panels, states
from ablate.runs.checkpoint import WEIGHTS, Checkpoints, Manifest
from ablate.runs.directory import RunIdentity
from ablate.runs.journal import Journal, Record
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State
from ablate.study import identify
from ablate.study.overrides import with_settings
from ablate.task import RunSettings


def extend(paths: RunPaths, epochs: int, runs: RunsDir, command: Sequence[str], say: Callable[[str], None]) -> RunPaths:
    """Makes the run of `epochs` epochs from a finished shorter one, and returns it, ready to be resumed.

    Raises UsageError, saying why, if it would not be the run that `epochs` epochs from the start give.
    """
    external.refuse(paths, "extend")
    identity, stored = directory.read_identity(paths), directory.read_config(paths)
    task = find_task(identity.task)
    short = task.Config.model_validate(stored.config)
    manifest = _last(paths, short, epochs)
    config = task.absolute(with_settings(task.Config, stored.config, [f"train.epochs={epochs}"]), Path.cwd())
    new = identify(task, config)
    longer = RunIdentity(
        new.run_id, new.hash, new.name, task.name, task.recipe, dict(new.settings), dict(new.digests), 0.0
    )
    target = directory.ensure_run(runs, longer, planning.run_config(config, command, stored.wandb))
    with Lease.acquire(target.lease, f"run {target.name}"):
        if any(int(path.stem) >= manifest.number for path in Checkpoints(target.checkpoints).manifests()):
            say(f"{target.name}: has been begun already, and goes on from where it stands")
        else:
            _take_over(paths, target, manifest)
            say(f"{target.name}: goes on from epoch {short.train.all_epochs()} of {paths.name}")
    return target


def _last(paths: RunPaths, config: RunSettings, epochs: int) -> Manifest:
    """The state at the end of a run that can be extended."""
    done = config.train.all_epochs()
    if states.status(paths).state is not State.COMPLETE:
        raise UsageError(f"{paths.name} is not complete; `ablate resume {paths.name}` goes on with it")
    if epochs <= done:
        raise UsageError(f"{paths.name} has {done} epochs already; --epochs must be more")
    if config.train.max_steps is not None:
        raise UsageError(f"{paths.name} was cut short by train.max_steps, within an epoch; it cannot be extended")
    if why := config.train.why_not_longer():
        raise UsageError(f"{paths.name}: {why}; train the {epochs} epochs as a run of their own")
    manifest = Checkpoints(paths.checkpoints).latest(lambda text: None)
    if manifest is None or manifest.files.keys() <= {WEIGHTS}:
        raise UsageError(
            f"{paths.name} has only its weights left (`ablate gc` removed the rest), so it cannot go on as if it had "
            "never ended; train from its weights with model.weights, or the longer run from its start"
        )
    if manifest.position.epoch != done + 1:
        raise UsageError(
            f"{paths.name} stopped early, after epoch {manifest.position.epoch - 1}; it would stop there again. "
            "A larger train.early_stopping.patience makes another run"
        )
    return manifest


def _take_over(source: RunPaths, target: RunPaths, manifest: Manifest) -> None:
    """Records first, then files, then the manifest that vouches for both: killed in between, it is done again."""
    target.journal.unlink(missing_ok=True)
    with Journal(target.journal) as written:
        for record in _without_the_end(source, manifest):
            written.attempt = 1
            written.append(record.type, record.epoch, record.step, record.body, durable=False)
            if record.type == "attempt":
                said = {"name": "extended", "run": source.name, "epoch": manifest.position.epoch - 1}
                written.append("event", record.epoch, record.step, said, durable=False)
        written.sync()
        last = written.seq
    panels.take_over(source.panels, target.panels, lambda one: one.split != "test")
    files.make_folder(target.checkpoints)
    for one in (*_kept(source, manifest), replace(manifest, seq=last)):  # the newest last: it says that all is there
        for stored in one.stored():
            with files.open_plain(source.checkpoints / stored.name) as file:
                files.write_aside(target.checkpoints / stored.name, partial(shutil.copyfileobj, file))
        one.write(target.checkpoints / f"{one.number:06d}.json")
    disk.sync_folder(target.checkpoints)


def _kept(source: RunPaths, manifest: Manifest) -> list[Manifest]:
    """The earlier epochs that `train.checkpoint.keep_every` kept, oldest first. Raises RecordError."""
    read = [Manifest.read(path) for path in Checkpoints(source.checkpoints).manifests()]
    return [one for one in reversed(read) if one.kept and one.number < manifest.number]


def _without_the_end(source: RunPaths, manifest: Manifest) -> list[Record]:
    """The records of the newest computation of every epoch, as a run that goes on would have written them."""
    best, last = manifest.loop.get("best_epoch"), manifest.position.epoch - 1
    found: list[Record] = []
    for line in journal.read(source.journal):
        record = line.record
        if record.type == "attempt":
            if not found:
                found.append(record)
        elif _of_the_end(record, record.epoch == last != best):
            continue
        elif record.type == "evaluation" and record.epoch == last != best:
            found.append(replace(record, body={**record.body, "scores": []}))
        elif record.body.get("name") != "completed":
            found.append(record)
    return found


def _of_the_end(record: Record, only_last: bool) -> bool:
    """Whether it is of the test split, or a breakdown of an epoch that is kept for being the last."""
    is_breakdown = record.body.get("name") == BREAKDOWN
    tested = (record.type == "evaluation" or is_breakdown) and record.body["split"] == "test"
    return tested or (is_breakdown and only_last)
