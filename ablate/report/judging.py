"""From the results of a study to what may be concluded from it. The numbers only; rendering is elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.errors import UsageError
from ablate.report.arms import ENDED, Group, groups_of, tuned
from ablate.report.comparability import Discrepancy, Estimand, Recorded, Tuned, read_estimand
from ablate.report.judgement import Arm, Front, Judgement, Pair
from ablate.report.recorded import Known, differing, recorded_of
from ablate.report.stats.effects import interactions, main_effects
from ablate.report.stats.factors import Cell
from ablate.report.stats.pareto import pareto_front
from ablate.report.stats.power import noise_of, smallest_differences
from ablate.report.stats.scores import Scores, scores_of
from ablate.report.stats.seeds import SeedSummary, failure_rate, over_seeds
from ablate.report.stats.verdict import Verdict, described, judge
from ablate.results.queries import Queries
from ablate.results.recorded import ImageScores, RunFacts, facts_of, image_scores
from ablate.results.records import CellRow, RunRow, StudyRow
from ablate.runs.states import State
from ablate.study.remarks import UNKNOWN
from ablate.task import Direction, Metric, SelectSettings

if TYPE_CHECKING:
    from ablate.report.summary import RunSummary, Score

COSTS: Mapping[str, Direction] = {"images_per_second": "max", "peak_memory_mb": "min", "parameters": "min"}
MAX_PAIRS = 66
"""Pairs of imported runs that are looked at: all pairs of twelve."""
MAX_DESCRIBED = 40
"""Planned comparisons up to which the other metrics are described too."""
NO_SCORES = Scores((), np.zeros(0, dtype=np.intp), {}, 0)


def primary_metric(study: StudyRow, metrics: Sequence[Metric], select: SelectSettings | None) -> Metric | None:
    """What the study names, else what it selects epochs by; None if that is no metric, such as the loss.

    A study of imported runs alone names nothing: the task's first error is looked at, about which there are no verdicts.
    """
    wanted = study.metric or (select.metric if select else None)
    if wanted is None:
        return next((metric for metric in metrics if metric.better == "min"), next(iter(metrics), None))
    return next((metric for metric in metrics if metric.key == wanted), None)


def judge_study(
    results: Queries,
    study: StudyRow,
    cells: Mapping[str, CellRow],
    runs: Sequence[RunRow],
    rows: Sequence[RunSummary],
    metrics: Sequence[Metric],
    select: SelectSettings | None,
) -> Judgement | None:
    """None without runs, or if the study names no metric that verdicts could be about.

    cells: by run id; rows: the same runs as the tables show them. A fixed number of queries, whatever the study's size.
    """
    metric = primary_metric(study, metrics, select)
    if metric is None or not rows:
        return None
    estimand = read_estimand(study.compare)
    split, resolution = _where(rows, select)
    groups = groups_of(rows, cells, study.axes)
    if isinstance(estimand, Tuned):
        validated = _validated(results, groups, metric, resolution)
        groups = tuned(groups, estimand, validated, metric.better, study.axes)
    judge_ = _Judge(results, metric, tuple(metrics), split, resolution, estimand, tuple(study.axes), tuple(groups))
    return judge_.judgement({run.run_id: run for run in runs})


def _where(rows: Sequence[RunSummary], select: SelectSettings | None) -> tuple[str, str]:
    """Split and resolution of the verdicts: that of selection, and `test` where anything was tested."""
    scores = [score for row in rows for score in row.scores if score.checkpoint == "selected"]
    resolutions = sorted({score.resolution for score in scores})
    wanted = select.resolution if select else None
    resolution = wanted if wanted in resolutions or not resolutions else resolutions[0]
    splits = [score.split for score in scores if score.resolution == resolution]
    split = "test" if "test" in splits else max(sorted(set(splits)), key=splits.count, default="test")
    return split, resolution or "full"


def _validated(results: Queries, groups: Sequence[Group], metric: Metric, resolution: str) -> dict[str, SeedSummary]:
    """The metric on validation, over the seeds of each group, of the epoch that each run selected."""
    selected = {run.run_id: run.selected_epoch for group in groups for run in group.complete}
    value = {
        row.run_id: row.metrics.get(metric.key)
        for row in results.kept_evaluations(list(selected))
        if (row.split, row.resolution) == ("val", resolution) and row.epoch == selected[row.run_id]
    }
    return {group.name: over_seeds([value.get(run.run_id) for run in group.runs]) for group in groups}


@dataclass(frozen=True)
class _Judge:
    results: Queries
    metric: Metric
    metrics: tuple[Metric, ...]
    split: str
    resolution: str
    estimand: Estimand
    axes: tuple[str, ...]
    groups: tuple[Group, ...]

    def judgement(self, runs: Mapping[str, RunRow]) -> Judgement:
        ids = [run.run_id for group in self.groups for run in group.runs]
        facts = facts_of(self.results, ids)
        pairs = self._pairs(self._recorded(runs, facts))
        planned = [(pair.arm, pair.baseline) for pair in pairs if pair.planned]
        images = self._images()
        confounded = {
            (p.arm, p.baseline): confounds_of(p.discrepancies) for p in pairs if p.discrepancies and p.planned
        }
        scores, said = self._scores(images, self.metric.key, self._usable(pairs))
        counts = {group.name: len(group.runs) for group in self.groups}
        verdicts = judge(scores, self.metric, planned, seeds_planned=counts, confounds=confounded)
        arms = tuple(self._arm(group, facts) for group in self.groups)
        effects, interplay, left_out = self._effects(arms, pairs)
        differences = [one.difference for one in verdicts if one.difference is not None and one.why is None]
        return Judgement(
            metric=self.metric,
            split=self.split,
            resolution=self.resolution,
            estimand=self.estimand.text,
            arms=arms,
            pairs=pairs,
            verdicts=verdicts,
            others=self._others(images, planned, confounded, pairs),
            main_effects=effects,
            interactions=interplay,
            front=self._front(arms, facts),
            detectable=smallest_differences(
                noise_of(differences), max(2, len(scores.runs)), comparisons=len(planned)
            ) if differences else (),
            notes=(*self._notes(planned), *said, *scores.notes, *left_out),
            metrics=self.metrics,
        )  # fmt: skip

    def _score(self, run: RunSummary) -> Score | None:
        """Of the selected checkpoint, if the run is complete and was scored where the verdicts are."""
        if run.status is not State.COMPLETE:
            return None
        score = run.score("selected", self.resolution)
        return score if score is not None and score.split == self.split else None

    def _arm(self, group: Group, facts: Mapping[str, RunFacts]) -> Arm:
        found = [self._score(run) for run in group.runs]
        scores = {
            metric.key: over_seeds([score.metrics.get(metric.key) if score else None for score in found])
            for metric in self.metrics
        }
        ended = [run for run in group.runs if run.status in ENDED]
        return Arm(
            name=group.name,
            settings=group.settings,
            run_ids=tuple(run.run_id for run in group.runs),
            scores=scores,
            failures=failure_rate(sum(run.status is State.FAILED for run in ended), len(ended)),
            costs={key: _mean([getattr(facts[run.run_id], key) for run in group.complete]) for key in COSTS},
            baseline=group.baseline,
            stands_for=group.stands_for,
            seeds=tuple(run.seed for run in group.runs),
            values={
                metric.key: tuple(score.metrics.get(metric.key) if score else None for score in found)
                for metric in self.metrics
            },
            external=group.external,
        )

    def _recorded(self, runs: Mapping[str, RunRow], facts: Mapping[str, RunFacts]) -> dict[str, Recorded]:
        complete = [run for group in self.groups for run in group.complete]
        data = self.results.data_of([run.run_id for run in complete])
        known = []
        for run in complete:
            score = run.score("selected", self.resolution) or next(iter(run.scores), None)
            protocol = None if score is None else {**score.protocol, "split": score.split}
            known.append(Known(runs[run.run_id], facts[run.run_id], data.get(run.run_id), protocol))
        return recorded_of(known)

    def _pairs(self, recorded: Mapping[str, Recorded]) -> tuple[Pair, ...]:
        by_name = {group.name: group for group in self.groups}
        planned = [(group, by_name[group.baseline]) for group in self.groups if group.baseline is not None]
        pairs = [self._pair(arm, base, recorded, planned=True) for arm, base in planned]
        imported = [(arm, base) for arm, base in self._imported() if arm.complete and base.complete]
        return (*pairs, *(self._pair(arm, base, recorded, planned=False) for arm, base in imported[:MAX_PAIRS]))

    def _imported(self) -> list[tuple[Group, Group]]:
        """Imported runs have no baseline: each with those that are, and with the imported ones before it."""
        bases = {group.baseline for group in self.groups} - {None}
        found, before = [], [group for group in self.groups if group.name in bases]
        for group in self.groups:
            if group.external and group.baseline is None:
                found += [(group, other) for other in before]
                before.append(group)
        return found

    def _pair(self, arm: Group, base: Group, recorded: Mapping[str, Recorded], *, planned: bool) -> Pair:
        factor = _factor(arm, base, self.estimand) if planned else ()
        first, second = ([recorded[run.run_id] for run in group.complete] for group in (arm, base))
        found = differing(first, second, factor, self.estimand)
        unfair = [
            Discrepancy(f"tuning of {group.name}", problem, self.estimand.text)
            for group in (arm, base)
            for problem in group.unfair
        ]
        return Pair(arm.name, base.name, factor, (*unfair, *found), planned)

    def _images(self) -> ImageScores:
        wanted = [
            (run.run_id, score.epoch)
            for group in self.groups
            if not group.external
            for run in group.complete
            if (score := self._score(run)) is not None and score.epoch is not None
        ]
        keys = [metric.key for metric in self.metrics]
        return image_scores(self.results, wanted, self.split, self.resolution, keys) if wanted else {}

    def _usable(self, pairs: Sequence[Pair]) -> set[str]:
        """The arms that some verdict may be about."""
        return {name for pair in pairs if pair.planned and not pair.discrepancies for name in (pair.arm, pair.baseline)}

    def _scores(self, images: ImageScores, key: str, usable: set[str]) -> tuple[Scores, tuple[str, ...]]:
        """Per-image results of all arms; of those alone that verdicts are about if the others lack images."""
        tables: dict[str, dict[int, dict[str, float | None]]] = {}
        for group in self.groups:
            seeds = group.seeds().items()
            found = {seed: _table(images[run.run_id], key) for seed, run in seeds if run.run_id in images}
            if found:
                tables[group.name] = found
        if not tables:
            return NO_SCORES, ()
        try:
            scores = scores_of(tables)
            if not scores.left_out or not usable:
                return scores, ()
        except UsageError as error:
            if not usable.intersection(tables):
                return NO_SCORES, (str(error),)
        try:
            return scores_of({name: table for name, table in tables.items() if name in usable}), ()
        except UsageError as error:
            return NO_SCORES, (str(error),)

    def _others(
        self,
        images: ImageScores,
        planned: Sequence[tuple[str, str]],
        confounded: Mapping[tuple[str, str], Sequence[str]],
        pairs: Sequence[Pair],
    ) -> dict[str, tuple[Verdict, ...]]:
        """Estimates with intervals, and no outcome: a study's claims are about one metric."""
        clear = [pair for pair in planned if pair not in confounded]
        if not clear or len(clear) > MAX_DESCRIBED:
            return {}
        found = {}
        for metric in self.metrics:
            if metric.key != self.metric.key:
                scores, _ = self._scores(images, metric.key, self._usable(pairs))
                found[metric.key] = described(scores, metric, clear)
        return {key: verdicts for key, verdicts in found.items() if verdicts}

    def _effects(self, arms: Sequence[Arm], pairs: Sequence[Pair]) -> tuple[Any, Any, tuple[str, ...]]:
        """Over arms that are comparable; the others are named."""
        confounded = {pair.arm for pair in pairs if pair.planned and pair.discrepancies}
        over = self.estimand.over if isinstance(self.estimand, Tuned) else ()
        cells = []
        for arm in arms:
            if arm.external or arm.name in confounded:
                continue
            settings = {key: value for key, value in arm.settings.items() if key not in over}
            values = tuple(value for value in arm.values[self.metric.key] if value is not None)
            cells.append(Cell(arm.name, settings, tuple(value for value in values if math.isfinite(value))))
        axes = [axis for axis in self.axes if axis not in over]
        left_out = [arm.name for arm in arms if arm.name in confounded]
        said = (f"not in the effects, since more differs than the axes: {', '.join(left_out)}",) if left_out else ()
        if sum(bool(cell.values) for cell in cells) < 2:
            return (), (), ()
        effects = main_effects(cells, axes)
        return effects, interactions(cells, axes), said if effects else ()

    def _front(self, arms: Sequence[Arm], facts: Mapping[str, RunFacts]) -> Front | None:
        measured = [arm for arm in arms if arm.scores[self.metric.key].mean is not None]
        costs = [key for key in COSTS if any(arm.costs[key] is not None for arm in measured)]
        if len(measured) < 2 or not costs:
            return None
        rows = {arm.name: [arm.scores[self.metric.key].mean, *(arm.costs[key] for key in costs)] for arm in measured}
        best, left_out = pareto_front(rows, [self.metric.better, *(COSTS[key] for key in costs)])
        machines = dict.fromkeys(one for arm in measured for run in arm.run_ids for one in facts[run].machines)
        notes: tuple[str, ...] = ()
        if len(machines) > 1 and {"images_per_second", "peak_memory_mb"}.intersection(costs):
            where = ", ".join(machines)
            notes = (f"speed and memory were not measured on one machine ({where}), so they say something of it, too",)
        return Front((self.metric.key, *costs), best, left_out, notes)

    def _notes(self, planned: Sequence[tuple[str, str]]) -> tuple[str, ...]:
        notes = []
        if not planned:
            why = "no arm of this study has a baseline" if len(self.groups) > 1 else "this study has one arm"
            notes.append(
                f"nothing is compared, since {why}; `baseline:` in the study says what others are compared with"
            )
        if any(group.external for group in self.groups):
            notes.append("imported runs have no results by image, so that no verdict can be given on them")
        elsewhere = [
            run.name for group in self.groups for run in group.complete if run.scores and self._score(run) is None
        ]
        if elsewhere:
            where = f"the {self.split} split at {self.resolution} size"
            notes.append(f"no result on {where}, which verdicts are about: {', '.join(elsewhere)}")
        if isinstance(self.estimand, Tuned) and self.split == "val":
            notes.append("arms are tuned and compared on the same validation images, which flatters the tuned ones")
        return tuple(notes)


def _factor(arm: Group, base: Group, estimand: Estimand) -> tuple[str, ...]:
    """The axes in which an arm differs from its baseline."""
    over = estimand.over if isinstance(estimand, Tuned) else ()
    keys = dict.fromkeys((*arm.settings, *base.settings))
    return tuple(
        key for key in keys if key not in over and arm.settings.get(key, UNKNOWN) != base.settings.get(key, UNKNOWN)
    )


def confounds_of(found: Sequence[Discrepancy]) -> list[str]:
    """What is known to differ, then in one what may."""
    unknown = [one.key for one in found if not one.is_known]
    said = [one.text for one in found if one.is_known]
    return said + ([f"perhaps, since it is not known, {', '.join(unknown)}"] if unknown else [])


def _table(found: tuple[list[str], Mapping[str, list[float | None]]], key: str) -> dict[str, float | None]:
    names, values = found
    return dict(zip(names, values[key], strict=True))


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None
