"""`ablate align`: the scale and the shift between weights and a data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablate.cli import options
from ablate.cli.evaluate import Dataset, Split
from ablate.cli.options import DEFAULT_RUNS
from ablate.cli.predict import Network, WeightsOrRun

if TYPE_CHECKING:
    from ablate.cli.checkpoints import Source
    from ablate.depth.config import DataSettings
    from ablate.depth.predict import Origin


def align(
    source: WeightsOrRun,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="ROOT", help="The data set's folder. Default: the run's.", show_default=False),
    ] = None,
    split: Split = None,
    dataset: Dataset = None,
    network: Network = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            "--resolution", metavar="HxW", help="Network input. Default: the run's, or 192x640.", show_default=False
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images", min=1, help="Only so many, spread evenly over the list. Default: all.", show_default=False
        ),
    ] = None,
    device: options.Device = "cpu",
    as_json: options.Json = False,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Estimate the scale and shift that make inverse depth in 1/m of the network's output, as before fine-tuning.

    Each training sample is aligned by median and mean absolute deviation (MiDaS), and the set is averaged over (DPT).

    Example: ablate align weights/dpt_hybrid-midas-501f0c75.pt --data data/kitti --images 500
    """
    from ablate.cli.checkpoints import find_source
    from ablate.cli.console import emit, interruptible, say
    from ablate.cli.predicting import one_device
    from ablate.depth.alignment import estimate_for
    from ablate.depth.predict import origin_of
    from ablate.runs.paths import RunsDir

    with interruptible("interrupted; an estimate is of all images or none"):
        found = find_source(source, RunsDir(runs_dir))
        if found.note:
            say(f"warning: {found.note}")
        where = one_device(device)
        origin = origin_of(found.weights, found.config, network, dataset)
        settings = _data(found, origin, data, split, dataset, resolution)
        estimate, listed = estimate_for(origin, settings, images, where)
    told: dict[str, Any] = {
        "weights": found.name,
        "network": origin.model.name,
        "dataset": settings.name,
        "resolution": list(settings.resolution),
        "listed": listed,
        "estimated": asdict(estimate),
        "published": {"scale": origin.protocol.scale, "shift": origin.protocol.shift},
    }
    emit(json.dumps(told, indent=1) if as_json else _text(told))


def _data(
    source: Source, origin: Origin, root: Path | None, split: Path | None, dataset: str | None, resolution: str | None
) -> DataSettings:
    """The run's own data, but for what is given. Raises UsageError."""
    from ablate.cli.predicting import parse_resolution
    from ablate.depth.config import DataSettings
    from ablate.errors import UsageError

    own: dict[str, Any] = dict((source.config or {}).get("data", {}))
    if root is None and source.config is None:
        raise UsageError("--data ROOT is missing: the folder of the data set to align to")
    size = parse_resolution(resolution) if resolution is not None else origin.resolution
    if isinstance(size, str):
        raise UsageError(f"--resolution {resolution}: expected height x width in pixels, such as 192x640")
    changed = {"root": root, "split": split, "name": dataset}
    if root is not None and split is None:
        own.pop("split", None)
    return DataSettings.model_validate(
        {**own, **{key: value for key, value in changed.items() if value is not None}, "resolution": size}
    )


def _text(told: dict[str, Any]) -> str:
    found, published = told["estimated"], told["published"]
    height, width = told["resolution"]
    of = f" of {told['listed']}" if told["listed"] != found["images"] else ""
    lines = [
        f"weights    {told['weights']} ({told['network']})",
        f"images     {found['images']}{of} of the train list of {told['dataset']}, at {height}x{width}",
        "",
        f"{'':<22}{'scale (1/m)':>14}{'shift (1/m)':>14}",
        f"{'estimated':<22}{found['scale']:>14.6g}{found['shift']:>14.6g}",
        f"{'spread over images':<22}{found['scale_spread']:>14.3g}{found['shift_spread']:>14.3g}",
        f"{'published':<22}{published['scale']:>14.6g}{published['shift']:>14.6g}",
        "",
        "depth = 1 / (scale * x + shift) in metres, of network output x; `train.alignment: estimated` starts from it",
    ]
    if found["at_zero"]:
        lines.append(f"x is 0 at {found['at_zero']:.1%} of the valid pixels, where it says nothing but far away")
    if found["undecided"]:
        lines.append(f"{found['undecided']} images decide nothing (too little depth in them) and were left out")
    return "\n".join(lines)
