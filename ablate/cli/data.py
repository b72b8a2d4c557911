"""`ablate data`: data to train on, and whether it is what it says."""

from __future__ import annotations

import shlex
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_RUNS

app = typer.Typer(help="Make and look at data sets.", no_args_is_help=True)

Count = Annotated[int, typer.Option(min=1, max=100_000, help="Frames.")]


class Layout(StrEnum):
    KITTI = "kitti"
    NYU = "nyu"
    REDWEB = "redweb"
    HRWSI = "hrwsi"
    BLENDEDMVS = "blendedmvs"


class Holdout(StrEnum):
    NONE = "none"
    DRIVES = "drives"


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
    layout: Annotated[
        Layout,
        typer.Option(
            help="kitti: a street with sparse depth; nyu: rooms with dense depth, in BTS's layout; redweb, hrwsi, "
            "blendedmvs: rooms with depth without a unit, stored as these data sets store it."
        ),
    ] = Layout.KITTI,
) -> None:
    """Generate a street in KITTI's layout, or rooms in another's: something to train on in a minute.

    Example: ablate data sample data/sample
    """
    from ablate.cli.console import interruptible, say
    from ablate.cli.studies import command_line
    from ablate.depth.data.room import make_room
    from ablate.depth.data.street import make_street
    from ablate.depth.data.unitless import make_unitless

    make = {Layout.KITTI: make_street, Layout.NYU: make_room}.get(layout) or partial(make_unitless, name=layout.value)
    with interruptible(f"interrupted; {folder} is not complete. To go on: {shlex.join(command_line())}"):
        make(folder, frames={"train": train, "val": val, "test": test}, seed=seed, say=say)


@app.command()
def check(
    what: Annotated[Path, typer.Argument(metavar="STUDY|ROOT", help="A study file, or the folder of a data set.")],
    dataset: Annotated[
        str | None, typer.Option(help="With ROOT: which data set it is; by its lists if not given.", show_default=False)
    ] = None,
    split: Annotated[
        Path | None, typer.Option(help="With ROOT: the folder of the lists, as data.split.", show_default=False)
    ] = None,
    holdout: Annotated[
        Holdout | None, typer.Option(help="With ROOT: how val is made, as data.holdout.", show_default=False)
    ] = None,
    settings: options.Set = None,
    runs_dir: options.Runs = DEFAULT_RUNS,
    as_json: options.Json = False,
) -> None:
    """Look at every file of a data set: what is missing, damaged, not what it claims, or in two splits.

    Exit code 2 if something must be put right before training. Every run begins with the same check.

    Example: ablate data check studies/quickstart.yaml
    """
    from ablate.cli.console import interruptible
    from ablate.cli.datacheck import Asked, check_all

    asked = Asked(what, dataset, split, None if holdout is None else holdout.value, tuple(settings or ()), runs_dir)
    with interruptible("interrupted; files that were looked at are looked at again"):
        raise typer.Exit(check_all(asked, as_json=as_json))
