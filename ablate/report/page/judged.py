"""What a judgement says, as the parts of a page: arms over seeds, verdicts, what n seeds can show."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.report.judgement import Arm, Judgement
from ablate.report.options import short_names
from ablate.report.page.data import Cell, Column, Finding, Grid, Row, Sheet, View
from ablate.report.page.sheets import ARROWS
from ablate.report.page.words import MISSING, brief_number, clean, number, shown
from ablate.report.stats.seeds import SeedSummary
from ablate.report.summary import StudySummary
from ablate.results.records import State
from ablate.task import Metric

_COSTS = {
    "images_per_second": ("images/s", "max"),
    "peak_memory_mb": ("peak MiB", "min"),
    "parameters": ("parameters", "min"),
}


def headline(summary: StudySummary) -> tuple[str, ...]:
    """The verdict in at most three sentences; without a judgement, that there is none and why."""
    if summary.judgement is not None:
        return tuple(map(clean, summary.judgement.headline))[:3]
    if summary.study is None:
        return ("No verdict: these runs belong to no study, so no comparison was planned.",)
    done = sum(run.status is State.COMPLETE for run in summary.runs)
    if not any(run.scores for run in summary.runs):
        return ("No verdict: nothing has been evaluated yet.", f"{done} of {len(summary.runs)} runs are complete.")
    return (
        "No verdict: no comparison of this study has been judged.",
        f"{done} of {len(summary.runs)} runs are complete; the table describes them, and no difference in it is a claim.",
    )


def arm_sheet(judgement: Judgement, axes: Sequence[str], metrics: Sequence[Metric]) -> Sheet:
    """One row per arm: mean ± standard deviation over its seeds, and how many of them there are."""
    arms = judgement.arms
    made: list[tuple[Column, list[Cell]]] = [(Column("arm", "Arm"), [Cell(clean(arm.name)) for arm in arms])]
    for axis, name in short_names(axes).items():
        column = Column(clean(axis), clean(name), title=clean(axis))
        made.append((column, [Cell(shown(arm.settings.get(axis))) for arm in arms]))
    made.append((Column("seeds", "Seeds", True), [_seeds(arm, judgement.metric) for arm in arms]))
    if any(arm.failures.failed for arm in arms):
        made.append((Column("failed", "Failed", True), [_failures(arm) for arm in arms]))
    for metric in metrics:
        title = "primary metric" if metric.key == judgement.metric.key else "described, without a claim"
        column = Column(
            metric.key, clean(f"{metric.header} {ARROWS[metric.better]}"), True, None, title, metric.better == "max"
        )
        made.append((column, [_mean(arm.scores.get(metric.key)) for arm in arms]))
    for key, (name, better) in _COSTS.items():
        if any(arm.costs.get(key) is not None for arm in arms):
            made.append((Column(key, f"{name} {ARROWS[better]}", True), [_cost(arm.costs.get(key)) for arm in arms]))
    rows = zip(*(cells for _, cells in made), strict=True)
    about = f"{judgement.split} split, {judgement.resolution} size; {judgement.estimand}; mean ± standard deviation"
    return Sheet(
        tuple(column for column, _ in made),
        tuple(_row(arm, tuple(cells), judgement) for arm, cells in zip(arms, rows, strict=True)),
        (View("Arms", clean(about), tuple(map(clean, judgement.notes))),),
    )


def _row(arm: Arm, cells: tuple[Cell, ...], judgement: Judgement) -> Row:
    tried = clean(" ".join(arm.stands_for))
    front = judgement.front is not None and arm.name in judgement.front.best
    badges = ["baseline"] * (arm.baseline is None) + ["Pareto"] * front
    return Row(clean(arm.name), cells, badge=", ".join(badges), words=tried)


def _seeds(arm: Arm, metric: Metric) -> Cell:
    score = arm.scores.get(metric.key)
    return Cell(MISSING) if score is None else Cell(score.count, float(score.n))


def _failures(arm: Arm) -> Cell:
    rate = arm.failures
    return Cell(f"{rate.failed}/{rate.of}" if rate.of else MISSING, rate.share)


def _mean(score: SeedSummary | None) -> Cell:
    if score is None or score.mean is None:
        return Cell(MISSING)
    spread = "" if score.sd is None else f" ± {number(score.sd)}"
    count = "" if score.n == score.planned else f" ({score.count})"
    return Cell(f"{number(score.mean)}{spread}{count}", score.mean)


def _cost(value: float | None) -> Cell:
    return Cell(MISSING if value is None else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}", value)


def findings(judgement: Judgement) -> tuple[Finding, ...]:
    """Every planned comparison, with its interval and what else its two arms differ in."""
    pairs = {(pair.arm, pair.baseline): pair for pair in judgement.pairs}
    found = []
    for verdict in judgement.verdicts:
        details = []
        if (one := verdict.difference) is not None:
            details.append(
                f"{clean(judgement.metric.header)} {one.estimate:+.4g}, {one.level:.0%} interval "
                f"{one.low:+.4g} to {one.high:+.4g}, before correction"
            )
        if verdict.adjusted is not None:
            details.append(
                f"p = {verdict.adjusted:.3g} by Holm over {verdict.comparisons} comparison"
                f"{'s' * (verdict.comparisons != 1)}"
            )
        pair = pairs.get((verdict.arm, verdict.baseline))
        if pair is not None and pair.discrepancies:
            named = "; ".join(clean(one.text) for one in pair.discrepancies)
            details.append(f"they differ in more than {', '.join(map(clean, pair.factor))}: {named}")
        found.append(Finding(clean(verdict.sentence), verdict.outcome, tuple(details)))
    return tuple(found)


def detectable(judgement: Judgement) -> Grid | None:
    if not judgement.detectable:
        return None
    rows = tuple((str(one.seeds), brief_number(one.smallest)) for one in judgement.detectable)
    return Grid(("Seeds per arm", f"Smallest difference in {clean(judgement.metric.header)}"), rows, (0, 1))
