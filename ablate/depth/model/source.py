"""Where weights come from: a file, the folder of a Hugging Face model, or the best weights of a run. No torch here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ablate.errors import DataError, RecordError, UnknownRunError
from ablate.runs.checkpoint import WEIGHTS, Checkpoints, Manifest
from ablate.runs.directory import find_run
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
    runs = runs_dir(root)
    try:
        return Path(os.path.abspath(find_run(runs, str(weights)).root))  # noqa: PTH100
    except UnknownRunError as error:
        raise UnknownRunError(f"model.weights: there is no file {path}, and {error}") from error


def runs_dir(root: Path) -> RunsDir:
    return RunsDir(root / (os.environ.get(RUNS_VARIABLE) or "runs"))


def is_run(path: Path) -> bool:
    return RunPaths(path).identity.is_file()


def weights_file(path: Path) -> Path:
    """The file with the tensors. Raises DataError, naming the path and the remedy, if there is none."""
    if not path.is_dir():
        return path
    if is_run(path):
        return best_weights(path)
    if (path / HUGGING_FACE_FILE).is_file():
        return path / HUGGING_FACE_FILE
    raise DataError(
        f"{path}: is a folder, and neither a run nor a Hugging Face model ({HUGGING_FACE_FILE}); "
        "set model.weights to a file of weights"
    )


def best_weights(run: Path) -> Path:
    """The weights of a run's best epoch; of its last one if it was never evaluated.

    Raises DataError if the run has no checkpoint or its newest one is damaged.
    """
    paths = RunPaths(run)
    for path in Checkpoints(paths.checkpoints).manifests():
        try:
            manifest = Manifest.read(path)
        except RecordError as error:
            raise DataError(f"{error}; `ablate doctor` says more") from error
        stored = manifest.best or manifest.files.get(WEIGHTS)
        if stored is None or Path(stored.name).name != stored.name:
            break
        return paths.checkpoints / stored.name
    raise DataError(f"{run}: the run has no weights yet; `ablate resume {paths.name}` trains it")


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
        refuse_unfinished(path)
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
