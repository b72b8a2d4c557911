"""Data sets by name: ours, those of a folder of plug-ins, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from ablate import plugins
from ablate.depth.config import DataSettings
from ablate.depth.data import datasets
from ablate.depth.data.check import check_dataset
from ablate.depth.data.splits import list_digests, read_splits
from ablate.errors import DataError, UsageError

GARDEN = """
import numpy as np
from PIL import Image
from ablate.depth.data.datasets import Dataset, Frame, Split


class Garden(Dataset):
    name, protocol = "{name}", "nyu"

    def read_split(self, root, split, which):
        file = self.list_files(root, split).get(which)
        names = self.names_of(file) if file else ()
        return Split(tuple(Frame(name, root / f"{{name}}.jpg", root / f"{{name}}.npy") for name in names))

    def load_depth(self, path):
        return np.load(path)

    def drive_of(self, name):
        return name.rpartition("-")[0]

    def place_of(self, name):
        bed, _, number = name.rpartition("-")
        return bed, int(number)


nothing = 7
"""


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of plug-ins with the data set `garden` and a broken one, and its data."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "g"\n[project.entry-points."ablate.data"]\n'
        'garden = "garden_data:Garden"\nnothing = "garden_data:nothing"\nabsent = "no_such_module:X"\n'
    )
    (folder / "garden_data.py").write_text(GARDEN.format(name="garden"))
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield make_garden(tmp_path / "data")
    sys.modules.pop("garden_data", None)
    datasets._loaded.cache_clear()


def make_garden(root: Path) -> Path:
    root.mkdir()
    rng = np.random.default_rng(0)
    for which, beds in {"train": ["roses-1", "roses-2", "herbs-1"], "val": ["roses-3"], "test": ["ivy-1"]}.items():
        (root / f"{which}_files.txt").write_text("\n".join(beds))
        for name in beds:
            Image.fromarray(rng.integers(0, 255, (480, 640, 3), np.uint8)).save(root / f"{name}.jpg")
            np.save(root / f"{name}.npy", rng.uniform(0.5, 9, (480, 640)).astype(np.float32))
    return root


def test_a_plug_ins_data_set_is_read_checked_and_identified(garden: Path) -> None:
    data = DataSettings(name="garden", root=garden)
    splits = read_splits(data)
    assert [frame.name for frame in splits["train"].frames] == ["roses-1", "roses-2", "herbs-1"]
    found = check_dataset(data, None, lambda text: None)
    assert [note.split(":")[0] for note in found.notes] == ["val", "val"]
    val = found.facts["splits"]["val"]
    assert (val["neighbours_in_train"], val["drives_in_train"], val["bits"]) == (1, ["roses"], {})
    digests = list_digests(data)
    (garden / "train_files.txt").write_text("roses-1\n\n  roses-2 \r\nherbs-1")
    assert list_digests(data) == digests
    held = read_splits(DataSettings(name="garden", root=garden, holdout="drives"))
    assert {frame.name.split("-")[0] for frame in held["val"].frames} == {"herbs"}


def test_what_a_plug_ins_reader_gets_wrong_is_named(garden: Path) -> None:
    np.save(garden / "roses-2.npy", np.zeros((480, 640, 3), np.float32))
    (garden / "herbs-1.npy").write_bytes(b"not numpy")
    with pytest.raises(DataError) as error:
        check_dataset(DataSettings(name="garden", root=garden), None, lambda text: None)
    assert "roses-2.npy: depth must be read as HW float32, not (480, 640, 3)" in str(error.value)
    assert "herbs-1.npy: data set 'garden' cannot read it" in str(error.value)


def test_files_are_looked_at_again_when_a_plug_ins_code_changes(garden: Path, tmp_path: Path) -> None:
    data, cache = DataSettings(name="garden", root=garden), tmp_path / "cache"
    (cache / "x").mkdir(parents=True)
    before = check_dataset(data, cache, lambda text: None).facts["splits"]["train"]["depth_metres"]
    code = tmp_path / "plugin" / "garden_data.py"
    code.write_text(code.read_text().replace("np.load(path)", "np.load(path) / 2"))
    sys.modules.pop("garden_data")
    datasets._loaded.cache_clear()
    after = check_dataset(data, cache, lambda text: None).facts["splits"]["train"]["depth_metres"]
    assert after == pytest.approx([value / 2 for value in before])


@pytest.mark.parametrize("name, reason", [("nothing", "must be a subclass"), ("absent", "cannot be imported")])
def test_an_entry_point_that_is_no_data_set_is_refused(garden: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{name}.*{reason}"):
        datasets.find(name)


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValidationError, match="expected one of kitti, nyu"):
        DataSettings(name="kitty")
    with pytest.raises(UsageError, match="expected one of kitti, nyu"):
        datasets.find("kitty")


def test_a_configuration_that_names_a_data_set_imports_no_plug_in(garden: Path) -> None:
    code = (
        "import sys; from ablate.depth.config import DataSettings; DataSettings(name='garden');"
        "print([name for name in ('torch', 'garden_data') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
