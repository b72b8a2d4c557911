"""A workplace in which things go wrong: runs, workers and commands as real processes, disks that are too small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ablate.runs import journal, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.directory import RunConfig, RunIdentity, ensure_run
from ablate.runs.paths import RunPaths, RunsDir

_WORKER = "\nimport sys\nfrom ablate.engine import worker\nsys.exit(worker.main(sys.argv[1:]))\n"


@dataclass
class Workplace:
    """A folder, and the processes that were started in it."""

    root: Path
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    def run(self, name: str = "toy-aaaaaaaa", runs: Path | str = "runs", task: str = "toy", **config: Any) -> RunPaths:
        """The directory of a run; keywords are its configuration."""
        identity = RunIdentity(name[-8:], name[-8:] * 8, name, task, 1, {}, config.pop("digests", {}), 0.0)
        asked = RunConfig(config, f"ablate run {task}.yaml", {})
        return ensure_run(RunsDir(self.root / runs), identity, asked)

    def start(self, paths: RunPaths, *options: str, inject: str = "") -> subprocess.Popen[bytes]:
        """The worker of a run. `inject` is Python that is executed in its process before it begins."""
        command = ["-c", inject + _WORKER] if inject else ["-m", "ablate.engine.worker"]
        with paths.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command, str(paths.root), *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def train(self, paths: RunPaths, *options: str, inject: str = "") -> int:
        return self.start(paths, *options, inject=inject).wait(timeout=120)

    def ablate(self, *arguments: str, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        """The command, as a user types it in this folder."""
        command = [sys.executable, "-c", "from ablate.cli import main; main()", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=os.environ | env, cwd=self.root
        )

    def begin(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """The command, left running."""
        command = [sys.executable, "-c", "from ablate.cli import main; main()", *arguments]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | env,
            cwd=self.root,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def study(self, text: str, name: str = "toys.yaml") -> str:
        (self.root / name).write_text(text, encoding="utf-8")
        return name

    def query(self, sql: str, db: str = "results.duckdb") -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{self.root / db}' AS r (TYPE duckdb, READ_ONLY)")
            connection.execute("USE r")
            return connection.execute(sql).fetchall()

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def wait_until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """What `what` returns, as soon as that is true of it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError("it never happened")


@dataclass(frozen=True)
class Look:
    """What can be seen of a run from outside."""

    paths: RunPaths

    def progress(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.paths.progress.read_bytes()))
        except (OSError, ValueError):
            return {}

    def steps(self) -> int:
        """Optimiser steps, as far as the progress file knows."""
        found = self.progress() or {"epoch": 0, "step": 0, "steps": 0}
        return max(0, found["epoch"] - 1) * found["steps"] + found["step"]

    def records(self, type_: str) -> list[journal.Record]:
        return [line.record for line in journal.read(self.paths.journal) if line.record.type == type_]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [dict(record.body) for record in self.records("event") if record.body.get("name") == name]

    def manifest(self) -> Manifest:
        return Manifest.read(Checkpoints(self.paths.checkpoints).manifests()[0])

    def outcome(self) -> states.Outcome:
        outcome = states.read_outcome(self.paths)
        assert outcome is not None, self.paths.log.read_text()
        return outcome

    def result(self) -> dict[Any, Any]:
        """Everything that an undisturbed run has too: results by epoch, less what a clock decides, and the weights."""
        found: dict[Any, Any] = {}
        for record in self.records("epoch"):
            found["epoch", record.epoch] = {key: record.body[key] for key in ("train_loss", "images", "order")}
        for record in self.records("evaluation"):
            found[record.epoch, record.body["split"], record.body["resolution"]] = record.body
        manifest = Checkpoints(self.paths.checkpoints).latest(print)
        assert manifest is not None and manifest.best is not None
        found["weights"] = [manifest.best.sha256, *(stored.sha256 for stored in manifest.files.values())]
        return found


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path)
    yield workplace
    workplace.end()


@pytest.fixture(scope="session")
def look() -> type[Look]:
    return Look


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    return wait_until


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[Any, Any]]:
    """The result of a toy run that nothing disturbs, by its configuration."""
    known: dict[str, dict[Any, Any]] = {}

    def result(**config: Any) -> dict[Any, Any]:
        key = json.dumps(config, sort_keys=True)
        if key not in known:
            workplace = Workplace(tmp_path_factory.mktemp("calm"))
            paths = workplace.run(**config)
            assert workplace.train(paths) == 0
            known[key] = Look(paths).result()
        return known[key]

    return result


@dataclass(frozen=True)
class Disk:
    """A file system of its own, a few MiB large."""

    root: Path

    def free(self) -> int:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def fill(self, left: int = 0) -> None:
        """Takes all room but `left` bytes."""
        with (self.root / "ballast").open("ab", buffering=0) as file:
            while (room := self.free() - left) > 0:
                try:
                    file.write(bytes(min(room, 2**20)))
                except OSError:
                    return

    def clear(self) -> None:
        (self.root / "ballast").unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.root)], check=True, capture_output=True)


@pytest.fixture
def mount(tmp_path: Path, work: Workplace) -> Iterator[Callable[..., Disk]]:
    """Mounts real file systems: `mount("-t", "tmpfs", "-o", "size=3m", "tmpfs")`. Skips where that is not allowed."""
    mounted: list[Path] = []

    def mounting(*arguments: str) -> Disk:
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("NOT TESTED HERE: needs root on Linux, to mount a file system of its own")
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"NOT TESTED HERE: this machine does not mount file systems ({done.stderr.strip()})")
        mounted.append(folder)
        return Disk(folder)

    yield mounting
    work.end()
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(mount: Callable[..., Disk]) -> Disk:
    return mount("-t", "tmpfs", "-o", "size=3m", "tmpfs")


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated street of 4 + 2 frames; tests that change it take a copy."""
    from ablate.depth.data.street import make_street

    root = tmp_path_factory.mktemp("street")
    make_street(root, frames={"train": 4, "val": 2, "test": 0}, seed=0, say=lambda text: None)
    return root
