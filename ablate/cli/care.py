"""What the commands that look after runs say and do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from ablate.cli.chosen import chosen_paths, nothing_fits, studies_only
from ablate.cli.console import emit, escape, print_table, say, talk
from ablate.cli.listing import coloured
from ablate.cli.live import Screen, duration
from ablate.cli.training import COMPLETE, FAILED, HELD, INTERRUPTED, ingester, verdict
from ablate.engine import again, collect, halt
from ablate.engine.again import Failed
from ablate.engine.halt import Answer, Halted, Target
from ablate.engine.launch import Where
from ablate.engine.scheduler import Watch
from ablate.engine.stop import StopFlag, Stopped
from ablate.engine.verify import Wanted, verify
from ablate.errors import DatabaseError, HeldError, RecordError, UsageError
from ablate.external import store
from ablate.report.selection import split
from ablate.results import ingest
from ablate.runs import disk
from ablate.runs.certificate import Certificate
from ablate.runs.directory import read_identity
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State


def size(count: int) -> str:
    """'512 B', '3.4 MiB'."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def stop_all(words: Sequence[str], db: Path, runs_dir: Path, wait: float) -> int:
    """Stops what was named, and says what happened. Returns the exit code."""
    halted = halt.halt(_targets(words, db, RunsDir(runs_dir)), wait, say)
    if not halted:
        say(f"{' '.join(words) or runs_dir}: nothing is running")
    for item in halted:
        say(_halted(item))
    return COMPLETE if all(item.answer is Answer.STOPPED for item in halted) else HELD


def _targets(words: Sequence[str], db: Path, runs: RunsDir) -> list[Target]:
    """With a whole study its coordinator, which would start the next run; else the runs alone."""
    if not words:
        return halt.everything(runs)
    if (studies := studies_only(words, runs)) is not None:
        return [target for name in studies for target in halt.of_study(runs, name)]
    return [halt.of_run(paths) for paths in chosen_paths(words, db, runs.root)]


def _halted(item: Halted) -> str:
    who = f" ({item.holder})" if item.holder else ""
    if item.answer is Answer.STOPPED:
        return f"stopped   {item.what}{who}; everything is saved"
    if item.answer is Answer.ELSEWHERE:
        return f"running   {item.what}{who}: stop it there"
    return (
        f"running   {item.what}{who}: asked, but it has not ended yet; it does after its step, or wait longer (--wait)"
    )


def retry_all(
    words: Sequence[str], failed: bool, reasons: Sequence[str], where: Where, db: Path, command: Sequence[str]
) -> int:
    """Trains again what failed. Returns the exit code. Raises UsageError if it is not said which."""
    reasons = [*reasons, *_values(words, "reason")]
    if not failed and not reasons and str(State.FAILED) not in _values(words, "status"):
        raise UsageError("say which runs: --failed, or --reason oom and the like")
    runs = chosen_paths(words, db, where.runs.root, current=True) if words else where.runs.runs()
    chosen = again.failed_runs(runs, reasons)
    if not chosen:
        say(f"{' '.join(words) or where.runs.root}: no run {_which(reasons)}")
        return COMPLETE
    _say_chosen(chosen)
    stop = StopFlag()
    with Screen(talk, " ".join(words) or "retry", len(chosen), 0, stop) as screen:
        watch = Watch(screen.running, screen.ended, ingester(db, where), say)
        ended = again.train_again(chosen, where, command, watch, stop, say)
    return verdict(ended, [], stop, command)


def _values(words: Sequence[str], key: str) -> list[str]:
    """The values that filters of a key want."""
    return [
        value.strip()
        for _, name, values, equal in split(words)[1]
        if name == key and equal
        for value in values.split(",")
    ]


def _which(reasons: Sequence[str]) -> str:
    return f"failed with the reason {' or '.join(reasons)}" if reasons else "failed (diverged ones: --reason diverged)"


def _say_chosen(chosen: Sequence[Failed]) -> None:
    for item in chosen:
        message = (item.status.message or "").partition("\n")[0]
        say(f"retry     {item.paths.name} ({item.status.reason}: {message})")


def remove_all(words: Sequence[str], yes: bool, db: Path, runs_dir: Path) -> None:
    """Shows what would go, and removes it if `yes`. Raises UnknownRunError, HeldError; then nothing is removed."""
    runs = RunsDir(runs_dir)
    chosen = {paths.root: collect.removal(paths) for paths in chosen_paths(words, db, runs_dir)}
    if not chosen:
        say(nothing_fits(words))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "status", "files", "size"):
        table.add_column(column, justify="right" if column in ("files", "size") else "left")
    for item in chosen.values():
        name, state = escape(item.paths.name), coloured(item.status.state)
        table.add_row(name, state, str(item.files), size(item.bytes))
    print_table(table)
    _refuse_held([item.paths for item in chosen.values()])
    total = size(sum(item.bytes for item in chosen.values()))
    if not yes:
        say(f"nothing was removed; --yes removes {_count(len(chosen), 'run')} and frees {total}")
        return
    imported = [origin for item in chosen.values() if (origin := _imported(item.paths))]
    store.forget(runs, imported)
    for item in chosen.values():
        collect.remove(item.paths)
    _forget(db, runs_dir)
    again = "`ablate import` takes it in again" if imported else "a study that holds one trains it anew"
    say(f"removed {_count(len(chosen), 'run')}, {total} freed; {again}")


def _imported(paths: RunPaths) -> str | None:
    """The id of a run that was imported; None for all others."""
    try:
        identity = read_identity(paths)
    except RecordError:  # damaged, and about to go
        return None
    return identity.run_id if identity.external else None


def _refuse_held(chosen: Sequence[RunPaths]) -> None:
    for paths in chosen:
        if holder := halt.holder_of(paths):
            raise HeldError(
                f"run {paths.name} is held by {holder}, nothing was removed; `ablate stop {paths.name}` first"
            )


def _forget(db: Path, runs_dir: Path) -> None:
    if not db.exists():
        return
    try:
        ingest.ingest(db, runs_dir, wait=2.0)
    except (DatabaseError, OSError) as error:
        say(f"warning: {error}\n  `ablate db rebuild` makes the database again from the runs")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def collect_all(words: Sequence[str], policy: collect.Policy, yes: bool, db: Path, runs_dir: Path) -> None:
    """Shows which files no policy keeps, and removes them if `yes`; without words also what dead processes left."""
    runs = RunsDir(runs_dir)
    freed = 0
    for paths in chosen_paths(words, db, runs_dir) if words else runs.runs():
        try:
            freed += _collect(paths, policy, yes)
        except (HeldError, RecordError) as error:
            say(f"left alone: {error}")
    for folder in () if words else collect.left_behind(runs):
        freed += (bytes_ := collect.folder_bytes(folder))
        emit(f"{bytes_:>14,}  {folder} (left behind by a process that is gone)")
        if yes:
            disk.remove_tree(folder)
    say(f"{size(freed)} freed" if yes else f"{size(freed)} would be freed; nothing was removed, --yes does it")


def _collect(paths: RunPaths, policy: collect.Policy, yes: bool) -> int:
    found = collect.sweep_of(paths, policy)
    if found is None:
        return 0
    for path, count in found.drop:
        emit(f"{count:>14,}  {path}")
    return collect.sweep(paths, policy) if yes else found.bytes


def verify_one(paths: RunPaths, wanted: Wanted, as_json: bool) -> int:
    """Verifies a run and prints the certificate. Returns the exit code: 0 if it is bit-identical."""
    stop = StopFlag()
    try:
        certificate = verify(paths, wanted, stop, say)
    except Stopped:
        say("interrupted; nothing was certified")
        return INTERRUPTED
    if as_json:
        emit(json.dumps(asdict(certificate), indent=1))
    else:
        show_certificate(paths, certificate)
    return COMPLETE if certificate.identical else FAILED


def show_certificate(paths: RunPaths, found: Certificate) -> None:
    what = "weights and metrics" if found.evaluated else "weights and training losses"
    emit(f"run          {paths.name}")
    emit(f"verdict      {f'{what} bit-identical' if found.identical else 'NOT bit-identical'}")
    emit(f"disturbance  {found.kills} SIGKILLs in {_count(found.runs, 'training')}, {found.resumes} resumes")
    emit(f"stretch      {found.steps} steps, {'with' if found.evaluated else 'without'} evaluation, seed {found.seed}")
    emit(f"conditions   {found.device}, {_count(found.threads, 'thread')}, {found.processor}")
    emit(f"versions     {', '.join(f'{name} {text}' for name, text in found.versions.items())}")
    emit(f"weights      SHA-256 {found.weights}")
    emit(f"metrics      SHA-256 {found.metrics}")
    emit(f"took         {duration(found.seconds)}")
    for difference in found.differences:
        emit(f"differs      {difference}")
    for kernel in found.nondeterministic:
        emit(f"kernel       {kernel} is not deterministic")
    if not found.identical and not found.nondeterministic:
        emit("cause        unknown: torch named no kernel that is not deterministic")
    emit(f"stored       {paths.certificate}")
