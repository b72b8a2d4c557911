"""Split lists in monodepth2's and BTS's formats: the same frames are the same run in either."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.depth.config import DataSettings
from ablate.depth.data.base import Dataset
from ablate.depth.data.kitti import KITTI, list_digest, read_split
from ablate.depth.data.nyu import NYU
from ablate.depth.data.splits import list_digests
from ablate.errors import DataError

few = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)

WORD = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
KITTI_FRAMES = st.lists(
    st.tuples(WORD, WORD, st.integers(0, 10**10 - 1), st.sampled_from("lr"), st.booleans()),
    min_size=1,
    max_size=8,
    unique_by=lambda frame: frame[:4],
)
NYU_FRAMES = st.lists(
    st.tuples(WORD, st.integers(0, 99999), st.booleans()), min_size=1, max_size=8, unique_by=lambda frame: frame[:2]
)
FOCAL = st.sampled_from(["", " 721.5377", " 718"])
CAMERA = {"l": "image_02", "r": "image_03"}


def bts(date: str, drive: str, frame: int, side: str, has_depth: bool, focal: str = " 721.5377") -> str:
    depth = f"{drive}/proj_depth/groundtruth/{CAMERA[side]}/{frame:010d}.png" if has_depth else "None"
    return f"{date}/{drive}/{CAMERA[side]}/data/{frame:010d}.png {depth}{focal}"


def mono(date: str, drive: str, frame: int, side: str) -> str:
    return f"{date}/{drive} {frame} {side}"


@few
@given(frames=KITTI_FRAMES, focal=FOCAL, mixed=st.booleans())
def test_kitti_frames_are_the_same_in_both_formats(tmp_path: Path, frames: list, focal: str, mixed: bool) -> None:
    first, second = tmp_path / "mono.txt", tmp_path / "bts.txt"
    first.write_text("\n".join(mono(*frame[:4]) for frame in frames))
    lines = [mono(*frame[:4]) if mixed and number % 2 else bts(*frame, focal) for number, frame in enumerate(frames)]
    second.write_text("\r\n".join(lines) + "\n")
    assert KITTI.names_of(first) == KITTI.names_of(second) == tuple(mono(*frame[:4]) for frame in frames)
    assert list_digest(first) == list_digest(second)


@few
@given(frames=NYU_FRAMES, slash=st.sampled_from(["", "/"]), focal=FOCAL)
def test_nyu_lines_name_their_frames(tmp_path: Path, frames: list, slash: str, focal: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(
        "\n".join(
            f"{slash}{scene}/rgb_{n:05d}.jpg {f'{slash}{scene}/sync_depth_{n:05d}.png' if depth else 'None'}{focal}"
            for scene, n, depth in frames
        )
    )
    assert NYU.names_of(path) == tuple(f"{scene} {n}" for scene, n, _ in frames)
    assert all(NYU.place_of(name) == frame[:2] for name, frame in zip(NYU.names_of(path), frames, strict=True))


@few
@given(
    text=st.text(alphabet=st.sampled_from("a1_/. ^$\\rgbsyncdepthNone.jpg0"), max_size=60),
    dataset=st.sampled_from([KITTI, NYU]),
)
def test_any_other_line_is_refused_with_its_place(tmp_path: Path, text: str, dataset: Dataset) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    try:
        names = dataset.names_of(path)
    except DataError as error:
        assert re.match(rf"{re.escape(str(path))}(:1)?: ", str(error))
        return
    assert len(names) == 1 and ".." not in names[0]


@pytest.mark.parametrize(
    "line",
    [
        "d/x/image_02/data/0000000005.png y/proj_depth/groundtruth/image_02/0000000005.png 721",  # another drive
        "d/x/image_02/data/0000000005.png x/proj_depth/groundtruth/image_03/0000000005.png 721",  # another camera
        "d/x/image_02/data/0000000005.png x/proj_depth/groundtruth/image_02/0000000006.png 721",  # another frame
        "d/x/image_04/data/0000000005.png None",
        "d/x/image_02/data/5.png None",
        "d/x/image_02/data/0000000005.png",
        "d/../image_02/data/0000000005.png None 721",
        "/d/x/image_02/data/0000000005.png None 721",
        "d/x/image_02/data/0000000005.png None 721.5 7",
    ],
)
def test_a_bts_line_whose_parts_disagree_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train_files.txt"
    path.write_text(bts("d", "x", 1, "l", True) + "\n" + line)
    with pytest.raises(DataError, match=r"train_files\.txt:2: .*nor a line in BTS's format"):
        KITTI.names_of(path)


def test_a_frame_named_in_both_formats_is_a_repetition(tmp_path: Path) -> None:
    path = tmp_path / "train_files.txt"
    path.write_text(f"{mono('d', 'x', 5, 'r')}\n{bts('d', 'x', 5, 'r', False)}\n")
    with pytest.raises(DataError, match=r":2: d/x 5 r is already on line 1"):
        KITTI.names_of(path)


def test_a_set_with_bts_lists_is_read_and_none_leaves_the_frame_out(kitti) -> None:
    root = kitti(train=3, val=1)
    before = read_split(root, None, "train")
    digests = list_digests(DataSettings(root=root))
    for which in ("train", "val"):
        names = KITTI.names_of(root / f"{which}_files.txt")
        parts = [re.fullmatch(r"(\w+)/(\w+) (\d+) ([lr])", name) for name in names]
        lines = [bts(m[1], m[2], int(m[3]), m[4], not (which == "train" and m[3] == "1")) for m in parts if m]
        (root / f"{which}_files.txt").unlink()
        (root / f"eigen_{which}_files_with_gt.txt").write_text("\n".join(lines))
    after = read_split(root, None, "train")
    assert after.frames == (before.frames[0], before.frames[2])
    assert after.without_depth == (before.frames[1].name,)
    assert list_digests(DataSettings(root=root)) == digests
