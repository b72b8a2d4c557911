"""The numbers of a report: one row per run, all from one checkpoint. No rendering here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ablate.errors import UsageError
from ablate.report.data_notes import differing_data, short_prints
from ablate.report.details import Details, Picture
from ablate.report.externals import as_stated, sentences, settings_beside
from ablate.report.flags import Course, flags
from ablate.report.judgement import Judgement
from ablate.report.judging import judge_study, primary_metric
from ablate.results.certificates import certificate_of
from ablate.results.open import Results
from ablate.results.records import CellRow, EvaluationRow, Note, Origin, Reason, RunRow, State, StudyRow
from ablate.study.remarks import UNKNOWN, is_unknown
from ablate.task import Metric, SelectSettings

Checkpoint = Literal["selected", "last"]


@dataclass(frozen=True)
class Score:
    """One checkpoint on one split at one resolution: means over `images` images."""

    checkpoint: Checkpoint
    epoch: int | None
    """None where the source of an imported run does not say."""
    split: str
    resolution: str
    metrics: Mapping[str, float | None]
    loss: float | None
    images: int | None
    skipped: int | None
    protocol: Mapping[str, Any]


@dataclass(frozen=True)
class RunSummary:
    """One row. `settings` are those of the study's axes that the run has; `unknown` those never stated, by dotted key."""

    run_id: str
    name: str
    settings: Mapping[str, Any]
    seed: int | None
    baseline: str | None
    status: State
    reason: str | None
    message: str | None
    selected_epoch: int | None
    last_epoch: int | None
    planned_epochs: int | None
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know: what the study says, that they were verified, or under what they changed."""
    unknown: tuple[str, ...] = ()
    data: str | None = None
    """The fingerprint of its data, shortened; None for a task that records none."""
    external: Origin | None = None
    """Where it was imported from; None if it was measured here."""
    remarks: tuple[Note, ...] = ()
    """What people wrote about it."""
    tags: tuple[str, ...] = ()
    details: Details | None = None
    """For a section about it; `describe` finds them."""

    def setting(self, key: str) -> Any:
        """The value of an axis as tables show it: `unknown` if the source does not state it; None without one."""
        return UNKNOWN if is_unknown(key, self.unknown) else self.settings.get(key)

    def score(self, checkpoint: Checkpoint, resolution: str) -> Score | None:
        return next((s for s in self.scores if (s.checkpoint, s.resolution) == (checkpoint, resolution)), None)


@dataclass(frozen=True)
class StudySummary:
    """The runs of a study in the order of its cells; `study` is None for runs that no study holds."""

    study: str | None
    task: str | None
    file: str | None
    axes: tuple[str, ...]
    metrics: tuple[Metric, ...]
    select: SelectSettings | None
    runs: tuple[RunSummary, ...]
    notes: tuple[str, ...] = ()
    judgement: Judgement | None = None
    """None for runs outside any study, and for one of which nothing can be said yet."""
    pictures: tuple[Picture, ...] = ()
    """Files that were drawn for this report, if any."""


def summarise(
    results: Results,
    study: str | None,
    metrics: Sequence[Metric],
    select: SelectSettings | None = None,
    only: Collection[str] | None = None,
) -> list[StudySummary]:
    """Summaries of one study, or of all and of the runs outside any.

    Each run is reported from the epoch that it selected itself while training; `select` (by default what the
    study declares) decides only for runs that have selected none. Raises UsageError for an unknown study.
    """
    studies = {row.study: row for row in results.studies()}
    if study is not None and study not in studies:
        known = ", ".join(sorted(studies)) or "none yet"
        raise UsageError(f"no study called {study!r} has been run here; known: {known}")
    names = list(studies) if study is None else [study]
    summaries = [_study(results, studies[name], tuple(metrics), select, only) for name in names]
    return [*summaries, *(summarise_loose(results, metrics, select, only) if study is None else ())]


def summarise_loose(
    results: Results,
    metrics: Sequence[Metric],
    select: SelectSettings | None = None,
    only: Collection[str] | None = None,
) -> list[StudySummary]:
    """A summary of the runs outside any study; none if there are none."""
    loose = [run for run in results.runs() if run.study is None and (only is None or run.run_id in only)]
    if not loose:
        return []
    rows = _rows(results, loose, {}, tuple(metrics), select)
    return [StudySummary(None, None, None, (), tuple(metrics), select, rows, tuple(differing_data(rows)))]


def summarise_runs(results: Results, runs: Sequence[RunRow], metrics: Sequence[Metric]) -> tuple[RunSummary, ...]:
    """Rows of single runs, in the order given, whatever study holds them."""
    return _rows(results, runs, {}, tuple(metrics), None)


def _study(
    results: Results,
    study: StudyRow,
    metrics: tuple[Metric, ...],
    select: SelectSettings | None,
    only: Collection[str] | None,
) -> StudySummary:
    select = select or _declared(study)
    cells = {cell.run_id: cell for cell in results.cells(study.study)}
    everything = results.runs(study.study)
    runs = [run for run in everything if run.run_id in cells]
    notes = []
    if older := len(everything) - len(runs):
        notes.append(f"{older} run{'s' * (older > 1)} of earlier versions of this study not shown")
    runs = [run for run in runs if only is None or run.run_id in only]
    rows = _rows(results, runs, cells, metrics, select)
    beside = settings_beside(cells, runs, study.axes)
    rows = tuple(replace(row, settings={**beside.get(row.run_id, {}), **row.settings}) for row in rows)
    notes += differing_data(rows)
    judgement = judge_study(results, study, cells, runs, rows, metrics, select)
    if rows and primary_metric(study, metrics, select) is None:
        named = select.metric if select else "nothing"
        notes.append(f"no verdicts: epochs are selected by {named}; name a metric, such as `metric: {metrics[0].key}`")
    return StudySummary(
        study.study, study.task, study.file, tuple(study.axes), metrics, select, rows, tuple(notes), judgement
    )  # fmt: skip


def _declared(study: StudyRow) -> SelectSettings | None:
    return SelectSettings(**study.select) if study.select.get("metric") and study.select.get("resolution") else None


def _rows(
    results: Results,
    runs: Sequence[RunRow],
    cells: Mapping[str, CellRow],
    metrics: tuple[Metric, ...],
    select: SelectSettings | None,
) -> tuple[RunSummary, ...]:
    kept: dict[str, list[EvaluationRow]] = {run.run_id: [] for run in runs}
    for row in results.kept_evaluations(list(kept)):
        kept[row.run_id].append(row)
    changed = results.changed(list(kept))
    marks = results.marks_of(list(kept))
    data = short_prints(results.data_of(list(kept)))
    losses = results.validation_losses(list(kept))
    summaries = []
    for run in runs:
        evaluated = kept[run.run_id]
        selected = run.selected_epoch
        if selected is None and evaluated and select is not None:
            evaluated = list(results.evaluations(run.run_id))
            selected = best_epoch(evaluated, select, metrics)
        cell = cells.get(run.run_id)
        said = tuple(cell.notes) if cell else ()
        source = sentences(run.external) if run.external else ()
        summary = _row(run, cell, evaluated, selected)
        flagged = () if run.external else flags(_course(summary, run, losses, select, metrics))
        marked = (*marks.get(run.run_id, ()), *flagged)
        notes = (*source, *said, *marked, *_verified(run), *changed.get(run.run_id, ()))
        summary = replace(summary, notes=notes, data=data.get(run.run_id))
        summaries.append(as_stated(summary, run.external) if run.external else summary)
    return tuple(summaries)


def _course(
    row: RunSummary,
    run: RunRow,
    losses: Mapping[tuple[str, str], Sequence[tuple[int, float | None]]],
    select: SelectSettings | None,
    metrics: Sequence[Metric],
) -> Course:
    """How the training went, judged as the run itself selects; as the study does where it does not say."""
    train, own = _section(run.configuration, "train"), _section(run.configuration, "eval", "select")
    resolution = own.get("resolution") or (select.resolution if select else None)
    metric = own.get("metric") or (select.metric if select else None)
    header = next((known.header for known in metrics if known.key == metric), metric or Course.metric)
    return Course(
        state=row.status,
        diverged=row.reason == Reason.DIVERGED,
        losses=losses.get((run.run_id, str(resolution)), ()),
        selected=row.selected_epoch,
        last=row.last_epoch,
        planned=row.planned_epochs,
        metric=header,
        patience=_section(train, "early_stopping").get("patience"),
        max_steps=train.get("max_steps") is not None,
    )


def _section(configuration: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """What stands under the keys; nothing if there is no such section."""
    found: Any = configuration
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _verified(run: RunRow) -> tuple[str, ...]:
    certificate = certificate_of(run)
    return () if certificate is None else (certificate.sentence,)


def best_epoch(rows: Sequence[EvaluationRow], select: SelectSettings, metrics: Sequence[Metric]) -> int | None:
    """The epoch whose `select.metric` is best; of equals the earliest; None if no epoch has that number."""
    highest = any(metric.key == select.metric and metric.better == "max" for metric in metrics)
    candidates = []
    for row in rows:
        if (row.split, row.resolution) == (select.split, select.resolution):
            value = row.loss if select.metric == "loss" else row.metrics.get(select.metric)
            if value is not None:
                candidates.append((-value if highest else value, row.epoch))
    return min(candidates)[1] if candidates else None


def _row(run: RunRow, cell: CellRow | None, rows: Sequence[EvaluationRow], selected: int | None) -> RunSummary:
    last = max((row.epoch for row in rows), default=None)
    scores = [*_scores("selected", rows, selected), *_scores("last", rows, last)]
    train = run.configuration.get("train")
    planned = train.get("epochs") if isinstance(train, dict) else None
    return RunSummary(
        run_id=run.run_id,
        name=run.name,
        settings=cell.settings if cell else {},
        seed=_seed(run, cell),
        baseline=cell.baseline if cell else None,
        status=run.status,
        reason=None if run.reason is None else str(run.reason),
        message=run.message,
        selected_epoch=selected,
        last_epoch=last if last is not None else run.last_epoch,
        planned_epochs=planned if isinstance(planned, int) else None,
        scores=tuple(scores),
        unknown=tuple(cell.unknown) if cell else run.external.unknown if run.external else (),
        external=run.external,
        remarks=run.remarks,
        tags=run.tags,
    )


def _seed(run: RunRow, cell: CellRow | None) -> int | None:
    """None if the source of an imported run does not state it."""
    if run.external is not None and "seed" in run.external.unknown:
        return None
    return cell.seed if cell else run.configuration.get("seed")


def _scores(checkpoint: Checkpoint, rows: Sequence[EvaluationRow], epoch: int | None) -> list[Score]:
    """All from one split: `test` if that checkpoint was tested, else what it was validated on."""
    of_epoch = [row for row in rows if row.epoch == epoch]
    splits = {row.split for row in of_epoch}
    split = next((name for name in ("test", "val") if name in splits), min(splits, default=None))
    return [_score(checkpoint, row) for row in of_epoch if row.split == split]


def _score(checkpoint: Checkpoint, row: EvaluationRow) -> Score:
    return Score(
        checkpoint=checkpoint,
        epoch=row.epoch,
        split=row.split,
        resolution=row.resolution,
        metrics=row.metrics,
        loss=row.loss,
        images=row.images,
        skipped=row.skipped,
        protocol=row.protocol,
    )
