"""One section per run, in the manner of the progress log: title, weights, wandb, notes, command, tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ablate.report.arms import short_names
from ablate.report.columns import Column, metric_cell, metric_header
from ablate.report.details import Details
from ablate.report.labels import Labels
from ablate.report.options import Options, metrics_of
from ablate.report.summary import RunSummary, Score, StudySummary
from ablate.report.tables import MISSING, resolutions, show, state
from ablate.results.records import State
from ablate.task import Metric

_MANY = 10_000
"""From here on images are counted in thousands."""


def title(summary: StudySummary, run: RunSummary, words: Labels, lang: str) -> str:
    """'DPT-Hybrid with Performer attention, fine-tuned on KITTI (13 epochs, ~44k images per epoch) ~20h', plain text."""
    details = run.details or Details()
    if details.title is not None:
        return details.title
    named = details.titles.get(lang)
    factors = _factors(summary, run, details.titled if named else (), words)
    name = ", ".join([*([named] if named else []), *factors]) or run.name
    inside = ", ".join(_brackets(run, details, words))
    return name + (f" ({inside})" if inside else "") + (f" ~{duration(details.hours)}" if details.hours else "")


def _factors(summary: StudySummary, run: RunSummary, stated: Iterable[str], words: Labels) -> list[str]:
    """The settings in which the study's runs differ, but for those that the title states already."""
    short = short_names(summary.axes)
    found = []
    for axis in summary.axes:
        value = run.setting(axis)
        if axis not in stated and value is not None:
            found.append(f"{short[axis]} {show(value, words)}")
    if len({other.seed for other in summary.runs}) > 1 and run.seed is not None:
        found.append(f"{words.header('seed').lower()} {run.seed}")
    return found


def _brackets(run: RunSummary, details: Details, words: Labels) -> Iterator[str]:
    epochs, planned = details.epochs, run.planned_epochs
    if epochs and planned and epochs < planned:
        yield words.epochs_of.format(count=epochs, planned=planned)
    elif epochs:
        yield words.one_epoch if epochs == 1 else words.epochs.format(count=epochs)
    if details.images:
        yield words.images_per_epoch.format(count=_images(details.images))


def _images(count: int) -> str:
    return str(count) if count < _MANY else f"~{round(count / 1000)}k"


def duration(hours: float) -> str:
    """'35.5h', '12min', '40s'."""
    if hours >= 1:
        return f"{hours:.1f}".removesuffix(".0") + "h"
    return f"{round(hours * 60)}min" if hours * 60 >= 1 else f"{max(1, round(hours * 3600))}s"


def fields(run: RunSummary, words: Labels) -> list[tuple[str, tuple[str, ...]]]:
    """Name and texts of what is known of a run, in the order of the log."""
    details = run.details or Details()
    weights = (details.weights or "N/A") + (f" -> {details.weights_remark}" if details.weights_remark else "")
    unfinished = state(run, words) + (f": {run.message}" if run.message else "")
    found = [
        (words.state, () if run.status is State.COMPLETE else (unfinished,)),
        (words.weights, (weights,)),
        (words.wandb, (details.wandb,) if details.wandb else ()),
        (words.reported, () if details.written else _reported(run, words)),
        (words.notes, details.notes),
    ]
    return [(name, texts) for name, texts in found if texts]


def _reported(run: RunSummary, words: Labels) -> tuple[str, ...]:
    """'epoch 4 of 6, test split, 8 images', once for all sizes that it is true of."""
    found: dict[str, None] = {}
    for score in run.scores:
        if score.checkpoint == "selected":
            epoch, last = show(score.epoch, words), show(run.last_epoch, words)
            parts = [words.epoch_of.format(epoch=epoch, last=last), words.split.format(split=score.split)]
            if score.images is not None:
                parts.append(words.one_image if score.images == 1 else words.images.format(count=score.images))
            found[", ".join(parts)] = None
    return tuple(found)


def outputs(summary: StudySummary, run: RunSummary, options: Options) -> Iterator[tuple[str, tuple[Column, ...]]]:
    """(size, table) of the selected epoch: a row of numbers under the metrics' names."""
    for resolution in resolutions(summary):
        score = run.score("selected", resolution)
        written = (run.details or Details()).written.get(resolution)
        if written is not None:
            yield resolution, tuple(_written(summary, written, options))
        elif score is not None:
            yield resolution, tuple(_measured(summary, score, options))


def _measured(summary: StudySummary, score: Score, options: Options) -> Iterator[Column]:
    for metric in _chosen(summary, options):
        yield Column(metric.key, metric_header(metric), "center", (metric_cell(score.metrics.get(metric.key)),))


def _written(summary: StudySummary, written: Mapping[str, str], options: Options) -> Iterator[Column]:
    """As the log has it: its columns in its order, also those that are no metric here."""
    headers = {metric.key: metric_header(metric) for metric in summary.metrics}
    chosen = {metric.key for metric in _chosen(summary, options)}
    for key, text in written.items():
        if key in chosen or (key not in headers and not options.metrics):
            yield Column(key, headers.get(key, key), "center", (text or MISSING,))


def _chosen(summary: StudySummary, options: Options) -> list[Metric]:
    known = {metric.key: metric for metric in summary.metrics}
    return [known[key] for key in metrics_of([summary], options)]


def numbered(runs: Sequence[RunSummary], first: int) -> list[int]:
    """The numbers of the sections: a log's own, or counted on from `first`."""
    own = [run.details.number if run.details else None for run in runs]
    if runs and all(number is not None for number in own):
        return [number or 0 for number in own]
    return list(range(first, first + len(runs)))
