"""The proof for one run: a short stretch of it, undisturbed and with kills, must come out the same bit for bit.

The stretch is trained by ordinary workers in a hidden folder beside the run, which is removed in the end. A kill
counts only if its victim held the lease. A disturbed training that is complete before all kills were dealt out is
compared, and another one begins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.engine.environment import default_threads, environment
from ablate.engine.loop import comparable, record_key
from ablate.engine.stop import StopFlag
from ablate.engine.worker import Assignment
from ablate.errors import RecordError, TrainingError, UsageError
from ablate.runs import directory, disk, external, files, journal, lease, states
from ablate.runs.certificate import Certificate, write_certificate
from ablate.runs.checkpoint import WEIGHTS, Checkpoints
from ablate.runs.directory import RunConfig
from ablate.runs.paths import RunPaths, RunsDir

Say = Callable[[str], None]

_POLL = 0.005
_MOST_DIFFERENCES = 20
_KERNELS = (
    re.compile(r"([\w:]+) does not have a deterministic implementation"),
    re.compile(r"(?:UserWarning: )?([\w ()-]+?) defaults to a non-deterministic algorithm"),
)


@dataclass(frozen=True)
class Wanted:
    """What to verify: `kills` kills over the first `steps` optimiser steps, drawn from `seed`."""

    kills: int = 20
    steps: int = 20
    seed: int = 0
    evaluate: bool = True
    device: str | None = None
    """As the run's newest attempt if not given."""


@dataclass(frozen=True)
class Result:
    """What must come out the same: digests of the weights, and every number of the journal."""

    weights: Mapping[str, str]
    records: Mapping[str, Mapping[str, Any]]
    steps: int

    @property
    def metrics(self) -> str:
        text = json.dumps(self.records, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class _Tally:
    kills: int = 0
    resumes: int = 0
    runs: int = 0
    differences: dict[str, None] = field(default_factory=dict)
    kernels: dict[str, None] = field(default_factory=dict)


def verify(paths: RunPaths, wanted: Wanted, stop: StopFlag, say: Say) -> Certificate:
    """Trains the stretch, stores the certificate beside the run and returns it.

    Raises Stopped, UsageError for a run that was imported or never configured, TrainingError if the stretch fails by itself.
    """
    began = time.monotonic()
    external.refuse(paths, "verify")
    if not paths.config.exists():
        raise UsageError(f"{paths.name}: has no configuration to verify; `ablate run` its study first")
    aside = paths.root.parent / f".verify-{paths.name}.{os.getpid()}{files.TEMPORARY}"
    disk.remove_tree(aside)
    disk.make_folder(aside)
    try:
        certificate = _Verification(paths, wanted, aside, stop, say).run()
    finally:
        disk.remove_tree(aside)
    certificate = replace(certificate, seconds=time.monotonic() - began)
    write_certificate(paths, certificate)
    return certificate


class _Verification:
    def __init__(self, paths: RunPaths, wanted: Wanted, aside: Path, stop: StopFlag, say: Say) -> None:
        self.wanted, self.aside, self.stop, self.say = wanted, aside, stop, say
        self.identity = directory.read_identity(paths)
        self.config = _shortened(directory.read_config(paths), wanted.steps)
        device, threads = _conditions(paths)
        self.device, self.threads = wanted.device or device, threads
        self.cache = RunsDir(paths.root.parent).cache.absolute()
        self.draw = random.Random(wanted.seed)
        self.tally = _Tally()
        self.haste = 1.0
        """Shortens the wait for a kill after one that came too late: a resumed training has less left to do."""

    def run(self) -> Certificate:
        calm = self._make("calm")
        self.say(f"training {self.wanted.steps} steps undisturbed, then with {self.wanted.kills} kills")
        with self._started(calm) as process:
            self._end(process, calm)
        expected = result_of(calm)
        spans = _spans(calm)
        self._kernels(calm)
        while self.tally.kills < self.wanted.kills or not self.tally.runs:
            self._disturbed(expected, spans)
        return self._certificate(expected)

    def _disturbed(self, expected: Result, spans: tuple[float, float]) -> None:
        """One training to its end, with as many kills as are left or as hit."""
        tally = self.tally
        if tally.runs > 10 + 10 * self.wanted.kills:
            raise TrainingError(
                f"after {tally.runs} trainings only {tally.kills} of {self.wanted.kills} kills found their victim at "
                "work; give it more --steps"
            )
        paths = self._make(f"disturbed-{tally.runs + 1}")
        tally.runs += 1
        while self._attempt(paths, spans):
            tally.kills += 1
            tally.resumes += 1
            self.say(f"kill {tally.kills} of {self.wanted.kills}")
        tally.differences.update(dict.fromkeys(compare(expected, result_of(paths))))
        self._kernels(paths)
        disk.remove_tree(paths.root.parent)

    def _attempt(self, paths: RunPaths, spans: tuple[float, float]) -> bool:
        """Whether the attempt was killed; else the run is complete."""
        with self._started(paths) as process:
            if self.tally.kills < self.wanted.kills:
                if self._kill(process, paths, self.haste * self._delay(spans)):
                    self.haste = min(1.0, self.haste * 1.2)
                    return True
                self.haste *= 0.7
            self._end(process, paths)
        return False

    def _delay(self, spans: tuple[float, float]) -> float:
        """Seconds from the lease to the kill: mostly while it works, sometimes while it opens, sometimes soon."""
        opening, work = spans
        if self.draw.random() < 0.2:
            return self.draw.uniform(0.0, opening)
        share = 1.0 if self.draw.random() < 0.5 else min(1.0, 3.0 / max(1, self.wanted.kills))
        return opening + self.draw.uniform(0.0, work * share)

    def _kill(self, process: subprocess.Popen[bytes], paths: RunPaths, delay: float) -> bool:
        while process.poll() is None and not _holds(process, paths):
            self._wait()
        at = time.monotonic() + delay
        while process.poll() is None and time.monotonic() < at:
            self._wait()
        if process.poll() is not None or not _holds(process, paths):
            return False
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def _wait(self) -> None:
        self.stop.check()
        time.sleep(_POLL)

    def _end(self, process: subprocess.Popen[bytes], paths: RunPaths) -> None:
        """Waits for the end of a worker, which must be that of its run."""
        while process.poll() is None:
            self._wait()
        if process.returncode:
            outcome = states.read_outcome(paths)
            why = outcome.message if outcome else f"its process ended with code {process.returncode}"
            raise TrainingError(f"the stretch to verify did not come to its end: {why}")

    @contextlib.contextmanager
    def _started(self, paths: RunPaths) -> Iterator[subprocess.Popen[bytes]]:
        assignment = Assignment(
            paths.root, self.device, self.threads, self.cache, evaluates=self.wanted.evaluate
        ).arguments()
        command = [sys.executable, "-m", "ablate.engine.worker", *assignment]
        with paths.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _make(self, name: str) -> RunPaths:
        return directory.ensure_run(RunsDir(self.aside / name), self.identity, self.config)

    def _kernels(self, paths: RunPaths) -> None:
        self.tally.kernels.update(dict.fromkeys(nondeterministic(paths.log)))

    def _certificate(self, expected: Result) -> Certificate:
        tally, conditions = self.tally, environment()
        return Certificate(
            identical=not tally.differences,
            kills=tally.kills,
            resumes=tally.resumes,
            runs=tally.runs,
            steps=expected.steps,
            seed=self.wanted.seed,
            evaluated=self.wanted.evaluate,
            weights=expected.weights["weights"],
            metrics=expected.metrics,
            differences=tuple(tally.differences)[:_MOST_DIFFERENCES],
            nondeterministic=tuple(tally.kernels),
            device=self.device,
            threads=self.threads,
            processor=conditions["processor"],
            versions=conditions["versions"],
            commit=(conditions["git"] or {}).get("commit"),
            seconds=0.0,
            made=time.time(),
        )


def _shortened(stored: RunConfig, steps: int) -> RunConfig:
    """The same configuration for its first `steps` steps, with about ten checkpoints on the way."""
    train = dict(stored.config.get("train") or {})
    train["max_steps"] = min(steps, train.get("max_steps") or steps)
    train["checkpoint"] = {**(train.get("checkpoint") or {}), "every": f"{max(1, steps // 10)} steps"}
    return RunConfig({**stored.config, "train": train}, "ablate verify", {})


def _conditions(paths: RunPaths) -> tuple[str, int]:
    """Device of the newest attempt and thread count of the first."""
    device, threads = "cpu", 0
    for line in journal.read(paths.journal):
        if line.record.type == "attempt":
            device = str(line.record.body["device"])
            threads = threads or int(line.record.body["threads"])
    return device, threads or default_threads(1)


def _holds(process: subprocess.Popen[bytes], paths: RunPaths) -> bool:
    holder = lease.holder(paths.lease)
    return holder is not None and holder.pid == process.pid


def _spans(paths: RunPaths) -> tuple[float, float]:
    """Seconds that an undisturbed training took to open, and from then to its end."""
    began = opened = ended = 0.0
    for line in journal.read(paths.journal):
        record = line.record
        began = began or record.mono
        if record.body.get("name") == "opened":
            opened = record.mono
        ended = record.mono
    return max(0.0, opened - began), max(0.0, ended - opened)


def result_of(paths: RunPaths) -> Result:
    """What a complete run came to. Raises RecordError if it has no whole checkpoint."""
    manifest = Checkpoints(paths.checkpoints).latest(lambda text: None)
    if manifest is None:
        raise RecordError(f"{paths.checkpoints}: a complete run without a checkpoint")
    weights = {"weights": manifest.files[WEIGHTS].sha256}
    if manifest.best is not None:
        weights["best weights"] = manifest.best.sha256
    records: dict[str, Mapping[str, Any]] = {}
    for line in journal.read(paths.journal):
        record = line.record
        if record.type in ("epoch", "evaluation"):
            key = " ".join(str(part) for part in record_key(record.type, record.epoch, record.body) if part is not None)
            scores = {"scores": record.body["scores"]} if record.body.get("scores") else {}
            records[key] = comparable(record.type, record.body) | scores
    return Result(weights, records, int(manifest.loop["total_steps"]))


def compare(expected: Result, found: Result) -> Iterator[str]:
    """What differs, in words; nothing if the two are the same bit for bit."""
    if expected.steps != found.steps:
        yield f"{found.steps} steps instead of {expected.steps}"
    for key in dict.fromkeys((*expected.weights, *found.weights)):
        if expected.weights.get(key) != found.weights.get(key):
            yield f"SHA-256 of the {key}"
    for key in dict.fromkeys((*expected.records, *found.records)):
        before, now = expected.records.get(key), found.records.get(key)
        if before is None or now is None:
            yield f"{key}: recorded by only one of the two"
            continue
        for name in dict.fromkeys((*before, *now)):
            if json.dumps(before.get(name), sort_keys=True) != json.dumps(now.get(name), sort_keys=True):
                yield f"{key}: {name}"


def nondeterministic(log: Path) -> list[str]:
    """The kernels of which torch warned in a log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return list(dict.fromkeys(match.strip() for pattern in _KERNELS for match in pattern.findall(text)))
