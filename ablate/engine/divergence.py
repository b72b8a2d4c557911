"""When a training loss says that a run has diverged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ablate.task import DivergenceSettings

WARM_UP = 10
"""Losses that a median is worth comparing with; before, anything finite may come."""


def problem(loss: float, recent: Sequence[float], settings: DivergenceSettings) -> str | None:
    """What is wrong with the loss of a step, after the `recent` losses; None if nothing is."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if loss < 0:
        return f"the loss is negative ({loss:g}), which no loss can be: its formula or its mask is wrong"
    if len(recent) < WARM_UP:
        return None
    median = statistics.median(recent)
    if loss > settings.factor * median > 0:
        return (
            f"the loss is {loss:g}, more than {settings.factor:g} times (train.divergence.factor) the median "
            f"{median:g} of the last {len(recent)} steps"
        )
    return None


def remember(recent: Sequence[float], loss: float, settings: DivergenceSettings) -> tuple[float, ...]:
    return (*recent, loss)[-settings.window :]
