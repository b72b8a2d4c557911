"""The sections `compare` and `metric`: what the study's verdicts are about. Nothing here can change a result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.study.estimand import FORMS, Estimand, Matched, Tuned
from ablate.study.reading import Reader
from ablate.study.settings import closest
from ablate.study.yaml import Trail, shown
from ablate.task import Metric

SECTIONS = ("compare", "metric")


@dataclass(frozen=True)
class CompareReader:
    """Reads both sections; what is wrong is added to the problems of its reader. `axes` are those of the study."""

    reader: Reader
    data: Mapping[str, Any]
    axes: Collection[str]

    def wrong(self, trail: Trail, problem: str, hint: str | None = None, *, key: bool = False) -> None:
        self.reader.problems.add(trail, problem, hint=hint, key=key)

    def metric(self, metrics: Sequence[Metric]) -> str | None:
        """The key of the metric that verdicts are about; None for that by which epochs are selected."""
        value = self.data.get("metric")
        known = [metric.key for metric in metrics]
        if value is None or value in known:
            return None if value is None else str(value)
        close = closest(value, known) if isinstance(value, str) else None
        hint = f"did you mean {close}?" if close else f"known: {', '.join(known)}"
        self.wrong(("metric",), f"there is no metric {shown(value)}", hint)
        return None

    def compare(self) -> Estimand:
        value = self.data.get("compare")
        if value in (None, "matched"):
            return Matched()
        if not isinstance(value, dict) or set(value) != {"tuned"}:
            hint = "did you mean matched?" if isinstance(value, str) and closest(value, ["matched"]) else None
            self.wrong(("compare",), f"expected {FORMS}, found {shown(value)}", hint)
            return Matched()
        return self._tuned(value["tuned"])

    def _tuned(self, details: Any) -> Estimand:
        trail: Trail = ("compare", "tuned")
        if not isinstance(details, dict):
            self.wrong(trail, f"expected {{over: train.lr, trials: 4}}, found {shown(details)}")
            return Matched()
        for key in details:
            if key not in ("over", "trials"):
                close = closest(key, ("over", "trials"))
                hint = f"did you mean {close}?" if close else "known: over, trials"
                self.wrong((*trail, key), "there is no such key", hint, key=True)
        over = self._over((*trail, "over"), details.get("over"), "over" in details)
        trials = self._trials((*trail, "trials"), details.get("trials"), "trials" in details)
        return Tuned(over, trials) if over else Matched()

    def _over(self, trail: Trail, value: Any, given: bool) -> tuple[str, ...]:
        if not given:
            self.wrong(trail, "`over` is missing", "name the axes that each arm is tuned over, such as over: train.lr")
            return ()
        listed = value if isinstance(value, list) else [value]
        if not listed:
            self.wrong(trail, "the list is empty", "name at least one axis")
        for index, key in enumerate(listed):
            place = (*trail, index) if isinstance(value, list) else trail
            if not isinstance(key, str):
                self.wrong(place, f"expected the name of an axis, found {shown(key)}")
            elif self.reader.knows(key, place) and key not in self.axes:
                self.wrong(place, f"{key} is no axis of this study", self._axes())
            elif key in (self.data.get("baseline") or {}):
                hint = "the baseline is tuned like every arm; leave the setting out of `baseline`"
                self.wrong(place, f"{key} is tuned over, and `baseline` fixes it", hint)
        return tuple(dict.fromkeys(key for key in listed if isinstance(key, str)))

    def _axes(self) -> str:
        shown_axes = ", ".join(self.axes)
        return f"list its values under `grid`; the axes are {shown_axes}" if shown_axes else "list its values: `grid:`"

    def _trials(self, trail: Trail, value: Any, given: bool) -> int:
        if not given:
            self.wrong(trail, "`trials` is missing", "say how many values each arm is tried with, such as trials: 4")
        elif type(value) is not int or value < 1:
            self.wrong(trail, f"expected a whole number of at least 1, found {shown(value)}")
        else:
            return value
        return 1
