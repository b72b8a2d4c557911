"""From stored results to the text of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.engine.tasks import Tasks
from ablate.errors import UsageError
from ablate.report.describe import Title, describe
from ablate.report.options import Options, resolve
from ablate.report.render import FORMATS, render
from ablate.report.selection import is_filter, select
from ablate.report.summary import StudySummary, summarise, summarise_loose
from ablate.results.open import Results, open_results
from ablate.results.records import RunRow
from ablate.study import load_study


def tables(
    selectors: Sequence[str], form: str, options: Options, db: Path, runs_dir: Path, figures: Path | None = None
) -> tuple[str, list[StudySummary], str]:
    """The report's text, what it is made of, and how fresh that is. Pictures are drawn into `figures`, if given.

    Raises UsageError for an unknown format, or a selector or name that nothing has, and StudyError.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}; expected one of {', '.join((*FORMATS, 'html'))}")
    with open_results(db, runs_dir) as results:
        summaries = summaries_of(results, selectors)
        said = [results.freshness, *(f"not readable: {problem}" for problem in results.unreadable)]
        options = resolve(summaries, options)  # what cannot be rendered is not drawn either
        if figures is not None:
            from ablate.report.charts.pictures import write_pictures

            written = write_pictures(summaries, results, figures)
            summaries = [replace(one, pictures=written.pictures[one.study or ""]) for one in summaries]
            said += [f"not drawn: {problem}" for problem in written.problems]
    return render(summaries, form, options), summaries, "; ".join(said)


def summaries_of(results: Results, selectors: Sequence[str]) -> list[StudySummary]:
    """A summary of each study that the selectors name, of the runs they choose.

    Raises UsageError for a selector that names nothing.
    """
    tasks = Tasks()
    chosen = select(results, selectors, current=True)
    summaries: list[StudySummary] = []
    for study in dict.fromkeys(row.study for row in chosen if row.study is not None):
        ids = {row.run_id for row in chosen if row.study == study}
        summaries += summarise(results, study, _metrics(tasks, results, study), only=ids if selectors else None)
    loose = [row for row in chosen if row.study is None]
    if loose:
        metrics = tasks[_task(tasks, loose)].metrics
        summaries += summarise_loose(results, metrics, only={row.run_id for row in loose})
    return list(describe(results, summaries, _Titles(tasks)))


def filters(only: Sequence[str] | None) -> list[str]:
    """`--only axis=value` as selectors. Raises UsageError for anything else."""
    for text in only or ():
        if not is_filter(text):
            raise UsageError(f"--only {text!r}: expected axis=value, such as --only train.lr=1e-4")
    return list(only or ())


def study_name(study: str | None) -> str | None:
    """`studies/quickstart.yaml` -> 'quickstart', as the file says; a name stays a name."""
    if study is None or not (Path(study).suffix in (".yaml", ".yml") or Path(study).is_file()):
        return study
    return load_study(Path(study), Tasks()).study


def _metrics(tasks: Tasks, results: Results, study: str) -> Any:
    name = next((row.task for row in results.studies() if row.study == study), "depth")
    return tasks[name if name in tasks else "depth"].metrics


def _task(tasks: Tasks, runs: Sequence[RunRow]) -> str:
    return next((run.task for run in runs if run.task is not None and run.task in tasks), "depth")


class _Titles:
    """Asks tasks what they call runs; one that is not installed, or has no titles, has no words for any."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def __call__(self, task: str | None, configuration: Mapping[str, Any], lang: str) -> Title | None:
        title = getattr(self._tasks[task], "title", None) if task is not None and task in self._tasks else None
        return title(configuration, lang) if title is not None else None
