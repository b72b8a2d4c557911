"""The check before the first step: one error that names everything, and what was left out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.depth.data import check
from ablate.depth.data.check import check_dataset
from ablate.depth.data.kitti import Frame, read_split
from ablate.errors import DataError
from ablate.task import Checked


def checked(root: Path, cache: Path | None = None) -> Checked:
    return check_dataset(root, None, cache, lambda text: None)


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


def test_a_frame_in_two_splits_is_noted(kitti) -> None:
    root = kitti(train=3, val=1)
    (root / "val_files.txt").write_text((root / "train_files.txt").read_text().splitlines()[1])
    found = checked(root)
    name = frames(root)[1].name
    assert found.facts["in_two_splits"] == {"train and val": [name]}
    assert found.notes == (f"1 frame is in both train and val: {name}",)


def test_labels_cut_to_whole_metres_are_noted(kitti) -> None:
    root = kitti(train=2)
    for frame in frames(root):
        units = np.asarray(Image.open(frame.depth))
        Image.fromarray((units // 256 * 256).astype(np.uint16)).save(frame.depth)
    found = checked(root)
    assert found.facts["splits"]["train"]["whole_metres"] and not found.facts["splits"]["val"]["whole_metres"]
    assert any("whole number of metres" in note for note in found.notes)


def test_an_empty_depth_map_is_noted(kitti) -> None:
    root = kitti(train=2)
    Image.fromarray(np.zeros((352, 1216), np.uint16)).save(frames(root)[0].depth)
    assert any("1 depth maps hold no depth at all" in note for note in checked(root).notes)


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
    real = check._decode
    monkeypatch.setattr(check, "_decode", lambda file: (paths.append(file.path), real(file))[1])
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
    root, cache, real, count = kitti(train=6, val=1), tmp_path / "cache", check._decode, 0

    def interrupted(file: check._File) -> object:
        nonlocal count
        count += 1
        if file.path == frames(root)[4].image:
            raise KeyboardInterrupt
        return real(file)

    monkeypatch.setattr(check, "_decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checked(root, cache)
    monkeypatch.setattr(check, "_decode", lambda file: (again.append(file.path), real(file))[1])
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
    monkeypatch.setattr(check, "_PROGRESS_SECONDS", 0.0)
    said: list[str] = []
    check_dataset(kitti(train=2, val=1), None, None, said.append)
    assert said[-1] == "checking the data: 6 of 6 files"


def test_a_generated_street_passes(street: Path) -> None:
    found = checked(street)
    assert found.notes == () and found.facts["splits"]["train"]["depth_share"] == pytest.approx(0.19, abs=0.005)


def test_real_kitti_frames_pass(kitti_sample: Path, tmp_path: Path) -> None:
    found = checked(kitti_sample, tmp_path)
    assert found.notes == ()
    assert {name: fact["frames"] for name, fact in found.facts["splits"].items()} == {"train": 4, "val": 2}
    assert found.facts["splits"]["train"]["sizes"] == {"370x1224": 1, "375x1242": 3}
