"""Where weights come from: a file, the folder of a Hugging Face model, or a run. No torch here.

A run stands for its best weights, and `RUN@6` for those of its sixth epoch, if they were kept. What was located is a
path: that of the run's directory, with the epoch behind it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ablate.errors import CheckpointError, DataError, RecordError, UnknownRunError
from ablate.runs.checkpoint import Checkpoints
from ablate.runs.directory import find_epoch, split_epoch
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State, status

RUNS_VARIABLE = "ABLATE_RUNS_DIR"
"""The folder of runs; `runs` in the working folder if it is not set. `--runs-dir` sets it."""

SUFFIXES = (".pt", ".pth", ".safetensors")
HUGGING_FACE_FILE = "model.safetensors"

T = TypeVar("T")


def located(root: Path, weights: Path) -> Path:
    """The absolute path of what `model.weights` names: a file or folder under `root`, or a run by its id or name.

    A file wins over a run of that name. Raises UnknownRunError if the name is neither, or names several runs.
    """
    path = Path(os.path.abspath(root / weights.expanduser()))  # noqa: PTH100  (resolve() would follow links)
    if len(weights.parts) != 1 or weights.suffix in SUFFIXES or path.exists():
        return path
    try:
        run, epoch = find_epoch(runs_dir(root), str(weights))
    except UnknownRunError as error:
        raise UnknownRunError(f"model.weights: there is no file {path}, and {error}") from error
    return Path(os.path.abspath(run.root) + ("" if epoch is None else f"@{epoch}"))  # noqa: PTH100


def runs_dir(root: Path) -> RunsDir:
    return RunsDir(root / (os.environ.get(RUNS_VARIABLE) or "runs"))


def is_run(path: Path) -> bool:
    return RunPaths(path).identity.is_file()


def run_and_epoch(path: Path) -> tuple[Path, int | None] | None:
    """The directory of the run, and the epoch if one is named, of what `located` gave; None if it is no run's."""
    if is_run(path):
        return path, None
    if path.exists() or "@" not in path.name:
        return None
    try:
        name, epoch = split_epoch(path.name)
    except UnknownRunError:
        return None  # a file that is not there
    return (path.with_name(name), epoch) if is_run(path.with_name(name)) else None


def weights_file(path: Path) -> Path:
    """The file with the tensors. Raises DataError, naming the path and the remedy, if there is none."""
    if found := run_and_epoch(path):
        return weights_of(*found)
    if not path.is_dir():
        return path
    if (path / HUGGING_FACE_FILE).is_file():
        return path / HUGGING_FACE_FILE
    raise DataError(
        f"{path}: is a folder, and neither a run nor a Hugging Face model ({HUGGING_FACE_FILE}); "
        "set model.weights to a file of weights"
    )


def weights_of(run: Path, epoch: int | None = None) -> Path:
    """The weights of an epoch of a run; of the best one if none is named; of the last one if it was never evaluated.

    Raises DataError, naming the epochs that are kept, if they are not, and for a checkpoint that is damaged.
    """
    paths = RunPaths(run)
    checkpoints = Checkpoints(paths.checkpoints)
    if epoch is None and not checkpoints.manifests():
        raise DataError(f"{run}: the run has no weights yet; `ablate resume {paths.name}` trains it")
    try:
        return checkpoints.file_of(checkpoints.weights_of(epoch))
    except CheckpointError as error:
        raise DataError(f"{paths.name}: {error}") from error
    except RecordError as error:
        raise DataError(f"{error}; `ablate doctor` says more") from error


def refuse_unfinished(path: Path) -> None:
    """Raises DataError for a run that is not complete: its best weights may change, and a run's id holds them."""
    if is_run(path) and (found := status(RunPaths(path)).state) is not State.COMPLETE:
        raise DataError(
            f"{path}: the run is {found}, and its best weights may still change; let it complete "
            f"(`ablate resume {path.name}`), or export them to a file: `ablate export {path.name} -o FILE`"
        )


def digest(path: Path) -> str:
    """SHA-256 of the weights that `path` stands for.

    Raises DataError if they cannot be read, and for a run that is not complete.
    """
    if path.is_dir():
        refuse_unfinished(path)  # what is named by its epoch does not change
    file = weights_file(path)
    try:
        return by_version(file, _sha256)
    except OSError as error:
        raise DataError(f"{file}: {(error.strerror or str(error)).lower()}; check model.weights") from error


def by_version(path: Path, compute: Callable[[Path], T]) -> T:
    """`compute(path)`, once per process for each version of a file: the cells of a study share large files.

    Raises OSError.
    """
    found = path.stat()
    return _by_version(path, found.st_size, found.st_mtime_ns, found.st_ino, compute)  # type: ignore[return-value]


@lru_cache(maxsize=16)
def _by_version(path: Path, size: int, mtime_ns: int, inode: int, compute: Callable[[Path], object]) -> object:
    return compute(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
