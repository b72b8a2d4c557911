"""ReDWeb, HRWSI and BlendedMVS as their authors pack them, on small sets of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.depth.config import DataSettings
from ablate.depth.data.base import Dataset
from ablate.depth.data.check import check_dataset
from ablate.depth.data.datasets import find
from ablate.depth.data.pfm import pfm_bytes, read_pfm
from ablate.depth.data.splits import list_digests, read_splits
from ablate.depth.data.unitless import LAYOUTS, make_unitless
from ablate.errors import DataError, UsageError

NAMES = ["redweb", "hrwsi", "blendedmvs"]


def quiet(text: str) -> None:
    return


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for name in NAMES:
        make_unitless(folder / name, name, frames={"train": 3, "val": 2, "test": 1}, seed=0, say=quiet)
    return folder


def official(sets: Path, name: str, to: Path) -> Path:
    """A copy without our lists, which no official set has."""
    for path in sorted((sets / name).rglob("*")):
        if path.is_file() and not path.name.endswith("_files.txt"):
            target = to / path.relative_to(sets / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return to


@pytest.mark.parametrize("name", NAMES)
def test_a_generated_set_is_good_and_the_same_for_everybody(sets: Path, name: str, tmp_path: Path) -> None:
    data = DataSettings(name=name, root=sets / name)
    assert {which: len(split.frames) for which, split in read_splits(data).items()} == {"train": 3, "val": 2, "test": 1}
    found = check_dataset(data, None, quiet)
    assert found.facts["splits"]["train"]["depth_share"] > 0.9
    make_unitless(tmp_path / name, name, frames={"train": 3, "val": 2, "test": 1}, seed=0, say=quiet)
    depth = LAYOUTS[name].places({"train": 1})[0].depth
    assert (tmp_path / name / depth).read_bytes() == (sets / name / depth).read_bytes()
    with pytest.raises(UsageError, match="another generated"):
        make_unitless(tmp_path / name, name, frames={"train": 3, "val": 1}, seed=1, say=quiet)


def test_redweb_without_lists_is_all_for_training(sets: Path, tmp_path: Path) -> None:
    root = official(sets, "redweb", tmp_path / "ReDWeb_V1")
    redweb = find("redweb")
    split = redweb.read_split(root, None, "train")
    assert [frame.name for frame in split.frames] == sorted(path.stem for path in (root / "Imgs").iterdir())
    assert len(split.frames) == 6 and not redweb.read_split(root, None, "val").frames
    frame = split.frames[0]
    stored = np.asarray(Image.open(frame.depth))
    assert stored.min() == 0, "the farthest pixels are ground truth too"
    assert np.array_equal(redweb.truth(frame), stored.astype(np.float32) + 1)
    assert redweb.kind_of(frame) == "relative"


def test_hrwsi_has_two_splits_and_its_masks_count(sets: Path, tmp_path: Path) -> None:
    root = official(sets, "hrwsi", tmp_path / "HRWSI")
    hrwsi = find("hrwsi")
    assert [len(hrwsi.read_split(root, None, which).frames) for which in ("train", "val", "test")] == [3, 3, 0]
    frame = hrwsi.read_split(root, None, "train").frames[0]
    assert frame.mask is not None and frame.name.startswith("train/")
    mask = np.asarray(Image.open(frame.mask)) > 0
    truth = hrwsi.truth(frame)
    assert 0 < mask.mean() < 1 and np.array_equal(truth > 0, mask)
    frame.mask.unlink()
    assert hrwsi.read_split(root, None, "train").without_depth == (frame.name,)


def test_blendedmvs_reads_its_lists_of_scans_and_no_masked_pictures(sets: Path, tmp_path: Path) -> None:
    root = official(sets, "blendedmvs", tmp_path / "BlendedMVS")
    blendedmvs = find("blendedmvs")
    whole = blendedmvs.read_split(root, None, "train").frames
    assert len(whole) == 6, "every scan, where there is no list"
    first, second = whole[0], whole[-1]
    first.image.with_name(f"{first.image.stem}_masked.jpg").write_bytes(first.image.read_bytes())
    scans = [first.name.partition("/")[0], second.name.partition("/")[0]]
    (root / "training_list.txt").write_text(f"{scans[0]}\n")
    (root / "validation_list.txt").write_text(f"{scans[1]}\n")
    splits = {which: blendedmvs.read_split(root, None, which).frames for which in ("train", "val")}
    assert [len(frames) for frames in splits.values()] == [3, 1]
    depth = read_pfm(first.depth)
    truth = blendedmvs.truth(first)
    assert np.array_equal(truth == 0, depth == 0) and (depth == 0).any()
    assert np.allclose(truth[depth > 0] * depth[depth > 0], 1)
    assert blendedmvs.drive_of(first.name) == scans[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_of_the_frames_that_are_trained_on(sets: Path, name: str, tmp_path: Path) -> None:
    root = official(sets, name, tmp_path / name)
    data = DataSettings(name=name, root=root)
    before = list_digests(data, use="training")
    listed = tmp_path / "lists" / f"{name}_train_files.txt"
    listed.parent.mkdir()
    names = [frame.name for frame in read_splits(data, use="training")["train"].frames]
    listed.write_text("\n".join(names))
    by_list = data.model_copy(update={"split": listed.parent})
    assert list_digests(by_list, use="training") == before
    listed.write_text("\n".join(names[1:]))
    assert list_digests(by_list, use="training") != before
    listed.write_text("../../secret\n")
    with pytest.raises(DataError, match=r"_train_files\.txt:1: '../../secret' is not the name"):
        list_digests(by_list, use="training")


@pytest.mark.parametrize("name", NAMES)
def test_no_set_at_all_says_how_to_make_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no such folder.*--layout {name}"):
        find(name).read_split(tmp_path / "none", None, "train")


def damaged(dataset: Dataset, root: Path) -> list[tuple[Path, str]]:
    frame = dataset.read_split(root, None, "train").frames[0]
    if dataset.name == "blendedmvs":
        frame.depth.write_bytes(pfm_bytes(np.full((240, 320), -1, np.float32)))
        return [(frame.depth, "negative or not finite")]
    Image.fromarray(np.zeros((240, 320), np.uint16)).save(frame.depth)
    said = [(frame.depth, "instead of 8 bits")]
    if frame.mask is not None:
        other = dataset.read_split(root, None, "train").frames[1]
        assert other.mask is not None
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(other.mask)
        said.append((other.mask, "a mask must have the size of its depth map"))
    return said


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_named(sets: Path, name: str, tmp_path: Path) -> None:
    root, dataset = official(sets, name, tmp_path / name), find(name)
    expected = damaged(dataset, root)
    with pytest.raises(DataError) as error:
        check_dataset(DataSettings(name=name, root=root), None, quiet, use="training")
    for path, reason in expected:
        assert any(str(path) in line and reason in line for line in str(error.value).splitlines())


def test_a_changed_mask_is_looked_at_again(sets: Path, tmp_path: Path) -> None:
    root, cache = official(sets, "hrwsi", tmp_path / "h"), tmp_path / "cache"
    data = DataSettings(name="hrwsi", root=root)

    def share() -> float:
        return float(check_dataset(data, cache, quiet, use="training").facts["splits"]["train"]["depth_share"])

    before = share()
    for mask in (root / "train" / "valid_masks").iterdir():
        Image.fromarray(np.tile(np.array([0, 255], np.uint8), (240, 160))).save(mask)
    assert share() == 0.5 < before
