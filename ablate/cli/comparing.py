"""`ablate compare`: the verdict of reports, on two runs, two groups of runs, or two files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

if TYPE_CHECKING:
    from ablate.report.contrast import Contrast, Side
    from ablate.results.open import Results
    from ablate.task import Metric

_SIDE = "Runs or axis=value, separated by commas, or a CSV file of per-image results."


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=_SIDE, show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="What A is compared with, in the same form.")],
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="What the verdict is about; what the runs select epochs by if not given."),
    ] = None,
    factor: Annotated[
        list[str] | None,
        typer.Option("--factor", metavar="SETTING", help="What A and B are meant to differ in; may be repeated."),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="Only the runs of this study, by its name or file.")
    ] = None,
    resolution: Annotated[str | None, typer.Option("--resolution", help="full or reduced.")] = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """Say whether A is better or worse than B, or why that cannot be said: the seeds of two settings, or two files.

    Example: ablate compare perf-s0,perf-s1,perf-s2 std-s0,std-s1,std-s2 --metric abs_rel
    """
    from ablate.cli.console import emit, say
    from ablate.errors import UsageError
    from ablate.results.open import open_results

    files = [_is_file(text) for text in (first, second)]
    if all(files):
        found = _of_files(Path(first), Path(second), metric)
    elif any(files):
        raise UsageError(f"{first} and {second}: one is a file and the other is not; compare two files, or runs")
    else:
        with open_results(db, runs_dir) as results:
            found = _of_runs(results, (first, second), metric, factor or [], study, resolution)
        say(results.freshness)
    emit(json.dumps(_data(found), indent=1) if as_json else _text(found))


def _is_file(text: str) -> bool:
    return Path(text).suffix.lower() == ".csv" or Path(text).is_file()


def _of_files(first: Path, second: Path, metric: str | None) -> Contrast:
    from ablate.engine.tasks import Tasks
    from ablate.report.contrast import contrast_files
    from ablate.report.images_file import read_images

    known = Tasks()["depth"].metrics
    return contrast_files(read_images(first), read_images(second), metric, known)


def _of_runs(
    results: Results,
    texts: tuple[str, str],
    metric: str | None,
    factor: Sequence[str],
    study: str | None,
    resolution: str | None,
) -> Contrast:
    from ablate.engine.tasks import Tasks
    from ablate.errors import UsageError
    from ablate.report.contrast import contrast_runs

    first, second = (_side(results, text, study) for text in texts)
    if both := {run.run_id for run in first.runs} & {run.run_id for run in second.runs}:
        name = next(run.name for run in first.runs if run.run_id in both)
        raise UsageError(f"{name} is on both sides")
    kinds = {run.task or "depth" for run in (*first.runs, *second.runs)}
    if len(kinds) > 1:
        raise UsageError(f"runs of different tasks cannot be compared: {', '.join(sorted(kinds))}")
    tasks, kind = Tasks(), next(iter(kinds))
    metrics: Sequence[Metric] = tasks[kind if kind in tasks else "depth"].metrics
    return contrast_runs(results, (first, second), metric, metrics, factor, resolution)


def _side(results: Results, text: str, study: str | None) -> Side:
    """The runs of one side, by the words that every command takes."""
    from ablate.errors import UsageError
    from ablate.report.contrast import Side
    from ablate.report.selection import choose

    words = [*_words(text), *([f"study={study}"] if study is not None else [])]
    runs = choose(results, words, exact=True, current=True, epochs=False).runs
    if not runs:
        raise UsageError(f"{text}: no run fits{f' in {study}' if study else ''}; `ablate ls` lists all")
    never = [run.name for run in runs if not run.configuration]
    if never:
        raise UsageError(f"{', '.join(never)}: never started; `ablate run` the study first")
    return Side(runs[0].name if len(runs) == 1 else text, runs)


def _words(text: str) -> list[str]:
    """'a,b', 'quickstart lr=1e-4' and 'attention=performer,lr=1e-4,1e-5' as selectors: commas part names and filters."""
    from ablate.errors import UsageError
    from ablate.report.selection import is_filter

    found: list[str] = []
    for word in text.split():
        within = False
        for part in filter(None, (part.strip() for part in word.split(","))):
            if within and not is_filter(part):
                found[-1] += f",{part}"  # another value of the filter before it
            else:
                found.append(part)
                within = is_filter(part)
    if not found:
        raise UsageError("an empty text names no run; name runs, or axis=value, separated by commas")
    return found


def _text(found: Contrast) -> str:
    lines = [found.verdict.sentence]
    if found.factor:
        lines.append(f"compared in: {', '.join(found.factor)}")
    if found.discrepancies:
        lines.append("they also differ in:" if found.factor else "they differ in:")
        lines += [f"  {one.text}" for one in found.discrepancies]
        if not found.factor:
            lines.append("name what they are meant to differ in with --factor")
    lines += [one.sentence for one in found.others]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def _data(found: Contrast) -> dict[str, Any]:
    from ablate.report.judgement_data import plain

    said = plain(found)
    for one, entry in zip(found.discrepancies, said["discrepancies"], strict=True):
        entry["text"] = one.text
    return {"v": 1, **said}
