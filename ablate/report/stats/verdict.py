"""What may be said of the arms of a study, as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablate.report.stats.difference import LEVEL, Difference, Observed, difference, observed
from ablate.report.stats.multiplicity import holm
from ablate.report.stats.pooling import Pool, pooled
from ablate.report.stats.scores import Scores
from ablate.task import Metric

Outcome = Literal["better", "worse", "no difference shown", "no verdict"]
_NAMED = 4


@dataclass(frozen=True)
class Verdict:
    """Of one planned comparison. `adjusted` is Holm's p-value over all `comparisons`; None without a verdict.

    `why` says why there is none. `difference` is None too where it could not be estimated; `observed` then tells
    what the trained networks did.
    """

    arm: str
    baseline: str
    metric: str
    outcome: Outcome
    sentence: str
    comparisons: int
    difference: Difference | None = None
    adjusted: float | None = None
    observed: Observed | None = None
    why: str | None = None


def judge(
    scores: Scores,
    metric: Metric,
    planned: Sequence[tuple[str, str]],
    *,
    seeds_planned: Mapping[str, int] | None = None,
    confounds: Mapping[tuple[str, str], Sequence[str]] | None = None,
    level: float = LEVEL,
) -> tuple[Verdict, ...]:
    """A verdict on each planned (arm, baseline), by `metric`, in the order given.

    Holm's correction counts every planned comparison, also those whose arm has no result (p = 1). `seeds_planned`
    is how many seeds each arm should have. `confounds` are what else differs between the two arms, from the
    comparability check: such a pair gets no verdict.
    """
    pool = pooled(scores.means())
    cases = [
        _Case(scores, metric, arm, baseline, tuple((confounds or {}).get((arm, baseline), ())), seeds_planned or {})
        for arm, baseline in planned
    ]
    found = [case.estimate(pool, level) for case in cases]
    p_values = [1.0 if one is None or case.confounds else one.p for one, case in zip(found, cases, strict=True)]
    adjusted = holm(p_values)
    return tuple(
        case.verdict(one, p, len(planned), 1 - level) for case, one, p in zip(cases, found, adjusted, strict=True)
    )


def described(
    scores: Scores, metric: Metric, pairs: Sequence[tuple[str, str]], level: float = LEVEL
) -> tuple[Verdict, ...]:
    """The differences of the pairs that have results, without a claim: for metrics that no verdict is about."""
    pool = pooled(scores.means())
    found = []
    for arm, baseline in pairs:
        case = _Case(scores, metric, arm, baseline, (), {})
        if case.present():
            one, seen = case.estimate(pool, level), observed(scores, arm, baseline)
            found.append(
                Verdict(arm, baseline, metric.key, "no verdict", case.described(one, seen), len(pairs), one, None, seen)
            )
    return tuple(found)


@dataclass(frozen=True)
class _Case:
    scores: Scores
    metric: Metric
    arm: str
    baseline: str
    confounds: tuple[str, ...]
    planned: Mapping[str, int]

    def estimate(self, pool: Pool, level: float) -> Difference | None:
        if not self.present() or len(self.scores.images) < 2:
            return None
        return difference(self.scores, self.arm, self.baseline, level, pool)

    def present(self) -> bool:
        return all(self.scores.runs.get(name) for name in (self.arm, self.baseline))

    def described(self, found: Difference | None, seen: Observed) -> str:
        interval = f" ({100 * found.level:g} % interval {_signed(found.low)} to {_signed(found.high)})" if found else ""
        estimate = found.estimate if found else seen.estimate
        return (
            f"{self.arm} against {self.baseline}: {_signed(estimate)} {self.metric.header}{interval}, without a claim."
        )

    def verdict(self, found: Difference | None, p: float, comparisons: int, alpha: float) -> Verdict:
        why = self._why_none(found)
        if why is not None or found is None:
            seen = observed(self.scores, self.arm, self.baseline) if self.present() else None
            return self._made("no verdict", self._silent(why or "", seen), comparisons, found, None, seen, why)
        outcome = _outcome(found, p, alpha, self.metric)
        return self._made(outcome, self._sentence(found, outcome, p, comparisons), comparisons, found, p)

    def _made(
        self,
        outcome: Outcome,
        sentence: str,
        comparisons: int,
        found: Difference | None,
        p: float | None,
        seen: Observed | None = None,
        why: str | None = None,
    ) -> Verdict:
        names = (self.arm, self.baseline, self.metric.key)
        return Verdict(*names, outcome, sentence, comparisons, found, p, seen, why)

    def _why_none(self, found: Difference | None) -> str | None:
        if self.confounds:
            return f"they also differ in {_listed(self.confounds)}"
        if not self.present():
            missing = next(name for name in (self.arm, self.baseline) if not self.scores.runs.get(name))
            return f"{missing} has no result"
        if len(self.scores.images) < 2:
            return "there is one image only"
        if found is not None:
            return None
        fewest = min((self.arm, self.baseline), key=lambda name: len(self.scores.runs[name]))
        if len(self.scores.runs[fewest]) < 2:
            return (
                f"{fewest} has one seed, and one training cannot tell how much of a difference is chance; "
                "train at least three seeds of each arm"
            )
        means = (self.scores.means()[name].values() for name in (self.arm, self.baseline))
        if all(max(found) - min(found) <= 1e-12 * max(map(abs, found)) for found in map(list, means)):
            return "the seeds changed no number, so they are not repetitions"
        return "the difference is the same with every seed, so the seeds do not tell how much of it is chance"

    def _silent(self, why: str, seen: Observed | None) -> str:
        text = f"{self.arm} against {self.baseline}: no verdict, since {why}."
        if seen is None:
            return text
        return f"{text} The trained networks differ by {_signed(seen.estimate)} {self.metric.header} on these images."

    def _sentence(self, found: Difference, outcome: Outcome, p: float, comparisons: int) -> str:
        percent = "" if found.relative is None else f", {100 * found.relative:+.1f} %"
        interval = f"{100 * found.level:g} % interval {_signed(found.low)} to {_signed(found.high)}"
        if outcome == "no difference shown":
            says = f"No difference in {self.metric.header} was shown between {self.arm} and {self.baseline}"
        else:
            says = f"{self.arm} is {outcome} than {self.baseline} in {self.metric.header}"
        how = (
            f"p = {p:.2g} after Holm's correction for {comparisons} comparisons" if comparisons > 1 else f"p = {p:.2g}"
        )
        count = f"{self._seeds(found)}, {self._images(found)}"
        return f"{says}: {_signed(found.estimate)}{percent} ({interval}; {how}; {count})."

    def _images(self, found: Difference) -> str:
        """Where no two images share a drive, or nothing is known of drives, they count as independent."""
        images, drives = len(self.scores.images), found.drives.drives
        return f"{images} images" + (f" of {drives} drives" if drives < images else "")

    def _seeds(self, found: Difference) -> str:
        counts = []
        for name in (self.arm, self.baseline):
            done, planned = len(self.scores.runs[name]), self.planned.get(name, 0)
            counts.append(f"{done}/{planned}" if planned > done else str(done))
        text = counts[0] if counts[0] == counts[1] else f"{counts[0]} and {counts[1]}"
        return f"{text} seeds" + (
            f", {found.seeds.n} in common" if counts[0] != counts[1] and found.seeds.paired else ""
        )


def _outcome(found: Difference, p: float, alpha: float, metric: Metric) -> Outcome:
    # p <= alpha and not the interval, which is not corrected for the other comparisons
    if p > alpha:
        return "no difference shown"
    return "better" if (found.estimate > 0) == (metric.better == "max") else "worse"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_NAMED]) + ([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _signed(value: float) -> str:
    return f"{value:+.3g}"
