"""Real run directories, written as the engine writes them."""

from __future__ import annotations

import hashlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ablate.results.queries import Queries
from ablate.runs import directory, files, states
from ablate.runs.journal import Journal
from ablate.runs.paths import RunPaths, RunsDir

KEYS = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10")


def metrics(base: float) -> dict[str, float | None]:
    return {key: base + place / 100 for place, key in enumerate(KEYS)}


@dataclass
class Run:
    """A run under a writer's hands."""

    paths: RunPaths
    run_id: str
    attempt_number: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def attempt(self, **body: Any) -> None:
        with Journal(self.paths.journal) as journal:
            journal.attempt += 1
            self.attempt_number = journal.attempt
            journal.append("attempt", 0, 0, {
                "host": "here", "pid": 1, "device": "cpu", "threads": 1, "command": "ablate run x.yaml",
                "versions": {"torch": "2"}, "git": None, "resumed_from": None, "facts": {"parameters": 7}, **body,
            })  # fmt: skip

    def epoch(self, epoch: int, loss: float = 0.5) -> None:
        with Journal(self.paths.journal) as journal:
            journal.append("epoch", epoch, 3, {
                "train_loss": loss, "lr": 1e-4, "seconds": 2.0, "images": 6, "images_per_second": 3.0,
                "peak_memory_mb": None, "order": "0" * 64,
            })  # fmt: skip

    def evaluation(
        self,
        epoch: int,
        base: float,
        split: str = "val",
        resolution: str = "reduced",
        images: int = 2,
        marks: Mapping[str, float | None] | None = None,
        protocol: Mapping[str, Any] | None = None,
    ) -> None:
        marks = marks if marks is not None else metrics(base)
        with Journal(self.paths.journal) as journal:
            journal.append("evaluation", epoch, 3, {
                "split": split, "resolution": resolution, "metrics": dict(marks), "loss": 0.25,
                "images": images, "skipped": 0,
                "protocol": {"crop": "kb", "mask": "garg"} if protocol is None else dict(protocol),
                "scores": [{"image": f"2011_09_26/{n:03}.png", "metrics": dict(marks)} for n in range(images)],
            })  # fmt: skip

    def event(self, name: str, at: int = 0, **body: Any) -> None:
        with Journal(self.paths.journal) as journal:
            journal.append("event", at, 0, {"name": name, **body})

    def outcome(self, state: str, reason: str | None = None, message: str | None = None) -> None:
        states.write_outcome(
            self.paths,
            states.Outcome(
                states.State(state),
                None if reason is None else states.Reason(reason),
                message,
                attempt=self.attempt_number,
            ),
        )

    def train(self, epochs: int, *, best: int = 1, complete: bool = True, start: int = 1) -> None:
        """An attempt with all its records."""
        self.attempt()
        for epoch in range(start, epochs + 1):
            self.epoch(epoch, 1.0 / epoch)
            for resolution in ("full", "reduced"):
                self.evaluation(epoch, 0.1 * epoch, resolution=resolution)
            self.event("selected", epoch, epoch=min(best, epoch), value=0.1)
        if complete:
            for epoch in sorted({best, epochs}):
                for resolution in ("full", "reduced"):
                    self.evaluation(epoch, 0.2 * epoch, "test", resolution, images=3)
            self.event("completed", epochs)
            self.outcome("complete")


@dataclass
class Workplace:
    """A folder with runs and a database."""

    root: Path
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def db(self) -> Path:
        return self.root / "results.duckdb"

    @property
    def runs_dir(self) -> Path:
        return self.root / "runs"

    def run(self, name: str | None = None, run_id: str | None = None, **config: Any) -> Run:
        number = next(self.numbers)
        digest = hashlib.sha256(f"{number}".encode()).hexdigest()
        run_id = run_id or digest[:8]
        name = f"{name or 'standard'}-{run_id}"
        identity = directory.RunIdentity(
            run_id, digest, name, "depth", 1, {"train.lr": 1e-4, **config}, {}, 1000.0 + number
        )
        asked = directory.RunConfig({"train": {"epochs": 5, "lr": 1e-4}, **config}, "ablate run x.yaml", {})
        return Run(directory.ensure_run(RunsDir(self.runs_dir), identity, asked), run_id)

    def study(
        self, name: str, runs: Sequence[Run], axis: str = "train.lr", gone: Sequence[Run] = (), **changes: Any
    ) -> None:
        """Declares a study; `gone` are those of its runs that only an earlier version of its file declared."""
        cells = [
            {"run_id": run.run_id, "name": run.paths.name, "position": place, "settings": {axis: 10.0**-place},
             "seed": 0, "baseline": runs[0].run_id if place else None, "current": run not in gone}
            for place, run in enumerate(runs)
        ]  # fmt: skip
        folder = RunsDir(self.runs_dir)
        files.make_folder(folder.studies)
        files.write_json(folder.study(name), {
            "v": 1, "study": name, "task": "depth", "file": f"studies/{name}.yaml", "text": "study: …", "overrides": [],
            "select": {"metric": "abs_rel", "split": "val", "resolution": "reduced"}, "declared": 1000.0,
            "axes": [axis], "wandb": {}, "cells": cells, **changes,
        })  # fmt: skip


class Process:
    """A Python process of its own that uses the results room; ended with the test."""

    def __init__(self, code: str, *arguments: object) -> None:
        # DuckDB and the kernel must see real processes: neither lock excludes threads the way it does processes.
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        """The next line it prints; empty at its end."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def end(self, number: int = signal.SIGKILL) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.popen.wait(60)
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()
        return code


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def begin(code: str, *arguments: object) -> Process:
        processes.append(Process(code, *arguments))
        return processes[-1]

    yield begin
    for process in processes:
        process.end()


HOLD = """
import sys, time
from pathlib import Path
from ablate.results.lock import hold
with hold(Path(sys.argv[1]), exclusive=sys.argv[2] == "exclusive", wait=10):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold_in_process(start: Callable[..., Process]) -> Callable[..., Process]:
    """Another process that holds the lock of a database until it is ended."""

    def begin(db: Path, how: str = "exclusive") -> Process:
        process = start(HOLD, db, how)
        assert process.line() == "held"
        return process

    return begin


VIEWS = ("studies", "cells", "runs", "epochs", "evaluations", "image_metrics", "events")


@pytest.fixture
def dump() -> Callable[[Queries], dict[str, list[str]]]:
    """All rows of all public views, in an order of their own."""

    def of(results: Queries) -> dict[str, list[str]]:
        return {view: sorted(map(repr, results.rows(f"SELECT * FROM {view}")[1])) for view in VIEWS}

    return of


@pytest.fixture
def make_workplace(tmp_path: Path) -> Callable[[str], Workplace]:
    def make(name: str) -> Workplace:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        return Workplace(tmp_path / name)

    return make


@pytest.fixture
def work(make_workplace: Callable[[str], Workplace]) -> Workplace:
    return make_workplace("work's place")
