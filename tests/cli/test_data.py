"""`ablate data` as a user types it: sets that are made, and sets that are looked at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = ("--train", "3", "--val", "1", "--test", "1")

STUDY = """\
study: looks
base:
  model: {name: dpt_tiny}
  data: {root: street, resolution: [32, 96]}
grid:
  data.labels: [metric, floor_metres]
  train.lr: [1e-4, 1e-5]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ablate.depth.data.street import make_street

    folder = tmp_path_factory.mktemp("made") / "street"
    make_street(folder, frames={"train": 3, "val": 1, "test": 1}, seed=0, say=lambda text: None)
    return folder


@pytest.fixture
def street(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "street"))


def test_a_generated_street_is_good(ablate, street: Path) -> None:
    done = ablate("data", "check", "street")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == f"{street}: good to train on"
    header, *rows = [line.split() for line in done.stdout.splitlines() if "│" in line or "┃" in line]
    assert {"Images", "Size", "Values", "Bits", "Drives", "Neighbours"} <= set(header)
    assert [(row[1], row[3], row[7]) for row in rows] == [
        ("train", "3", "375x1242"),
        ("val", "1", "375x1242"),
        ("test", "1", "375x1242"),
    ]
    assert sorted(path.name for path in Path().iterdir()) == ["street"], "a look writes nothing"


def test_rooms_are_made_and_recognised_by_their_lists(ablate, tmp_path: Path) -> None:
    assert ablate("data", "sample", "room", "--layout", "nyu", *SMALL).returncode == 0
    done = ablate("data", "check", "room", "--json")
    (found,) = json.loads(done.stdout)["data"]
    assert (done.returncode, found["dataset"], found["kind"], found["errors"], found["notes"]) == (
        0,
        "nyu",
        "metric",
        [],
        [],
    )
    assert {name: fact["frames"] for name, fact in found["splits"].items()} == {"train": 3, "val": 1, "test": 1}
    assert len(found["fingerprint"]) == 64 and found["splits"]["train"]["bits"] == {"16": 3}
    as_kitti = ablate("data", "check", "room", "--dataset", "kitti")
    assert as_kitti.returncode == 2 and "train_files.txt: no such file" in as_kitti.stderr


def test_all_that_is_wrong_is_said_at_once(ablate, street: Path) -> None:
    images, depths = sorted((street / "raw").rglob("*.png")), sorted((street / "data_depth_annotated").rglob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:-40])
    Image.fromarray(np.full((375, 1242), 7, np.uint8)).save(depths[1])
    (street / "val_files.txt").write_text((street / "train_files.txt").read_text().splitlines()[2])
    done = ablate("data", "check", "street")
    assert done.returncode == 2
    assert "train" in done.stdout, "what could be read is shown all the same"
    assert f"{images[0]}: cannot be decoded: truncated PNG" in done.stderr
    assert f"{depths[1]}: a PNG of 8 bits" in done.stderr and "floor(metres)" in done.stderr
    assert "1 frame is in both train and val" in done.stderr and images[2].name in done.stderr
    machine = ablate("data", "check", "street", "--json")
    assert machine.returncode == 2
    (found,) = json.loads(machine.stdout)["data"]
    assert any("in both train and val" in text for text in found["errors"])


def test_a_study_is_looked_at_once_per_data_set(ablate, street: Path) -> None:
    Path("looks.yaml").write_text(STUDY)
    done = ablate("data", "check", "looks.yaml", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["data"]) == 2, "two ways to read labels, not four cells"
    held = ablate("data", "check", "looks.yaml", "--set", "data.holdout=drives", "--json")
    assert held.returncode == 2
    assert all("all frames are of one drive" in each["errors"][0] for each in json.loads(held.stdout)["data"])


def test_shared_drives_are_noted_and_can_be_held_out(ablate, street: Path) -> None:
    train, val = (street / "train_files.txt").read_text().splitlines(), (street / "val_files.txt").read_text()
    (street / "train_files.txt").write_text("\n".join([*train[:2], val.strip()]))
    (street / "val_files.txt").write_text(train[2])
    noted = ablate("data", "check", "street")
    assert noted.returncode == 0
    assert "val: 1 of 1 frame has a neighbour in train" in noted.stderr
    assert "val: 1 of 1 drive is in train too: 2011_09_26_drive_9001_sync" in noted.stderr
    held = ablate("data", "check", "street", "--holdout", "drives", "--json")
    (found,) = json.loads(held.stdout)["data"]
    assert found["notes"] == [] and found["splits"]["val"]["neighbours_in_train"] == 0


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (("check", "nowhere"), "nowhere"),
        (("check", "street", "--dataset", "kitty"), "expected one of kitti, nyu"),
        (("check", "street", "--set", "train.lr=1"), "--set needs a study"),
        (("check", "looks.yaml", "--dataset", "kitti"), "need the folder of a data set"),
        (("check", "toys.yaml"), "only depth data"),
        (("sample", "room", "--layout", "kinect"), "kinect"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    ablate, street: Path, toys: Path, arguments: tuple[str, ...], reason: str
) -> None:
    Path("looks.yaml").write_text(STUDY)
    done = ablate("data", *arguments)
    assert done.returncode == 2 and reason in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_stores_the_fingerprint_and_says_when_its_data_changed(ablate, street: Path) -> None:
    """A run that goes on with other files says so; a contaminated set trains nothing."""
    Path("one.yaml").write_text(STUDY.partition("grid:")[0])
    first = ablate("run", "one.yaml", "--max-steps", "2", "--set", "eval.resolutions=[reduced]")
    assert first.returncode == 0, first.stderr
    (journal,) = Path("runs").glob("*/journal.jsonl")
    checked = [line for line in journal.read_text().splitlines() if '"checked"' in line]
    (look,) = json.loads(ablate("data", "check", "street", "--json").stdout)["data"]
    assert look["fingerprint"] in checked[0]
    (street / "val_files.txt").write_text((street / "train_files.txt").read_text().splitlines()[0])
    again = ablate("run", "one.yaml", "--max-steps", "2", "--set", "eval.resolutions=[reduced]")
    assert again.returncode == 2 and "1 frame is in both train and val" in again.stderr
    assert len(list(Path("runs").glob("*/journal.jsonl"))) == 1
