"""`ablate report --format html`: one page, and with `--watch` again and again while runs train."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.cli.console import emit, interruptible, say
from ablate.cli.listing import progress_of
from ablate.cli.tables import summaries_of
from ablate.errors import UsageError
from ablate.report.charts import charts, gather
from ablate.report.page.build import About, Extras, build
from ablate.report.page.data import Page, Standing
from ablate.report.page.pictures import pictures_of
from ablate.report.page.render import render_page
from ablate.report.summary import StudySummary
from ablate.results.open import Results, open_results
from ablate.results.records import RunRow, State
from ablate.runs import files
from ablate.runs.lease import is_held
from ablate.runs.paths import RunsDir

Summarise = Callable[[Results], Sequence[StudySummary]]


@dataclass(frozen=True)
class Source:
    """Where the numbers of a page come from. `summarise` gives its studies from open results."""

    db: Path
    runs_dir: Path
    summarise: Summarise

    def page(self, refresh: float | None = None) -> Page:
        """`refresh` is kept only while a living process trains a run that is shown, or holds a study to train it."""
        with open_results(self.db, self.runs_dir) as results:
            summaries = self.summarise(results)
            rows = {one.study: results.runs(one.study) for one in summaries}
            extras = {one.study: extras_of(results, one, rows[one.study]) for one in summaries}
            said = [results.freshness, *(f"not readable: {problem}" for problem in results.unreadable)]
            live = refresh if self._trains(rows) else None
            return build(results, summaries, About(time.time(), "; ".join(said), live, extras=extras))

    def _trains(self, rows: Mapping[str | None, Sequence[RunRow]]) -> bool:
        folder = RunsDir(self.runs_dir)
        held = any(is_held(folder.study_lease(study)) for study in rows if study is not None)
        return held or any(row.status is State.RUNNING for found in rows.values() for row in found)


def extras_of(results: Results, summary: StudySummary, rows: Sequence[RunRow]) -> Extras:
    """What is drawn or measured elsewhere, for the page of one study."""
    shown = [row for row in rows if row.run_id in {run.run_id for run in summary.runs}]
    series = gather(results, summary)
    found = charts(summary, series) if series is not None else ()
    pictures, notes = pictures_of(summary, shown)
    return Extras(found, pictures, tuple(_standings(shown)), notes)


def _standings(rows: Iterable[RunRow]) -> Iterable[Standing]:
    for row in rows:
        if (progress := progress_of(row)) is not None:
            yield Standing(run_id=row.run_id, **vars(progress))


def print_page(
    selectors: Sequence[str], form: str, output: Path | None, every: float | None, db: Path, runs_dir: Path
) -> None:
    """What `ablate report --format html` does; `every` is None without `--watch`. Raises UsageError."""
    if every is not None and (form != "html" or output is None or str(output) == "-"):
        raise UsageError("--watch needs --format html and a file to write: -o report.html")
    source = Source(db, runs_dir, lambda results: summaries_of(results, selectors))
    if every is not None and output is not None:
        with interruptible(f"no longer watched; {output} is as of now"):
            watch(source, output, say, every)
        return
    page = source.page()
    say(page.freshness)
    if output is None or str(output) == "-":
        emit(render_page(page))
    else:
        write_page(page, output)
        say(f"written to {output}")


def refuse_options(given: Mapping[str, object]) -> None:
    """Raises UsageError for options of the tables, which a page would ignore."""
    if named := [name for name, value in given.items() if value]:
        raise UsageError(
            f"{', '.join(named)}: not with --format html, whose tables sort and filter by themselves and are in English; "
            "leave it out, or choose runs with selectors"
        )


def write_page(page: Page, output: Path) -> None:
    """Replaces `output` at once: whoever reads it sees the old page or the new one."""
    files.write_lagging(output, render_page(page).encode("utf-8"))


def watch(source: Source, output: Path, tell: Callable[[str], None], every: float) -> None:
    """Writes the page every `every` seconds until nothing trains. The last version, also after Ctrl-C, is at rest.

    Raises UsageError for a period that is not positive.
    """
    if not every > 0:
        raise UsageError(f"--every {every:g}: expected a number of seconds above 0")
    versions = 0
    try:
        while (page := source.page(every)).refresh is not None:
            write_page(page, output)
            if not versions:
                tell(f"{output} follows the training; Ctrl-C ends this, and no run")
            versions += 1
            time.sleep(every)
    except KeyboardInterrupt:
        write_page(source.page(), output)
        raise
    write_page(page, output)
    tell(f"nothing trains any more: {output} is final" if versions else f"nothing trains: written to {output}")
