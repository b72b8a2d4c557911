"""`campaign kill`: runs that are killed over and over, at named and at random moments, until they are complete."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.runs.paths import RunsDir
from tests.campaign.forks import Forks
from tests.campaign.moments import Ground, LedgerReader, holds_lease
from tests.campaign.observe import Findings, Prefixes, Result, inspect, results, unfinished
from tests.campaign.studies import STUDIES, Study

ENOUGH = 5
"""Kills that each named moment wants."""
_TELL_EVERY = 30.0
_PATIENCE = 60.0
"""Seconds that a generation of processes may take."""
_MOST_GENERATIONS = 150
"""Invocations of `ablate run` after which all runs ought to be complete, whoever was killed."""
_ORPHAN_PATIENCE = 15.0
"""Seconds after the coordinator's death in which its workers must have finished their step and ended."""


@dataclass
class Figures:
    """What is printed in the end."""

    kills: int = 0
    """Of processes that held a lease."""
    without_lease: int = 0
    random_kills: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    resumes: int = 0
    runs: int = 0
    acknowledged_epochs: int = 0
    acknowledged_records: int = 0
    rivals: int = 0
    seconds: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    rare: list[str] = field(default_factory=list)
    """Named moments that were hit fewer than five times."""


class Atlas:
    """All named moments that any process has passed, and how often each was somebody's last."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        """How often a process was doomed to a moment and did not come by."""
        self._passed: dict[str, Counter[str]] = {}

    def learn(self, stage: str, seen: Mapping[str, int]) -> None:
        known = self._passed.setdefault(stage, Counter())
        for moment, times in seen.items():
            known[moment] = max(known[moment], times)
            self.hits[moment] += 0

    def choose(self, role: str, stage: str, draw: random.Random) -> tuple[str, int] | None:
        """The moment that needs it most, of those that a process of this kind passes; and at which pass."""
        stages = (stage, "new", "new new")
        known = next((seen for one in stages if (seen := self._passed.get(f"{role}, {one}"))), None)
        if not known:
            return None
        rare = [moment for moment in known if self.hits[moment] < ENOUGH]
        candidates = sorted(rare if rare and draw.random() < 0.8 else known)
        tries = {moment: self.hits[moment] + self.misses[moment] for moment in candidates}
        moment = draw.choice([moment for moment in candidates if tries[moment] == min(tries.values())])
        return moment, 1 if draw.random() < 0.5 else draw.randint(1, known[moment])

    def rare(self) -> list[str]:
        return sorted(moment for moment, hits in self.hits.items() if hits < ENOUGH)


class Round:
    """Four runs from their first step to their last, through as many kills as they are given."""

    def __init__(self, ground: Ground, forks: Forks, study: Study, atlas: Atlas, figures: Figures, seed: int) -> None:
        self.ground, self.forks, self.study, self.atlas, self.figures = ground, forks, study, atlas, figures
        self.draw = random.Random(seed)
        self.acknowledged: list[dict[str, Any]] = []
        self.findings = Findings()
        self.killed: Counter[str] = Counter()
        self._ledger = LedgerReader(ground.ledger)
        self._alive: dict[int, tuple[str, str]] = {}
        self._prefixes = Prefixes()
        self._stages: dict[str, str] = {}
        self._dooms: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self.names: tuple[str, ...] = ()

    def run(self, kills_per_run: int, names: tuple[str, ...]) -> None:
        self.names = names
        generation = 0
        while generation < _MOST_GENERATIONS:
            generation += 1
            self._doom_all(kills_per_run)
            self._generation()
            self.findings.lost += self._prefixes.look(self.ground.runs)
            if self._complete():
                return
        self.findings.broken.append(f"{self.ground.root}: not complete after {generation} invocations of `ablate run`")

    def _complete(self) -> bool:
        return len(RunsDir(self.ground.runs).runs()) == len(self.study.seeds) and not unfinished(self.ground.runs)

    def calmly(self, *, learn: bool) -> dict[str, Result]:
        """The undisturbed result. To `learn` the moments of commands that find nothing to do, those are run too."""
        for _ in range(2 if learn else 1):
            self._doom_all(0)
            self._command("coordinator", *self.study.command(self.ground))
            self._wait(time.monotonic() + 10 * _PATIENCE, [])
        if learn:
            self._command("report", "ls", "--json", *self.ground_options())
            self._wait(time.monotonic() + _PATIENCE, [])
        left = unfinished(self.ground.runs)
        if left or len(RunsDir(self.ground.runs).runs()) != len(self.study.seeds):
            raise RuntimeError(f"the undisturbed runs did not complete: {self.ground.log.read_text()[-2000:]}")
        return results(self.ground.runs)

    def ground_options(self) -> list[str]:
        return ["--runs-dir", str(self.ground.runs), "--db", str(self.ground.db)]

    # One generation: a coordinator, its four workers, whoever reads, and a rival

    def _doom_all(self, kills_per_run: int) -> None:
        """Writes down at which moment each process of the next generation ends."""
        runs = RunsDir(self.ground.runs)
        made = "again" if len(runs.runs()) == len(self.study.seeds) else "new"
        stored = "again" if self.ground.db.exists() else "new"
        self._doom("coordinator", "coordinator", f"{made} {stored}", kills_per_run)
        self._doom("report", "report", stored, kills_per_run)
        for name in self.names:
            stage = f"after {_aftermath(self._last.get(name))}" if runs.run(name).journal.exists() else "new"
            self._doom("worker", name, stage, kills_per_run)

    def _doom(self, role: str, victim: str, stage: str, kills: int) -> None:
        """Whoever may still die is doomed: nearly always to a moment that needs it, else now and then."""
        self._stages[victim] = f"{role}, {stage}"
        path = self.ground.doom(victim)
        path.unlink(missing_ok=True)
        chosen = self.atlas.choose(role, stage, self.draw) if self.killed[victim] < kills else None
        if chosen and self.draw.random() < (0.9 if self.atlas.hits[chosen[0]] < ENOUGH else 0.5):
            path.write_text(json.dumps({"moment": chosen[0], "occurrence": chosen[1]}))
            self._dooms[victim] = chosen[0]

    def _command(self, role: str, *arguments: str) -> int:
        return self.forks.start(role, role, self.ground, *arguments)

    def _generation(self) -> None:
        began = time.monotonic()
        coordinator = self._command("coordinator", *self.study.command(self.ground))
        due = sorted((began + self.draw.uniform(0.02, self.study.span), what) for what in self._events())
        self._wait(began + _PATIENCE, due, coordinator)
        self.atlas.misses.update(self._dooms.values())
        self._dooms.clear()

    def _events(self) -> list[str]:
        wanted = ["kill", "kill", "report", "report", "rival"]
        if any(moment.startswith("report") for moment in self.atlas.rare()):
            wanted += ["report"] * 3
        return [what for what in wanted if self.draw.random() < 0.6]

    def _wait(self, deadline: float, due: list[tuple[float, str]], coordinator: int = 0) -> None:
        """Lets the generation live, and die, until no process of it is left."""
        self.forks.left = True
        orphaned_at = deadline
        while self.forks.left:
            for pid in self.forks.reap():
                self._alive.pop(pid, None)
                if pid == coordinator:
                    orphaned_at = min(deadline, time.monotonic() + _ORPHAN_PATIENCE)
            self._read()
            now = time.monotonic()
            while due and due[0][0] < now:
                self._happen(due.pop(0)[1])
            if self.forks.left and now > orphaned_at:
                self.findings.broken.append(f"still alive, long after their time: {sorted(self._alive.values())}")
                for pid in self._alive:
                    os.kill(pid, signal.SIGKILL)
                deadline = orphaned_at = now + _PATIENCE
            time.sleep(0.004)
        self._read()
        self._alive.clear()

    def _happen(self, what: str) -> None:
        if what == "kill":
            self._kill_somebody()
        elif what == "report":
            self._command("report", "ls", "--json", *self.ground_options())
        else:
            runs = [paths for paths in RunsDir(self.ground.runs).runs() if paths.config.exists()]
            if runs:
                self.figures.rivals += 1
                self.forks.start("rival", "rival", self.ground, str(self.draw.choice(runs).root), "--threads", "1")

    def _kill_somebody(self) -> None:
        """Stops a process first, so that whether it holds a lease cannot change before it dies."""
        if not self._alive:
            return
        pid = self.draw.choice(sorted(self._alive))
        try:
            os.kill(pid, signal.SIGSTOP)
            held = holds_lease(pid, self.ground)
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        if held:
            role, victim = self._alive[pid]
            self._last.pop(victim, None)
            self.figures.random_kills += 1
            self._count(role, victim, held=True)

    def _count(self, role: str, victim: str, *, held: bool) -> None:
        self.killed[victim] += 1
        if held:
            self.figures.kills += 1
            self.figures.roles[role] += 1
        else:
            self.figures.without_lease += 1

    def _read(self) -> None:
        for line in self._ledger:
            what, pid = line["what"], line["pid"]
            if what == "acknowledged":
                self.acknowledged += line["records"]
                continue
            if what == "start":
                self._alive[pid] = line["role"], line["victim"]
                continue
            self.atlas.learn(self._stages.get(line["victim"], f"{line['role']}, new"), line["seen"])
            if what == "kill":
                self.atlas.hits[line["moment"]] += 1
                self._dooms.pop(line["victim"], None)
                self._last[line["victim"]] = line["moment"]
                self._count(line["role"], line["victim"], held=line["held"])


def _aftermath(moment: str | None) -> str:
    """What kind of debris a process finds whose predecessor died at `moment`; None: at a random one."""
    if moment is None:
        return "whatever"
    kind, _, half = moment.partition(", ")
    return f"{kind.split()[2] if len(kind.split()) > 2 else kind} {half}".strip()


@dataclass
class Campaign:
    """Rounds, until there are enough kills or the time is up."""

    task: str = "toy"
    seed: int = 0
    mutation: str = ""
    kills_per_run: int = 10
    tell: Callable[[str], None] = lambda text: None
    """Is told now and then how far it has come."""
    figures: Figures = field(default_factory=Figures)
    atlas: Atlas = field(default_factory=Atlas)
    _told: float = 0.0

    def run(self, *, kills: int | None, minutes: float | None, cover: bool, until_found: bool = False) -> Figures:
        """Raises RuntimeError if even undisturbed runs fail. `cover`: also until every moment has its five kills."""
        began = time.monotonic()
        root = Path(tempfile.mkdtemp(prefix="ablate-kill-", dir=_fast_folder()))
        try:
            with Forks(self.task, self.mutation) as forks:
                number = 0
                while not self._over(began, kills, minutes, cover) and not (until_found and self.figures.findings):
                    self._round(root, forks, number)
                    number += 1
                    self.figures.seconds = time.monotonic() - began
                    self._tell_now_and_then()
        finally:
            if self.figures.findings and not self.mutation:
                self.tell(f"what is left of it: {root}")
            else:
                shutil.rmtree(root, ignore_errors=True)
        self.figures.hits = self.atlas.hits
        self.figures.rare = self.atlas.rare()
        return self.figures

    def _tell_now_and_then(self) -> None:
        if self.figures.seconds < self._told + _TELL_EVERY:
            return
        self._told = self.figures.seconds
        found = ", ".join(f"{len(texts)} {kind}" for kind, texts in self.figures.findings if texts) or "nothing found"
        rare = len(self.atlas.rare())
        self.tell(f"{self._told:.0f} s: {self.figures.kills} kills, {rare} moments still rare, {found}")

    def _over(self, began: float, kills: int | None, minutes: float | None, cover: bool) -> bool:
        if minutes is not None and time.monotonic() - began > minutes * 60:
            return True
        enough = kills is not None and self.figures.kills >= kills
        return enough and not (cover and self.atlas.rare())

    def _round(self, root: Path, forks: Forks, number: int) -> None:
        study = STUDIES[self.task](root, self.seed * 100_000 + number)
        grounds = [Ground(root / f"{name}-{number}") for name in ("calm", "storm")]
        for ground in grounds:
            ground.root.mkdir()
            study.write(ground)
        calm = Round(grounds[0], forks, study, self.atlas, Figures(), 0).calmly(learn=number == 0)
        storm = Round(grounds[1], forks, study, self.atlas, self.figures, self.seed * 100_000 + number)
        storm.run(self.kills_per_run, tuple(calm))
        findings = storm.findings
        findings.add(inspect(grounds[1], calm, storm.acknowledged))
        self._sum_up(storm, calm)
        self.figures.findings.add(findings)
        if not findings:
            for ground in grounds:
                shutil.rmtree(ground.root)

    def _sum_up(self, storm: Round, calm: Mapping[str, Result]) -> None:
        figures = self.figures
        figures.runs += len(calm)
        figures.acknowledged_records += len({(r["run"], r["seq"]) for r in storm.acknowledged})
        epochs = {(r["run"], r["epoch"]) for r in storm.acknowledged if r["type"] in ("epoch", "evaluation")}
        figures.acknowledged_epochs += len(epochs)
        attempts = {(r["run"], r["seq"]) for r in storm.acknowledged if r["type"] == "attempt"}
        figures.resumes += max(0, len(attempts) - len(calm))


def _fast_folder() -> str | None:
    """A kill leaves the page cache as it is, so memory does as well as a disk, and is faster."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
