"""`campaign power`, second half: real power cuts, of an ext4 file system in a file.

Runs and database lie on a loop-mounted image; everything is killed, and the image is copied without a sync: what no
fsync had sent to the disk is not in the copy. The copy is mounted, which replays ext4's own journal, and the runs go
on. `noauto_da_alloc` and `commit=600` keep ext4 from hiding a missing fsync. Run as `python -m tests.campaign.cuts`: its
mounts are its own (a mount namespace) and vanish with it, however it ends. Needs root and loop devices.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.runs import journal
from ablate.runs.paths import RunsDir
from tests.campaign import REPOSITORY, environment
from tests.campaign.forks import Forks
from tests.campaign.kill import Atlas, Figures, Round
from tests.campaign.moments import Ground, LedgerReader
from tests.campaign.observe import Findings, Result, inspect, key_of, unfinished
from tests.campaign.studies import STUDIES, Study

_CLONE_NEWNS = 0x20000
_MEGABYTES = 96
_OPTIONS = "loop,noauto_da_alloc,commit=600"


class UnavailableError(Exception):
    """There can be no real cuts here; the text says why."""


def run(*command: str | Path) -> None:
    """Raises UnavailableError with what the command said."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UnavailableError(f"there is no command {error.filename}") from error
    if done.returncode:
        raise UnavailableError(f"`{' '.join(map(str, command))}`: {(done.stderr or done.stdout).strip()}")


def private_mounts() -> None:
    """What this process mounts is seen by it and its children alone, and goes with them."""
    if os.geteuid() != 0:
        raise UnavailableError("mounting an image needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise UnavailableError(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


class Disk:
    """A mounted image whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self.mounted = folder / "disk"
        self.mounted.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_MEGABYTES * 2**20)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self._image)
        self._mount()

    @property
    def _image(self) -> Path:
        return self._folder / f"image-{self._number}"

    def _mount(self) -> None:
        run("mount", "-t", "ext4", "-o", _OPTIONS, self._image, self.mounted)

    def cut(self) -> None:
        """From now on the disk holds what had reached it. Nobody may have a file open."""
        old = self._image
        self._number += 1
        run("cp", "--sparse=always", old, self._image)
        self.close()
        old.unlink()
        self._mount()

    def close(self) -> None:
        run("umount", "--lazy", self.mounted)


@dataclass
class Cuts:
    """What is printed in the end."""

    cuts: int = 0
    while_training: int = 0
    """Cuts that took at least one process with a lease."""
    runs: int = 0
    acknowledged_records: int = 0
    canaries_lost: int = 0
    """Before each cut a file is written without fsync. It must be gone: the cuts do cut."""
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)


class Outage:
    """Four runs that live on one disk, through cuts until they are complete."""

    def __init__(self, root: Path, forks: Forks, study: Study, calm: Mapping[str, Result], cuts: Cuts) -> None:
        self.disk = Disk(root)
        self.ground = Ground(root, self.disk.mounted)
        self.forks, self.study, self.calm, self.cuts = forks, study, calm, cuts
        self.acknowledged: list[dict[str, Any]] = []
        self._ledger = LedgerReader(self.ground.ledger)
        self._alive: set[int] = set()
        study.write(self.ground)

    def run(self, draw: random.Random, most: int) -> Findings:
        findings = Findings()
        for _ in range(most):
            self._train_for(draw.uniform(0.05, 0.45))
            canary = self.disk.mounted / f"canary-{self.cuts.cuts}"
            canary.write_bytes(bytes(4096))
            self.disk.cut()
            self.cuts.cuts += 1
            self.cuts.canaries_lost += not canary.exists() or not canary.stat().st_size
            findings.lost += self._lost()
            if self._is_complete():
                break
        self._train_for(None)
        findings.add(inspect(self.ground, self.calm, self.acknowledged))
        self.cuts.runs += len(self.calm)
        self.cuts.acknowledged_records += len({(r["run"], r["seq"]) for r in self.acknowledged})
        return findings

    def _is_complete(self) -> bool:
        return len(RunsDir(self.ground.runs).runs()) == len(self.calm) and not unfinished(self.ground.runs)

    def _train_for(self, seconds: float | None) -> None:
        """`ablate run`, until it ends or the time is over: then nothing of it is left alive."""
        self.forks.start("coordinator", "coordinator", self.ground, *self.study.command(self.ground))
        end = time.monotonic() + (seconds if seconds is not None else 120)
        while self.forks.left and time.monotonic() < end:
            for pid in self.forks.reap():
                self._alive.discard(pid)
            self._read()
            time.sleep(0.002)
        self._read()
        self.cuts.while_training += bool(self._alive) and seconds is not None
        self.forks.kill_all(sorted(self._alive))
        self._read()
        self.forks.kill_all(sorted(self._alive))
        self._alive.clear()

    def _read(self) -> None:
        for line in self._ledger:
            if line["what"] == "acknowledged":
                self.acknowledged += line["records"]
            elif line["what"] == "start":
                self._alive.add(line["pid"])

    def _lost(self) -> list[str]:
        """What was acknowledged and is not there after the cut."""
        there = {
            (*key_of(paths.name, line.record), line.record.seq)
            for paths in RunsDir(self.ground.runs).runs()
            for line in journal.read(paths.journal)
        }
        keys = ("run", "type", "epoch", "split", "resolution", "seq")
        promised = {tuple(record[key] for key in keys) for record in self.acknowledged}
        return [f"after cut {self.cuts.cuts}: {record}" for record in sorted(promised - there, key=str)]


def cut_repeatedly(wanted: int, seed: int, mutation: str = "") -> Cuts:
    """Raises UnavailableError."""
    cuts, began, number = Cuts(), time.monotonic(), 0
    draw = random.Random(f"cuts:{seed}")
    root = Path(tempfile.mkdtemp(prefix="ablate-cuts-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        with Forks("toy", mutation) as forks:
            while cuts.cuts < wanted and not cuts.findings:
                study = STUDIES["toy"](root, 50_000_000 + seed * 1000 + number)
                folders = [root / f"{name}-{number}" for name in ("calm", "disk")]
                for folder in folders:
                    folder.mkdir()
                ground = Ground(folders[0])
                study.write(ground)
                calm = Round(ground, forks, study, Atlas(), Figures(), 0).calmly(learn=False)
                outage = Outage(folders[1], forks, study, calm, cuts)
                try:
                    cuts.findings.add(outage.run(draw, wanted - cuts.cuts))
                finally:
                    outage.disk.close()
                number += 1
    finally:
        shutil.rmtree(root, ignore_errors=True)
    cuts.seconds = time.monotonic() - began
    return cuts


def in_own_process(wanted: int, seed: int, mutation: str = "") -> dict[str, Any]:
    """The figures as `main` prints them; `skipped` if there can be no cuts here."""
    command = [sys.executable, "-m", "tests.campaign.cuts", "--cuts", str(wanted), "--seed", str(seed)]
    done = subprocess.run(
        [*command, "--mutation", mutation], cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, text=True
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(arguments: Iterable[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.campaign.cuts")
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutation", default="")
    options = parser.parse_args(list(arguments))
    try:
        private_mounts()
        cuts = cut_repeatedly(options.cuts, options.seed, options.mutation)
    except UnavailableError as error:
        sys.stdout.write(json.dumps({"skipped": str(error)}) + "\n")
        return 0
    figures = vars(cuts) | {"findings": vars(cuts.findings)}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if cuts.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
