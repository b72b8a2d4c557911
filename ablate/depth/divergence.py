"""When a training has gone wrong: a detector that sees every step's loss (no torch).

Its state travels in checkpoints, so that a resumed or rolled-back run decides as an uninterrupted one would.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ablate.errors import CheckpointError

Cause = Literal["loss_not_finite", "gradient_not_finite", "negative_loss", "loss_exploded"]


@dataclass(frozen=True)
class Limits:
    """A loss above `factor` times the median of the last `window` good losses is an explosion; None: never.

    The first `warmup` good losses are exempt. Raises ValueError if a limit makes no sense.
    """

    factor: float | None = 100.0
    window: int = 100
    warmup: int = 20

    def __post_init__(self) -> None:
        if self.factor is not None and not 1 < self.factor < math.inf:
            raise ValueError(f"factor {self.factor} must be > 1 and finite")
        if self.window < 1 or self.warmup < 1:
            raise ValueError(f"window {self.window} and warmup {self.warmup} must be >= 1")


@dataclass(frozen=True)
class GoodLoss:
    epoch: int
    step: int
    loss: float


@dataclass(frozen=True)
class Divergence:
    """A step that must not be taken. `value` is the loss, or the norm of the gradient; `median` that of good losses."""

    cause: Cause
    epoch: int
    step: int
    value: float
    part: str | None
    median: float | None
    last_good: GoodLoss | None
    reason: str
    """A sentence without its full stop."""


class Detector:
    """Give `check` every step, in order, before the optimiser takes it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._losses: deque[float] = deque(maxlen=limits.window)
        self._seen = 0
        self._last_good: GoodLoss | None = None

    @property
    def last_good(self) -> GoodLoss | None:
        return self._last_good

    def check(
        self, epoch: int, step: int, loss: float, gradient_norms: Mapping[str, float] | None = None
    ) -> Divergence | None:
        """What is wrong with step `step` (both from 1, as they are shown), or None; a good loss is remembered.

        gradient_norms: by part of the network, before clipping. None if they are not to be judged, such as where a
        scaler for fp16 skips steps whose gradients overflow. A step that is wrong changes nothing here.
        """
        found = self._judge(epoch, step, loss, gradient_norms or {})
        if found is None:
            self._losses.append(loss)
            self._seen += 1
            self._last_good = GoodLoss(epoch, step, loss)
        return found

    def state(self) -> dict[str, Any]:
        """All that decides later answers, as JSON."""
        last = self._last_good
        return {
            "losses": list(self._losses),
            "seen": self._seen,
            "last_good": None if last is None else [last.epoch, last.step, last.loss],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up the state that `state` gave. Raises CheckpointError, changing nothing, if it is another thing."""
        try:
            losses = [float(loss) for loss in state["losses"]]
            seen, last = int(state["seen"]), state["last_good"]
            good = None if last is None else GoodLoss(int(last[0]), int(last[1]), float(last[2]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"the checkpoint's record of earlier losses is damaged: {error!r}") from None
        if seen < len(losses) or not all(math.isfinite(loss) and loss >= 0 for loss in losses):
            raise CheckpointError("the checkpoint's record of earlier losses is damaged: no such losses can have been")
        self._losses = deque(losses, maxlen=self._limits.window)
        self._seen, self._last_good = seen, good

    def _judge(self, epoch: int, step: int, loss: float, norms: Mapping[str, float]) -> Divergence | None:
        bad = next((part for part, norm in norms.items() if not math.isfinite(norm)), None)
        median, factor = self._median(), self._limits.factor
        cause: Cause
        if not math.isfinite(loss):
            cause, value, what = "loss_not_finite", loss, f"the training loss is {loss}"
        elif loss < 0:
            cause, value, what = "negative_loss", loss, f"the training loss is negative, {loss:.4g}"
        elif median is not None and factor is not None and loss > factor * median:
            cause, value = "loss_exploded", loss
            what = (
                f"the training loss is {loss:.4g}, {loss / median:.3g} times the median of the last "
                f"{len(self._losses)} steps, {median:.4g} (the limit is {factor:g} times)"
            )
        elif bad is not None:
            cause, value, what = "gradient_not_finite", norms[bad], f"the gradient of {bad} has the norm {norms[bad]}"
        else:
            return None
        part = bad if cause == "gradient_not_finite" else None
        reason = f"{what} in epoch {epoch}, step {step}; {self._history()}"
        return Divergence(cause, epoch, step, value, part, median, self._last_good, reason)

    def _median(self) -> float | None:
        """None while there are too few losses, or where half of them are 0, of which nothing is a multiple."""
        if self._limits.factor is None or self._seen < self._limits.warmup:
            return None
        return statistics.median(self._losses) or None

    def _history(self) -> str:
        last = self._last_good
        if last is None:
            return "no step before it was good"
        return f"the last good loss was {last.loss:.4g} in epoch {last.epoch}, step {last.step}"
