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

_SIDE = "Runs, separated by commas, or axis=value with --study, or a CSV file of per-image results."


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
    study: Annotated[str | None, typer.Option("--study", help="Where axis=value looks for runs.")] = None,
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
    from ablate.errors import UsageError
    from ablate.report.contrast import Side

    parts = [part.strip() for part in text.split(",") if part.strip()]
    chosen = [part.partition("=")[::2] for part in parts if "=" in part]
    if chosen and len(chosen) == len(parts):
        if study is None:
            raise UsageError(f"{text}: say with --study in which study to look for such runs")
        runs = _selected(results, chosen, study)
    elif chosen or not parts:
        raise UsageError(f"{text or 'nothing'}: expected runs, or axis=value, separated by commas")
    else:
        found = [results.resolve(part) for part in parts]
        runs = list({run.run_id: run for run in found}.values())
    if not runs:
        raise UsageError(f"{text}: no run of {study} is like that; `ablate ls` lists all")
    never = [run.name for run in runs if not run.configuration]
    if never:
        raise UsageError(f"{', '.join(never)}: never started; `ablate run` the study first")
    return Side(runs[0].name if len(runs) == 1 else text, tuple(runs))


def _selected(results: Results, chosen: Sequence[Any], study: str) -> list[Any]:
    from ablate.study.settings import freeze
    from ablate.study.yaml import parse_value

    wanted = {key: freeze(parse_value(value, f"{key}={value}")) for key, value in chosen}
    cells = {cell.run_id: {**cell.settings, "seed": cell.seed} for cell in results.cells(study)}

    def value(settings: dict[str, Any], key: str) -> Any:
        full = key if key in settings else next((k for k in settings if k.rpartition(".")[2] == key), key)
        return freeze(settings.get(full))

    runs = {run.run_id: run for run in results.runs(study)}
    return [
        runs[run_id]
        for run_id, settings in cells.items()
        if run_id in runs and all(value(settings, key) == found for key, found in wanted.items())
    ]


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
