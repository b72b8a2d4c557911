"""Manifests: every format and kind of depth, masks, and what is refused."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from ablate.depth.config import DataSettings
from ablate.depth.data.check import check_dataset
from ablate.depth.data.datasets import find
from ablate.depth.data.pfm import pfm_bytes
from ablate.depth.data.splits import list_digests, read_splits
from ablate.errors import DataError

PAIRS = find("pairs")
HEADER = "image,depth,mask,kind,scale"


def quiet(text: str) -> None:
    return


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures and depth maps of 2x3 in every format."""
    rng = np.random.default_rng(0)
    for name in "abcdef":
        Image.fromarray(rng.integers(0, 255, (2, 3, 3), np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.array([[0, 1000, 2500], [500, 0, 65535]], np.uint16)).save(tmp_path / "mm.png")
    Image.fromarray(np.array([[0, 10, 20], [30, 40, 255]], np.uint8)).save(tmp_path / "d8.png")
    Image.fromarray(np.array([[0, 255, 255], [255, 255, 0]], np.uint8)).save(tmp_path / "mask.png")
    (tmp_path / "d.pfm").write_bytes(pfm_bytes(np.array([[np.inf, -3, 0], [1, 5, np.nan]], np.float32)))
    np.save(tmp_path / "inv.npy", np.array([[0, 0.5, 0.25], [2, 1, 4]]))
    return tmp_path


def table(root: Path, *rows: str, which: str = "train", header: str = HEADER) -> None:
    (root / f"{which}.csv").write_text("\n".join([header, *rows]) + "\n")


def truths(root: Path) -> list[list[list[float]]]:
    return [PAIRS.truth(frame).tolist() for frame in PAIRS.read_split(root, None, "train").frames]


def test_each_kind_and_format_becomes_metres_or_inverse_depth(root: Path) -> None:
    table(
        root,
        "a.png,mm.png,,metric,0.001",
        "b.png,mm.png,mask.png,,0.001",
        "c.png,inv.npy,,inverse,0.5",
        "d.png,d8.png,,disparity,",
    )
    metric, with_mask, inverse, disparity = truths(root)
    assert np.allclose(metric, [[0, 1, 2.5], [0.5, 0, 65.535]])
    assert np.allclose(with_mask, [[0, 1, 2.5], [0.5, 0, 0]])
    assert np.allclose(inverse, [[0, 4, 8], [1, 2, 0.5]])
    assert disparity == [[0, 10, 20], [30, 40, 255]]
    frames = PAIRS.read_split(root, None, "train").frames
    assert [PAIRS.kind_of(frame) for frame in frames] == ["metric", "metric", "metric", "relative"]


def test_disparity_is_moved_above_zero_where_it_is_valid_and_keeps_its_differences(root: Path) -> None:
    table(root, "a.png,d.pfm,,disparity,", "b.png,d8.png,mask.png,disparity,")
    signed, masked = (np.array(truth) for truth in truths(root))
    assert (signed > 0).tolist() == [[False, True, False], [True, True, False]]
    assert np.allclose([signed[1, 0] - signed[0, 1], signed[1, 1] - signed[1, 0]], [4, 4])
    assert (masked > 0).tolist() == [[False, True, True], [True, True, False]]


def test_a_zero_counts_if_the_mask_lets_it_through(root: Path) -> None:
    Image.fromarray(np.full((2, 3), 255, np.uint8)).save(root / "mask.png")
    table(root, "a.png,d8.png,mask.png,disparity,")
    (truth,) = truths(root)
    assert truth[0][0] > 0 and np.isclose(truth[0][1] - truth[0][0], 10)


def test_parquet_and_csv_are_one(root: Path) -> None:
    table(root, "a.png,mm.png,mask.png,metric,0.001", "d.png,d8.png,,disparity,")
    data = DataSettings(name="pairs", root=root)
    before = read_splits(data, use="training"), list_digests(data, use="training")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM read_csv('{root}/train.csv')) TO '{root}/train.parquet' (FORMAT parquet)")
    (root / "train.csv").unlink()
    assert (read_splits(data, use="training"), list_digests(data, use="training")) == before


def test_the_digest_is_of_all_that_decides_a_sample(root: Path) -> None:
    digests = set()
    for number, row in enumerate(
        ["mm.png,,metric,1", "mm.png,,metric,2", "mm.png,mask.png,metric,1", "mm.png,,inverse,1"]
    ):
        table(root, f"a.png,{row}")
        (root / "train.csv").write_text((root / "train.csv").read_text() + "\n" * number)
        digests |= set(list_digests(DataSettings(name="pairs", root=root), use="training").values())
    assert len(digests) == 4


def test_images_without_depth_or_file_are_found(root: Path) -> None:
    table(root, "a.png,,,,", "b.png,gone.png,,,", "gone.png,mm.png,,,1")
    split = PAIRS.read_split(root, None, "train")
    assert split.without_depth == ("a.png", "b.png")
    assert split.without_image == (root / "gone.png",)


def test_drives_can_be_held_out(root: Path) -> None:
    table(root, "a.png,mm.png,x", "b.png,mm.png,x", "c.png,mm.png,y", header="image,depth,drive")
    splits = read_splits(DataSettings(name="pairs", root=root, holdout="drives"))
    drives = [{PAIRS.drive_of(frame.name) for frame in splits[which].frames} for which in ("train", "val")]
    assert drives in ([{"x"}, {"y"}], [{"y"}, {"x"}])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.png,mm.png,,feet,1", "kind 'feet' is none of metric, inverse, disparity"),
        ("a.png,mm.png,,metric,-1", "scale '-1' is not a number above 0"),
        ("a.png,mm.png,,metric,x", "scale 'x' is not"),
        ("a.png,mm.png,,metric,inf", "scale 'inf' is not"),
        (",mm.png,,metric,1", "names no image"),
        ("/etc/passwd,mm.png,,metric,1", "expected a path below data.root"),
        ("a.png,../mm.png,,metric,1", "depth is '../mm.png'"),
        ("b.png,mm.png,,metric,1", r"b\.png is already on line 2"),
    ],
)
def test_a_bad_row_is_named(root: Path, row: str, reason: str) -> None:
    table(root, "b.png,mm.png,,metric,1", row)
    with pytest.raises(DataError, match=rf"train\.csv:3: .*{reason}"):
        PAIRS.read_split(root, None, "train")


def test_what_is_no_table_is_refused(root: Path) -> None:
    table(root, "a.png,mm.png", header="picture,depth")
    with pytest.raises(DataError, match=r"train\.csv: has no column 'image'"):
        PAIRS.read_split(root, None, "train")
    (root / "train.csv").unlink()
    (root / "train.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read as Parquet"):
        PAIRS.read_split(root, None, "train")


def test_damage_is_found_before_training(root: Path) -> None:
    np.save(root / "cube.npy", np.zeros((2, 3, 1)))
    np.save(root / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    (root / "broken.npy").write_bytes(b"\x93NUMPY broken")
    table(
        root,
        "a.png,cube.npy,,metric,1",
        "b.png,objects.npy,,metric,1",
        "c.png,broken.npy,,metric,1",
        "d.png,d.pfm,,metric,1",
        "e.png,d8.png,,metric,1",
        "f.png,mm.png,a.png,metric,0.001",
    )
    with pytest.raises(DataError) as error:
        check_dataset(DataSettings(name="pairs", root=root), None, quiet, use="training")
    text = str(error.value)
    for words in ("cube.npy: an array of (2, 3, 1)", "objects.npy: cannot", "broken.npy: cannot", "d.pfm: holds depth"):
        assert words in text
    assert "d8.png: 8-bit metric depth" in text and "mm.png" not in text
