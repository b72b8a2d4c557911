"""Trains a run to its end, and mends what a study allows to be mended: divergence, and memory that runs out.

After either, the session is opened anew and restored, so that nothing of the failed step is left. What was done is
part of the loop's state, so that it travels in every checkpoint and a resumed run does the same again.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ablate.engine.loop import Loop, LoopState
from ablate.errors import DivergedError, OutOfMemoryError
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.journal import Journal
from ablate.task import Position, RunSettings, Session


@dataclass
class Rescuer:
    """`open` gives a fresh session, `loop` a loop over one. `crowded`: others train on this device."""

    config: RunSettings
    open: Callable[[], Session]
    loop: Callable[[Session], Loop]
    checkpoints: Checkpoints
    journal: Journal
    say: Callable[[str], None]
    crowded: bool = False

    def train(self, manifest: Manifest | None) -> None:
        """Raises what `Loop.run` raises, once nothing more can be done about it."""
        mended: dict[str, Any] = {}
        while True:
            loop = self._loop_at(manifest, mended)
            try:
                if mended:
                    loop.save()  # from here on, a resume does what was done
                loop.run()
                return
            except DivergedError as error:
                manifest, mended = self._roll_back(loop, error)
            except OutOfMemoryError as error:
                manifest, mended = self._climb(loop, error)
            finally:
                loop.session.close()
            del loop
            gc.collect()  # a network that is still referenced would keep its memory

    def _loop_at(self, manifest: Manifest | None, mended: dict[str, Any]) -> Loop:
        """A loop over a fresh session, where the checkpoint was taken, with the means that its state names."""
        state = replace(LoopState.of(manifest.loop) if manifest else LoopState(), **mended)
        session = self.open()
        if state.rung:
            session.lighten(state.rung)
        if state.rollbacks:
            session.scale_lr(self.config.train.divergence.lr_factor**state.rollbacks)
        loop = self.loop(session)
        loop.start(manifest, state)
        return loop

    def _roll_back(self, loop: Loop, error: DivergedError) -> tuple[Manifest | None, dict[str, Any]]:
        settings, done = self.config.train.divergence, loop.state.rollbacks
        if self.config.train.on_divergence != "rollback":
            raise error
        if done >= settings.rollbacks:
            raise DivergedError(
                f"{error}; it diverged again after {done} rollbacks, at {settings.lr_factor**done:g} times the "
                "learning rate of the study",
                error.samples,
            ) from error
        # the start of the epoch, not the newest checkpoint: that one's place depends on the clock
        manifest = self.checkpoints.start_of(loop.position)
        factor = settings.lr_factor ** (done + 1)
        where = manifest.position if manifest else Position(0, 1, 0)
        self._event(loop, {"name": "rollback", "to_epoch": where.epoch, "lr_factor": factor, "why": str(error)})
        self.say(f"{error}; back to the start of epoch {where.epoch}, at {factor:g} times the learning rate")
        return manifest, {"rollbacks": done + 1, "rung": loop.state.rung}

    def _climb(self, loop: Loop, error: OutOfMemoryError) -> tuple[Manifest | None, dict[str, Any]]:
        rung = loop.state.rung + 1
        if self.config.train.on_oom != "ladder" or self.crowded:
            raise error
        trial = self.open()
        try:
            did = trial.lighten(rung)
            if did is None:
                raise OutOfMemoryError(f"{error}; {_no_further_rung(trial, rung)}") from error
        finally:
            trial.close()
        self._event(loop, {"name": "ladder", "rung": rung, "did": did, "why": str(error)})
        self.say(f"{error}; memory ladder, rung {rung}: {did}")
        return self.checkpoints.latest(self.say), {"rung": rung, "rollbacks": loop.state.rollbacks}

    def _event(self, loop: Loop, body: dict[str, Any]) -> None:
        self.journal.append("event", loop.position.epoch, loop.position.step, body)


def _no_further_rung(session: Session, rung: int) -> str:
    """With the figure that the last rung needs, if the task can tell."""
    if rung > 1:
        session.lighten(rung - 1)
    try:
        needed = session.needs()
    except (MemoryError, RuntimeError):  # there may be too little memory even for that
        needed = None
    figure = f", and a step needs about {needed / 1e9:.1f} GB on this one (`ablate plan --memory`)" if needed else ""
    return f"the memory ladder has no further rung{figure}"
