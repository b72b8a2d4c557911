"""Training from the command line: the screen, the database on the side, and the exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from ablate.cli.console import say, talk
from ablate.cli.live import Screen
from ablate.engine.launch import StudyPlan, Where, resume_run, train_study
from ablate.engine.plan import Action
from ablate.engine.scheduler import Ended, Watch
from ablate.engine.stop import StopFlag
from ablate.errors import DatabaseError
from ablate.results import ingest
from ablate.runs.paths import RunPaths
from ablate.runs.states import State

COMPLETE, FAILED, HELD, INTERRUPTED = 0, 1, 75, 130


def train(plan: StudyPlan, where: Where, db: Path, command: Sequence[str]) -> int:
    """Trains what is left of a study and says how it went. Returns the exit code."""
    for item in plan.chosen:
        if item.action in (Action.FAILED, Action.HELD):
            say(f"{item.action:<9} {item.identity.name}: {item.why}")
    done = sum(item.action is Action.DONE for item in plan.chosen)
    stop = StopFlag()
    stop.install()
    with Screen(talk, plan.study.study, len(plan.chosen), done) as screen:
        watch = Watch(screen.running, screen.ended, _ingester(db, where), say)
        ended = train_study(plan, where, command, watch, stop, say)
    if not plan.to_train:
        _ingester(db, where)()
        if done == len(plan.chosen):
            say(f"{plan.study.study}: nothing left to do, all {done} runs are complete")
    skipped = [item.action for item in plan.chosen if item.action in (Action.FAILED, Action.HELD)]
    return _verdict(ended, skipped, stop, command)


def go_on(paths: RunPaths, where: Where, db: Path, overrides: Sequence[str], command: Sequence[str]) -> int:
    """Goes on with one run. Returns the exit code."""
    stop = StopFlag()
    stop.install()
    with Screen(talk, paths.name, 1, 0) as screen:
        watch = Watch(screen.running, screen.ended, _ingester(db, where), say)
        ended = resume_run(paths, where, overrides, command, watch, stop, say)
    return _verdict(ended, [], stop, command)


def _ingester(db: Path, where: Where) -> Callable[[], None]:
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


def _verdict(ended: Sequence[Ended], skipped: Sequence[Action], stop: StopFlag, command: Sequence[str]) -> int:
    if stop:
        import shlex

        say(f"interrupted; everything is saved. To go on: {shlex.join(command)}")
        return INTERRUPTED if stop.signal == signal.SIGINT else HELD
    if any(item.held for item in ended) or Action.HELD in skipped:
        return HELD
    incomplete = [item for item in ended if item.outcome is None or item.outcome.state is not State.COMPLETE]
    if incomplete:
        name = incomplete[0].job.paths.name
        say(
            f"{len(incomplete)} of {len(ended)} runs did not complete. Look: ablate show {name}. Go on: ablate resume {name}"
        )
    return FAILED if incomplete or skipped else COMPLETE
