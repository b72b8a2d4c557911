"""A live copy of one run in wandb: `python -m ablate.engine.mirror RUN_DIR --pid WORKER`.

A consumer of the journal in a process of its own: whatever happens to it, the run goes on, and the journal keeps
everything. What wandb lacks is sent by the mirror of the run's next attempt, or by `ablate wandb sync`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate.engine.mirror_session import Session, rows_of
from ablate.engine.mirror_target import (
    OFFLINE,
    Target,
    arrival,
    folder_of,
    mode_of,
    read_mirrored,
    target_of,
    write_arrived,
    write_failure,
)
from ablate.runs import directory, journal
from ablate.runs.journal import Line
from ablate.runs.lease import Lease, process_started
from ablate.runs.paths import RunPaths

_POLL = 0.5
_FINISH = 900.0
"""Seconds that wandb has for what is left when the run has ended. Nobody waits for it but this process."""
_TURN = 60.0
"""Seconds that the mirror of an earlier attempt has to finish."""


def lines(paths: RunPaths, alive: Iterator[bool]) -> Iterator[Line | None]:
    """Journal lines as they are written, until the writer is gone and all are read; None whenever there are no more."""
    offset = 0
    for living in alive:
        for line in journal.read(paths.journal, offset):
            offset = line.end
            yield line
        yield None
        if not living:
            return


def while_alive(pid: int) -> Iterator[bool]:
    """True as long as the process lives, looking now and then; at last False."""
    started = process_started(pid)
    while started and process_started(pid) == started:
        yield True
        time.sleep(_POLL)
    yield False


def mirror(paths: RunPaths, target: Target, alive: Iterator[bool], pid: int | None = None) -> None:
    """Sends what is new until the run's process ends. Raises whatever wandb raises.

    A server knows which rows it has. Without one, they are those of sessions that were finished: a session that was cut
    off is written again, and a reader who takes each step once has every row once.
    """
    found = read_mirrored(paths).places.get(OFFLINE) if target.mode == "offline" else None
    sent = found.bytes if found else 0
    rows, end = rows_of(paths, target), 0
    session = Session.open(paths, target, folder_of(paths), pid=pid, patience=_FINISH)
    for line in lines(paths, alive):
        if line is None:
            session.heed_notes()
            continue
        end = line.end
        session.take(line.record, rows, arrived=end <= sent)
    url = session.url
    session.close(rows)
    write_arrived(paths, target.place, arrival(paths, target, end, url))


def with_remedy(error: BaseException, name: str) -> str:
    """What went wrong, and what sends the run later."""
    text = f"{type(error).__name__}: {error}".strip()
    return f"{text}\n`ablate wandb sync {name}` sends it later"


def settle_in() -> None:
    """This process yields to those that train, and wandb reports no errors of its own."""
    os.nice(10)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ablate.engine.mirror")
    parser.add_argument("run", type=Path)
    parser.add_argument("--pid", type=int, default=0)
    options = parser.parse_args(arguments)
    paths = RunPaths(options.run)
    settle_in()
    try:
        settings: Mapping[str, Any] = directory.read_config(paths).wandb
        with Lease.acquire(paths.mirror_lock, f"wandb's copy of {paths.name}", patience=_TURN):
            target = target_of(settings, mode_of(settings))
            mirror(paths, target, while_alive(options.pid), options.pid or None)
    except Exception as error:  # its failure is its own: the run neither knows nor waits
        text = with_remedy(error, paths.name)
        write_failure(paths, text)
        sys.stderr.write(f"{text}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
