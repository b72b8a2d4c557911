"""A live copy of one run in wandb: `python -m ablate.engine.mirror RUN_DIR --pid WORKER`.

A consumer of the journal in a process of its own: whatever happens to it, the run goes on, and the journal
keeps everything. `wandb.json` holds how far a finished session came; a session that was cut off is sent again
from there. The journal's sequence number is wandb's step, so a record that is sent twice is one record there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.runs import directory, files, journal, states
from ablate.runs.journal import Line, Record
from ablate.runs.lease import process_started
from ablate.runs.paths import RunPaths

_POLL = 0.5


def charted(record: Record) -> dict[str, float] | None:
    """The numbers of a record under wandb's names; None if it has none."""
    if record.type == "epoch":
        body = record.body
        keys = ("train_loss", "lr", "seconds", "images_per_second", "peak_memory_mb")
        found = {f"train/{key.removeprefix('train_')}": body[key] for key in keys if body.get(key) is not None}
    elif record.type == "evaluation":
        prefix = f"{record.body['split']}/{record.body['resolution']}/"
        values = {**record.body["metrics"], "loss": record.body["loss"]}
        found = {prefix + key: value for key, value in values.items() if value is not None}
    else:
        return None
    return {"epoch": record.epoch, **found}


def lines(paths: RunPaths, offset: int, alive: Iterator[bool]) -> Iterator[Line]:
    """Journal lines from `offset` on, as they are written, until the writer is gone and all are read."""
    for living in alive:
        for line in journal.read(paths.journal, offset):
            offset = line.end
            yield line
        if not living:
            return


def while_alive(pid: int) -> Iterator[bool]:
    """True as long as the process lives, looking now and then; at last False."""
    started = process_started(pid)
    while started and process_started(pid) == started:
        yield True
        time.sleep(_POLL)
    yield False


def sent_so_far(paths: RunPaths) -> int:
    """The journal offset up to which wandb has everything."""
    try:
        return int(files.read_json(paths.mirror)["offset"])
    except (FileNotFoundError, RecordError, KeyError, TypeError, ValueError):
        return 0


def mirror(paths: RunPaths, settings: Mapping[str, Any], alive: Iterator[bool]) -> None:
    """Sends what is new until the run's process ends. Raises whatever wandb raises."""
    import wandb

    offset = sent_so_far(paths)
    identity = directory.read_identity(paths)
    run = wandb.init(
        id=identity.run_id,
        name=identity.name,
        project=settings.get("project") or "ablate",
        group=settings.get("group"),
        mode=settings["mode"],
        resume="allow",
        config=dict(directory.read_config(paths).config),
        dir=str(paths.root),
        settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
    )
    run.define_metric("*", step_metric="epoch")
    for line in lines(paths, offset, alive):
        offset = line.end
        numbers = charted(line.record)
        if numbers is not None:
            run.log(numbers, step=line.record.seq)
    outcome = states.read_outcome(paths)
    run.finish(exit_code=0 if outcome is None or outcome.state is not states.State.FAILED else 1)
    files.write_json(paths.mirror, {"v": 1, "offset": offset})


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ablate.engine.mirror")
    parser.add_argument("run", type=Path)
    parser.add_argument("--pid", type=int, default=0)
    options = parser.parse_args(arguments)
    paths = RunPaths(options.run)
    settings = directory.read_config(paths).wandb
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        mirror(paths, settings, while_alive(options.pid))
    except Exception as error:  # its failure is its own: the run neither knows nor waits
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
