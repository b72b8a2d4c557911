"""`ablate export`: a run's weights for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_RUNS
from ablate.cli.predict import Network, WeightsOrRun


def export(
    source: WeightsOrRun,
    layout: Annotated[
        Literal["main", "scriptable", "safetensors", "hf"],
        typer.Option(
            help="main, scriptable: the published code's keys; safetensors: ours, of any network; "
            "hf: a folder for transformers.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE|DIR", help="Where to write.", show_default=False)
    ],
    network: Network = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Write the best weights of a run, or a file of weights, as other programs read them.

    Example: ablate export k3v9 --layout hf -o my-depth-model
    """
    from ablate.cli.checkpoints import find_source
    from ablate.cli.console import interruptible, say
    from ablate.depth.model.export import export as write
    from ablate.depth.predict import origin_of
    from ablate.runs.paths import RunsDir

    with interruptible("interrupted; nothing was written"):
        found = find_source(source, RunsDir(runs_dir))
        if found.note:
            say(f"warning: {found.note}")
        origin = origin_of(found.weights, found.config, network)
        notes = write(origin.model, found.weights, layout, output, force=force)
    for note in notes:
        say(f"note: {note}")
    say(f"{output}: {origin.model.name} with the weights of {found.name}, {layout} layout")
