"""How `ablate show RUN` looks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ablate.cli import parts
from ablate.cli.console import escape, print_table
from ablate.cli.listing import coloured, runs_data
from ablate.cli.remarks import show_origin, show_remarks
from ablate.engine.brought import of_attempt
from ablate.errors import RecordError, UnknownRunError
from ablate.results.certificates import Certificate, certificate_of
from ablate.results.open import Results
from ablate.results.records import AttemptRow, EpochRow, EvaluationRow, EventRow, RunRow
from ablate.runs.checkpoint import Checkpoints
from ablate.runs.paths import RunPaths
from ablate.study.remarks import UNKNOWN, is_unknown


@dataclass(frozen=True)
class Details:
    """All that is known of a run."""

    run: RunRow
    studies: tuple[str, ...]
    attempts: tuple[AttemptRow, ...]
    epochs: tuple[EpochRow, ...]
    evaluations: tuple[EvaluationRow, ...]
    notes: tuple[str, ...]
    files: tuple[tuple[str, int], ...]
    certificate: Certificate | None = None
    opened: Mapping[str, Any] = field(default_factory=dict)
    """The facts that the newest attempt stored once it had its network."""
    unknown: tuple[str, ...] = ()
    """Settings that the study which holds the run does not state."""
    kept: tuple[int, ...] = ()
    """Epochs whose weights are there: RUN@EPOCH names them."""

    def of_epoch(self, epoch: int) -> Details:
        """With what was recorded of one epoch alone. Raises UnknownRunError if nothing was."""
        epochs = tuple(row for row in self.epochs if row.epoch == epoch)
        evaluations = tuple(row for row in self.evaluations if row.epoch == epoch)
        if not epochs and not evaluations:
            known = sorted({*(row.epoch for row in self.epochs), *(row.epoch for row in self.evaluations)})
            have = f"it has {known[0]} to {known[-1]}" if known else "it has none yet"
            raise UnknownRunError(f"{self.run.name} has no epoch {epoch}; {have}")
        return replace(self, epochs=epochs, evaluations=evaluations)

    def as_data(self) -> dict[str, Any]:
        return {
            **runs_data([self.run])[0],
            "studies": list(self.studies),
            "configuration": dict(self.run.configuration),
            "attempts": [vars(attempt) for attempt in self.attempts],
            "epochs": [vars(epoch) for epoch in self.epochs],
            "evaluations": [vars(evaluation) for evaluation in self.evaluations],
            "notes": list(self.notes),
            "unknown": list(self.unknown),
            "network": parts.as_data(parts.of_facts(self.opened)),
            "weights": self.opened.get("weights"),
            "alignment": self.opened.get("alignment"),
            "kept_epochs": list(self.kept),
            "files": dict(self.files),
            "certificate": None if self.certificate is None else vars(self.certificate),
        }


def gather(results: Results, run: RunRow) -> Details:
    rows = results.runs(run_id=run.run_id)
    cells = results.cells(run_id=run.run_id)
    return Details(
        run=run,
        studies=tuple(row.study for row in rows if row.study),
        attempts=results.attempts(run.run_id),
        epochs=results.epochs(run.run_id),
        evaluations=results.evaluations(run.run_id),
        notes=tuple(dict.fromkeys([*(note for cell in cells for note in cell.notes), *_notes(results, run.run_id)])),
        files=_files(run.directory),
        certificate=certificate_of(run),
        opened=_opened(results, run.run_id),
        unknown=tuple(dict.fromkeys(key for cell in cells for key in cell.unknown)),
        kept=_kept(run.directory),
    )


def _kept(folder: Path | None) -> tuple[int, ...]:
    try:
        return () if folder is None else tuple(sorted(Checkpoints(RunPaths(folder).checkpoints).kept()))
    except RecordError:
        return ()  # `ablate doctor` says more


def _notes(results: Results, run_id: str) -> tuple[str, ...]:
    """What the events say that a reader of the numbers must know."""
    notes: dict[str, None] = {}
    for event in results.events(run_id):
        if event.name == "checked":
            notes.update(dict.fromkeys(event.body.get("notes", ())))
        elif event.name == "changed":
            notes[f"attempt {event.attempt}: {event.body.get('text')}"] = None
        elif event.name == "extended":
            notes[f"goes on from epoch {event.body.get('epoch')} of {event.body.get('run')} (`ablate extend`)"] = None
        elif event.name == "diverged":
            notes[_diverged(event)] = None
        elif event.name == "ladder":
            notes[f"epoch {event.epoch}: {event.body.get('why')}; memory ladder: {event.body.get('did')}"] = None
        elif event.name == "rollback":
            notes[
                f"epoch {event.epoch}: rolled back to the start of epoch {event.body.get('to_epoch')}, "
                f"from there at {event.body.get('lr_factor')} times the learning rate"
            ] = None
        elif event.name == "differs":
            where = " ".join(str(event.body[key]) for key in ("type", "split", "resolution") if event.body.get(key))
            notes[f"epoch {event.epoch}: {where} came out different when it was computed again"] = None
    return tuple(notes)


def _diverged(event: EventRow) -> str:
    norms = event.body.get("gradient_norms") or {}
    shown = ", ".join(f"{part} {_short(norm)}" for part, norm in norms.items())
    of = f" of {whose}" if (whose := event.body.get("gradient_norms_of")) else ""
    return (
        f"epoch {event.epoch}, step {event.step + 1}: diverged: {event.body.get('why')}; last good loss "
        f"{_short(event.body.get('last_good_loss'))}" + (f"; gradient norms{of}: {shown}" if shown else "")
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | int) else str(value)


def _opened(results: Results, run_id: str) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = {}
    for event in results.events(run_id):
        if event.name == "opened":
            facts = event.body.get("facts") or {}
    return facts


def _files(folder: Path | None) -> tuple[tuple[str, int], ...]:
    if folder is None or not folder.is_dir():
        return ()
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return tuple((str(path.relative_to(folder)), path.stat().st_size) for path in found)


def show_details(details: Details) -> None:
    run = details.run
    console = Console(highlight=False, soft_wrap=True)
    reason = f" ({run.reason}: {escape(run.message or '')})" if run.reason else ""
    console.print(f"[bold]{escape(run.name)}[/]  {coloured(run.status)}{reason}")
    console.print(f"studies      {escape(', '.join(details.studies) or 'none')}")
    console.print(f"hash         {run.hash}")
    console.print(f"directory    {escape(str(run.directory))}")
    console.print(f"made by      {escape(run.command or '')}")
    if run.external is not None:
        show_origin(run.external)
    if details.certificate is not None:
        console.print(f"certificate  {escape(details.certificate.sentence)}")
    for note in details.notes:
        console.print(f"note         {escape(note)}")
    show_remarks(run)
    marked = "as far as its source states it" if run.external else "settings that differ from the defaults are marked *"
    console.print(f"\n[bold]Configuration[/] ({marked})")
    for key, value in flat(run.configuration).items():
        mark = "*" if key in run.settings else " "
        shown = escape(json.dumps(value))
        if is_unknown(key, details.unknown):
            shown = f"{UNKNOWN}: its source does not state it; trained with {shown}"
        console.print(f" {mark} {escape(key)}: {shown}")
    _show_network(console, details.opened)
    _show_attempts(console, details.attempts)
    _show_epochs(console, details.epochs)
    _show_evaluations(console, details.evaluations)
    console.print("\n[bold]Files[/]")
    if details.kept:
        example = escape(f"{run.run_id}@{details.kept[0]}")
        console.print(f"weights of epoch {', '.join(map(str, details.kept))}, to be named as {example}")
    for name, size in details.files:
        console.print(f"{size:>14,}  {escape(name)}")


def _show_network(console: Console, opened: Mapping[str, Any]) -> None:
    """Parameters and pretrained % of each part, modules that are shared, and what the file of weights did not give."""
    network = parts.of_facts(opened)
    if not network:
        return
    console.print("\n[bold]Network[/]")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("part")
    for column in ("parameters", "pretrained %"):
        table.add_column(column, justify="right")
    for row in parts.part_rows(network):
        table.add_row(*map(escape, row))
    print_table(table)
    for part in network:
        if part.shared:
            console.print(f"shared       {escape(parts.sharing(part))}")
    for line in opened.get("notes") or ():
        console.print(escape(line))


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'train': {'lr': 0.1}} -> {'train.lr': 0.1}."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            found |= flat(inner, f"{prefix}{key}.")
        else:
            found[prefix + key] = inner
    return found


def _show_attempts(console: Console, attempts: Sequence[AttemptRow]) -> None:
    console.print("\n[bold]Attempts[/]")
    for attempt in attempts:
        start, git = attempt.resumed_from, attempt.git or {}
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.wall))
        where = f"epoch {start['epoch']}, step {start['step']}" if start else "the start"
        commit = str(git.get("commit") or "")[:10] + (" with edits" if git.get("dirty") else "")
        versions = ", ".join(f"{name} {version}" for name, version in (attempt.versions or {}).items())
        console.print(
            f" {attempt.attempt}  {began} from {where}, on {escape(str(attempt.host))}, {escape(str(attempt.device))}, "
            f"{attempt.threads} threads\n    {escape(attempt.command or '')}\n    {escape(versions)}"
            + (f", commit {escape(commit)}" if commit else "")
            + _brought(attempt)
        )


def _brought(attempt: AttemptRow) -> str:
    """What the attempt used of other packages, a line each."""
    found = of_attempt({"facts": attempt.facts})
    return "".join(
        f"\n    {plugin.kind} {escape(plugin.name)} of {escape(' '.join(filter(None, (plugin.package, plugin.version))))}"
        for plugin in found
    )


def _show_epochs(console: Console, epochs: Sequence[EpochRow]) -> None:
    console.print("\n[bold]Epochs[/]")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("epoch", "train loss", "lr", "seconds", "images/s", "peak memory (MiB)"):
        table.add_column(column, justify="right")
    for row in epochs:
        table.add_row(
            str(row.epoch),
            _number(row.train_loss, 5),
            f"{row.lr:g}" if row.lr is not None else "",
            _number(row.seconds, 1),
            _number(row.images_per_second, 1),
            _number(row.peak_memory_mb, 0),
        )
    print_table(table)


def _show_evaluations(console: Console, evaluations: Sequence[EvaluationRow]) -> None:
    console.print("\n[bold]Evaluations[/]")
    metrics = list(dict.fromkeys(key for row in evaluations for key in row.metrics))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("epoch", "split", "resolution", *metrics, "loss", "images"):
        table.add_column(column, justify="left" if column in ("split", "resolution") else "right")
    for row in evaluations:
        numbers = [_number(row.metrics.get(key), 3) for key in metrics]
        table.add_row(str(row.epoch), row.split, row.resolution, *numbers, _number(row.loss, 4), _number(row.images, 0))
    print_table(table)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
