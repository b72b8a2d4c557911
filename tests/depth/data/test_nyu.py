"""NYU v2 in BTS's layout: a generated set of rooms, read as the real one is."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from PIL import Image

from ablate.depth.config import DataSettings
from ablate.depth.data.check import check_dataset
from ablate.depth.data.nyu import NYU
from ablate.depth.data.room import make_room
from ablate.depth.data.splits import read_splits
from ablate.errors import DataError, UsageError

FRAMES = {"train": 3, "val": 2, "test": 1}


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nyu") / "room"
    make_room(folder, frames=FRAMES, seed=0, say=quiet)
    return folder


@pytest.fixture
def rooms(made: Path, tmp_path: Path) -> Path:
    return Path(copytree(made, tmp_path / "room"))


def test_rooms_are_read_and_pass_the_check(made: Path) -> None:
    data = DataSettings(name="nyu", root=made)
    assert {name: len(split.frames) for name, split in read_splits(data).items()} == FRAMES
    found = check_dataset(data, None, quiet)
    assert found.notes == ()
    for fact in found.facts["splits"].values():
        low, high = fact["depth_metres"]
        assert 0.3 < low < 3 and 2 < high < 12 and 0.85 < fact["depth_share"] < 0.95
        assert fact["sizes"] == {"480x640": fact["frames"]} and fact["bits"] == {"16": fact["frames"]}
        assert fact["distinct_values"][0] > 1000 and fact["drives"] == 1


def test_depth_is_millimetres_and_pictures_show_the_rooms(made: Path) -> None:
    for frame in NYU.read_split(made, None, "train").frames:
        units, metres = np.asarray(Image.open(frame.depth)), NYU.load_depth(frame.depth)
        assert metres.dtype == np.float32 and np.allclose(metres, units / 1000)
        image = NYU.load_image(frame.image)
        assert image.shape == (480, 640, 3) and image.std() > 20


def test_the_same_seed_gives_the_same_depth_and_another_seed_another(made: Path, tmp_path: Path) -> None:
    make_room(tmp_path / "again", frames={"train": 1, "val": 1}, seed=0, say=quiet)
    make_room(tmp_path / "other", frames={"train": 1, "val": 1}, seed=1, say=quiet)
    name = "sync/room_0001/sync_depth_00000.png"
    assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (made / name).read_bytes()


def test_a_street_is_not_taken_for_rooms(tmp_path: Path) -> None:
    (tmp_path / "street.json").write_text("{}")
    with pytest.raises(UsageError, match="holds something else than a generated room"):
        make_room(tmp_path, frames=FRAMES, seed=0, say=quiet)


def test_the_folder_above_is_a_root_too(rooms: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    rooms.rename(tmp_path / "above" / "nyu_depth_v2")
    data = DataSettings(name="nyu", root=tmp_path / "above", split=Path("nyu_depth_v2"))
    assert {name: len(split.frames) for name, split in read_splits(data).items()} == FRAMES


def test_without_a_val_list_scenes_can_be_held_out(rooms: Path) -> None:
    (rooms / "nyudepthv2_val_files_with_gt.txt").unlink()
    with pytest.raises(DataError, match=r"nyudepthv2_val_files_with_gt\.txt: no such file.*data\.holdout: drives"):
        read_splits(DataSettings(name="nyu", root=rooms))
    lines = (rooms / "nyudepthv2_train_files_with_gt.txt").read_text()
    scene = rooms / "sync" / "room_0002"  # was val
    lines += "".join(f"/room_0002/{path.name} None 518.8579\n" for path in sorted(scene.glob("*.jpg")))
    (rooms / "nyudepthv2_train_files_with_gt.txt").write_text(
        lines.replace("None", "/room_0002/sync_depth_00000.png", 1)
    )
    splits = read_splits(DataSettings(name="nyu", root=rooms, holdout="drives"))
    assert splits["val"].names() == ("room_0002 0", "room_0002 1")
    assert splits["val"].without_depth == ("room_0002 1",) and len(splits["train"].frames) == 3


@pytest.mark.parametrize(
    "name, drive",
    [("kitchen_0028b 45", "kitchen_0028"), ("kitchen_0028 45", "kitchen_0028"), ("bathroom 7", "bathroom")],
)
def test_the_parts_of_a_scene_are_one(name: str, drive: str) -> None:
    assert NYU.drive_of(name) == drive


def test_eight_bit_depth_and_frames_of_other_sizes_are_refused(rooms: Path) -> None:
    train, val = (NYU.read_split(rooms, None, which).frames for which in ("train", "val"))
    Image.fromarray(np.full((480, 640), 9, np.uint8)).save(train[0].depth)
    for path in (val[0].image, val[0].depth):
        Image.open(path).resize((320, 240), Image.Resampling.NEAREST).save(path)
    with pytest.raises(DataError) as error:
        check_dataset(DataSettings(name="nyu", root=rooms), None, quiet)
    text = str(error.value)
    assert f"{train[0].depth}: a PNG of 8 bits" in text and "millimetres" in text
    assert str(val[0].image) in text and "480x640" in text


def test_missing_files_are_told_apart(rooms: Path) -> None:
    first, second, *_ = NYU.read_split(rooms, None, "train").frames
    first.image.unlink()
    second.depth.unlink()
    split = NYU.read_split(rooms, None, "train")
    assert split.without_image == (first.image,) and split.without_depth == (second.name,)
