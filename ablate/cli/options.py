"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Db = Annotated[Path, typer.Option("--db", help="The results database.", envvar="ABLATE_DB")]


def _told_to_tasks(folder: Path) -> Path:
    """A study may name a run (`model.weights`); tasks look for it in the folder of this variable."""
    os.environ["ABLATE_RUNS_DIR"] = os.path.abspath(folder)  # noqa: PTH100  (resolve() would follow links)
    return folder


Runs = Annotated[
    Path,
    typer.Option(
        "--runs-dir", help="The folder of run directories.", envvar="ABLATE_RUNS_DIR", callback=_told_to_tasks
    ),
]
Study = Annotated[Path, typer.Argument(help="A study file (YAML).", show_default=False)]


def completed(incomplete: str) -> list[str]:
    """What a word that names runs may become."""
    from ablate.cli.chosen import complete

    return complete(incomplete)


Marked = Annotated[
    str,
    typer.Argument(
        metavar="SELECTOR", help="A run: its id, its name, or the start of either; or one selector that fits several.",
        autocompletion=completed, show_default=False,
    ),
]  # fmt: skip


_WORDS = (
    "Runs: their ids, names or the starts of either, studies, study files, patterns such as 'mem-*', or filters such as "
    "lr=1e-4, seed=0, status=failed, reason=oom, tag=x."
)
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="SELECTOR", help=f"{_WORDS} Default: all.", autocompletion=completed, show_default=False),
]
"""What `ablate.report.selection` reads."""
SomeRuns = Annotated[
    list[str], typer.Argument(metavar="SELECTOR", help=_WORDS, autocompletion=completed, show_default=False)
]
OneRun = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help="A run: its id, its name, or the start of either; or selectors that fit one run alone.",
        autocompletion=completed,
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting in every cell; may be repeated."),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="AXIS=VALUE", help="Only the cells with this setting; may be repeated."),
]
MaxSteps = Annotated[
    int | None,
    typer.Option("--max-steps", min=1, help="Short for --set train.max_steps=N: a shortened run is another run."),
]
MaxCells = Annotated[int, typer.Option("--max-cells", min=1, help="Refuse grids larger than this.")]
Device = Annotated[
    str, typer.Option("--device", help="Where to train: cpu, cuda, cuda:1, mps, auto, or several: cuda:0,cuda:1.")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=64, help="Runs at a time in all. Default: what --per-device allows, or 1."),
]
PerDevice = Annotated[
    int | None,
    typer.Option("--per-device", min=1, max=64, help="Runs at a time on one device, those of other commands included."),
]
Deferred = Annotated[bool, typer.Option("--deferred", help="Also the cells that the study defers.")]
TrainOrder = Annotated[
    str, typer.Option("--order", help="What is trained first: priority (of the study), declared, or cheapest.")
]
MaxHours = Annotated[
    float | None, typer.Option("--max-hours", min=0.0, help="Save and stop after so many hours; exit code 75.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Estimate what each cell needs, and mark those that do not fit: 8GB. Up to a minute for each shape, once.",
    ),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Save and stop everything once one run has failed for good.")
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="Try every run, whatever happened to others with its model or before it.")
]
Retries = Annotated[
    int | None,
    typer.Option("--retries", min=0, help="At most so many retries of a run for one cause; 0: none."),
]
Grace = Annotated[
    float, typer.Option("--grace", min=0.0, help="Seconds in which runs must have saved when a signal asks to stop.")
]
Stall = Annotated[
    float, typer.Option("--stall", min=0.0, help="Report a run that shows nothing new for so many minutes; 0: never.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="CPU threads of each new run; its first attempt fixes them. Default: cores / runs at a time.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def _make_known(folders: list[Path] | None) -> list[Path] | None:
    from ablate import plugins

    for folder in folders or ():
        plugins.add_folder(folder)
    return folders


Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugins",
        metavar="DIR",
        callback=_make_known,
        is_eager=True,
        help="A folder with attentions, networks, data sets, metrics or tasks of your own; may be repeated.",
    ),
]
"""Taken before and after the name of every command: see `anywhere`."""

DEFAULT_DB = Path("results.duckdb")
DEFAULT_RUNS = Path("runs")
