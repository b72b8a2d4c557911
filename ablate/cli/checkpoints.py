"""What `WEIGHTS_OR_RUN` names: a file of weights, or a run, by id, name, the start of either, or its directory.

A run stands for its best weights, and `RUN@6` for those of its sixth epoch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import CheckpointError, DataError, UnknownRunError, UsageError
from ablate.runs import directory, external, files, states
from ablate.runs.checkpoint import WEIGHTS, Checkpoints, Manifest
from ablate.runs.directory import RunIdentity
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State

HUGGING_FACE = "model.safetensors"
"""What the folder of a Hugging Face model holds."""
SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")


@dataclass(frozen=True)
class Source:
    """Weights on the disk, and the run they are from, if they are a run's.

    `name` is for people; `config` is the run's configuration; `note` is what they must know of its weights.
    """

    name: str
    weights: Path
    identity: RunIdentity | None = None
    config: Mapping[str, Any] | None = None
    note: str | None = None


def find_source(text: str, runs: RunsDir) -> Source:
    """Raises DataError if a file is missing, UnknownRunError, RecordError, and UsageError for a run without weights."""
    path = Path(text).expanduser()
    if path.is_file():
        return Source(path.name, path.absolute())
    if (path / "run.json").is_file():
        return _of_run(RunPaths(path.absolute()))
    if found := _epoch_of_folder(path):
        return _of_run(*found)
    if (path / HUGGING_FACE).is_file():
        return Source(path.name, (path / HUGGING_FACE).absolute())
    if path.is_dir():
        raise UsageError(
            f"{path}: a folder, but not that of a run (it has no run.json); name a file of weights or a run"
        )
    if path.suffix in SUFFIXES:
        raise DataError(f"{path}: no such file{_neighbours(path)}")
    try:
        return _of_run(*directory.find_epoch(runs, text))
    except UnknownRunError as error:
        raise UnknownRunError(f"{error}; and there is no file {text}{_neighbours(path)}") from None


def _epoch_of_folder(path: Path) -> tuple[RunPaths, int | None] | None:
    """`runs/NAME@6`, where that is no file."""
    if "@" not in path.name or len(path.parts) == 1:
        return None
    name, epoch = directory.split_epoch(path.name)
    folder = path.with_name(name).absolute()
    return (RunPaths(folder), epoch) if (folder / "run.json").is_file() else None


def _of_run(paths: RunPaths, epoch: int | None = None) -> Source:
    identity, stored = directory.read_identity(paths), directory.read_config(paths)
    if identity.task != "depth":
        raise UsageError(f"{paths.name}: a run of the task {identity.task!r}; only depth runs predict depth")
    external.refuse(paths, "load", "name its file of weights instead, if you have it")
    if epoch is not None:
        return Source(f"{paths.name}@{epoch}", _weights_of(paths, epoch), identity, stored.config)
    weights, best = _weights(paths)
    status = states.status(paths)
    note = None
    if status.state is not State.COMPLETE:
        which = f"the best so far, of epoch {best}" if best is not None else "the newest: it has evaluated none yet"
        note = f"{paths.name} is {status.state}; its weights are {which}"
    return Source(paths.name, weights, identity, stored.config, note)


def _weights(paths: RunPaths) -> tuple[Path, int | None]:
    """The best weights so far and their epoch, or the newest and None. Raises UsageError if there are none."""
    checkpoints = Checkpoints(paths.checkpoints)
    problems = []
    for path in checkpoints.manifests():
        try:
            manifest = Manifest.read(path)
            stored = manifest.best or manifest.files[WEIGHTS]
            found = paths.checkpoints / stored.name
            if files.sha256_of(found) != stored.sha256:
                raise CheckpointError(f"{found}: is not what its manifest says; the file is damaged")
        except FileNotFoundError as error:
            problems.append(f"{error.filename}: missing")
        except (OSError, ValueError, KeyError) as error:
            problems.append(str(error))
        else:
            return found.absolute(), manifest.loop.get("best_epoch") if manifest.best else None
    if problems:
        raise CheckpointError(f"{paths.name}: no checkpoint is whole\n  " + "\n  ".join(problems))
    raise UsageError(
        f"{paths.name} has no weights yet: it has stored no checkpoint; `ablate resume {paths.name}` trains it"
    )


def _weights_of(paths: RunPaths, epoch: int) -> Path:
    """Raises CheckpointError, naming the epochs that are kept, if those are not, or if the file is damaged."""
    checkpoints = Checkpoints(paths.checkpoints)
    stored = checkpoints.weights_of(epoch)
    found = checkpoints.file_of(stored)
    try:
        whole = files.sha256_of(found) == stored.sha256
    except OSError as error:
        raise CheckpointError(f"{found}: {(error.strerror or str(error)).lower()}") from error
    if not whole:
        raise CheckpointError(f"{found}: is not what its manifest says; the file is damaged")
    return found.absolute()


def _neighbours(path: Path) -> str:
    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix in SUFFIXES]
    except OSError:
        return f" (there is no folder {path.parent})" if str(path.parent) != "." else ""
    close = difflib.get_close_matches(path.name, sorted(names), n=1, cutoff=0.5)
    return f"; did you mean {path.parent / close[0]}?" if close else ""
