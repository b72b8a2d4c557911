"""What a reader may ask of a report, and the names by which columns, metrics and axes are called in every format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ablate.errors import UsageError
from ablate.report.arms import short_names
from ablate.report.labels import Labels, labels
from ablate.report.summary import StudySummary
from ablate.study.settings import closest

STYLES = ("progress", "table")
"""With a section per run, as a progress log has, or the tables alone."""

IDENTITY_COLUMNS = (
    "study", "run_id", "run", "seed", "status", "reason", "checkpoint", "epoch", "last_epoch", "split",
    "resolution", "images", "skipped", "loss", "data", "external", "tags",
)  # fmt: skip
"""Columns of every report, whatever the task; the others are `protocol.<entry>`, metrics by key, axes by dotted key."""

_ALSO = {"state": "status", "name": "run", "size": "resolution", "id": "run_id"}


@dataclass(frozen=True)
class Options:
    """How a report is rendered; names are as typed until `resolve` has looked them up.

    `columns` are all that tables show, in this order, if there are any; `metrics` those of the task that they show.
    `sort` is a column, best first if it is a metric, with `-` in front the other way round. `group_by` is an axis: a
    table per value of it.
    """

    lang: str = "en"
    style: str = "table"
    columns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    sort: str | None = None
    group_by: str | None = None

    @property
    def words(self) -> Labels:
        return labels(self.lang)

    @property
    def sort_key(self) -> str | None:
        return None if self.sort is None else self.sort.removeprefix("-")


AS_USUAL = Options()


def resolve(summaries: Sequence[StudySummary], options: Options) -> Options:
    """The options with every name as it is called here.

    Raises UsageError, with the closest name and all that there are, for one that no summary has.
    """
    labels(options.lang)
    if options.style not in STYLES:
        raise UsageError(f"--style {options.style!r}: expected one of {', '.join(STYLES)}")
    if not summaries:
        return options
    columns, axes, metrics = _columns(summaries), _axes(summaries), _metrics(summaries)
    found = replace(
        options,
        columns=_unique(find(name, columns, "--columns", "column") for name in options.columns),
        metrics=_unique(find(name, metrics, "--metric", "metric") for name in options.metrics),
    )
    if options.sort is not None:
        down = "-" if options.sort.startswith("-") else ""
        found = replace(found, sort=down + find(options.sort.removeprefix("-"), columns, "--sort", "column"))
    if options.group_by is not None:
        found = replace(found, group_by=find(options.group_by, {**axes, "seed": "seed"}, "--group-by", "axis"))
    return found


def find(word: str, names: Mapping[str, str], option: str, what: str) -> str:
    """The name that `word` stands for; `names` maps every spelling to it. Raises UsageError."""
    if word in names:
        return names[word]
    lower = {name.lower(): meant for name, meant in reversed(list(names.items()))}
    if word.strip().lower() in lower:
        return lower[word.strip().lower()]
    close = closest(word, names)
    hint = f"; did you mean {names[close]}?" if close else ""
    known = ", ".join(dict.fromkeys(names.values())) or "none"
    raise UsageError(f"{option} {word!r}: there is no such {what}{hint}\n  known: {known}")


def split_names(given: Iterable[str] | None) -> tuple[str, ...]:
    """`--columns a,b --columns c` -> a, b, c."""
    return tuple(name.strip() for text in given or () for name in text.split(",") if name.strip())


def axes_of(summaries: Sequence[StudySummary]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(axis for summary in summaries for axis in summary.axes))


def metrics_of(summaries: Sequence[StudySummary], options: Options | None = None) -> tuple[str, ...]:
    """The keys of all metrics; of those that were chosen, in the order in which they were chosen."""
    known = tuple(dict.fromkeys(metric.key for summary in summaries for metric in summary.metrics))
    chosen = options.metrics if options else ()
    return tuple(key for key in chosen if key in known) if chosen else known


def protocol_of(summaries: Sequence[StudySummary]) -> tuple[str, ...]:
    scores = (score for summary in summaries for run in summary.runs for score in run.scores)
    return tuple(dict.fromkeys(f"protocol.{key}" for score in scores for key in score.protocol))


def _axes(summaries: Sequence[StudySummary]) -> dict[str, str]:
    axes = axes_of(summaries)
    return dict(zip(axes, axes, strict=True)) | {short: axis for axis, short in short_names(axes).items()}


def _metrics(summaries: Sequence[StudySummary]) -> dict[str, str]:
    known = [metric for summary in summaries for metric in summary.metrics]
    return {metric.key: metric.key for metric in known} | {metric.header: metric.key for metric in known}


def _columns(summaries: Sequence[StudySummary]) -> dict[str, str]:
    """Later spellings never take the name of an earlier one: a metric called `loss` is the metric's own affair."""
    found = {name: name for name in (*IDENTITY_COLUMNS, *protocol_of(summaries))}
    for more in (_metrics(summaries), _axes(summaries), _ALSO):
        found |= {name: meant for name, meant in more.items() if name not in found}
    return found


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
