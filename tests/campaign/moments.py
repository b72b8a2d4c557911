"""The named moments of a process at which it can be killed, and the ledger that outlives it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.runs.journal import Journal, Record
from tests.campaign.tap import NO_CHANGE, Call, Tap, describe

FOLDER = "ABLATE_CAMPAIGN"
"""Environment variable: the folder of the round that a process belongs to."""


@dataclass(frozen=True)
class Ground:
    """The files of one round of a campaign. What the product writes lies on `disk`, if that is given."""

    root: Path
    disk: Path | None = None

    @property
    def runs(self) -> Path:
        return (self.disk or self.root) / "runs"

    @property
    def db(self) -> Path:
        return (self.disk or self.root) / "results.duckdb"

    @property
    def study(self) -> Path:
        return self.root / "campaign.yaml"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    def doom(self, victim: str) -> Path:
        """Where a process called `victim` finds the moment of its death."""
        return self.root / f"doom-{victim}.json"


class Ledger:
    """What processes tell the campaign, a line each: one `write` a line, so that a kill tears none."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def tell(self, what: str, **facts: Any) -> None:
        line = {"what": what, "pid": os.getpid(), **facts}
        os.write(self._descriptor, (json.dumps(line, separators=(",", ":")) + "\n").encode())

    def close(self) -> None:
        os.close(self._descriptor)


class LedgerReader:
    """What is new in a ledger since it was last asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


def holds_lease(pid: int, ground: Ground) -> bool:
    """Whether the kernel lists an exclusive `flock` of the process: on a run, a study or the database."""
    locks_of = ((ground.runs, "*/lease.lock"), (ground.runs / "studies", "*.lock"), (ground.db.parent, "*.duckdb.lock"))
    ours = {str(path.stat().st_ino) for folder, names in locks_of for path in folder.glob(names)}
    with Path("/proc/locks").open(encoding="ascii") as locks:
        return any(
            fields[1] == "FLOCK"
            and fields[3] == "WRITE"
            and fields[4] == str(pid)
            and fields[5].rpartition(":")[2] in ours
            for fields in map(str.split, locks)
            if fields[1] != "->"
        )


class Moments:
    """Counts the moments that a process passes, and kills it at the one it was doomed to."""

    def __init__(self, role: str, victim: str, ground: Ground) -> None:
        self.role, self.victim, self.ground = role, victim, ground
        self.ledger = Ledger(ground.ledger)
        self.passed: Counter[str] = Counter()
        self._doom, self._left = self._take_doom()
        self.ledger.tell("start", role=role, victim=victim)

    def _take_doom(self) -> tuple[str, int]:
        """Read once: the next process of that name has another fate."""
        path = self.ground.doom(self.victim)
        mine = path.with_suffix(f".{os.getpid()}")
        try:
            path.rename(mine)
        except FileNotFoundError:
            return "", 0
        doom = json.loads(mine.read_bytes())
        mine.unlink()
        return str(doom["moment"]), int(doom["occurrence"])

    def reaches(self, moment: str) -> bool:
        """Whether this is the last moment of the process."""
        name = f"{self.role}: {moment}"
        self.passed[name] += 1
        if name == self._doom:
            self._left -= 1
            return self._left == 0
        return False

    def pass_by(self, moment: str) -> None:
        if self.reaches(moment):
            self.die()

    def die(self) -> None:
        held = holds_lease(os.getpid(), self.ground)
        self.ledger.tell(
            "kill", role=self.role, victim=self.victim, moment=self._doom, held=held, seen=dict(self.passed)
        )
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def end(self) -> None:
        self.ledger.tell("end", role=self.role, victim=self.victim, seen=dict(self.passed))

    # A watcher of the tap:

    def before(self, call: Call) -> None:
        if call.operation in NO_CHANGE:
            return
        name = describe(call, self.ground.runs)
        self.pass_by(name)
        if call.operation == "write" and len(call.data) > 1 and self.reaches(f"{name}, half done"):
            assert call.descriptor is not None
            os.write(call.descriptor, call.data[: len(call.data) // 2])
            self.die()

    def after(self, call: Call) -> None:
        return None


def acknowledge(ledger: Ledger, run: str) -> None:
    """Tells the ledger of every record of `run` once `Journal.append` has promised that it is on the disk."""
    append = Journal.append
    waiting: list[dict[str, Any]] = []

    def acknowledging(journal: Journal, type_: Any, *arguments: Any, durable: bool = True) -> Record:
        record = append(journal, type_, *arguments, durable=durable)
        body = record.body
        waiting.append({"run": run, "seq": record.seq, "type": record.type, "epoch": record.epoch,
                        "split": body.get("split"), "resolution": body.get("resolution")})  # fmt: skip
        if durable:
            ledger.tell("acknowledged", records=waiting)
            waiting.clear()
        return record

    Journal.append = acknowledging  # type: ignore[method-assign,assignment]


_MOMENTS = ("execute", "begin", "commit", "rollback", "close")


class WatchedConnection:
    """A DuckDB connection whose statements are moments."""

    def __init__(self, connection: Any, moments: Moments) -> None:
        self._connection, self._moments = connection, moments

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name not in _MOMENTS:
            return found

        def watched(*arguments: Any) -> Any:
            self._moments.pass_by(f"database {_statement(name, arguments)}")
            result = found(*arguments)
            if name == "commit":
                self._moments.pass_by("database committed")
            return result

        return watched

    def __enter__(self) -> WatchedConnection:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()


def _statement(method: str, arguments: tuple[Any, ...]) -> str:
    if method != "execute":
        return method
    words = str(arguments[0]).split()
    return " ".join(words[:3]) if words[0] in ("INSERT", "DELETE") else words[0]


def watch_database(moments: Moments) -> None:
    """Makes every statement to `results.duckdb` a moment; those of in-memory databases are none."""
    from ablate.results import database

    attach = database.attach

    def attached(db: Path, *, read_only: bool = False) -> Any:
        moments.pass_by("database attach")
        connection = attach(db, read_only=read_only)
        moments.pass_by("database attached")
        return connection if read_only else WatchedConnection(connection, moments)

    database.attach = attached


_tap: list[Tap] = []


def watch(role: str, victim: str) -> Moments:
    """Makes this process one of the campaign's. A fork of a watched process is watched under its own name alone."""
    while _tap:
        _tap.pop().remove()
    moments = Moments(role, victim, Ground(Path(os.environ[FOLDER])))
    tap = Tap(moments)
    tap.install()
    _tap.append(tap)
    return moments
