"""Checkpoints: files of state, and a manifest that names them.

The files of a checkpoint are written first, each aside, fsynced and renamed; the manifest, written last the
same way, is the commit mark. A manifest carries the SHA-256 of every file and of itself, because loaders
accept flipped bits without a word. Two checkpoints are kept, and the best weights.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ablate.errors import CheckpointError, RecordError
from ablate.runs import disk, files
from ablate.task import Component, Position

KEPT = 2
WEIGHTS = "weights"
"""The component that evaluation needs."""

_SLACK = 2**20

_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
"""A file in the folder itself, and no hidden one."""


@dataclass(frozen=True)
class StoredFile:
    name: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> StoredFile:
        """Raises TypeError if a field is not of its kind."""
        stored = cls(**value)
        if not (isinstance(stored.name, str) and isinstance(stored.sha256, str) and isinstance(stored.bytes, int)):
            raise TypeError(f"not a stored file: {value!r}")
        return stored


@dataclass(frozen=True)
class Manifest:
    """One checkpoint: where the run stood, and the files that hold its state."""

    number: int
    position: Position
    seq: int
    """The last journal record that this checkpoint vouches for."""
    loop: Mapping[str, Any]
    """The engine's own state: sums of the epoch so far, the best epoch so far."""
    files: Mapping[str, StoredFile]
    best: StoredFile | None = None
    """The weights of the best epoch so far, in the same manifest so that one rename commits both."""
    kept: bool = False
    """Stays when newer ones come (`train.checkpoint.keep_every`)."""

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Raises RecordError, naming the file, if it is not a manifest or not the one that was written."""
        value = files.read_json(path)
        try:
            if value.pop("sha256") != _digest(value):
                raise RecordError(f"{path}: its content is not what its SHA-256 says")
            return cls(
                number=int(value["number"]),
                position=Position(**value["position"]),
                seq=int(value["seq"]),
                loop=dict(value["loop"]),
                files={key: StoredFile.of(stored) for key, stored in value["files"].items()},
                best=None if value["best"] is None else StoredFile.of(value["best"]),
                kept=bool(value.get("kept", False)),
            )
        except RecordError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"{path}: not a checkpoint manifest ({error!r})") from error

    def write(self, path: Path) -> None:
        value = {"v": 1, **asdict(self)}
        files.write_json(path, {**value, "sha256": _digest(value)})

    def stored(self) -> list[StoredFile]:
        """Every file that this checkpoint needs."""
        return [*self.files.values(), *([self.best] if self.best else [])]


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The checkpoints of one run. Write only while holding the run's lease."""

    def __init__(self, folder: Path, *, keeps_start: bool = False) -> None:
        """keeps_start: of the epoch that is being trained the first checkpoint stays, for going back to it."""
        self.folder = folder
        self._keeps_start = keeps_start
        self._made = False

    def manifests(self) -> list[Path]:
        """The numbered manifests, newest first. None if the folder is a link, which is never followed."""
        if self.folder.is_symlink():
            return []
        return sorted((path for path in self.folder.glob("*.json") if path.stem.isdecimal()), reverse=True)

    def latest(self, say: Callable[[str], None]) -> Manifest | None:
        """The newest checkpoint whose files are whole; None if there never was one.

        A damaged one is passed over and `say` is told. Raises CheckpointError if all are damaged.
        """
        self._refuse_link()
        problems = []
        for path in self.manifests():
            try:
                manifest = Manifest.read(path)
                self.verify(manifest)
            except (OSError, RecordError) as error:
                problems.append(str(error))
                say(f"checkpoint {path.name} is damaged and passed over: {error}")
            else:
                return manifest
        if problems:
            raise CheckpointError(
                f"{self.folder}: no checkpoint is whole, so the run cannot be resumed; `ablate resume --from-scratch` "
                "trains it anew\n  " + "\n  ".join(problems)
            )
        return None

    def start_of(self, position: Position) -> Manifest | None:
        """The whole checkpoint taken before the first step of that epoch; None if there is none (the first epoch)."""
        for path in self.manifests():
            manifest = Manifest.read(path)
            if (manifest.position.epoch, manifest.position.step) == (position.epoch, 0):
                self.verify(manifest)
                return manifest
        return None

    def _refuse_link(self) -> None:
        if self.folder.is_symlink():
            raise CheckpointError(f"{self.folder}: is a symbolic link; run directories hold plain folders only")

    def verify(self, manifest: Manifest) -> None:
        """Raises CheckpointError, naming the file, unless every file is there with its SHA-256."""
        for stored in manifest.stored():
            path = self.file_of(stored)
            try:
                digest = files.sha256_of(path)
            except FileNotFoundError as error:
                raise CheckpointError(f"{path}: missing") from error
            if digest != stored.sha256:
                raise CheckpointError(f"{path}: SHA-256 is {digest[:12]}…, its manifest says {stored.sha256[:12]}…")

    def file_of(self, stored: StoredFile) -> Path:
        """Where it lies. Raises CheckpointError for a name that leads out of the folder."""
        if not _FILE_NAME.fullmatch(stored.name):
            raise CheckpointError(f"{self.folder}: a manifest names the file {stored.name!r} outside the checkpoints")
        return self.folder / stored.name

    def load(self, manifest: Manifest, components: Mapping[str, Component]) -> None:
        """Puts the state of a verified checkpoint into `components`.

        Raises CheckpointError if a component is not in it.
        """
        for key, component in components.items():
            if key not in manifest.files:
                raise CheckpointError(f"{self.folder}: checkpoint {manifest.number} holds no {key}")
            with files.open_plain(self.file_of(manifest.files[key])) as file:
                component.load(file)

    def weights_of(self, epoch: int | None) -> StoredFile:
        """The file of the weights at the end of an epoch; of the best epoch if None, the last one if none is known.

        Raises CheckpointError, naming the epochs that are kept, if those of `epoch` are not.
        """
        self._refuse_link()
        if epoch is None:
            manifests = [Manifest.read(path) for path in self.manifests()]
            best = (manifest.best for manifest in manifests if manifest.best)
            last = (manifest.files[WEIGHTS] for manifest in manifests if WEIGHTS in manifest.files)
            found = next(best, None) or next(last, None)
        else:
            found = self.kept().get(epoch)
        if found is None:
            epochs = ", ".join(map(str, sorted(self.kept()))) or "none yet"
            raise CheckpointError(
                f"{self.folder}: no weights of epoch {epoch or 'any'}; kept: {epochs}. "
                "train.checkpoint.keep_every keeps those of every so many epochs"
            )
        return found

    def kept(self) -> dict[int, StoredFile]:
        """The files of weights by the epoch at whose end they were taken. Raises RecordError."""
        kept: dict[int, StoredFile] = {}
        for path in self.manifests():
            manifest = Manifest.read(path)
            weights, best_epoch = manifest.files.get(WEIGHTS), manifest.loop.get("best_epoch")
            if manifest.best and best_epoch:
                kept.setdefault(best_epoch, manifest.best)
            if weights and manifest.position.step == 0 and manifest.position.epoch > 1:
                kept.setdefault(manifest.position.epoch - 1, weights)
        return kept

    def load_best(self, manifest: Manifest, weights: Component) -> None:
        """Puts the best weights into `weights`. Raises CheckpointError if there are none."""
        if manifest.best is None:
            raise CheckpointError(f"{self.folder}: checkpoint {manifest.number} knows of no best weights")
        with files.open_plain(self.file_of(manifest.best)) as file:
            weights.load(file)

    def save(
        self,
        position: Position,
        loop: Mapping[str, Any],
        seq: int,
        components: Mapping[str, Component],
        best: StoredFile | Literal["this"] | None = None,
        *,
        keep: bool = False,
    ) -> Manifest:
        """Stores a checkpoint, and which weights are the best so far: `this` one's, or earlier ones.

        One that is to `keep` stays when newer ones come.

        Raises DiskError if there is not enough space, and leaves the earlier checkpoints as they were.
        """
        self._refuse_link()
        if not self._made:
            files.make_folder(self.folder)
            self._made = True
        files.need_space(self.folder, self._expected_bytes())
        number = 1 + max((int(path.stem) for path in self.manifests()), default=0)
        stored = {}
        for key, component in components.items():
            path = self.folder / f"{number:06d}.{key}.pt"
            sha256, size = files.write_aside(path, component.save)
            stored[key] = StoredFile(path.name, sha256, size)
        manifest = Manifest(number, position, seq, loop, stored, stored[WEIGHTS] if best == "this" else best, keep)
        manifest.write(self.folder / f"{number:06d}.json")
        self._forget(KEPT)
        return manifest

    def _expected_bytes(self) -> int:
        for path in self.manifests():
            try:
                return sum(stored.bytes for stored in Manifest.read(path).files.values()) + _SLACK
            except RecordError:
                continue
        return _SLACK

    def finish(self) -> None:
        """The run is complete: the last checkpoint stays, the best weights, and of kept ones the weights."""
        # That it is complete must be certain before what a resume needs goes: who said so may have been killed at it.
        disk.sync_folder(self.folder.parent)
        for place, path in enumerate(self.manifests()):
            manifest = Manifest.read(path)
            if place == 0 or not manifest.kept:
                continue
            weights = {key: stored for key, stored in manifest.files.items() if key == WEIGHTS}
            if weights != manifest.files:
                replace(manifest, files=weights).write(path)
        self._forget(1)

    def discard(self) -> None:
        """Removes all checkpoints, to train from the first step again."""
        for path in self.manifests():
            disk.unlink(path)
        self.sweep()

    def sweep(self) -> None:
        """Removes what a kill left behind: files that no manifest names.

        What is found here is there for good from now on: a process that was killed may have renamed a manifest and
        not got as far as the fsync, and whoever goes on from it relies on it.
        """
        if self.folder.is_symlink() or not self.folder.is_dir():
            return
        disk.sync_folder(self.folder)
        named = set()
        for path in self.manifests():
            named.add(path.name)
            try:
                named.update(stored.name for stored in Manifest.read(path).stored())
            except RecordError:
                return  # files that a damaged manifest may name stay for whoever looks into it
        for path in self.folder.iterdir():
            if path.name not in named and (path.is_symlink() or path.is_file()):
                disk.unlink(path)

    def _forget(self, newest: int) -> None:
        """Removes all but the newest, the start of the current epoch, and those that are to stay."""
        at_start = newest < KEPT or not self._keeps_start
        for place, path in enumerate(self.manifests()):
            manifest = _read(path)
            starts = manifest is not None and manifest.position.step == 0
            needed = place < newest or (starts and not at_start) or (manifest is not None and manifest.kept)
            at_start = at_start or starts
            if not needed:
                disk.unlink(path)
        self.sweep()


def _read(path: Path) -> Manifest | None:
    try:
        return Manifest.read(path)
    except RecordError:
        return None
