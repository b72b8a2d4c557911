"""Training from the command line: the screen, the database on the side, and the exit code."""

from __future__ import annotations

import shlex
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ablate.cli.console import say, talk
from ablate.cli.edited import say_changes
from ablate.cli.live import Screen
from ablate.engine.drift import newest_change
from ablate.engine.launch import StudyPlan, Where, resume_run, train_study
from ablate.engine.plan import Action
from ablate.engine.scheduler import Ended, Halt, Watch
from ablate.engine.stop import StopFlag
from ablate.errors import DatabaseError
from ablate.results import ingest
from ablate.runs.paths import RunPaths

COMPLETE, FAILED, HELD, INTERRUPTED = 0, 1, 75, 130


def train(plan: StudyPlan, where: Where, db: Path, command: Sequence[str]) -> int:
    """Trains what is left of a study and says how it went. Returns the exit code."""
    for item in plan.chosen:
        if item.action in (Action.FAILED, Action.HELD):
            say(f"{item.action:<9} {item.identity.name}: {item.why}")
    _say_deferred(plan)
    if not plan.joins:
        say_changes(plan)
    done = sum(item.action is Action.DONE for item in plan.chosen)
    halts: list[Halt] = []
    stop = StopFlag()
    with Screen(talk, plan.study.study, len(plan.chosen), done, stop) as screen:
        watch = Watch(screen.running, screen.ended, ingester(db, where), say, _noting(halts))
        ended = train_study(plan, where, command, watch, stop, say)
    if not plan.to_train:
        ingester(db, where)()
        if done == len(plan.chosen) and not plan.joins:
            say(f"{plan.study.study}: nothing left to do, all {done} runs are complete")
    skipped = [item.action for item in plan.chosen if item.action in (Action.FAILED, Action.HELD)]
    return verdict(ended, skipped, stop, command, halts)


def _noting(halts: list[Halt]) -> Callable[[Halt, str], None]:
    def note(halt: Halt, text: str) -> None:
        halts.append(halt)
        say(f"stopping: {text}")

    return note


def _say_deferred(plan: StudyPlan) -> None:
    """Which cells wait, by reason."""
    reasons = Counter(item.why for item in plan.chosen if item.action is Action.DEFERRED)
    for reason, count in reasons.items():
        say(f"deferred  {count} {'cell' if count == 1 else 'cells'}: {reason}")
    if reasons:
        say("          --deferred trains them too")


def go_on(paths: RunPaths, where: Where, db: Path, overrides: Sequence[str], command: Sequence[str]) -> int:
    """Goes on with one run. Returns the exit code."""
    stop = StopFlag()
    with Screen(talk, paths.name, 1, 0, stop) as screen:
        watch = Watch(screen.running, screen.ended, ingester(db, where), say)
        ended = resume_run(paths, where, overrides, command, watch, stop, say)
    return verdict(ended, [], stop, command)


def ingester(db: Path, where: Where) -> Callable[[], None]:
    """Brings the database up to date if nobody else is at it; training never waits for it, nor fails by it."""
    warned = False

    def bring_up_to_date() -> None:
        nonlocal warned
        try:
            ingest.ingest(db, where.runs.root, wait=0.0)
        except (DatabaseError, OSError) as error:
            if not warned:
                say(f"warning: {error}\n  training goes on; `ablate db rebuild` makes the database again from the runs")
            warned = True

    return bring_up_to_date


def verdict(
    ended: Sequence[Ended],
    skipped: Sequence[Action],
    stop: StopFlag,
    command: Sequence[str],
    halts: Sequence[Halt] = (),
) -> int:
    """Says how it went and how to go on. Returns the exit code."""
    for item in ended:
        if item.outcome is not None and (text := newest_change(item.job.paths)):
            say(f"warning: {item.job.paths.name}: {text}")
    if Halt.TIME in halts:
        say(f"everything is saved. To go on: {shlex.join(command)}")
        return HELD
    if stop:
        say(f"interrupted; everything is saved. To go on: {shlex.join(command)}")
        return INTERRUPTED if stop.signal == signal.SIGINT else HELD
    if any(item.held for item in ended) or Action.HELD in skipped:
        return HELD
    incomplete = [item for item in ended if not item.complete]
    if Halt.BREAKER in halts or Halt.FAIL_FAST in halts:
        say(f"To go on: {shlex.join(command)}")
    if incomplete:
        name = incomplete[0].job.paths.name
        again = f"ablate resume {name}" if len(incomplete) == 1 else f"{shlex.join(command)} takes all of them"
        say(f"{len(incomplete)} of {len(ended)} runs did not complete. Look: ablate show {name}. Go on: {again}")
    return FAILED if incomplete or skipped else COMPLETE
