"""Two things compared as a study's arms are: runs of the database, or two files of per-image results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.errors import UsageError
from ablate.report.comparability import Discrepancy, Recorded, read_estimand
from ablate.report.images_file import ImagesFile, metric_named
from ablate.report.judging import confounds_of
from ablate.report.recorded import Known, differing, recorded_of
from ablate.report.stats.scores import Scores, drive_by_name, scores_of
from ablate.report.stats.verdict import Verdict, described, judge
from ablate.report.summary import summarise_runs
from ablate.results.open import Results
from ablate.results.recorded import facts_of, image_scores
from ablate.results.records import RunRow
from ablate.runs.states import State
from ablate.study.remarks import UNKNOWN
from ablate.task import Metric

Tables = Mapping[str, Mapping[int, Mapping[str, float | None]]]
"""Per arm and seed, a value per image."""


@dataclass(frozen=True)
class Contrast:
    """`verdict` is about one metric, `others` describe the rest. `discrepancies`: what differs beside the factor."""

    metric: Metric
    factor: tuple[str, ...]
    verdict: Verdict
    others: tuple[Verdict, ...]
    discrepancies: tuple[Discrepancy, ...]
    notes: tuple[str, ...]


def contrast_files(first: ImagesFile, second: ImagesFile, key: str | None, known: Sequence[Metric]) -> Contrast:
    """Nothing is known of how the numbers of a file came about, which is said. Raises UsageError."""
    common = [name for name in first.metrics if name in second.metrics]
    metric = metric_named(key, common, known, "abs_rel")
    names = [first.path.name, second.path.name]
    if names[0] == names[1]:
        names = [str(first.path), str(second.path)]
    if names[0] == names[1]:
        names[1] += " (second)"
    drives = {**second.drives, **first.drives}
    others = [metric_named(name, common, known, name) for name in common if name != metric.key]

    def scores(of: Metric) -> Scores:
        tables = {names[0]: first.values[of.key], names[1]: second.values[of.key]}
        return scores_of(tables, lambda image: drives.get(image) or drive_by_name(image))

    found = scores(metric)
    (verdict,) = judge(found, metric, [(names[0], names[1])])
    said = "what else differs between two files is not known: the verdict is about all that does, together"
    rest = [one for other in others for one in described(scores(other), other, [(names[0], names[1])])]
    return Contrast(metric, (), verdict, tuple(rest), (), (said, *found.notes))


@dataclass(frozen=True)
class Side:
    """A group of runs: the seeds of one setting."""

    name: str
    runs: tuple[RunRow, ...]


def contrast_runs(
    results: Results,
    sides: tuple[Side, Side],
    key: str | None,
    metrics: Sequence[Metric],
    factor: Sequence[str] = (),
    resolution: str | None = None,
) -> Contrast:
    """factor: what the two may differ in; if not given, the one setting in which they do, or what the study of both
    says it compares.

    Raises UsageError if a run has no result, or if a side has two runs of one seed.
    """
    first, second = sides
    seeds = [_seeds(side) for side in sides]
    runs = [run for side in sides for run in side.runs]
    rows = {row.run_id: row for row in summarise_runs(results, runs, metrics)}
    usual, size = _selection(runs)
    metric = metric_named(key, [one.key for one in metrics], metrics, usual or metrics[0].key)
    split, size = _where([rows[run.run_id] for run in runs], resolution or size)
    score = {run.run_id: rows[run.run_id].score("selected", size) for run in runs}
    wanted = [
        (run.run_id, one.epoch)
        for run in runs
        if (one := score[run.run_id]) is not None
        and one.split == split and one.epoch is not None and run.status is State.COMPLETE
    ]  # fmt: skip
    images = image_scores(results, wanted, split, size, [one.key for one in metrics]) if wanted else {}
    facts, data = facts_of(results, [run.run_id for run in runs]), results.data_of([run.run_id for run in runs])
    known = []
    for run in runs:
        protocol = None if (one := score[run.run_id]) is None else {**one.protocol, "split": one.split}
        known.append(Known(run, facts[run.run_id], data.get(run.run_id), protocol))
    recorded = recorded_of(known)
    groups = [[recorded[run.run_id] for run in side.runs] for side in sides]
    chosen = tuple(factor) or _factor(results, sides, groups)
    found = differing(groups[0], groups[1], chosen, read_estimand(None))

    def scores(of: Metric) -> Scores:
        tables: Tables = {
            side.name: {
                seed: dict(zip(images[run.run_id][0], images[run.run_id][1][of.key], strict=True))
                for seed, run in by_seed.items()
                if run.run_id in images
            }
            for side, by_seed in zip(sides, seeds, strict=True)
        }
        if missing := next((name for name, table in tables.items() if not table), None):
            raise UsageError(
                _nothing_of(missing, next(side.runs for side in sides if side.name == missing), split, size)
            )
        return scores_of(tables)

    judged = scores(metric)
    pair = (first.name, second.name)
    planned = {side.name: len(side.runs) for side in sides}
    (verdict,) = judge(judged, metric, [pair], seeds_planned=planned, confounds={pair: confounds_of(found)})
    others = [one for of in metrics if of.key != metric.key for one in described(scores(of), of, [pair])]
    notes = (f"{split} split, {size} size, selected epoch", *judged.notes)
    return Contrast(metric, chosen, verdict, tuple(others), found, notes)


def _nothing_of(name: str, runs: Sequence[RunRow], split: str, size: str) -> str:
    if any(run.status is State.COMPLETE for run in runs):
        return f"{name}: no results by image on the {split} split at {size} size; `ablate eval` it first"
    states = sorted({f"{run.status} ({run.reason})" if run.reason else str(run.status) for run in runs})
    return f"{name}: no run is complete, but {', '.join(states)}; only complete runs are compared"


def _seeds(side: Side) -> dict[int, RunRow]:
    found: dict[int, RunRow] = {}
    for run in side.runs:
        seed = run.configuration.get("seed")
        number = seed if isinstance(seed, int) else 0
        if number in found:
            raise UsageError(
                f"{side.name}: {found[number].name} and {run.name} have the same seed {number}; "
                "a group is the seeds of one setting, so name one of them"
            )
        found[number] = run
    return found


def _selection(runs: Sequence[RunRow]) -> tuple[str | None, str | None]:
    """Metric and resolution by which the first run that says so selects its epoch."""
    for run in runs:
        evaluation: Any = run.configuration.get("eval")
        select = evaluation.get("select") if isinstance(evaluation, Mapping) else None
        if isinstance(select, Mapping) and select.get("metric") != "loss":
            return select.get("metric"), select.get("resolution")
    return None, None


def _where(rows: Sequence[Any], resolution: str | None) -> tuple[str, str]:
    scores = [score for row in rows for score in row.scores if score.checkpoint == "selected"]
    known = sorted({score.resolution for score in scores})
    if resolution is not None and known and resolution not in known:
        raise UsageError(f"no result at {resolution} size; there are results at {', '.join(known)}")
    size = resolution or (known[0] if known else "full")
    splits = {score.split for score in scores if score.resolution == size}
    return ("test" if "test" in splits or not splits else min(splits)), size


def _factor(results: Results, sides: Sequence[Side], groups: Sequence[Sequence[Recorded]]) -> tuple[str, ...]:
    """What the study compares, if one side is the other's baseline; else the one setting that differs, if it is one."""
    ids = [{run.run_id for run in side.runs} for side in sides]
    cells = {cell.run_id: cell for cell in results.cells() if cell.run_id in ids[0] | ids[1]}
    for arm, base in ((ids[0], ids[1]), (ids[1], ids[0])):
        if all(run in cells and cells[run].baseline in base for run in arm) and all(run in cells for run in base):
            one, other = (cells[next(iter(part))].settings for part in (arm, base))
            return tuple(k for k in dict.fromkeys((*one, *other)) if one.get(k, UNKNOWN) != other.get(k, UNKNOWN))
    found = differing(groups[0], groups[1], (), read_estimand(None))
    settings = {key for group in groups for one in group for key in one.settings}
    keys = [one.key for one in found if one.is_known and one.key.partition(".")[0] in settings]
    return tuple(keys) if len(keys) == 1 else ()
