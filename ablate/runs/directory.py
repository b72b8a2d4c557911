"""Run directories: made once, found by name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ablate.errors import RecordError, UnknownRunError
from ablate.runs import disk, files
from ablate.runs.origin import Origin, read_origin
from ablate.runs.paths import RunPaths, RunsDir


@dataclass(frozen=True)
class RunIdentity:
    """What a run is, for good: `run.json`."""

    run_id: str
    hash: str
    name: str
    task: str
    recipe: int
    settings: Mapping[str, Any]
    digests: Mapping[str, str]
    created: float
    external: Origin | None = None
    """Where a run that was imported came from; None for one that is trained here."""


@dataclass(frozen=True)
class RunConfig:
    """How the newest attempt was asked for: `config.json`."""

    config: Mapping[str, Any]
    command: str
    wandb: Mapping[str, Any]


def read_identity(paths: RunPaths) -> RunIdentity:
    """Raises RecordError, naming the file, if it is damaged."""
    value = files.read_json(paths.identity)
    try:
        known = [key for key in RunIdentity.__dataclass_fields__ if key != "external"]
        return RunIdentity(**{key: value[key] for key in known}, external=read_origin(value.get("external")))
    except (KeyError, TypeError) as error:
        raise RecordError(f"{paths.identity}: lacks {error}") from error


def write_identity(paths: RunPaths, identity: RunIdentity) -> None:
    """For a directory that nobody else knows yet."""
    value = {"v": 1, **asdict(identity)}
    if identity.external is None:
        del value["external"]
    files.write_json(paths.identity, value)


def read_config(paths: RunPaths) -> RunConfig:
    """Raises RecordError, naming the file, if it is damaged or missing."""
    try:
        value = files.read_json(paths.config)
        return RunConfig(value["config"], value["command"], value.get("wandb", {}))
    except (FileNotFoundError, KeyError) as error:
        raise RecordError(f"{paths.config}: missing or incomplete ({error})") from error


def write_config(paths: RunPaths, config: RunConfig) -> None:
    files.write_json(paths.config, {"v": 1, **asdict(config)})


def ensure_run(runs: RunsDir, identity: RunIdentity, config: RunConfig) -> RunPaths:
    """The run's directory, made if it is new; its configuration is brought up to date.

    A directory appears whole or not at all. Raises RecordError if another run sits at its place.
    """
    paths = runs.run(identity.name)
    if not paths.identity.exists():
        _create(runs, paths, identity, config)
    else:
        files.fsync_folder(runs.root)  # whoever made it may have been killed before its name was certain
    present = read_identity(paths)
    if present.hash != identity.hash:
        raise RecordError(
            f"{paths.root}: holds another run with the same short id ({present.hash}, not {identity.hash})"
        )
    if read_config(paths) != config:
        write_config(paths, config)
    return paths


def _create(runs: RunsDir, paths: RunPaths, identity: RunIdentity, config: RunConfig) -> None:
    files.make_folder(runs.root)
    aside = RunPaths(runs.root / f".{identity.name}.{os.getpid()}{files.TEMPORARY}")
    disk.remove_tree(aside.root)
    disk.make_folder(aside.root)
    write_identity(aside, replace(identity, created=identity.created or time.time()))
    write_config(aside, config)
    put_in_place(aside, paths)


def put_in_place(aside: RunPaths, paths: RunPaths) -> None:
    """Gives a directory that was written aside its name, durably. Another process may have been faster."""
    try:
        disk.rename_folder(aside.root, paths.root)
    except OSError:
        disk.remove_tree(aside.root)
        if not paths.identity.exists():  # else another process made the very same run a moment ago
            raise
    files.fsync_folder(paths.root.parent)


def find_epoch(runs: RunsDir, name: str) -> tuple[RunPaths, int | None]:
    """`RUN@6` -> the run and the epoch; without `@` the epoch is None.

    Raises UnknownRunError as `find_run`, and if what follows the `@` is no epoch.
    """
    text, epoch = split_epoch(name)
    return find_run(runs, text), epoch


def split_epoch(name: str) -> tuple[str, int | None]:
    """`RUN@6` -> (`RUN`, 6), `RUN` -> (`RUN`, None). Raises UnknownRunError if what follows the `@` is no epoch."""
    text, found, number = name.rpartition("@")
    if not found:
        return name, None
    if not text or not number.isascii() or not number.isdecimal() or not int(number):
        raise UnknownRunError(f"{name!r}: after the @ comes an epoch, such as {text or 'RUN'}@6")
    return text, int(number)


def find_run(runs: RunsDir, name: str) -> RunPaths:
    """The run whose name or id starts with `name`, or whose directory it is.

    Raises UnknownRunError, listing the candidates, if there is none or more than one.
    """
    everything = runs.runs()
    text = Path(name).name if os.sep in name else name
    exact = [paths for paths in everything if text in (paths.name, paths.name.rpartition("-")[2])]
    found = exact or [
        paths
        for paths in everything
        if text and (paths.name.startswith(text) or paths.name.rpartition("-")[2].startswith(text))
    ]
    if len(found) == 1:
        return found[0]
    if not found and "@" in text:
        raise UnknownRunError(
            f"{name!r} names an epoch, and the whole run is meant here; leave the @ and what follows out"
        )
    if not found:
        raise UnknownRunError(
            f"no run called {name!r} in {runs.root}; `ablate ls` lists all{_closest(text, everything)}"
        )
    raise UnknownRunError(
        f"{name!r} names {len(found)} runs: "
        + ", ".join(paths.name for paths in found[:10])
        + ", …" * (len(found) > 10)
    )


def _closest(text: str, everything: Sequence[RunPaths]) -> str:
    import difflib

    names = [paths.name for paths in everything]
    names += [name.rpartition("-")[2] for name in names]
    close = difflib.get_close_matches(text, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""
