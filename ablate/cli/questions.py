"""`ablate diff` and `ablate top`: the two questions that are asked most."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS
from ablate.cli.sql import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablate.report.ranking import Place, Ranking
    from ablate.results.open import Results

_Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run, or RUN@6 for the numbers of its sixth epoch.", show_default=False,
        autocompletion=options.completed,
    ),
]  # fmt: skip


def diff(
    first: _Run,
    second: _Run,
    form: Format = "table",
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Say in what two runs differ: configuration, data, environment, metrics. Exit code 0: in nothing; 1: in something.

    Example: ablate diff k3v9 q2xa --format md
    """
    from ablate.cli.console import say
    from ablate.report.differences import differences
    from ablate.report.selection import select_one
    from ablate.results.open import open_results

    with open_results(db, runs_dir) as results:
        (one, at), (two, other) = (select_one(results, word) for word in (first, second))
        found = differences(results, one, two, (at, other))
        _say_what_is_unreadable(results)
    called = [run.name + (f"@{epoch}" if epoch else "") for run, epoch in ((one, at), (two, other))]
    say(f"{called[0]} against {called[1]}: {len(found) or 'no'} difference{'s' * (len(found) != 1)}")
    names, show = (tuple(called), _shown) if form != "json" else (("first", "second"), _as_it_is)
    texts = [(name, "VARCHAR") for name in ("section", "key", *names)]
    rows = [[entry.section, entry.key, show(entry.first), show(entry.second), entry.change] for entry in found]
    _write(form, [*texts, ("change", "DOUBLE")], rows)
    raise typer.Exit(1 if found else 0)


def top(
    words: options.Words = None,
    metric: Annotated[str, typer.Option("--metric", metavar="KEY", help="By what: abs_rel, d1, loss …")] = "abs_rel",
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="How many; 0: all.")] = 10,
    split: Annotated[str, typer.Option("--split", metavar="val|test", help="On which split.")] = "val",
    resolution: Annotated[
        str | None,
        typer.Option(
            "--resolution",
            metavar="full|reduced",
            help="Default: where the runs themselves select.",
            show_default=False,
        ),
    ] = None,
    form: Format = "table",
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """The best runs by a metric, each at the epoch it selected while training; failed ones are listed below.

    Example: ablate top quickstart --metric abs_rel -n 5
    """
    from ablate.cli.console import say
    from ablate.report.ranking import find_metric, rank
    from ablate.report.selection import choose
    from ablate.results.open import open_results

    with open_results(db, runs_dir) as results:
        chosen = choose(results, words or (), current=True, epochs=False)
        found = rank(results, chosen, find_metric(_metrics(results, chosen.rows), metric), split, resolution)
        say(results.freshness)
        _say_what_is_unreadable(results)
    _say_about(found, count)
    shown = (*found.places[: count or None], *found.failed)
    kinds = {"place": "BIGINT", "run": "VARCHAR", "study": "VARCHAR", found.metric.key: "DOUBLE", "split": "VARCHAR",
             "resolution": "VARCHAR", "epoch": "BIGINT", "images": "BIGINT", "status": "VARCHAR"}  # fmt: skip
    _write(form, list(kinds.items()), [_row(found, place) for place in shown])


def _row(found: Ranking, place: Place) -> list[Any]:
    run = place.run
    status = f"{run.status} ({run.reason})" if run.reason else str(run.status)
    status += ", external" if run.external else ""
    where = (found.split, found.resolution) if place.value is not None else (None, None)
    return [place.place, run.name, ", ".join(place.studies), place.value, *where, place.epoch, place.images, status]


def _say_about(found: Ranking, count: int) -> None:
    from ablate.cli.console import say

    better = "higher" if found.metric.better == "max" else "lower"
    say(f"{found.metric.header} ({better} is better) on {found.split} at {found.resolution} input, of complete runs")
    for warning in found.warnings:
        say(f"warning: {warning}")
    left = [f"{number} {why}" for why, number in found.others.items()]
    if left:
        say(f"not ranked: {', '.join(left)}")
    if count and len(found.places) > count:
        say(f"{len(found.places) - count} more; -n 0 shows all")


def _metrics(results: Results, rows: Sequence[Any]) -> Sequence[Any]:
    """Those of the tasks of these runs, by key."""
    from ablate.engine.tasks import Tasks

    tasks = Tasks()
    names = dict.fromkeys(row.task for row in rows if row.task in tasks) or {"depth": None}
    return list({metric.key: metric for name in names for metric in tasks[name].metrics}.values())


def _as_it_is(value: Any) -> Any:
    return value


def _shown(value: Any) -> str | None:
    """A setting as text; nothing where a run has none."""
    import json

    if value is None or isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _write(form: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> None:
    from ablate.report.answers import WRITERS
    from ablate.results.asking import Column

    WRITERS[form]([Column(*entry) for entry in columns], rows, sys.stdout.write)


def _say_what_is_unreadable(results: Results) -> None:
    from ablate.cli.console import say

    for problem in results.unreadable:
        say(f"warning: not readable: {problem}")
