"""`ablate eval`: any checkpoint under the protocol, stored as a run without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS
from ablate.cli.predict import Network, WeightsOrRun

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="ROOT", help="The data set's folder. Default: the run's own.", show_default=False),
]
Split = Annotated[
    Path | None,
    typer.Option(
        "--split", metavar="DIR", help="The folder of its lists, relative to the data set's.", show_default=False
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="kitti|nyu",
        help="The data set, with its crop, cap, scale and shift. Default: the run's; kitti.",
        show_default=False,
    ),
]
Resolution = Annotated[
    str | None,
    typer.Option(
        "--resolution",
        metavar="full|reduced|HxW",
        help="Network input: the crop unresized, or resized towards the size trained at, or HxW. Default: both.",
        show_default=False,
    ),
]
Mask = Annotated[
    Literal["garg", "eigen", "none"] | None,
    typer.Option("--mask", help="Which pixels are scored. Default: the data set's usual one.", show_default=False),
]
Align = Annotated[
    Literal["none", "median", "scale_shift"] | None,
    typer.Option(
        "--align", help="How each prediction is aligned to its ground truth before it is scored.", show_default=False
    ),
]
Relative = Annotated[
    bool, typer.Option("--relative", help="The weights predict inverse depth without a unit, as MiDaS does.")
]
Name = Annotated[
    str | None,
    typer.Option("--name", help="What the run is called. Default: after its network.", show_default=False),
]


def evaluate(
    source: WeightsOrRun,
    data: Data = None,
    split: Split = None,
    dataset: Dataset = None,
    resolution: Resolution = None,
    mask: Mask = None,
    align: Align = None,
    network: Network = None,
    relative: Relative = False,
    name: Name = None,
    study: Annotated[str, typer.Option(help="The study whose report gets the row.")] = "evaluations",
    settings: options.Set = None,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Evaluate a checkpoint under the protocol, and store it as a run with no training: a row like any other.

    Example: ablate eval weights/dpt_hybrid_kitti-cb926ef4.pt --data data/kitti --split splits/eigen_full
    """
    from ablate.cli.evaluating import Wanted, evaluate_one
    from ablate.cli.studies import command_line
    from ablate.engine.launch import Where
    from ablate.runs.paths import RunsDir

    wanted = Wanted(
        source, data, split, dataset, resolution, mask, align, network, relative, name, study, tuple(settings or ())
    )
    where = Where(RunsDir(runs_dir), device, 1, threads)
    raise typer.Exit(evaluate_one(wanted, where, db, command_line()))
