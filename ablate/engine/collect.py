"""Making room: runs that are not wanted any more, checkpoints that no policy keeps, and what dead processes left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablate.errors import RecordError, UsageError
from ablate.runs import disk, files, lease, states
from ablate.runs.checkpoint import WEIGHTS, Checkpoints, Manifest
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State, Status

KEEPABLE = ("best", "last")
_QUIET = 600.0
"""Seconds for which nobody may have touched a temporary folder before it counts as left behind."""


@dataclass(frozen=True)
class Removal:
    """A run that would be removed, and what that frees."""

    paths: RunPaths
    status: Status
    files: int
    bytes: int


def removal(paths: RunPaths) -> Removal:
    sizes = [size for _, size in _files(paths.root)]
    return Removal(paths, _status(paths), len(sizes), sum(sizes))


def _status(paths: RunPaths) -> Status:
    try:
        return states.status(paths)
    except RecordError as error:
        return Status(State.FAILED, None, str(error))


def remove(paths: RunPaths) -> None:
    """Removes a run: first its name, in one step, then its files. Raises HeldError if somebody trains it."""
    with Lease.acquire(paths.lease, f"run {paths.name}"):
        gone = paths.root.parent / f".gone-{paths.name}.{os.getpid()}{files.TEMPORARY}"
        disk.remove_tree(gone)
        disk.rename_folder(paths.root, gone)
        files.fsync_folder(gone.parent)
        disk.remove_tree(gone)


@dataclass(frozen=True)
class Policy:
    """Which checkpoints of a complete run are kept: the best weights, the last ones, those of every k-th epoch."""

    best: bool = True
    last: bool = True
    every: int | None = None

    @classmethod
    def parse(cls, keep: str, every: int | None) -> Policy:
        """Raises UsageError unless `keep` is `best`, `last` or `best,last`."""
        names = {name.strip() for name in keep.split(",") if name.strip()}
        if not names or not names <= set(KEEPABLE):
            raise UsageError(f"--keep {keep!r}: expected best, last or best,last")
        return cls("best" in names, "last" in names, every)

    def keeps(self, manifest: Manifest) -> bool:
        """Whether this one stays as the checkpoint of a k-th epoch."""
        position = manifest.position
        at_end = position.step == 0 and position.epoch > 1
        return self.every is not None and at_end and (position.epoch - 1) % self.every == 0


@dataclass(frozen=True)
class Sweep:
    """What would go of one run: `rewrite` are manifests that stay with fewer files."""

    paths: RunPaths
    rewrite: tuple[Manifest, ...]
    drop: tuple[tuple[Path, int], ...]
    """Files and their bytes."""

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.drop)


def sweep_of(paths: RunPaths, policy: Policy) -> Sweep | None:
    """What the policy does not keep of a run; None if that is nothing, or if somebody trains it.

    An unfinished run keeps all its checkpoints: a resume needs the newest, and the one before if that is damaged.
    Raises RecordError if a manifest cannot be read: then nothing of the run is touched.
    """
    return None if lease.is_held(paths.lease) else _what_goes(paths, policy)


def _what_goes(paths: RunPaths, policy: Policy) -> Sweep | None:
    manifests = [Manifest.read(path) for path in Checkpoints(paths.checkpoints).manifests()]
    outcome = states.read_outcome(paths)  # not the status: whoever sweeps holds the lease
    complete = outcome is not None and outcome.state is State.COMPLETE
    kept = _kept(manifests, policy) if complete else manifests
    named = {f"{manifest.number:06d}.json" for manifest in kept}
    named.update(stored.name for manifest in kept for stored in manifest.stored())
    drop = tuple((path, size) for path, size in _files(paths.checkpoints) if path.name not in named)
    drop += tuple((path, path.lstat().st_size) for path in sorted(paths.root.glob(f"*{files.TEMPORARY}")))
    rewrite = tuple(manifest for manifest in kept if manifest not in manifests)
    return Sweep(paths, rewrite, drop) if drop else None


def _kept(manifests: Sequence[Manifest], policy: Policy) -> list[Manifest]:
    """Of a complete run's manifests (newest first) those that stay, and with which files."""
    kept = []
    for place, manifest in enumerate(manifests):
        weights = {key: stored for key, stored in manifest.files.items() if key == WEIGHTS}
        if place == 0:
            last = weights if policy.last or policy.keeps(manifest) or manifest.best is None else {}
            best = manifest.best if policy.best or not last else None
            kept.append(replace(manifest, files=last, best=best))
        elif policy.keeps(manifest):
            kept.append(replace(manifest, files=weights, best=None))
    return kept


def sweep(paths: RunPaths, policy: Policy) -> int:
    """Removes what the policy does not keep; returns the bytes freed. Raises HeldError, RecordError."""
    with Lease.acquire(paths.lease, f"run {paths.name}"):
        found = _what_goes(paths, policy)
        if found is None:
            return 0
        for manifest in found.rewrite:
            manifest.write(paths.checkpoints / f"{manifest.number:06d}.json")
        for folder in {paths.root, paths.checkpoints} if paths.checkpoints.is_dir() else {paths.root}:
            files.fsync_folder(folder)  # what says that they may go must be certain first
        # Manifests before the files that they name: a kill in between leaves files that the next sweep removes.
        for path, _ in sorted(found.drop, key=lambda item: item[0].suffix != ".json"):
            disk.unlink(path)
        files.fsync_folder(paths.root)
        if paths.checkpoints.is_dir():
            files.fsync_folder(paths.checkpoints)
        return found.bytes


def left_behind(runs: RunsDir) -> list[Path]:
    """Hidden folders of processes that are gone: `.<name>.<pid>.tmp`, quiet for ten minutes."""
    if not runs.root.is_dir():
        return []
    return [path for path in sorted(runs.root.glob(f".*{files.TEMPORARY}")) if _is_left_behind(path)]


def _is_left_behind(path: Path) -> bool:
    pid = path.name.removesuffix(files.TEMPORARY).rpartition(".")[2]
    if path.is_symlink() or not path.is_dir() or not pid.isdecimal() or lease.process_started(int(pid)):
        return False
    return time.time() - path.stat().st_mtime > _QUIET


def folder_bytes(folder: Path) -> int:
    return sum(size for _, size in _files(folder))


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file below, and its bytes; links are counted, not followed."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            try:
                yield path, path.lstat().st_size
            except FileNotFoundError:  # a run writes meanwhile
                continue
