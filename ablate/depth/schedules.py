"""Learning rate over a run: a factor on every group's `lr`, a pure function of the step (no torch).

A schedule has no state, so a resumed run needs none: the factor follows from the position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

ScheduleName = Literal["constant", "cosine", "one_cycle", "poly"]


@dataclass(frozen=True)
class Schedule:
    """`lr` is what the schedule reaches at most, whatever its name.

    constant   1 throughout
    cosine     half a cosine from 1 to `floor` (Loshchilov & Hutter 2017, without restarts)
    one_cycle  up along half a cosine from 1 / `start_divisor` to 1 over the share `peak` of the steps, then down to
               1 / (`start_divisor` * `end_divisor`) (Smith & Topin 2019, as torch's OneCycleLR)
    poly       (1 - step / total) ** `power`, down to `floor` (as BTS and DeepLab)

    The first `warmup_steps` rise along a line to where the curve starts, the n-th being n / (warmup_steps + 1) of it;
    the curve spans the other steps. Raises ValueError if a setting is out of range.
    """

    name: ScheduleName = "constant"
    warmup_steps: int = 0
    floor: float = 0.0
    power: float = 0.9
    peak: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def __post_init__(self) -> None:
        if self.name not in get_args(ScheduleName):
            raise ValueError(f"schedule {self.name!r}, expected one of {', '.join(get_args(ScheduleName))}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be >= 0")
        if not (0 <= self.floor <= 1 and 0 <= self.peak <= 1 and self.power > 0):
            raise ValueError(f"floor {self.floor} and peak {self.peak} must be in 0..1 and power {self.power} > 0")
        if not (self.start_divisor >= 1 and self.end_divisor >= 1):
            raise ValueError(f"start_divisor {self.start_divisor} and end_divisor {self.end_divisor} must be >= 1")

    @property
    def is_constant(self) -> bool:
        """Whether the factor is the same however long the run is to be."""
        return self.name == "constant"

    def factor(self, step: int, total: int) -> float:
        """The factor of the step that comes after `step` steps of `total`; in 0..1.

        Raises ValueError unless 0 <= step < total; a constant schedule has no end.
        """
        if step < 0 or (step >= total and not self.is_constant):
            raise ValueError(f"step {step} is not in 0..{total - 1}: the schedule {self.name!r} has ended")
        curve, warmup = _CURVES[self.name], self.warmup_steps
        span = max(1, total - warmup)  # all steps may be warm-up
        if step < warmup:
            return (step + 1) / (warmup + 1) * curve(self, 0, span)
        return curve(self, step - warmup, span)


def _constant(schedule: Schedule, step: int, total: int) -> float:
    return 1.0


def _cosine(schedule: Schedule, step: int, total: int) -> float:
    return _between(1.0, schedule.floor, step / total)


def _one_cycle(schedule: Schedule, step: int, total: int) -> float:
    start = 1 / schedule.start_divisor
    top, last = schedule.peak * total - 1, total - 1
    if step <= top and top > 0:
        return _between(start, 1.0, step / top)
    if last <= top or step <= top:  # the peak is the first step or the last
        return 1.0
    return _between(1.0, start / schedule.end_divisor, (step - top) / (last - top))


def _poly(schedule: Schedule, step: int, total: int) -> float:
    return schedule.floor + (1 - schedule.floor) * float((1 - step / total) ** schedule.power)


def _between(start: float, end: float, share: float) -> float:
    """Along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


_CURVES: Mapping[str, Callable[[Schedule, int, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "poly": _poly,
}
