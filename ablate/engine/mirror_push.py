"""Sends whole runs to wandb from their records, one after the other: `python -m ablate.engine.mirror_push`.

Each line of standard input is an `Errand`, each line of standard output what became of one. One process for all, since
wandb takes seconds to start; a process of its own, since it may hang and is then ended from outside.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ablate.engine.mirror import settle_in
from ablate.engine.mirror_session import Session, rows_of
from ablate.engine.mirror_target import Target, arrival, write_arrived, write_failure
from ablate.errors import HeldError
from ablate.runs import directory, files, journal
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths

MARK = "ablate.json"
"""In a folder of wandb's offline files: the digest of what they were made from."""
_TURN = 2.0


@dataclass(frozen=True)
class Errand:
    """A run to send. With `into`, offline files are written there and nothing is sent."""

    run: Path
    target: Target
    patience: float
    into: Path | None = None

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "run": str(self.run), "into": str(self.into) if self.into else None})

    @classmethod
    def from_json(cls, text: str) -> Errand:
        value = json.loads(text)
        into = Path(value["into"]) if value["into"] else None
        return cls(Path(value["run"]), Target(**value["target"]), value["patience"], into)


@dataclass(frozen=True)
class Done:
    """What became of an errand: rows that were new to wandb, and where the run is; or why it failed."""

    run: str
    rows: int = 0
    url: str | None = None
    error: str | None = None
    unreachable: bool = False
    """Whether wandb did not even take the run: no other will fare better."""


def push(errand: Errand) -> Done:
    """Raises HeldError if its mirror is still at it, and whatever wandb raises."""
    paths = RunPaths(errand.run)
    with Lease.acquire(paths.mirror_lock, f"wandb's copy of {paths.name}", patience=_TURN):
        home = errand.into or Path(tempfile.gettempdir())
        files.make_folder(home)
        scratch = Path(tempfile.mkdtemp(prefix=".ablate-", suffix=files.TEMPORARY, dir=home))
        try:
            done, digest = _send(errand, paths, scratch)
            if errand.into is not None:
                _put(scratch, errand.into, paths, digest)
            return done
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class _UnreachableError(Exception):
    """wandb did not take the run."""


def _send(errand: Errand, paths: RunPaths, scratch: Path) -> tuple[Done, str]:
    rows, end = rows_of(paths, errand.target), 0
    try:
        session = Session.open(paths, errand.target, scratch, patience=errand.patience)
    except Exception as error:
        raise _UnreachableError(f"{type(error).__name__}: {error}") from error
    for line in journal.read(paths.journal):
        session.take(line.record, rows)
        end = line.end
    url = session.url
    session.close(rows)
    arrived = arrival(paths, errand.target, end, url)
    if errand.into is None:
        write_arrived(paths, errand.target.place, arrived)
    return Done(paths.name, session.sent, url), arrived.digest


def offline_folders(into: Path, run_id: str) -> list[Path]:
    """The folders of a run's offline files below `into`."""
    return sorted(path for path in into.glob(f"offline-run-*-{run_id}") if path.is_dir() and not path.is_symlink())


def _put(scratch: Path, into: Path, paths: RunPaths, digest: str) -> None:
    """Gives the new files their place; those of the same run from an earlier time make room."""
    run_id = directory.read_identity(paths).run_id
    [new] = offline_folders(scratch / "wandb", run_id)
    files.write_json(new / MARK, {"run": paths.name, "digest": digest})
    before = offline_folders(into, run_id)
    place = into / new.name
    if place in before:  # written within the same second
        shutil.rmtree(place)
        before.remove(place)
    os.replace(new, place)  # noqa: PTH105
    for folder in before:
        shutil.rmtree(folder)


def carry_out(errand: Errand) -> Done:
    """As `push`, with failures as words."""
    name = errand.run.name
    try:
        return push(errand)
    except HeldError as error:
        return Done(name, error=str(error))
    except _UnreachableError as error:
        found = Done(name, error=str(error), unreachable=True)
    except Exception as error:  # wandb's own, of any kind
        found = Done(name, error=f"{type(error).__name__}: {error}")
    if errand.into is None:
        write_failure(RunPaths(errand.run), str(found.error))
    return found


def main(errands: IO[str], out: IO[str]) -> None:
    settle_in()
    for text in errands:
        out.write(json.dumps(asdict(carry_out(Errand.from_json(text)))) + "\n")
        out.flush()


if __name__ == "__main__":
    # Whatever wandb prints goes to standard error: standard output is for answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    main(sys.stdin, answers)
