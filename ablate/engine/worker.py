"""The process that trains one run: `python -m ablate.engine.worker RUN_DIR`.

Its standard output and error are the run's log, opened by whoever starts it. It holds the run's lease as long
as it lives, and leaves an outcome behind unless it is killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.engine import brought, drift
from ablate.engine.environment import environment
from ablate.engine.loop import Loop
from ablate.engine.progress import ProgressFile
from ablate.engine.rescue import Rescuer
from ablate.engine.shown import Panels
from ablate.engine.stop import StopFlag, Stopped, end_with_parent
from ablate.engine.tasks import find_task
from ablate.errors import AblateError, DataError, DivergedError, HeldError, OutOfMemoryError
from ablate.runs import directory, files, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.journal import Journal
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths
from ablate.runs.states import Outcome, Reason, State
from ablate.task import Placement, RunSettings, Session, Task

EXIT_FAILED, EXIT_HELD, EXIT_INTERRUPTED = 1, 75, 130


@dataclass(frozen=True)
class Assignment:
    """What a worker is started with."""

    run: Path
    device: str
    threads: int
    cache_dir: Path | None
    from_scratch: bool = False
    evaluates: bool = True
    """Without evaluation only `ablate verify` trains."""
    parent: int | None = None
    """The process that started it: it ends with that one."""
    retry: str = ""
    """If it is a retry: which of how many, and after what."""
    crowded: bool = False
    """Others train on the device: memory that runs out is theirs to answer for, until the run has it to itself."""

    def arguments(self) -> list[str]:
        """The command line that `parse` reads back."""
        command = [str(self.run), "--device", self.device, "--threads", str(self.threads)]
        if self.cache_dir is not None:
            command += ["--cache-dir", str(self.cache_dir)]
        command += ["--from-scratch"] if self.from_scratch else []
        command += [] if self.evaluates else ["--no-evaluation"]
        command += [] if self.parent is None else ["--parent", str(self.parent)]
        command += ["--crowded"] if self.crowded else []
        return command + (["--retry", self.retry] if self.retry else [])

    @classmethod
    def parse(cls, arguments: list[str]) -> Assignment:
        parser = argparse.ArgumentParser(prog="ablate.engine.worker")
        parser.add_argument("run", type=Path)
        parser.add_argument("--device", default="cpu")
        parser.add_argument("--threads", type=int, default=1)
        parser.add_argument("--cache-dir", type=Path)
        parser.add_argument("--from-scratch", action="store_true")
        parser.add_argument("--no-evaluation", dest="evaluates", action="store_false")
        parser.add_argument("--parent", type=int)
        parser.add_argument("--retry", default="")
        parser.add_argument("--crowded", action="store_true")
        return cls(**vars(parser.parse_args(arguments)))


def say(text: str) -> None:
    sys.stdout.write(time.strftime("%Y-%m-%d %H:%M:%S ") + text + "\n")
    sys.stdout.flush()


def reason_of(error: BaseException) -> Reason:
    """The cause of a failure, as reports name it."""
    if isinstance(error, DivergedError):
        return Reason.DIVERGED
    if isinstance(error, (OutOfMemoryError, MemoryError)):
        return Reason.OOM
    if files.is_disk_error(error):
        return Reason.DISK
    return Reason.DATA if isinstance(error, DataError) else Reason.CRASH


class Attempt:
    """One attempt at one run, under its lease."""

    def __init__(self, assignment: Assignment, stop: StopFlag) -> None:
        self.assignment = assignment
        self.paths = RunPaths(assignment.run)
        self.stop = stop
        self.number = 0

    def run(self) -> Outcome:
        """Trains until the run is complete, stopped or failed, and says which."""
        try:
            self._train()
        except Stopped:
            assert self.stop.signal is not None
            return self._outcome(State.PAUSED, Reason.SIGNAL, f"stopped by {self.stop.signal.name}")
        except Exception as error:
            say(traceback.format_exc().rstrip())
            reason = reason_of(error)
            message = str(error) if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
            state = State.PAUSED if reason is Reason.DISK else State.FAILED
            return self._outcome(state, reason, message, traceback.format_exc())
        return self._outcome(State.COMPLETE)

    def _outcome(
        self, state: State, reason: Reason | None = None, message: str | None = None, trace: str | None = None
    ) -> Outcome:
        return Outcome(state, reason, message, trace, self.number)

    def _train(self) -> None:
        identity = directory.read_identity(self.paths)
        brought.require(self.paths)
        task = find_task(identity.task)
        config = task.Config.model_validate(directory.read_config(self.paths).config)
        self._same_inputs(task, config, identity)
        checkpoints = Checkpoints(self.paths.checkpoints, keeps_start=config.train.on_divergence == "rollback")
        if self.assignment.from_scratch:
            checkpoints.discard()
        manifest = checkpoints.latest(say)
        checkpoints.sweep()
        history = drift.history(self.paths, manifest.seq if manifest else None)
        if history.completed and not self.assignment.from_scratch:
            self.number = history.completed
            say("trained and evaluated to its end already; only its outcome was missing")
            return
        threads = history.threads or self.assignment.threads
        earlier = {} if self.assignment.from_scratch else history.results
        with Journal(self.paths.journal, manifest.seq if manifest else 0) as journal:
            attempt = self._begin(journal, threads, manifest, brought.facts(task.name, config))
            checked = task.check(config, self.assignment.cache_dir, say)
            self._event(journal, manifest, {"name": "checked", "facts": dict(checked.facts), "notes": checked.notes})
            if changes := history.changes(attempt, checked.facts):
                event = drift.event(history.saved_by, changes)
                self._event(journal, manifest, event)
                say(f"warning: {event['text']}")
            placement = Placement(self.assignment.device, threads, self.assignment.cache_dir)
            progress, panels = ProgressFile(self.paths.progress), Panels(self.paths.panels, config.shown)

            def open_session() -> Session:
                session = task.open(config, placement)
                if not self.assignment.evaluates:
                    session.splits = ()
                self._event(journal, manifest, {"name": "opened", "facts": dict(session.facts)})
                for note in session.facts.get("notes", ()):
                    say(note)
                return session

            def loop_over(session: Session) -> Loop:
                common = (journal, checkpoints, progress, self.stop, say, earlier, panels)
                return Loop(config, task.metrics, session, *common)

            if manifest is not None:
                say(f"resuming at epoch {manifest.position.epoch}, step {manifest.position.step}")
            crowded = self.assignment.crowded
            Rescuer(config, open_session, loop_over, checkpoints, journal, say, crowded).train(manifest)
            progress.remove()

    def _same_inputs(self, task: Task, config: RunSettings, identity: directory.RunIdentity) -> None:
        digests = dict(task.digests(config))
        changed = sorted(key for key in {*digests, *identity.digests} if digests.get(key) != identity.digests.get(key))
        if changed:
            raise DataError(
                f"{self.paths.root}: {', '.join(changed)} changed since the run began, so it cannot go on; "
                "put the file back, or `ablate run` the study, which makes a new run"
            )

    def _begin(
        self, journal: Journal, threads: int, manifest: Manifest | None, facts: dict[str, Any]
    ) -> dict[str, Any]:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read by torch when the task imports it
        states.clear_outcome(self.paths)
        self.number = journal.attempt = journal.attempt + 1
        body = environment() | {
            "device": self.assignment.device,
            "threads": threads,
            "command": directory.read_config(self.paths).command,
            "resumed_from": vars(manifest.position) if manifest else None,
            "facts": facts,
        }
        body |= {"retry": self.assignment.retry} if self.assignment.retry else {}
        position = (manifest.position.epoch, manifest.position.step) if manifest else (0, 0)
        journal.append("attempt", *position, body)
        say(f"attempt {self.number} of {self.paths.name}: process {os.getpid()}, {threads} threads")
        if self.assignment.retry:
            say(self.assignment.retry)
        return body

    def _event(self, journal: Journal, manifest: Manifest | None, body: dict[str, Any]) -> None:
        position = (manifest.position.epoch, manifest.position.step) if manifest else (0, 0)
        journal.append("event", *position, body)


def exit_code(outcome: Outcome, stop: StopFlag) -> int:
    if outcome.state is State.COMPLETE:
        return 0
    if outcome.reason is Reason.SIGNAL:
        return EXIT_INTERRUPTED if stop.signal is signal.SIGINT else EXIT_HELD
    return EXIT_FAILED


def main(arguments: list[str]) -> int:
    assignment = Assignment.parse(arguments)
    stop = StopFlag()
    stop.install()
    end_with_parent(assignment.parent)
    paths = RunPaths(assignment.run)
    try:
        lease = Lease.acquire(paths.lease, f"run {paths.name}")
    except HeldError as error:
        say(str(error))
        return EXIT_HELD
    with lease:
        before = states.read_outcome(paths)
        if before is not None and before.state is State.COMPLETE and not assignment.from_scratch:
            Checkpoints(paths.checkpoints).finish()  # a kill may have come between the outcome and the tidying
            say("complete already; nothing to do")
            return 0
        outcome = Attempt(assignment, stop).run()
        try:
            states.write_outcome(paths, outcome)
        except OSError as error:  # a disk full to its last byte: the state of the run then follows from its journal
            say(f"{outcome.state} ({outcome.reason}), but this cannot be stored: {error}")
            return EXIT_FAILED
        if outcome.state is State.COMPLETE:
            Checkpoints(paths.checkpoints).finish()
        say(" ".join(str(part) for part in (outcome.state, outcome.reason, outcome.message) if part))
    return exit_code(outcome, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
