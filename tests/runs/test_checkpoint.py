"""Checkpoints under damage, and under a kill between any two file operations."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from ablate.errors import CheckpointError, DiskError, RecordError
from ablate.runs import disk, files
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.task import Position


class Bytes:
    """A component that is its own bytes."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def save(self, file: BinaryIO) -> None:
        file.write(self.value)

    def load(self, file: BinaryIO) -> None:
        self.value = file.read()


def state(number: int) -> dict[str, Bytes]:
    return {"weights": Bytes(b"weights %d" % number), "optimizer": Bytes(b"optimizer %d" % number)}


def save(checkpoints: Checkpoints, number: int, *, best: bool = False) -> Manifest:
    before = checkpoints.latest(print)
    earlier = before.best if before else None
    return checkpoints.save(
        Position(0, number, 0), {"n": number}, number, state(number), best="this" if best else earlier
    )


def loaded(checkpoints: Checkpoints, manifest: Manifest) -> dict[str, bytes]:
    components = state(0)
    checkpoints.load(manifest, components)
    return {key: component.value for key, component in components.items()}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def test_the_newest_comes_back_whole(checkpoints: Checkpoints) -> None:
    assert checkpoints.latest(print) is None
    for number in (1, 2, 3):
        save(checkpoints, number)
    manifest = checkpoints.latest(print)
    assert manifest is not None
    assert (manifest.position, manifest.loop, manifest.seq) == (Position(0, 3, 0), {"n": 3}, 3)
    assert loaded(checkpoints, manifest) == {"weights": b"weights 3", "optimizer": b"optimizer 3"}


def test_two_are_kept_and_the_best_weights(checkpoints: Checkpoints) -> None:
    for number in range(1, 6):
        save(checkpoints, number, best=number == 2)
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == [
        "000002.weights.pt",
        *("000004.json", "000004.optimizer.pt", "000004.weights.pt"),
        *("000005.json", "000005.optimizer.pt", "000005.weights.pt"),
    ]
    manifest = checkpoints.latest(print)
    assert manifest is not None
    weights = Bytes(b"")
    checkpoints.load_best(manifest, weights)
    assert weights.value == b"weights 2"


def test_a_complete_run_keeps_its_last_checkpoint_and_the_best_weights(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, best=True)
    save(checkpoints, 2)
    for _ in range(2):
        checkpoints.finish()
        assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
            "000001.weights.pt",
            "000002.json",
            "000002.optimizer.pt",
            "000002.weights.pt",
        ]


@pytest.mark.parametrize("damage", ["flip", "truncate", "zero", "delete", "manifest", "garbage"])
@pytest.mark.parametrize("victim", ["weights", "optimizer"])
def test_damage_is_noticed_and_the_one_before_is_taken(checkpoints: Checkpoints, damage: str, victim: str) -> None:
    save(checkpoints, 1, best=True)
    save(checkpoints, 2)
    path = checkpoints.folder / f"000002.{victim}.pt"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 4
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "zero":
        path.write_bytes(bytes(len(content)))
    elif damage == "delete":
        path.unlink()
    elif damage == "manifest":
        (checkpoints.folder / "000002.json").write_bytes(b"")
    else:
        (checkpoints.folder / "000002.json").write_bytes(b'{"v": 1, "files": [[[')
    said: list[str] = []
    manifest = checkpoints.latest(said.append)
    assert manifest is not None
    assert manifest.loop == {"n": 1}
    assert len(said) == 1
    assert "000002" in said[0]


def test_damaged_best_weights_are_noticed(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, best=True)
    save(checkpoints, 2)
    save(checkpoints, 3)
    (checkpoints.folder / "000001.weights.pt").write_bytes(b"weights x")
    with pytest.raises(CheckpointError, match=r"000001\.weights\.pt: SHA-256"):
        checkpoints.latest(print)


def test_when_all_are_damaged_the_error_names_them_and_the_remedy(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1)
    save(checkpoints, 2)
    for path in checkpoints.folder.glob("*.weights.pt"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="--from-scratch") as caught:
        checkpoints.latest(print)
    assert "000001.weights.pt" in str(caught.value)
    assert "000002.weights.pt" in str(caught.value)


def test_a_manifest_cannot_name_a_file_elsewhere(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save(checkpoints, 1)
    (tmp_path / "secret").write_bytes(b"weights 1")
    path = checkpoints.folder / "000001.json"
    manifest = Manifest.read(path)
    weights = dataclasses.replace(manifest.files["weights"], name="../secret")
    dataclasses.replace(manifest, files={"weights": weights}).write(path)
    with pytest.raises(CheckpointError, match="outside"):
        checkpoints.latest(print)


def test_a_manifest_that_was_changed_is_noticed(checkpoints: Checkpoints) -> None:
    """Wherever a bit flips: the step, the sums, the best epoch so far; only white space does not matter."""
    save(checkpoints, 1)
    path = checkpoints.folder / "000001.json"
    content, whole = path.read_bytes(), Manifest.read(path)
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        try:
            assert Manifest.read(path) == whole
            assert content[position : position + 1].isspace() or flipped[position : position + 1].isspace()
        except RecordError:
            pass


def test_no_space_leaves_the_earlier_ones(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    save(checkpoints, 1)
    usage = shutil.disk_usage(checkpoints.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DiskError, match="MiB free; make room, then resume"):
        save(checkpoints, 2)
    manifest = checkpoints.latest(print)
    assert manifest is not None
    assert manifest.loop == {"n": 1}


class Killed(BaseException):
    """Stands for SIGKILL at one place: nothing after it runs, whatever it was."""


class Killer:
    """Raises Killed at the n-th file operation, before it happens."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Killer]:
    killer = Killer(10**9)

    def wrap(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: object, **kwargs: object) -> object:
            killer()
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    for name in ("open_new", "write", "sync", "replace", "sync_folder", "unlink", "make_folder"):
        wrap(disk, name)
    wrap(Bytes, "save")
    yield killer


def test_killed_between_any_two_file_operations_a_whole_checkpoint_is_left(tmp_path: Path, killer: Killer) -> None:
    """Also shows that the number of operations is what it is thought to be: none is skipped."""
    at = 0
    while True:
        checkpoints = Checkpoints(tmp_path / str(at))
        save(checkpoints, 1, best=True)
        save(checkpoints, 2)
        killer.left = at
        try:
            save(checkpoints, 3, best=True)
        except Killed:
            finished = False
        else:
            finished = True
        killer.left = 10**9
        manifest = checkpoints.latest(print)
        assert manifest is not None
        number = manifest.position.epoch
        assert number in ((3,) if finished else (2, 3))
        assert loaded(checkpoints, manifest)["optimizer"] == b"optimizer %d" % number
        best = Bytes(b"")
        checkpoints.load_best(manifest, best)
        assert best.value == (b"weights 3" if number == 3 else b"weights 1")
        checkpoints.sweep()
        assert not list(checkpoints.folder.glob(f"*{files.TEMPORARY}"))
        if finished:
            break
        at += 1
    assert at > 15


def test_weights_of_an_epoch_are_found(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    for epoch in range(1, 6):
        components = {"weights": Bytes(b"weights %d" % epoch)}
        position, loop = Position(0, epoch + 1, 0), {"best_epoch": 2 if epoch > 1 else 1}
        earlier = None if epoch == 1 else Manifest.read(store.manifests()[0]).best
        store.save(position, loop, epoch, components, "this" if epoch <= 2 else earlier, keep=epoch == 3)
    for epoch in (2, 3, 4, 5):
        assert (tmp_path / store.weights_of(epoch).name).read_bytes() == b"weights %d" % epoch
    assert store.weights_of(None) == store.weights_of(2)
    with pytest.raises(CheckpointError, match="no weights of epoch 1; kept: 2, 3, 4, 5"):
        store.weights_of(1)
