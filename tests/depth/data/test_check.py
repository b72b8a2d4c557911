"""The check before the first step: one error that names everything, and what was left out."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablate.depth.config import DataSettings
from ablate.depth.data import datasets, inspection
from ablate.depth.data.base import Dataset, Frame, Kind, Split
from ablate.depth.data.check import check_dataset
from ablate.depth.data.kitti import Kitti, read_split
from ablate.engine.drift import History
from ablate.errors import DataError
from ablate.task import Checked


def checked(root: Path, cache: Path | None = None) -> Checked:
    return check_dataset(DataSettings(root=root), cache, lambda text: None)


def complaint(root: Path, cache: Path | None = None) -> str:
    with pytest.raises(DataError) as error:
        checked(root, cache)
    return str(error.value)


def frames(root: Path, which: str = "train") -> tuple[Frame, ...]:
    return read_split(root, None, which).frames


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_good_set_is_counted(kitti) -> None:
    root = kitti(train=3, val=2, test=1)
    found = checked(root)
    assert found.notes == ()
    splits = found.facts["splits"]
    assert {name: fact["frames"] for name, fact in splits.items()} == {"train": 3, "val": 2, "test": 1}
    assert splits["train"]["sizes"] == {"352x1216": 3} and splits["train"]["without_depth"] == []
    assert 0 < splits["train"]["depth_metres"][0] < splits["train"]["depth_metres"][1] < 20000 / 256
    assert splits["train"]["bytes"] == sum(
        path.stat().st_size for frame in frames(root) for path in (frame.image, frame.depth)
    )


def test_one_error_names_every_bad_file_of_every_split(kitti) -> None:
    root = kitti(train=8, val=2)
    train, val = frames(root), frames(root, "val")
    train[0].image.unlink()
    cut(train[1].image)
    flip_a_bit(train[2].image)
    train[3].image.write_bytes(b"")
    cut(train[4].depth)
    train[5].depth.write_bytes(b"<html>not found</html>")
    Image.fromarray(np.zeros((352, 1216), np.uint8)).save(train[6].depth)
    flip_a_bit(val[1].depth)
    text = complaint(root)
    bad = [
        train[0].image,
        train[1].image,
        train[2].image,
        train[3].image,
        train[4].depth,
        train[5].depth,
        train[6].depth,
    ]
    assert all(str(path) in text for path in [*bad, val[1].depth])
    assert text.startswith("8 files of the data set") and str(train[7].image) not in text
    for reason in ("no such file", "truncated", "checksum", "0 bytes", "neither PNG nor JPEG", "floor(metres)"):
        assert reason in text


def test_long_lists_are_cut_but_counted(kitti) -> None:
    root = kitti(train=30)
    for frame in frames(root):
        cut(frame.image)
    text = complaint(root)
    assert "30 files" in text and "and 10 more" in text and text.count("truncated") == 20


def test_frames_without_depth_are_dropped_counted_and_named(kitti) -> None:
    root = kitti(train=20, val=1)
    gone = [frames(root)[index] for index in (3, 7)]
    for frame in gone:
        frame.depth.unlink()
    found = checked(root)
    assert found.facts["splits"]["train"]["frames"] == 18
    assert found.facts["splits"]["train"]["without_depth"] == [frame.name for frame in gone]
    assert len(found.notes) == 1 and "2 of 20 frames have no depth map" in found.notes[0]
    assert all(frame.name in found.notes[0] for frame in gone)


def test_more_than_a_tenth_without_depth_is_an_error(kitti) -> None:
    root = kitti(train=20, val=1)
    gone = [frames(root)[index] for index in (0, 1, 2)]
    for frame in gone:
        frame.depth.unlink()
    text = complaint(root)
    assert "train: 3 of 20 frames have no depth map" in text and "10%" in text
    assert all(frame.name in text for frame in gone)


def test_sizes_that_differ_within_a_frame_are_named(kitti) -> None:
    root = kitti(train=2)
    frame = frames(root)[1]
    Image.new("RGB", (1242, 375)).save(frame.image)
    text = complaint(root)
    assert f"{frame.image} is 375x1242" in text and "352x1216" in text


def test_small_frames_may_be_trained_on_but_not_evaluated(kitti) -> None:
    root = kitti(train=2, val=1, size=(100, 300))
    text = complaint(root)
    assert str(frames(root, "val")[0].image) in text and "100x300" in text and "352x1216" in text
    assert not any(str(frame.image) in text for frame in frames(root))


def test_a_frame_in_two_splits_is_an_error_that_names_it_and_the_lists(kitti) -> None:
    root = kitti(train=3, val=1, test=1)
    (root / "val_files.txt").write_text((root / "train_files.txt").read_text().splitlines()[1])
    frame = frames(root)[1]
    text = complaint(root)
    assert "1 frame is in both train and val" in text and f"{frame.name}: {frame.image}" in text
    assert str(root / "train_files.txt") in text and str(root / "val_files.txt") in text
    assert "and test" not in text


@pytest.mark.parametrize("first, second", [("train", "test"), ("val", "test")])
def test_a_copied_picture_under_another_name_is_contamination(kitti, first: str, second: str) -> None:
    root = kitti(train=2, val=2, test=2)
    original, copy = frames(root, first)[0], frames(root, second)[1]
    copy.image.write_bytes(original.image.read_bytes())
    text = complaint(root)
    assert f"1 frame is in both {first} and {second}" in text
    assert f"{copy.image} is a copy of {original.image}" in text


def test_pictures_of_one_colour_are_no_copies_of_each_other(kitti) -> None:
    """A lens cap in two splits is not contamination."""
    root = kitti(train=2, val=1)
    for frame in (frames(root)[0], frames(root, "val")[0]):
        Image.new("RGB", (1216, 352)).save(frame.image)
    assert checked(root).notes == ()


def test_a_repeated_picture_within_a_split_is_noted(kitti) -> None:
    root = kitti(train=3, val=1)
    first, _, last = frames(root)
    last.image.write_bytes(first.image.read_bytes())
    last.depth.write_bytes(first.depth.read_bytes())
    (note,) = checked(root).notes
    assert note.startswith("train: 2 files repeated") and f"{last.image} is a copy of {first.image}" in note


def test_neighbours_and_shared_drives_are_counted(kitti) -> None:
    root = kitti(train=6, val=2)
    drive = "2011_09_26/2011_09_26_drive_0001_sync"
    lists = {"train": [0, 1, 4], "val": [2, 3, 5]}  # 2 follows 1, 3 precedes 4, 5 follows 4
    other = "2011_09_26/2011_09_26_drive_0002_sync"
    for name, numbers in lists.items():
        lines = [f"{drive} {number} l" for number in numbers] + ([f"{other} 0 l"] if name == "val" else [])
        (root / f"{name}_files.txt").write_text("\n".join(lines))
    found = checked(root)
    val = found.facts["splits"]["val"]
    assert (val["neighbours_in_train"], val["drives"]) == (3, 2)
    assert val["drives_in_train"] == ["2011_09_26_drive_0001_sync"]
    neighbours, shared = found.notes
    assert "val: 3 of 4 frames have a neighbour in train (±1 frame of one drive and camera)" in neighbours
    assert "cannot see overfitting" in neighbours and "data.holdout: drives" in neighbours
    assert shared == "val: 1 of 2 drives is in train too: 2011_09_26_drive_0001_sync"


def cut_to_metres(frame: Frame) -> None:
    units = np.asarray(Image.open(frame.depth))
    Image.fromarray((units // 256 * 256).astype(np.uint16)).save(frame.depth)


def test_labels_cut_to_whole_metres_are_an_error_that_names_the_cause(kitti) -> None:
    root = kitti(train=2)
    for frame in frames(root):
        cut_to_metres(frame)
    text = complaint(root)
    assert text.startswith("train: every depth is a whole number of metres")
    assert "8-bit metric labels are floor(metres)" in text and "val:" not in text


def test_whole_metres_that_the_study_declares_are_noted(kitti) -> None:
    root = kitti(train=2, test=1)
    for frame in frames(root):
        cut_to_metres(frame)
    data = DataSettings(root=root, labels="floor_metres")
    (note,) = check_dataset(data, None, lambda text: None).notes
    assert "train: every depth is a whole number of metres" in note
    cut_to_metres(frames(root, "test")[0])  # the published test figures were taken on the true depth
    with pytest.raises(DataError, match="test: every depth is a whole number"):
        check_dataset(data, None, lambda text: None)


def test_one_map_of_whole_metres_among_others_is_no_error(kitti) -> None:
    root = kitti(train=2)
    cut_to_metres(frames(root)[0])
    assert checked(root).facts["splits"]["train"]["whole_metres"] is False


class Camera8Bit(Dataset):
    """A data set whose depth maps have 8 bits: as ReDWeb's, or as metric ones must not have."""

    name, protocol = "eight", "kitti"
    kind: Kind = "metric"

    def read_split(self, root: Path, split: Path | None, which: str) -> Split:
        files = self.list_files(root, split)
        names = self.names_of(files[which]) if which in files else ()
        return Split(tuple(Frame(name, root / f"{name}.jpg", root / f"{name}-depth.png") for name in names))

    def load_depth(self, path: Path) -> np.ndarray:
        return np.asarray(Image.open(path)).astype(np.float32)


class Relative8Bit(Camera8Bit):
    kind: Kind = "relative"


@pytest.mark.parametrize("dataset", [Camera8Bit, Relative8Bit])
def test_eight_bit_metric_depth_is_an_error_and_relative_depth_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: type[Dataset]
) -> None:
    rng = np.random.default_rng(0)
    for which in ("train", "val"):
        (tmp_path / f"{which}_files.txt").write_text(f"{which}1\n{which}2\n")
        for name in (f"{which}1", f"{which}2"):
            Image.fromarray(rng.integers(0, 255, (352, 1216, 3), np.uint8)).save(tmp_path / f"{name}.jpg")
            Image.fromarray(rng.integers(1, 70, (352, 1216), np.uint8)).save(tmp_path / f"{name}-depth.png")
    monkeypatch.setitem(datasets._BUILT_IN, "eight", dataset)
    data = DataSettings(name="eight", root=tmp_path)
    if dataset is Relative8Bit:
        found = check_dataset(data, None, lambda text: None)
        assert found.notes == () and found.facts["splits"]["train"]["bits"] == {"8": 2}
        return
    with pytest.raises(DataError) as error:
        check_dataset(data, None, lambda text: None)
    assert str(tmp_path / "train1-depth.png") in str(error.value)
    assert "8-bit metric depth with 69 different values" in str(error.value)
    assert "floor(metres)" in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_depth_that_cannot_be_is_named(kitti, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    root = kitti(train=2)
    bad = frames(root)[1].depth
    real = Kitti.load_depth

    def load(self: Kitti, path: Path) -> np.ndarray:
        metres = real(self, path)
        if path == bad:
            metres[5, 5] = value
        return metres

    monkeypatch.setattr(Kitti, "load_depth", load)
    assert f"{bad}: holds depth that is negative or not finite" in complaint(root)


def test_an_error_of_a_readers_own_names_the_file(kitti, monkeypatch: pytest.MonkeyPatch) -> None:
    root = kitti(train=1)
    monkeypatch.setattr(Kitti, "load_depth", lambda self, path: {}["metres"])
    text = complaint(root)
    assert f"{frames(root)[0].depth}: data set 'kitti' cannot read it: KeyError: 'metres'" in text


def test_depth_out_of_all_range_is_an_error(kitti) -> None:
    """Millimetres taken for KITTI's units, and the like."""
    root = kitti(train=2)
    for frame in frames(root):
        Image.fromarray(np.full((352, 1216), 60000, np.uint16) + np.arange(1216, dtype=np.uint16)).save(frame.depth)
    assert "train: no depth lies within the 0.001-80 m" in complaint(root) and "is the unit right?" in complaint(root)


def test_the_fingerprint_follows_the_data_and_not_the_place(kitti, tmp_path: Path) -> None:
    root = kitti(train=3, val=1, test=1)

    def print_of(place: Path, **changes: Any) -> tuple[str, str]:
        facts = check_dataset(DataSettings(root=place, **changes), None, lambda text: None).facts
        return facts["fingerprint"], facts["contents"]

    first = print_of(root)
    moved = Path(shutil.copytree(root, tmp_path / "elsewhere" / "kitti"))
    assert print_of(moved) == first and len(first[0]) == 64
    split = moved / "lists"
    split.mkdir()
    for path in moved.glob("*_files.txt"):
        path.rename(split / path.name)
    assert print_of(moved, split=Path("lists")) == first
    longer = frames(root)[0].image
    content = longer.read_bytes()
    Image.fromarray(np.asarray(Image.open(longer)) ^ 1).save(longer)
    assert print_of(root)[1] != first[1]
    longer.write_bytes(content)
    assert print_of(root) == first
    (root / "test_files.txt").unlink()
    assert print_of(root)[0] != first[0]


def test_an_empty_depth_map_is_noted(kitti) -> None:
    root = kitti(train=2)
    Image.fromarray(np.zeros((352, 1216), np.uint16)).save(frames(root)[0].depth)
    assert any("1 depth map holds no depth at all" in note for note in checked(root).notes)


def test_a_split_whose_depth_maps_are_all_empty_is_an_error(kitti) -> None:
    root = kitti(train=2)
    for frame in frames(root):
        Image.fromarray(np.zeros((352, 1216), np.uint16)).save(frame.depth)
    text = complaint(root)
    assert "train: none of the 2 depth maps holds any depth" in text
    assert "val:" not in text


def test_a_pipe_is_refused_rather_than_waited_for(kitti) -> None:
    root = kitti(train=2)
    path = frames(root)[0].image
    path.unlink()
    os.mkfifo(path)
    assert f"{path}: not a plain file" in complaint(root)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    paths: list[Path] = []
    real = inspection._decode
    monkeypatch.setattr(inspection, "_decode", lambda data, file: (paths.append(file.path), real(data, file))[1])
    return paths


def test_what_passed_is_not_decoded_again_until_it_changes(kitti, tmp_path: Path, decoded: list[Path]) -> None:
    root, cache = kitti(train=3, val=1), tmp_path / "cache"
    first = checked(root, cache)
    assert len(decoded) == 8
    decoded.clear()
    assert checked(root, cache) == first and decoded == []
    changed = frames(root)[1].depth
    content = changed.read_bytes()
    cut(changed)
    assert str(changed) in complaint(root, cache) and decoded == [changed]
    decoded.clear()
    changed.write_bytes(content)  # the same size as before, but written later
    os.utime(changed, ns=(1, 1))
    assert checked(root, cache) == first and decoded == [changed]


def test_bad_files_are_found_again_and_good_ones_are_kept(kitti, tmp_path: Path, decoded: list[Path]) -> None:
    root, cache = kitti(train=3, val=1), tmp_path / "cache"
    cut(frames(root)[0].image)
    once = complaint(root, cache)
    decoded.clear()
    assert complaint(root, cache) == once and decoded == [frames(root)[0].image]


def test_an_interrupted_check_goes_on_where_it_stopped(kitti, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache, real, count = kitti(train=6, val=1), tmp_path / "cache", inspection._decode, 0

    def interrupted(dataset: Dataset, file: inspection.File) -> object:
        nonlocal count
        count += 1
        if file.path == frames(root)[4].image:
            raise KeyboardInterrupt
        return real(dataset, file)

    monkeypatch.setattr(inspection, "_decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checked(root, cache)
    monkeypatch.setattr(inspection, "_decode", lambda data, file: (again.append(file.path), real(data, file))[1])
    again: list[Path] = []
    checked(root, cache)
    assert frames(root)[0].image not in again and frames(root)[5].image in again


@pytest.mark.parametrize("damage", [b"", b"\0" * 50, b"{}\n{}\n", b'{"v": 1, "crc32": 0}\n{"a": [1]}\n', None])
def test_a_damaged_cache_is_ignored(kitti, tmp_path: Path, decoded: list[Path], damage: bytes | None) -> None:
    root, cache = kitti(train=2, val=1), tmp_path / "cache"
    first = checked(root, cache)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    decoded.clear()
    assert checked(root, cache) == first and len(decoded) == 6
    decoded.clear()
    assert checked(root, cache) == first and decoded == []


def test_a_cache_that_cannot_be_written_is_no_error(kitti, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert checked(kitti(), tmp_path / "file").facts["splits"]["train"]["frames"] == 3


def test_big_sets_report_progress(kitti, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_PROGRESS_SECONDS", 0.0)
    said: list[str] = []
    check_dataset(DataSettings(root=kitti(train=2, val=1)), None, said.append)
    assert said[-1] == "checking the data: 6 of 6 files"


def test_a_generated_street_passes(street: Path) -> None:
    found = checked(street)
    assert found.notes == () and found.facts["splits"]["train"]["depth_share"] == pytest.approx(0.19, abs=0.005)


def test_real_kitti_frames_pass(kitti_sample: Path, tmp_path: Path) -> None:
    found = checked(kitti_sample, tmp_path)
    assert all("neighbour" in note or "drive" in note for note in found.notes)
    assert {name: fact["frames"] for name, fact in found.facts["splits"].items()} == {"train": 4, "val": 2}
    assert found.facts["splits"]["train"]["sizes"] == {"370x1224": 1, "375x1242": 3}


@pytest.mark.parametrize("change", ["size", "contents", "frame"])
def test_a_resume_sees_that_the_data_changed(kitti, change: str) -> None:
    root = kitti(train=3, val=1)
    before = json.loads(json.dumps(checked(root).facts))  # as the journal holds it
    history = History(attempts={1: {}}, data={1: before}, saved_by=1)
    assert history.changes({}, checked(root).facts) == []
    frame = frames(root)[1]
    if change == "frame":
        (root / "val_files.txt").write_text("2011_09_26/2011_09_26_drive_0002_sync 0 l\n" + frame.name)
        (root / "train_files.txt").write_text("\n".join(each.name for each in frames(root) if each != frame))
    else:
        content = bytearray(frame.image.read_bytes())
        text = b"tEXt" + b"k\0new"
        chunk = len(text[4:]).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
        frame.image.write_bytes(content[:33] + chunk + content[33:])
        if change == "contents":
            before = json.loads(json.dumps(checked(root).facts))
            history = History(attempts={1: {}}, data={1: before}, saved_by=1)
            other = chunk.replace(b"new", b"old")
            other = other[:-4] + zlib.crc32(other[4:-4]).to_bytes(4, "big")
            frame.image.write_bytes(content[:33] + other + content[33:])
    (found,) = history.changes({}, checked(root).facts)
    assert found.startswith("data: ")
    assert change != "contents" or found.startswith("data: contents ")
