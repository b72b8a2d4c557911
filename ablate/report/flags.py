"""What the course of a training says about the epoch that is reported: footnotes, as pure functions of the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ablate.results.records import State


@dataclass(frozen=True)
class Course:
    """How the training of one run went.

    `losses` are (epoch, validation loss) at the resolution that selection looks at; epochs without a finite loss may be
    among them. `planned` are the epochs of all stages; `max_steps` whether they were cut short on purpose.
    """

    state: State
    diverged: bool
    losses: Sequence[tuple[int, float | None]]
    selected: int | None
    last: int | None
    planned: int | None
    metric: str = "the selected metric"
    patience: int | None = None
    max_steps: bool = False


def flags(course: Course) -> tuple[str, ...]:
    """The sentences that a table with this run must say, in a fixed order; none of a run without an epoch."""
    if not course.last:
        return ()
    return (*_end(course), *_saturation(course), *_disagreement(course))


def _end(course: Course) -> Iterator[str]:
    """That a run ended, or stands, before its planned end."""
    last, planned = course.last, course.planned
    if planned is None or last is None or last >= planned:
        return
    reported = f"reported from epoch {course.selected}, the best" if course.selected else "evaluated"
    if course.diverged:
        yield f"diverged after epoch {last} of {planned}: {reported} before that, and it enters no mean"
    elif course.state is not State.COMPLETE:
        yield f"not at its end: {reported} of {last} epochs so far; {planned} are planned"
    elif course.max_steps:
        yield f"ended in epoch {last} of {planned} by train.max_steps"
    elif course.patience is not None:
        yield (
            f"stopped early after epoch {last} of {planned}: {course.patience} "
            f"epoch{'s' * (course.patience > 1)} in a row without a better {course.metric}"
        )


def _saturation(course: Course) -> Iterator[str]:
    """Of complete runs: what is not at its end is said above to be so."""
    losses = _finite(course.losses)
    if course.state is not State.COMPLETE or course.selected != course.last or len(losses) < 2:
        return
    (before_epoch, before), (epoch, final) = losses[-2:]
    if epoch == course.last and final < before:
        yield (
            f"not saturated: the best epoch is the last one trained ({epoch}), and the validation loss was still falling "
            f"({before:.4g} in epoch {before_epoch}, {final:.4g} in epoch {epoch}); `ablate extend` goes on"
        )


def _disagreement(course: Course) -> Iterator[str]:
    losses = dict(_finite(course.losses))
    if course.selected not in losses:
        return
    there = losses[course.selected]
    lowest = min(losses, key=lambda epoch: (losses[epoch], epoch))
    if losses[lowest] < there:
        percent = f" ({(there / losses[lowest] - 1):.1%} more)" if losses[lowest] > 0 else ""
        yield (
            f"loss and metrics disagree: the validation loss is lowest in epoch {lowest} ({losses[lowest]:.4g}), "
            f"and {there:.4g}{percent} in epoch {course.selected}, which {course.metric} selects"
        )


def _finite(losses: Sequence[tuple[int, float | None]]) -> list[tuple[int, float]]:
    return sorted((epoch, loss) for epoch, loss in losses if loss is not None and math.isfinite(loss))
