"""`ablate wandb sync`: runs to wandb from their own records, whatever its mirror got of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

if TYPE_CHECKING:
    from ablate.engine.mirror_push import Done
    from ablate.engine.mirror_sync import Planned
    from ablate.runs.paths import RunPaths

app = typer.Typer(
    name="wandb",
    help="Weights & Biases: send what its mirror did not get, or files for it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _group() -> None:
    return


@app.command()
def sync(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SELECTOR]...",
            help="As for every command: runs, studies, status=failed, lr=1e-4. Default: all whose study has a mirror.",
            show_default=False,
        ),
    ] = None,
    offline: Annotated[
        Path | None,
        typer.Option("--offline", metavar="DIR", help="Write wandb's offline files there; nothing is sent."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and do nothing.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All runs, also those that were trained without a mirror.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what was sent already, as far as wandb lacks it.")
    ] = False,
    project: Annotated[
        str | None, typer.Option("--project", help="Default: the study's, WANDB_PROJECT, the study's name.")
    ] = None,
    entity: Annotated[
        str | None, typer.Option("--entity", help="Default: the study's, WANDB_ENTITY, the account's own.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="That wandb may take to finish a run.")
    ] = 600.0,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Send runs to wandb from their journals: also crashed ones, and ones trained without a mirror.

    Doing it again sends what is new since, and else nothing. Example: ablate wandb sync quickstart --dry-run
    """
    from ablate.cli.console import say
    from ablate.engine import mirror_sync
    from ablate.errors import UsageError
    from ablate.runs.paths import RunsDir

    runs = RunsDir(runs_dir)
    if words and everything:
        raise UsageError("--all means every run; leave the names out, or leave --all out")
    wanted = mirror_sync.Wanted(project, entity, offline, force, timeout)
    if offline is None and not dry_run:
        mirror_sync.check_environment()
    planned = mirror_sync.plan(_chosen(words or [], everything, db, runs_dir), runs, wanted)
    if not planned:
        why = "no run fits" if words else "no study here has a mirror; name studies or runs, or give --all"
        say(f"nothing to send: {why}")
        return
    failed = _carry_out(planned, wanted, dry_run)
    raise typer.Exit(1 if failed else 0)


def _chosen(words: Sequence[str], everything: bool, db: Path, runs_dir: Path) -> list[RunPaths]:
    """Every run once. Raises UsageError, UnknownRunError."""
    from ablate.cli.chosen import chosen_paths
    from ablate.engine.mirror_sync import asks_for_a_mirror
    from ablate.runs.paths import RunsDir

    if words:
        return chosen_paths(words, db, runs_dir, current=True)
    return [paths for paths in RunsDir(runs_dir).runs() if everything or asks_for_a_mirror(paths)]


def _carry_out(planned: Sequence[Planned], wanted: object, dry_run: bool) -> bool:
    """Prints a line for each run; returns whether any failed."""
    from ablate.cli.console import emit, harmless, say
    from ablate.engine import mirror_sync
    from ablate.engine.mirror_sync import Standing, Wanted

    assert isinstance(wanted, Wanted)
    for item in planned:
        if item.standing is not Standing.SEND or dry_run:
            emit(harmless(f"{item.standing:<8} {item.paths.name}  {item.why}"))
    left = [item for item in planned if item.standing is Standing.SEND]
    if dry_run or not left:
        return False
    results = []
    for done in mirror_sync.carry_out(planned, wanted):
        results.append(done)
        emit(harmless(_line(done, "sent" if wanted.into is None else "written")))
    if len(results) < len(left):
        say(f"{len(left) - len(results)} more not tried: wandb cannot be reached")
    failures = [done for done in results if done.error]
    if any("api_key" in (done.error or "").lower() or "api key" in (done.error or "").lower() for done in failures):
        say("no account is known here: `wandb login`, or set WANDB_API_KEY; or write files with --offline DIR")
    return bool(failures)


def _line(done: Done, did: str) -> str:
    if done.error:
        return f"{'failed':<8} {done.run}  {' '.join(done.error.split())}"
    return f"{did:<8} {done.run}  {done.rows} rows" + (f"  {done.url}" if done.url else "")
