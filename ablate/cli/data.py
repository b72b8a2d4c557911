"""`ablate data`: data to train on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make and look at data sets.", no_args_is_help=True)

Count = Annotated[int, typer.Option(min=1, max=100_000, help="Frames.")]


@app.callback()
def _data() -> None:
    return


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where to put it; made if it is not there.", show_default=False)],
    train: Count = 96,
    val: Count = 8,
    test: Count = 8,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another street.")] = 0,
) -> None:
    """Generate a street in KITTI's layout, with sparse 16-bit depth: something to train on in a minute.

    Example: ablate data sample data/sample
    """
    from ablate.cli.console import interruptible, say
    from ablate.cli.studies import command_line
    from ablate.depth.data.street import make_street

    with interruptible(f"interrupted; {folder} is not complete. To go on: {shlex.join(command_line())}"):
        make_street(folder, frames={"train": train, "val": val, "test": test}, seed=seed, say=say)
