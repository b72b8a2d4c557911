"""From stored results to the text of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ablate.engine.tasks import Tasks
from ablate.errors import UsageError
from ablate.report.render import FORMATS, render
from ablate.report.summary import StudySummary, summarise
from ablate.results.open import Results, open_results
from ablate.study import load_study
from ablate.task import Metric


def tables(study: str | None, form: str, db: Path, runs_dir: Path) -> tuple[str, str]:
    """The report's text, and how fresh it is. Raises UsageError for an unknown format or study, StudyError."""
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}; expected one of {', '.join(FORMATS)}")
    with open_results(db, runs_dir) as results:
        summaries = summaries_of(results, study)
        freshness = "; ".join([results.freshness, *(f"not readable: {problem}" for problem in results.unreadable)])
    return render(summaries, form), freshness


def summaries_of(results: Results, study: str | None) -> list[StudySummary]:
    """Of one study, or of all. Raises UsageError for an unknown one, StudyError."""
    name = study_name(study)
    summaries: list[StudySummary] = []
    for known in [name] if name is not None else [row.study for row in results.studies()]:
        summaries += summarise(results, known, _metrics(results, known))
    return summaries


def study_name(study: str | None) -> str | None:
    """`studies/quickstart.yaml` -> 'quickstart', as the file says; a name stays a name."""
    if study is None or not (Path(study).suffix in (".yaml", ".yml") or Path(study).is_file()):
        return study
    return load_study(Path(study), Tasks()).study


def _metrics(results: Results, study: str) -> Sequence[Metric]:
    tasks = Tasks()
    name = next((row.task for row in results.studies() if row.study == study), "depth")
    return tasks[name].metrics if name in tasks else tasks["depth"].metrics
