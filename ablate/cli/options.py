"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Db = Annotated[Path, typer.Option("--db", help="The results database.", envvar="ABLATE_DB")]
Runs = Annotated[Path, typer.Option("--runs-dir", help="The folder of run directories.", envvar="ABLATE_RUNS_DIR")]
Study = Annotated[Path, typer.Argument(help="A study file (YAML).", show_default=False)]
Run = Annotated[str, typer.Argument(help="A run: its id, its name, or the start of either.", show_default=False)]
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
Device = Annotated[str, typer.Option("--device", help="Where to train: cpu, cuda, cuda:1, mps, or auto.")]
Workers = Annotated[int, typer.Option("--workers", min=1, max=64, help="Runs at a time.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="CPU threads of each new run; its first attempt fixes them. Default: cores / workers."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

DEFAULT_DB = Path("results.duckdb")
DEFAULT_RUNS = Path("runs")
