"""What may be concluded from a study, as values: arms over seeds, verdicts, effects, the Pareto front. No rendering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Pair:
    """A planned comparison, and everything in which its two arms differ beside the factor under study."""

    arm: str
    baseline: str
    factor: tuple[str, ...]
    discrepancies: tuple[Discrepancy, ...]


@dataclass(frozen=True)
class Front:
    """Arms that no other beats in all of `columns` (metric or cost keys) at once, and those that lack a value."""

    columns: tuple[str, ...]
    best: tuple[str, ...]
    left_out: tuple[str, ...]


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

    @property
    def headline(self) -> tuple[str, ...]:
        """The verdict in at most three sentences, for the top of a page."""
        raise NotImplementedError
