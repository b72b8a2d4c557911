"""Split lists and files as KITTI's users have them, and lists as nobody should have them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ablate.depth.config import DataSettings
from ablate.depth.data.kitti import list_files, load_depth, load_image, read_split
from ablate.depth.data.splits import read_splits
from ablate.errors import DataError

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"


def test_frames_come_in_the_lists_order_with_their_files(kitti) -> None:
    root = kitti(train=3)
    (root / "train_files.txt").write_text(f"{DRIVE} 2 l\n\n{DRIVE} 0000000000 l\r\n  {DRIVE} 1 l  \n")
    frames = read_split(root, None, "train").frames
    assert [frame.name for frame in frames] == [f"{DRIVE} 2 l", f"{DRIVE} 0 l", f"{DRIVE} 1 l"]
    assert all(frame.image.is_file() and frame.depth.is_file() for frame in frames)
    assert frames[0].image == root / "raw" / DRIVE / "image_02" / "data" / "0000000002.png"


def test_right_camera_jpeg_images_and_both_annotated_halves(kitti) -> None:
    root = kitti(train=2)
    left = root / "raw" / DRIVE / "image_02" / "data"
    right = root / "raw" / DRIVE / "image_03" / "data"
    right.mkdir(parents=True)
    (left / "0000000000.png").unlink()
    Image.new("RGB", (1216, 352), (200, 10, 10)).save(left / "0000000000.jpg")
    Image.new("RGB", (1216, 352)).save(right / "0000000007.png")
    depth = Path("2011_09_26_drive_0001_sync", "proj_depth", "groundtruth", "image_03", "0000000007.png")
    (root / "data_depth_annotated" / "val" / depth).parent.mkdir(parents=True)
    Image.fromarray(np.full((352, 1216), 2560, np.uint16)).save(root / "data_depth_annotated" / "val" / depth)
    (root / "train_files.txt").write_text(f"{DRIVE} 0 l\n{DRIVE} 1 l\n{DRIVE} 7 r\n")
    frames = read_split(root, None, "train").frames
    assert [frame.image.name for frame in frames] == ["0000000000.jpg", "0000000001.png", "0000000007.png"]
    assert frames[2].depth == root / "data_depth_annotated" / "val" / depth
    assert load_image(frames[0].image)[0, 0].tolist() == pytest.approx([200, 10, 10], abs=3)
    assert float(load_depth(frames[2].depth)[5, 5]) == 10.0


def test_frames_without_files_are_told_apart(kitti) -> None:
    root = kitti(train=3)
    frames = read_split(root, None, "train").frames
    frames[0].depth.unlink()
    frames[1].image.unlink()
    split = read_split(root, None, "train")
    assert split.without_depth == (f"{DRIVE} 0 l",)
    assert split.without_image == (frames[1].image,)
    assert [frame.name for frame in split.frames] == [f"{DRIVE} 1 l", f"{DRIVE} 2 l"]


@pytest.mark.parametrize("absolute", [True, False])
def test_lists_may_lie_in_a_folder_of_their_own(kitti, absolute: bool) -> None:
    root = kitti(train=2)
    splits = root / "splits" / "mine"
    splits.mkdir(parents=True)
    for name in ("train", "val"):
        (root / f"{name}_files.txt").rename(splits / f"{name}_files.txt")
    split = splits if absolute else Path("splits", "mine")
    assert list_files(root, split) == {name: splits / f"{name}_files.txt" for name in ("train", "val")}
    assert len(read_split(root, split, "train").frames) == 2
    with pytest.raises(DataError, match=r"train_files\.txt: no such file; set data\.split"):
        list_files(root, None)


def test_only_the_test_list_may_be_absent(kitti, tmp_path: Path) -> None:
    root = kitti(train=1, val=1)
    assert read_split(root, None, "test").frames == ()
    (root / "val_files.txt").unlink()
    with pytest.raises(DataError, match=r"val_files\.txt: no such file.*data\.holdout: drives"):
        read_splits(DataSettings(root=root))
    (root / "train_files.txt").unlink()
    with pytest.raises(DataError, match=r"train_files\.txt: no such file; set data\.split"):
        list_files(root, None)
    with pytest.raises(DataError, match="ablate data sample"):
        list_files(tmp_path / "nowhere", None)


@pytest.mark.parametrize(
    "line",
    [
        "gibberish",
        f"{DRIVE} 5",
        f"{DRIVE} five l",
        f"{DRIVE} 5 x",
        f"{DRIVE} -5 l",
        f"{DRIVE} 12345678901 l",
        f"{DRIVE} 5 l extra",
        "../../etc/passwd 5 l",
        "../x 5 l",
        "/etc/passwd 5 l",
        "2011_09_26/../../secret 5 l",
        "2011_09_26/.. 5 l",
        "a/b/c 5 l",
        "2011_09_26\\drive 5 l",
        "2011_09_26/dri\0ve 5 l",
        "２０１１/ｄ 5 l",
        f"{DRIVE} ٥ l",
    ],
)
def test_a_malformed_or_hostile_line_is_named(kitti, line: str) -> None:
    root = kitti(train=1)
    path = root / "train_files.txt"
    path.write_text(f"{DRIVE} 0 l\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_split(root, None, "train")
    assert f"{path}:3:" in str(error.value) and "`date/drive frame l|r`" in str(error.value)


def test_a_repeated_frame_is_named_with_both_lines(kitti) -> None:
    root = kitti(train=2)
    (root / "train_files.txt").write_text(f"{DRIVE} 0 l\n{DRIVE} 1 l\n{DRIVE} 0000000 l\n")
    with pytest.raises(DataError, match=r"train_files\.txt:3: .* 0 l is already on line 1"):
        read_split(root, None, "train")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00", b"\x89PNG\r\n"])
def test_an_empty_or_binary_list_is_refused(kitti, content: bytes) -> None:
    root = kitti(train=1)
    (root / "train_files.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"train_files\.txt"):
        read_split(root, None, "train")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("2011_09/drive.. \t\n\r\0lr5\\~$\ufeff"), max_size=80))
def test_no_list_reaches_outside_the_data_set(tmp_path: Path, text: str) -> None:
    root = tmp_path / "kitti"
    root.mkdir(exist_ok=True)
    (root / "val_files.txt").write_text(f"{DRIVE} 0 l\n")
    (root / "train_files.txt").write_text(text, encoding="utf-8", newline="")
    try:
        split = read_split(root, None, "train")
    except DataError:
        return
    for path in split.without_image:
        assert path.parts[: len(root.parts)] == root.parts and ".." not in path.parts


def test_a_whole_kitti_list_takes_few_system_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """44,000 frames in 60 drives: folders are listed once each, and no file is asked for alone."""
    root, listed = tmp_path, []
    lines = [f"2011_09_26/2011_09_26_drive_{n % 60:04d}_sync {n} l" for n in range(44_000)]
    (root / "train_files.txt").write_text("\n".join(lines))
    (root / "val_files.txt").write_text(lines[0])
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (listed.append(folder), real(folder))[1])
    start = time.monotonic()
    split = read_split(root, None, "train")
    assert len(split.without_depth) == 44_000 and len(split.frames) == 0
    assert len(listed) == len(set(listed)) == 60 * 3
    assert time.monotonic() - start < 10


def test_real_kitti_frames_are_read(kitti_sample: Path) -> None:
    train, val = (read_split(kitti_sample, None, which) for which in ("train", "val"))
    assert (len(train.frames), len(val.frames), train.without_depth, val.without_depth) == (4, 2, (), ())
    sizes = {load_image(frame.image).shape[:2] for frame in train.frames}
    assert sizes == {(370, 1224), (375, 1242)}
    official = load_depth(val.frames[1].depth)
    assert official.shape == (375, 1242) and 0.19 < (official > 0).mean() < 0.2 and 80 < official.max() < 90
