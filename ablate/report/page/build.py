"""From summaries and stored records to the values of a page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ablate.report.page import judged
from ablate.report.page.data import Chart, Page, Picture, Standing, StudyPage, Trouble
from ablate.report.page.runs import QUIET, Maker, is_shown, settings_of
from ablate.report.page.sheets import run_sheet
from ablate.report.page.words import clean
from ablate.report.summary import StudySummary
from ablate.report.tables import state
from ablate.results.bulk import recorded
from ablate.results.queries import Queries


@dataclass(frozen=True)
class Extras:
    """What is drawn or measured elsewhere, of one study: charts, pictures, and where its runs stand now."""

    charts: Sequence[Chart] = ()
    pictures: Sequence[Picture] = ()
    standings: Sequence[Standing] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class About:
    """Of the page as a whole; see `data.Page`."""

    written: float
    freshness: str = ""
    refresh: float | None = None
    title: str = "ablate report"
    extras: Mapping[str | None, Extras] = field(default_factory=dict)
    """By name of the study."""


def build(results: Queries, summaries: Sequence[StudySummary], about: About) -> Page:
    """All that the page says. Asks `results` for what summaries leave out: attempts, epochs, events, configurations."""
    studies = tuple(
        _study(results, summary, f"s{place}", about.extras.get(summary.study, Extras()))
        for place, summary in enumerate(summaries)
    )
    named = [summary.study for summary in summaries if summary.study is not None]
    title = clean(named[0]) if len(named) == 1 else about.title
    return Page(title, studies, about.written, clean(about.freshness), about.refresh)


def _study(results: Queries, summary: StudySummary, key: str, extras: Extras) -> StudyPage:
    ids = [run.run_id for run in summary.runs]
    keys = {run_id: f"run-{key}-{re.sub(r'[^0-9A-Za-z_-]', '_', run_id)}" for run_id in ids}
    rows = {row.run_id: row for row in results.runs(summary.study)}
    settings = settings_of(list(rows.values()), {run.run_id: run.unknown for run in summary.runs})
    maker = Maker(summary, rows, recorded(results, ids, leaving_out=QUIET), settings, keys)
    said = summary.judgement
    return StudyPage(
        key=key,
        title=clean(summary.study) if summary.study is not None else "Runs outside any study",
        about=_about(summary),
        headline=judged.headline(summary),
        judged=said is not None,
        counts=dict(Counter(str(run.status) for run in summary.runs)),
        trouble=tuple(
            Trouble(keys[run.run_id], clean(run.name), str(run.status), clean(f"{state(run)}{_why(run.message)}"))
            for run in summary.runs
            if is_shown(run)
        ),
        notes=tuple(map(clean, (*summary.notes, *extras.notes))),
        runs=run_sheet(summary, keys.__getitem__),
        arms=judged.arm_sheet(said, summary.axes, summary.metrics, summary.runs)
        if said is not None and said.arms
        else None,
        findings=judged.findings(said) if said is not None else (),
        described=judged.described(said) if said is not None else None,
        imported=judged.imported(said) if said is not None else None,
        detectable=judged.detectable(said) if said is not None else None,
        charts=tuple(extras.charts),
        pictures=tuple(extras.pictures),
        standings=tuple(extras.standings),
        settings=settings.shared,
        pages=tuple(maker.page(run) for run in summary.runs),
    )


def _why(message: str | None) -> str:
    return f": {message}" if message else ""


def _about(summary: StudySummary) -> tuple[str, ...]:
    """'task depth', 'studies/quickstart.yaml', 'selected by the best AbsRel on val, reduced size'."""
    found = [f"task {summary.task}"] if summary.task else []
    found += [summary.file] if summary.file else []
    if (select := summary.select) is not None:
        metric = next((one.header for one in summary.metrics if one.key == select.metric), select.metric)
        found.append(f"epochs selected by the best {metric} on {select.split}, {select.resolution} size")
    return tuple(map(clean, found))
