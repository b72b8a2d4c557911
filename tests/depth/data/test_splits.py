"""`data.holdout: drives`: which drives, and that nothing but the listed frames decides it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ablate.depth.config import DataSettings
from ablate.depth.data.base import Frame, Split
from ablate.depth.data.check import check_dataset
from ablate.depth.data.kitti import KITTI
from ablate.depth.data.splits import held_out, hold_out, list_digests, read_splits, said_of
from ablate.errors import DataError

FILE = Path("train_files.txt")
DRIVES = st.dictionaries(st.integers(0, 9999), st.integers(1, 25), min_size=2, max_size=30)


def train_of(drives: dict[int, int], missing: int = 0) -> Split:
    names = [
        f"2011_09_26/2011_09_26_drive_{drive:04d}_sync {n} l" for drive, count in drives.items() for n in range(count)
    ]
    frames = tuple(Frame(name, Path(name), Path(name)) for name in names[missing:])
    return Split(frames, tuple(names[:missing]))


@given(drives=DRIVES, seed=st.integers(0, 99), missing=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_it_is_whole_drives_and_the_order_of_the_list_does_not_matter(
    drives: dict[int, int], seed: int, missing: int
) -> None:
    whole = train_of(drives, missing)
    train, val = hold_out(KITTI, whole, FILE)
    sides = [{KITTI.drive_of(name) for name in part.names()} for part in (train, val)]
    assert not sides[0] & sides[1] and all(sides)
    assert Counter(train.names() + val.names()) == Counter(whole.names())
    assert list(train.frames) == [frame for frame in whole.frames if frame in set(train.frames)], "the list's order"
    shuffled = random.Random(seed).sample(whole.frames, len(whole.frames))
    again = hold_out(KITTI, Split(tuple(shuffled), whole.without_depth), FILE)
    assert {KITTI.drive_of(name) for name in again[1].names()} == sides[1]
    without_depth = hold_out(KITTI, Split(whole.frames[1:], (*whole.without_depth, whole.frames[0].name)), FILE)
    assert {KITTI.drive_of(name) for name in without_depth[1].names()} == sides[1], "files do not decide it"


@given(drives=DRIVES)
@settings(max_examples=200)
def test_about_a_twentieth_is_held_out(drives: dict[int, int]) -> None:
    counts = {str(name): count for name, count in drives.items()}
    held, total = held_out(counts, FILE), sum(counts.values())
    share = sum(counts[name] for name in held) / total
    assert held and len(held) < len(counts)
    if share > 0.075:
        assert held == {min(counts, key=lambda name: counts[name])} or counts[next(iter(held))] == min(counts.values())
        assert len(held) == 1
    elif share < 0.05:
        assert all(counts[name] + share * total > 0.075 * total for name in counts if name not in held)


def test_many_drives_give_nearly_five_per_cent() -> None:
    counts = {f"drive {n}": 100 + n for n in range(60)}
    share = sum(counts[name] for name in held_out(counts, FILE)) / sum(counts.values())
    assert 0.05 <= share < 0.075


def test_one_drive_cannot_be_divided() -> None:
    with pytest.raises(DataError, match=r"train_files\.txt: all frames are of one drive.*data\.holdout: none"):
        held_out({"only": 100}, FILE)


@pytest.fixture
def drives(kitti) -> Path:
    """Four drives of training frames, the fourth of which val has too."""
    root: Path = kitti(train=1, val=2, test=1)
    source = root / "raw" / "2011_09_26" / "2011_09_26_drive_0002_sync"
    depth = root / "data_depth_annotated" / "train" / "2011_09_26_drive_0002_sync"
    lines = (root / "train_files.txt").read_text()
    for number in (5, 6, 7):
        name = f"2011_09_26_drive_000{number}_sync"
        copytree(source, source.with_name(name))
        copytree(depth, depth.with_name(name))
        for folder in (source.with_name(name), depth.with_name(name)):
            for path in folder.rglob("*.png"):
                tint(path, number)
        lines += "".join(f"2011_09_26/{name} {n} l\n" for n in range(2))
    (root / "train_files.txt").write_text(lines)
    return root


def tint(path: Path, number: int) -> None:
    pixels = np.asarray(Image.open(path))
    Image.fromarray(np.roll(pixels, number, axis=1)).save(path)


def test_the_val_list_is_neither_read_nor_needed(drives: Path) -> None:
    data = DataSettings(root=drives, holdout="drives")
    splits = read_splits(data)
    digests = list_digests(data)
    (drives / "val_files.txt").write_text("not a list")
    assert read_splits(data) == splits and list_digests(data) == digests and set(digests) == {"train", "test"}
    (drives / "val_files.txt").unlink()
    assert read_splits(data) == splits
    assert len(splits["train"].frames) + len(splits["val"].frames) == 7 and len(splits["test"].frames) == 1
    found = check_dataset(data, None, lambda text: None)
    assert found.notes == () and found.facts["splits"]["val"]["neighbours_in_train"] == 0
    with pytest.raises(DataError, match=r"val_files\.txt: no such file"):
        list_digests(DataSettings(root=drives))


def test_plan_says_it_and_the_fingerprint_has_it(drives: Path) -> None:
    data = DataSettings(root=drives, holdout="drives", labels="floor_metres")
    held, labels = said_of(data, read_splits(data))
    assert "validated on 1 of the 4 drives of the train list" in held
    assert "test is scored on the true depth" in labels
    plain = DataSettings(root=drives)
    assert list(said_of(plain, read_splits(plain))) == []
    prints = [check_dataset(each, None, lambda text: None).facts["fingerprint"] for each in (data, plain)]
    assert prints[0] != prints[1]
