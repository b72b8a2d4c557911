"""`campaign power`, first half: every prefix of what a run does to the disk, cut off by the model's power cuts.

For each state the product's own code must find every record that it acknowledged, a checkpoint at least as new as the
last one that it reported as saved, and go on from there. Some states are taken to the end: to the bit the undisturbed
one. Others are damaged on top, because disks do that too: then the newest checkpoint that is whole must be found.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, CheckpointError
from ablate.results.ingest import ingest
from ablate.runs import directory, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.journal import Journal
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State
from tests.campaign import recorder
from tests.campaign.model import Machine, Operation
from tests.campaign.moments import Ground
from tests.campaign.observe import Findings, Result, compare, inspect_database, result

_CHANCES = (0.0, 0.15, 0.5, 0.85, 1.0)
"""How likely each unsynced operation has reached the disk."""


@dataclass
class Figures:
    states: Counter[str] = field(default_factory=Counter)
    """By kind; `all` of them."""
    recordings: int = 0
    operations: int = 0
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)


@dataclass
class Truth:
    """What was written and promised up to an operation."""

    root: Path
    made: bool = False
    journal: bytes = b""
    """As of the last record that was acknowledged."""
    lines: set[bytes] = field(default_factory=set)
    """Every line that was ever written to the journal."""
    files: dict[str, set[str]] = field(default_factory=dict)
    """What each file of a checkpoint was, when it got its name; see `meaning`."""
    saved: int = 0
    """Number of the last checkpoint that was reported as saved."""
    complete: bool = False

    def follow(self, call: Operation, machine: Machine) -> None:
        """Call after `machine` has applied the operation."""
        if call.mark is not None:
            self._promised(call.mark, machine, self.root / "runs" / recorder.NAME)
        elif call.operation == "write" and call.path.name == "journal.jsonl":
            self.lines.add(call.data)
        elif call.operation == "replace" and call.target is not None and call.target.parent.name == "checkpoints":
            self.files.setdefault(call.target.name, set()).add(meaning(call.target, machine.content(call.target)))

    def _promised(self, mark: tuple[str, Any], machine: Machine, run: Path) -> None:
        what, fact = mark
        if what == "made":
            self.made = True
        elif what == "acknowledged":
            self.journal = machine.content(run / "journal.jsonl")
        elif what == "saved":
            self.saved = fact.number
        elif what == "outcome":
            self.complete = json.loads(machine.content(run / "outcome.json"))["state"] == State.COMPLETE


class Scratch:
    """A state of the disk, written out where the product can open it."""

    def __init__(self, folder: Path) -> None:
        self.ground = Ground(folder)
        self.paths = RunsDir(self.ground.runs).run(recorder.NAME)

    def write(self, survivors: list[tuple[Path, bytes | None]]) -> None:
        shutil.rmtree(self.ground.root, ignore_errors=True)
        self.ground.root.mkdir()
        self.add(survivors)

    def add(self, survivors: list[tuple[Path, bytes | None]]) -> None:
        for path, content in survivors:
            if content is None:
                (self.ground.root / path).mkdir()
            else:
                (self.ground.root / path).write_bytes(content)


class Judge:
    """Asks the product to recover a state, and holds the answer against the truth."""

    def __init__(self, scratch: Scratch, truth: Truth, where: str) -> None:
        self.scratch, self.truth, self.where = scratch, truth, where
        self.paths = scratch.paths
        self.findings = Findings()

    def judge(self, *, damaged: bool) -> Findings:
        try:
            if self._run():
                self._outcome()
                self._journal()
                self._checkpoints(damaged=damaged)
        except (AblateError, OSError, AssertionError) as error:
            self._say("broken", f"{type(error).__name__}: {error}")
        return self.findings

    def _say(self, kind: str, text: str) -> None:
        getattr(self.findings, kind).append(f"{self.where}: {text}")

    def _run(self) -> bool:
        there = [paths.name for paths in RunsDir(self.scratch.ground.runs).runs()]
        if there:
            directory.read_identity(self.paths)
            directory.read_config(self.paths)
        elif self.truth.made:
            self._say("lost", "the run itself")
        return bool(there)

    def _outcome(self) -> None:
        status = states.status(self.paths)
        if self.truth.complete and status.state is not State.COMPLETE:
            self._say("lost", f"the run was complete and now is {status.state}")

    def _journal(self) -> None:
        content = self.paths.journal.read_bytes() if self.paths.journal.exists() else b""
        if not content.startswith(self.truth.journal):
            self._say("lost", f"{len(self.truth.journal)} bytes of journal were acknowledged, not all are there")
        with Journal(self.paths.journal) as journal:
            seq = journal.seq
        lines = self.paths.journal.read_bytes().splitlines(keepends=True)
        if len(lines) != seq:
            self._say("broken", f"the journal opens at record {seq} and holds {len(lines)}")
        self.findings.duplicated += [
            f"{self.where}: never written: {line!r}" for line in lines if line not in self.truth.lines
        ]

    def _checkpoints(self, *, damaged: bool) -> None:
        checkpoints = Checkpoints(self.paths.checkpoints)
        whole = self._newest_whole(checkpoints)
        passed_over: list[str] = []
        try:
            manifest = checkpoints.latest(passed_over.append)
        except CheckpointError as error:
            if whole or not damaged:
                self._say("lost", str(error))
            return
        number = manifest.number if manifest else 0
        if number != whole:
            self._say("differing", f"checkpoint {number} is taken, {whole} is the newest one that is whole")
        if not damaged and number < self.truth.saved:
            self._say("lost", f"checkpoint {self.truth.saved} was saved, {number} is what is left")
        if not damaged and passed_over:
            self._say("broken", f"{passed_over}")
        Journal(self.paths.journal, manifest.seq if manifest else 0).close()
        checkpoints.sweep()
        if not damaged and list(self.paths.checkpoints.glob("*.tmp")):
            self._say("broken", "temporary files are left after a sweep")

    def _newest_whole(self, checkpoints: Checkpoints) -> int:
        """By comparison with what was really written, without asking the product."""
        for path in checkpoints.manifests():
            if not self._true(path):
                continue
            names = [stored.name for stored in Manifest.read(path).stored()]
            if all(self._true(path.with_name(name)) for name in names):
                return int(path.stem)
        return 0

    def _true(self, path: Path) -> bool:
        return path.exists() and meaning(path, path.read_bytes()) in self.truth.files.get(path.name, ())


def meaning(path: Path, content: bytes) -> str:
    """Equal for contents that mean the same: every byte counts, but for a manifest's white space at its end."""
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            content = json.dumps(json.loads(content), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def damage(paths: RunPaths, draw: random.Random) -> bool:
    """A bit that flips, or a sector that is lost, in one file of a checkpoint. False if there is none."""
    newest = max((path.name[:6] for path in paths.checkpoints.glob("*.json")), default="")
    files = sorted(path for path in paths.checkpoints.glob(f"{newest}*") if path.suffix in (".pt", ".json"))
    content = bytearray((path := draw.choice(files)).read_bytes()) if files else bytearray()
    if not content:
        return False
    kind, at = draw.choice(("digit", "flip", "zero", "cut")), draw.randrange(len(content))
    if kind == "digit":  # another number is as readable as the one before
        at = draw.choice([place for place, byte in enumerate(content) if chr(byte).isdigit()] or [at])
        content[at] ^= 1
    elif kind == "flip":
        content[at] ^= 1 << draw.randrange(8)
    elif kind == "zero":
        content[at : at + 512] = bytes(len(content[at : at + 512]))
    else:
        del content[at:]
    path.write_bytes(content)
    return True


@dataclass
class Simulation:
    """States by the thousand: some recordings, each cut at every operation, each in several ways."""

    seed: int = 0
    figures: Figures = field(default_factory=Figures)

    def run(self, states: int, *, resumed: int, ingested: int, until_found: bool = False) -> Figures:
        """`resumed` of the states are trained to their end, `ingested` taken into a database that knew more."""
        began = time.monotonic()
        root = Path(tempfile.mkdtemp(prefix="ablate-power-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        draw = random.Random(f"power:{self.seed}")
        per_recording = min(states, 1000)
        try:
            while self.figures.states["all"] < states and not (until_found and self.figures.findings):
                seed = draw.randrange(2**30)
                folder = root / "recorded"
                folder.mkdir()
                operations = recorder.record(folder, seed)
                shutil.rmtree(folder)
                calm = self._calm(root / "calm", seed)
                share = per_recording / states
                replay = Replay(operations, folder, Scratch(root / "state"), seed, calm, self.figures)
                replay.run(per_recording, round(resumed * share), round(ingested * share), until_found=until_found)
                self.figures.recordings += 1
                self.figures.operations += len(operations)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        self.figures.seconds = time.monotonic() - began
        return self.figures

    def _calm(self, folder: Path, seed: int) -> Result:
        folder.mkdir()
        with recorder.quick():
            paths = recorder.make(folder, seed)
            assert recorder.attempt(paths) == 0
        found = result(paths)
        shutil.rmtree(folder)
        return found


class Replay:
    """One recording, and the states that it can leave behind."""

    def __init__(
        self, operations: list[Operation], root: Path, scratch: Scratch, seed: int, calm: Result, figures: Figures
    ) -> None:
        self.operations, self.root, self.scratch, self.seed = operations, root, scratch, seed
        self.calm, self.figures = calm, figures
        self.draw = random.Random(f"replay:{seed}")

    def run(self, states: int, resumed: int, ingested: int, *, until_found: bool) -> None:
        machine, truth = Machine(self.root), Truth(self.root)
        fates = self._fates(states, resumed, ingested)
        for number in range(len(self.operations) + 1):
            for kind in fates.get(number, ()):
                chance = self.draw.choice(_CHANCES)
                where = f"after operation {number} of {len(self.operations)}, {kind}, chance {chance}"
                self.figures.states[kind] += 1
                self.figures.states["all"] += 1
                self._state(machine, truth, where, kind, chance)
            if until_found and self.figures.findings:
                return
            if number < len(self.operations):
                machine.apply(self.operations[number])
                truth.follow(self.operations[number], machine)

    def _fates(self, states: int, resumed: int, ingested: int) -> dict[int, list[str]]:
        """What is done with how many states after each operation; every operation has its share."""
        kinds = ["resumed"] * resumed + ["ingested"] * ingested
        kinds += ["damaged"] * (states // 10)
        kinds += ["cut"] * (states - len(kinds))
        self.draw.shuffle(kinds)
        fates: dict[int, list[str]] = {}
        for number, kind in enumerate(kinds):
            fates.setdefault(number % (len(self.operations) + 1), []).append(kind)
        return fates

    def _state(self, machine: Machine, truth: Truth, where: str, kind: str, chance: float) -> None:
        known = list(machine.crashed(self.draw, 1.0)) if kind == "ingested" else []
        survivors = list(machine.crashed(self.draw, chance))
        self.scratch.write(known or survivors)
        if kind == "ingested":
            self._ingest_before(survivors)
        damaged = kind == "damaged" and damage(self.scratch.paths, self.draw)
        findings = Judge(self.scratch, truth, where).judge(damaged=damaged)
        if kind == "resumed" and not findings:
            self._resume(truth, where, findings)
        if kind == "ingested" and not findings:
            self._database(where, findings)
        self.figures.findings.add(findings)

    def _ingest_before(self, survivors: list[tuple[Path, bytes | None]]) -> None:
        """The database has seen what was in the page cache, and kept it; the runs have not."""
        ground = self.scratch.ground
        ingest(ground.db, ground.runs)
        shutil.rmtree(ground.runs, ignore_errors=True)
        self.scratch.add(survivors)

    def _database(self, where: str, findings: Findings) -> None:
        ground = self.scratch.ground
        if not ground.runs.is_dir():
            return
        now = {paths.name: result(paths) for paths in RunsDir(ground.runs).runs()}
        for kind, found in inspect_database(ground, now):
            getattr(findings, kind).extend(f"{where}: {text}" for text in found)

    def _resume(self, truth: Truth, where: str, findings: Findings) -> None:
        with recorder.quick():
            paths = recorder.make(self.scratch.ground.root, self.seed)
            code = recorder.attempt(paths)
        if code:
            findings.broken.append(f"{where}: the next attempt ended with {code}: {states.read_outcome(paths)}")
            return
        found = compare({paths.name: self.calm}, {paths.name: result(paths)})
        findings.differing += [f"{where}: {text}" for text in found]
        if not paths.journal.read_bytes().startswith(truth.journal):
            findings.lost.append(f"{where}: acknowledged records vanished when the run went on")
