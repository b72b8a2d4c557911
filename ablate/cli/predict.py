"""`ablate predict`: depth of images, with a file of weights or a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_RUNS

WeightsOrRun = Annotated[
    str,
    typer.Argument(
        metavar="WEIGHTS_OR_RUN",
        help="A file of weights, or a run: its id, name, the start of either, or its directory; RUN@6: its sixth epoch.",
        show_default=False,
    ),
]
Network = Annotated[
    str | None,
    typer.Option("--network", metavar="NAME", help="The network of a file of weights, if its tensors do not tell."),
]


def predict(
    source: WeightsOrRun,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="PNG or JPEG files, folders of them, or patterns.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where to write.", show_default=False)],
    resolution: Annotated[
        str,
        typer.Option(
            metavar="full|reduced|HxW",
            help="Network input: the image's size, the size trained at, or towards HxW; rounded to the network's stride.",
        ),
    ] = "full",
    crop: Annotated[
        Literal["none", "kb"],
        typer.Option(help="kb: the KITTI benchmark's crop, 352x1216, alone; what is written has its size."),
    ] = "none",
    form: Annotated[
        Literal["png16", "npy", "color"] | None,
        typer.Option(
            "--format",
            help="png16: metres x 256 (KITTI's; the default); npy: float32; color: a picture with a scale bar.",
            show_default=False,
        ),
    ] = None,
    network: Network = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="kitti|nyu",
            help="Whose scale and shift make metres. Default: the run's; kitti.",
            show_default=False,
        ),
    ] = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Write the network's inverse depth, which has no unit, not metres.")
    ] = False,
    device: options.Device = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Predict the depth of images, in metres, at their own size.

    Example: ablate predict weights/dpt_hybrid_kitti-cb926ef4.pt frames/ -o depth --crop kb --format color
    """
    from ablate.cli.console import interruptible
    from ablate.cli.predicting import Wanted, predict_all
    from ablate.cli.studies import command_line

    wanted = Wanted(source, tuple(images), output, resolution, crop == "kb", form, network, dataset, relative, force)
    again = shlex.join(command_line())
    with interruptible(f"interrupted; what is written is whole. To do all of it: {again}{'' if force else ' --force'}"):
        predict_all(wanted, device, runs_dir)
