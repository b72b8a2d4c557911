"""What a judgement says, as the parts of a page: arms over seeds, verdicts, what n seeds can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablate.report.arms import short_names
from ablate.report.externals import MARK
from ablate.report.judgement import Arm, Judgement
from ablate.report.page.data import Cell, Column, Finding, Grid, Row, Sheet, View
from ablate.report.page.sheets import ARROWS
from ablate.report.page.words import MISSING, brief_number, clean, number, shown
from ablate.report.stats.seeds import SeedSummary
from ablate.report.stats.verdict import Verdict
from ablate.report.summary import RunSummary, StudySummary
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


def arm_sheet(
    judgement: Judgement, axes: Sequence[str], metrics: Sequence[Metric], runs: Sequence[RunSummary] = ()
) -> Sheet:
    """One row per arm: mean ± standard deviation over its seeds, and how many of them there are.

    `runs` know which settings the source of an imported one does not state.
    """
    arms = judgement.arms
    by_id = {run.run_id: run for run in runs}
    made: list[tuple[Column, list[Cell]]] = [(Column("arm", "Arm"), [Cell(clean(arm.name)) for arm in arms])]
    for axis, name in short_names(axes).items():
        column = Column(clean(axis), clean(name), title=clean(axis))
        made.append((column, [Cell(shown(_setting(arm, by_id, axis))) for arm in arms]))
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
    compared = any(other.baseline == arm.name for other in judgement.arms)
    badges = [MARK] * arm.external + ["baseline"] * compared + ["Pareto"] * front
    return Row(clean(arm.name), cells, badge=", ".join(badges), words=tried)


def _setting(arm: Arm, runs: Mapping[str, RunSummary], axis: str) -> Any:
    run = next((runs[run_id] for run_id in arm.run_ids if run_id in runs), None)
    return arm.settings.get(axis) if run is None else run.setting(axis)


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
    """Every planned comparison, with all in which its two arms differ beside the factor, of which verdicts name a few."""
    pairs = {(pair.arm, pair.baseline): pair for pair in judgement.pairs}
    found = []
    for verdict in judgement.verdicts:
        details = []
        pair = pairs.get((verdict.arm, verdict.baseline))
        if pair is not None and pair.discrepancies:
            named = "; ".join(clean(one.text) for one in pair.discrepancies)
            details.append(f"they differ in more than {', '.join(map(clean, pair.factor))}: {named}")
        found.append(Finding(clean(verdict.sentence), verdict.outcome, tuple(details)))
    return tuple(found)


def imported(judgement: Judgement) -> Grid | None:
    """Pairs with imported runs, of which nobody said what the factor is: what is known to differ, and what may."""
    pairs = [pair for pair in judgement.pairs if not pair.planned and pair.discrepancies]
    if not pairs:
        return None
    unknown = [[one.key for one in pair.discrepancies if one.first == one.second] for pair in pairs]
    common = [key for key in unknown[0] if all(key in other for other in unknown)] if len(pairs) > 1 else []
    rows = []
    for pair, keys in zip(pairs, unknown, strict=True):
        differ = "; ".join(one.text for one in pair.discrepancies if one.first != one.second)
        left = ", ".join(key for key in keys if key not in common)
        rows.append((clean(pair.arm), clean(pair.baseline), clean(differ) or MISSING, clean(left) or MISSING))
    rows += [("every run of these", MISSING, MISSING, clean(", ".join(common)))] if common else []
    return Grid(("Run", "Beside", "They differ in", "Not known of both"), tuple(rows))


def described(judgement: Judgement) -> Grid | None:
    """A row per comparison, a column per metric that no verdict is about."""
    headers = {metric.key: f"{metric.header} {ARROWS[metric.better]}" for metric in judgement.metrics}
    others = {key: {(one.arm, one.baseline): one for one in found} for key, found in judgement.others.items() if found}
    pairs = dict.fromkeys(pair for found in others.values() for pair in found)
    if not pairs:
        return None
    rows = tuple(
        (clean(f"{arm} against {baseline}"), *(_difference(found.get((arm, baseline))) for found in others.values()))
        for arm, baseline in pairs
    )
    names = ("Comparison", *(clean(headers.get(key, key)) for key in others))
    return Grid(names, rows, tuple(range(1, len(names))))


def _difference(verdict: Verdict | None) -> str:
    if verdict is None:
        return MISSING
    if (one := verdict.difference) is None:
        return MISSING if verdict.observed is None else f"{verdict.observed.estimate:+.3g}"
    return f"{one.estimate:+.3g} ({one.low:+.3g} to {one.high:+.3g})"


def detectable(judgement: Judgement) -> Grid | None:
    if not judgement.detectable:
        return None
    rows = tuple((str(one.seeds), brief_number(one.smallest)) for one in judgement.detectable)
    return Grid(("Seeds per arm", f"Smallest difference in {clean(judgement.metric.header)}"), rows, (0, 1))
