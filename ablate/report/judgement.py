"""What may be concluded from a study, as values: arms over seeds, verdicts, effects, the Pareto front. No rendering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.report.comparability import Discrepancy
from ablate.report.stats.effects import Interaction, MainEffect
from ablate.report.stats.power import Detectable
from ablate.report.stats.seeds import Rate, SeedSummary
from ablate.report.stats.verdict import Verdict
from ablate.task import Metric


@dataclass(frozen=True)
class Arm:
    """One setting of the study's axes with its seeds. `name` is unique in the study: 'performer, lr 1e-5'.

    `scores` holds every metric of the task by key, of the selected checkpoint, on the split and at the resolution of
    the judgement. `costs` are means over seeds (`images_per_second`, `peak_memory_mb`, `parameters`), None if not
    recorded. `baseline` is the name of the arm that it is compared with; None for a baseline itself.
    """

    name: str
    settings: Mapping[str, Any]
    run_ids: tuple[str, ...]
    scores: Mapping[str, SeedSummary]
    failures: Rate
    costs: Mapping[str, float | None]
    baseline: str | None
    stands_for: tuple[str, ...] = ()
    """Under `compare: tuned`, the trials that this arm was the best of, itself among them."""
    seeds: tuple[int | None, ...] = ()
    """As `run_ids`; None where the source of an imported run does not say."""
    values: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """By metric, one number per run; None for one that diverged, failed or has not finished."""
    external: bool = False
    """Imported, not measured here."""


@dataclass(frozen=True)
class Pair:
    """A comparison, and everything in which its two arms differ beside the factor under study.

    `planned`: the study declares it. Others are pairs with an imported run, of which nobody said what the factor is.
    """

    arm: str
    baseline: str
    factor: tuple[str, ...]
    discrepancies: tuple[Discrepancy, ...]
    planned: bool = True


@dataclass(frozen=True)
class Front:
    """Arms that no other beats in all of `columns` (metric or cost keys) at once, and those that lack a value."""

    columns: tuple[str, ...]
    best: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Why a column says something else as well, such as speeds that were measured on several machines."""


@dataclass(frozen=True)
class Judgement:
    """Of one study. Verdicts are about `metric` alone; `others` describe the other metrics, without a claim.

    `detectable` is what n seeds can show, in the unit of the metric; empty before anything was compared. `notes` say
    what could not be judged and why.
    """

    metric: Metric
    split: str
    resolution: str
    estimand: str
    """'matched', or 'tuned over train.lr, 4 trials each'."""
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    verdicts: tuple[Verdict, ...]
    others: Mapping[str, tuple[Verdict, ...]]
    main_effects: tuple[MainEffect, ...]
    interactions: tuple[Interaction, ...]
    front: Front | None
    detectable: tuple[Detectable, ...]
    notes: tuple[str, ...]
    metrics: tuple[Metric, ...] = ()
    """All of the task, that of the verdicts among them."""

    @property
    def headline(self) -> tuple[str, ...]:
        """The verdict in at most three sentences, for the top of a page."""
        claims = [one for one in self.verdicts if one.outcome in ("better", "worse")]
        silent = [one for one in self.verdicts if one.outcome == "no verdict"]
        if not self.verdicts:
            return tuple(f"{note[:1].upper()}{note[1:]}." for note in self.notes[:1])
        if len(self.verdicts) == 1:
            return (self.verdicts[0].sentence,)
        if len(silent) == len(self.verdicts):
            whys = dict.fromkeys(one.why or "" for one in silent)
            alike = f"No verdict on any of {len(silent)} planned comparisons"
            return (f"{alike}, since {next(iter(whys))}.",) if len(whys) == 1 else (f"{alike}.", _silence(silent[0]))
        said = [self._counted(claims, silent)]
        said += [min(claims, key=lambda one: one.adjusted or 0.0).sentence] if claims else []
        said += [_silence(silent[0])] if silent else []
        return tuple(said)

    def _counted(self, claims: Sequence[Verdict], silent: Sequence[Verdict]) -> str:
        """'4 planned comparisons in AbsRel: 1 better, 1 worse, 2 without a difference that was shown.'"""
        better = sum(one.outcome == "better" for one in claims)
        parts = [f"{better} better", f"{len(claims) - better} worse"]
        parts.append(f"{len(self.verdicts) - len(claims) - len(silent)} without a difference that was shown")
        parts += [f"{len(silent)} without a verdict"] if silent else []
        return f"{len(self.verdicts)} planned comparisons in {self.metric.header}: {', '.join(parts)}."


def _silence(verdict: Verdict) -> str:
    return f"{verdict.arm} against {verdict.baseline}: no verdict, since {verdict.why}."
