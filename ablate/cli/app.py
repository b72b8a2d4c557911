"""The `ablate` command: what it offers, in the order in which a study is worked on."""

from __future__ import annotations

from typing import Annotated

import typer

from ablate.cli import data, database, health, maintenance, options, reports, runs, studies, syncing
from ablate.cli.align import align
from ablate.cli.anywhere import Group
from ablate.cli.comparing import compare
from ablate.cli.evaluate import evaluate
from ablate.cli.export import export
from ablate.cli.importing import import_
from ablate.cli.noting import note, tag
from ablate.cli.predict import predict
from ablate.cli.questions import diff, top
from ablate.cli.score import score
from ablate.cli.sql import sql

app = typer.Typer(
    name="ablate",
    cls=Group,
    help="Ablation studies of depth transformers: declare a grid, train it resumably, report it honestly.",
    epilog="Start with: ablate data sample data/sample, then ablate run studies/quickstart.yaml",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import ablate

        typer.echo(f"ablate {ablate.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    plugins: options.Plugins = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    return  # `--plugins` has done its work by now


app.command()(studies.plan)
app.command()(studies.run)
app.command()(runs.resume)
app.command()(runs.extend)
app.command()(maintenance.retry)
app.command()(maintenance.stop)
app.command()(runs.status)
app.command()(runs.ls)
app.command()(runs.show)
app.command()(reports.report)
app.command()(top)
app.command()(diff)
app.command()(sql)
app.command()(compare)
app.command()(note)
app.command()(tag)
app.command("import")(import_)
app.command("eval")(evaluate)
app.command()(predict)
app.command()(align)
app.command()(export)
app.command()(score)
app.command()(maintenance.verify)
app.command()(maintenance.rm)
app.command()(maintenance.gc)
app.command()(health.doctor)
app.command()(studies.schema)
app.add_typer(syncing.app, name="wandb")
app.add_typer(data.app, name="data")
app.add_typer(database.app, name="db")
