"""What a study estimates: the difference between arms that are alike but for one factor, or between arms at their best."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate.errors import UsageError

FORMS = "`matched` or {tuned: {over: train.lr, trials: 4}}"


@dataclass(frozen=True)
class Matched:
    """`compare: matched`: two runs may differ in the factor under study alone."""

    @property
    def data(self) -> Any:
        """As records store it."""
        return "matched"

    @property
    def text(self) -> str:
        return "matched"


@dataclass(frozen=True)
class Tuned:
    """`compare: {tuned: {over: train.lr, trials: 4}}`: each arm is at its best of `trials` values of the settings `over`."""

    over: tuple[str, ...]
    trials: int

    @property
    def data(self) -> Any:
        return {"tuned": {"over": list(self.over), "trials": self.trials}}

    @property
    def text(self) -> str:
        return f"tuned over {', '.join(self.over)}, {self.trials} trial{'s' * (self.trials > 1)} each"


Estimand = Matched | Tuned


def read_estimand(value: Any) -> Estimand:
    """What a study says under `compare:`; None is `matched`. Raises UsageError, with the two forms, for anything else."""
    if value in (None, "matched", {"matched": None}):
        return Matched()
    details = value.get("tuned") if isinstance(value, Mapping) and len(value) == 1 else None
    if isinstance(details, Mapping) and set(details) == {"over", "trials"}:
        over = details["over"]
        keys = (over,) if isinstance(over, str) else tuple(over) if isinstance(over, list | tuple) else ()
        trials = details["trials"]
        if keys and all(isinstance(key, str) and key for key in keys) and type(trials) is int and trials >= 1:
            return Tuned(tuple(dict.fromkeys(keys)), trials)
    raise UsageError(f"compare: expected {FORMS}, found {json.dumps(value, default=str)}")
