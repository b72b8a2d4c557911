"""`campaign contention`: eight processes that write and four that read, all at one database, as hard as they can.

A writer appends to the journal of its own run and brings the database up to date whenever nobody else is at it, as a
coordinator does. A reader opens the results and asks for all of them, as `ablate report` does.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, HeldError
from ablate.results.ingest import ingest_now
from ablate.results.open import open_results
from ablate.runs import states
from ablate.runs.directory import RunConfig, RunIdentity, ensure_run
from ablate.runs.journal import Journal
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Outcome, State
from tests.campaign import REPOSITORY, environment, mutations
from tests.campaign.moments import Ground, Ledger, LedgerReader
from tests.campaign.observe import Findings, Result, inspect_database, result

WRITERS, READERS = 8, 4
_RECORDS_PER_INGEST = 4
_PAUSE = 0.05
"""Seconds between two epochs of a writer: 160 acknowledged epochs a second in all, far more than training gives."""


@dataclass
class Figures:
    """Times are in seconds."""

    seconds: float = 0.0
    acknowledged: int = 0
    """Rows: epochs and evaluations."""
    ingests: int = 0
    busy: int = 0
    """Ingests that found another process at it, and left it to that one."""
    reports: list[float] = field(default_factory=list)
    collisions: int = 0
    """Times that DuckDB itself refused because two processes had the file open: our lock must not let that happen."""
    findings: Findings = field(default_factory=Findings)

    def percentile(self, part: float) -> float:
        times = sorted(self.reports)
        return times[min(len(times) - 1, int(part * len(times)))] if times else float("nan")


def _wait_for_all(ground: Ground, ledger: Ledger) -> float:
    """Until everybody is ready to begin; returns when to end."""
    ledger.tell("ready")
    while not (go := ground.doom("all")).exists():
        time.sleep(0.01)
    return float(go.read_text())


def writer(ground: Ground, number: int) -> None:
    name = f"run-{number:02}-{number:08x}"
    identity = RunIdentity(name[-8:], name[-8:] * 8, name, "toy", 1, {"seed": number}, {}, 1.0)
    paths = ensure_run(RunsDir(ground.runs), identity, RunConfig({}, "ablate run x.yaml", {}))
    ledger = Ledger(ground.ledger)
    end = _wait_for_all(ground, ledger)
    draw = random.Random(number)
    tally = {"ingests": 0, "busy": 0, "collisions": 0}
    with Journal(paths.journal) as journal:
        journal.attempt = 1
        journal.append("attempt", 0, 0, {"threads": 1})
        epoch = 0
        while time.time() < end:
            epoch += 1
            _append(journal, paths, ledger, epoch, draw)
            if epoch % _RECORDS_PER_INGEST == 0:
                _ingest(ground, tally)
            time.sleep(draw.uniform(0, 2 * _PAUSE))
        journal.append("event", epoch, 0, {"name": "completed"})
    states.write_outcome(paths, Outcome(State.COMPLETE, attempt=1))
    ledger.tell("writer", **tally)


def _append(journal: Journal, paths: RunPaths, ledger: Ledger, epoch: int, draw: random.Random) -> None:
    body: dict[str, Any] = {
        "train_loss": draw.random(), "lr": 0.1, "seconds": 1.0, "images": 8, "images_per_second": 8.0,
        "peak_memory_mb": None, "order": "0" * 64,
    }  # fmt: skip
    journal.append("epoch", epoch, 4, body, durable=False)
    metrics = {key: draw.random() for key in ("d1", "abs_rel", "rmse")}
    scores = [{"image": f"{n}.png", "metrics": metrics} for n in range(4)]
    journal.append("evaluation", epoch, 4, {"split": "val", "resolution": "full", "metrics": metrics, "loss": 0.5,
                                            "images": 4, "skipped": 0, "protocol": {}, "scores": scores})  # fmt: skip
    ledger.tell("epoch", run=paths.name, epoch=epoch)


def _ingest(ground: Ground, tally: dict[str, int]) -> None:
    try:
        ingest_now(ground.db, ground.runs, 0.0)
        tally["ingests"] += 1
    except HeldError as error:
        tally["collisions" if "another program" in str(error) else "busy"] += 1


def reader(ground: Ground) -> None:
    """Also sees to it that nothing that was shown once is ever missing again."""
    ledger = Ledger(ground.ledger)
    end = _wait_for_all(ground, ledger)
    most = 0
    times = []
    problems = []
    while time.time() < end:
        began = time.monotonic()
        with open_results(ground.db, ground.runs) as results:
            rows = (
                len(results.runs()) and results.rows("SELECT count(*), count(DISTINCT epoch) FROM evaluations")[1][0][0]
            )
            if "damaged" in results.freshness or "open in another program" in results.freshness:
                problems.append(results.freshness)
        times.append(round(time.monotonic() - began, 4))
        if rows < most:
            problems.append(f"{most} evaluations were shown, then {rows}")
        most = max(most, rows)
        time.sleep(0.02)
    ledger.tell("reader", times=times, problems=problems)


def contend(seconds: float, mutation: str = "") -> Figures:
    """Raises RuntimeError if one of the processes fails."""
    began = time.monotonic()
    ground = Ground(Path(tempfile.mkdtemp(prefix="ablate-contention-")))
    try:
        roles = [("writer", n) for n in range(WRITERS)] + [("reader", n) for n in range(READERS)]
        command = [sys.executable, "-m", "tests.campaign.contention", str(ground.root), mutation]
        with ground.log.open("wb") as log:
            processes = [
                subprocess.Popen([*command, role, str(n)], cwd=REPOSITORY, env=environment(), stdout=log, stderr=log)
                for role, n in roles
            ]
            _begin(ground, len(roles), seconds)
            codes = [process.wait(timeout=seconds + 120) for process in processes]
        figures = _judge(ground)
        if any(codes):
            figures.findings.broken.append(f"exit codes {codes}: {ground.log.read_text()[-2000:]}")
    finally:
        shutil.rmtree(ground.root, ignore_errors=True)
    figures.seconds = time.monotonic() - began
    return figures


def _begin(ground: Ground, processes: int, seconds: float) -> None:
    deadline = time.monotonic() + 120
    while sum(1 for _ in LedgerReader(ground.ledger)) < processes and time.monotonic() < deadline:
        time.sleep(0.05)
    go = ground.doom("all")
    go.with_suffix(".tmp").write_text(str(time.time() + seconds))
    go.with_suffix(".tmp").rename(go)


def _judge(ground: Ground) -> Figures:
    figures = Figures()
    promised: set[tuple[str, int]] = set()
    for line in LedgerReader(ground.ledger):
        if line["what"] == "epoch":
            promised.add((line["run"], line["epoch"]))
        elif line["what"] == "writer":
            figures.ingests += line["ingests"]
            figures.busy += line["busy"]
            figures.collisions += line["collisions"]
        elif line["what"] == "reader":
            figures.reports += line["times"]
            figures.findings.lost += line["problems"]
    figures.acknowledged = 2 * len(promised)
    if figures.collisions:
        figures.findings.broken.append(f"two processes were in the database at once, {figures.collisions} times")
    now: dict[str, Result] = {}
    try:
        now = {paths.name: result(paths) for paths in RunsDir(ground.runs).runs()}
    except AblateError as error:
        figures.findings.broken.append(str(error))
    there = {(key[0], key[2]) for one in now.values() for key in one.records if key[1] == "evaluation"}
    figures.findings.lost += [f"{missing}: not in its journal" for missing in sorted(promised - there)]
    figures.findings.add(inspect_database(ground, now))
    return figures


def main(arguments: Sequence[str]) -> int:
    root, mutation, role, number = arguments
    if mutation:
        mutations.apply(mutation)
    if role == "writer":
        writer(Ground(Path(root)), int(number))
    else:
        reader(Ground(Path(root)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
