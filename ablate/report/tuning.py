"""`compare: tuned`: which trial stands for an arm, and whether every arm was given the same chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.report.comparability import Tuned
from ablate.report.stats.seeds import SeedSummary
from ablate.task import Direction

FORBIDDEN = "test"


@dataclass(frozen=True)
class Trial:
    """One value of the settings that are tuned over; `score` is the mean over its seeds on `split`.

    A trial that diverged has no score and is spent all the same.
    """

    name: str
    values: Mapping[str, Any]
    score: SeedSummary
    split: str = "val"


def chosen(trials: Sequence[Trial], better: Direction) -> Trial | None:
    """The best by its score, of equals the first; None if none has one, or if any was scored on the test split."""
    scored = [trial for trial in trials if trial.score.mean is not None]
    if not scored or any(trial.split == FORBIDDEN for trial in trials):
        return None

    def height(trial: Trial) -> float:
        mean = trial.score.mean or 0.0
        return mean if better == "max" else -mean

    return max(scored, key=height)  # the first of equals


def unequal(arms: Mapping[str, Sequence[Trial]], estimand: Tuned) -> dict[str, tuple[str, ...]]:
    """Why an arm was not tuned as the study says, by arm; arms with nothing to say are left out."""
    seeds = {trial.score.planned for trials in arms.values() for trial in trials}
    usual = max(seeds, default=0)
    found = {arm: tuple(_problems(trials, estimand, usual)) for arm, trials in arms.items()}
    return {arm: problems for arm, problems in found.items() if problems}


def _problems(trials: Sequence[Trial], estimand: Tuned, usual: int) -> list[str]:
    tried = {repr(sorted((key, trial.values.get(key)) for key in estimand.over)) for trial in trials}
    problems = []
    if len(tried) != estimand.trials:
        problems.append(f"{len(tried)} trials over {', '.join(estimand.over)} where the study says {estimand.trials}")
    if any(trial.split == FORBIDDEN for trial in trials):
        problems.append("chosen on the test split; tune on validation")
    splits = sorted({trial.split for trial in trials})
    if len(splits) > 1:
        problems.append(f"its trials are scored on different splits: {', '.join(splits)}")
    if fewer := [trial.name for trial in trials if trial.score.planned < usual]:
        problems.append(f"fewer seeds than the other trials have ({usual}): {', '.join(fewer)}")
    return problems
