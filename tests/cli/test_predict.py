"""`ablate predict`, as a user types it, with the smallest network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ablate.cli.predicting import name_of, outputs, parse_resolution
from ablate.depth.config import ModelSettings
from ablate.depth.model.dpt import build
from ablate.errors import UsageError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """w.pt and two images in frames/, in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(build(ModelSettings(name="dpt_tiny")).state_dict(), "w.pt")
    Path("frames").mkdir()
    for number, (height, width) in enumerate([(40, 100), (64, 96)]):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"frames/{number}.{'jpg' if number else 'png'}")
    return Path.cwd()


def pixels_of(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def written() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_images_of_a_folder_in_every_format(here, place) -> None:
    Path("frames/notes.txt").write_text("no image")
    done = here("predict", "w.pt", "frames", "-o", "out/deep", "--format", "npy")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == (
        "2 images in out/deep: float32, metres; dpt_tiny with w.pt, network input 32x96 (1), 64x96 (1)"
    )
    assert "Warning" not in done.stderr
    depth = np.load("out/deep/0.npy")
    assert depth.shape == (40, 100) and np.load("out/deep/1.npy").shape == (64, 96)
    done = here("predict", "w.pt", "frames/*.png", "frames/0.png", "-o", "out")  # one image, named twice
    assert done.returncode == 0 and "1 image in out: 16-bit PNG, metres x 256" in done.stderr
    stored = pixels_of("out/0.png")
    assert stored.dtype == np.uint16 and np.array_equal(stored, np.floor(depth.astype(np.float64) * 256))
    assert here("predict", "w.pt", "frames/0.png", "-o", "out", "--format", "color").returncode == 0
    assert pixels_of("out/0-color.png").shape[2] == 3
    assert not list(Path().rglob("*.tmp"))


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_predicted(here, place) -> None:
    Path("frames/2.png").write_text("no image")
    done = here("predict", "w.pt", "frames", "-o", "out")
    assert done.returncode == 2
    assert "1 of 3 images not predicted:\n  frames/2.png: cannot be decoded: neither PNG nor JPEG" in done.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "1.png"]


def test_what_is_there_is_not_overwritten_unless_it_is_said(here, place) -> None:
    Path("out").mkdir()
    Path("out/0.png").write_text("precious")
    refused = here("predict", "w.pt", "frames", "-o", "out")
    assert refused.returncode == 2
    assert "1 of 2 outputs exist already; --force overwrites them:\n  out/0.png" in refused.stderr
    assert Path("out/0.png").read_text() == "precious" and not Path("out/1.png").exists()
    assert here("predict", "w.pt", "frames", "-o", "out", "--force").returncode == 0
    assert pixels_of("out/0.png").shape == (40, 100)


def test_weights_without_a_unit_give_no_metres(here, place) -> None:
    Path("w.pt").rename("dpt_tiny-midas.pt")
    refused = here("predict", "dpt_tiny-midas.pt", "frames", "-o", "out")
    assert refused.returncode == 2
    assert "inverse depth without a unit" in refused.stderr and "--relative" in refused.stderr
    assert not Path("out").exists()
    done = here("predict", "dpt_tiny-midas.pt", "frames", "-o", "out", "--relative")
    assert done.returncode == 0
    assert "relative inverse depth, no unit" in done.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["0-relative.npy", "1-relative.npy"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ww.pt", "frames"), "ww.pt: no such file; did you mean w.pt?"),
        (("nothing", "frames"), "no run called 'nothing' in runs"),
        (("frames", "frames"), "frames: a folder, but not that of a run"),
        (("w.pt", "nowhere.png"), "nowhere.png: no such file or folder"),
        (("w.pt", "frames/*.bmp"), "frames/*.bmp: no image matches this pattern"),
        (("w.pt", "empty"), "empty: no image in this folder"),
        (("w.pt", "frames", "--resolution", "640"), "--resolution 640: expected full, reduced, or height x width"),
        (("w.pt", "frames", "--resolution", "0x640"), "--resolution 0x640: expected"),
        (("w.pt", "frames", "--network", "dpt_tny"), "did you mean dpt_tiny?"),
        (("w.pt", "frames", "--dataset", "kity"), "--dataset kity: expected one of kitti, nyu"),
        (("w.pt", "frames", "--format", "png"), "'png' is not one of"),
        (("w.pt", "frames", "--relative", "--format", "png16"), "--format png16 holds metres"),
        (("w.pt", "frames", "--device", "cuda:7,cpu"), "--device"),
        (("w.pt", "frames", "frames/../again/0.png"), "would both be written to out/0.png"),
        (("frames/0.png", "frames"), "frames/0.png: "),
        (("w.pt", "frames", "-o", "frames", "--force"), "frames/0.png is itself an image to predict"),
        (("w.pt", "frames", "-o", "w.pt"), "w.pt: is a file; name a folder with -o"),
    ],
)
def test_a_mistake_is_one_clear_error_and_nothing_is_written(here, place, arguments, said) -> None:
    Path("empty").mkdir()
    Path("again").mkdir()
    Path("again/0.png").write_bytes(Path("frames/0.png").read_bytes())
    before = written()
    done = here("predict", *arguments, *(() if "-o" in arguments else ("-o", "out")))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert written() == before


@pytest.mark.slow
def test_a_full_disk_is_said_and_leaves_no_half_file(here, place) -> None:
    inject = (
        "import errno, os\nfrom ablate.runs import disk\n"
        "def full(descriptor, data):\n    os.write(descriptor, bytes(data)[:10])\n"
        "    raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "disk.write = full\nfrom ablate.cli import main\nmain()"
    )
    command = [sys.executable, "-c", inject, "predict", "w.pt", "frames", "-o", "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "out/0.png: no space left on device; make room, or name another folder with -o" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(Path("out").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(here, place) -> None:
    pixels = Image.fromarray(pixels_of("frames/0.png")).resize((640, 192))
    for number in range(2, 400):
        pixels.save(f"frames/{number}.png")
    command = [sys.executable, "-c", "from ablate.cli import main; main()", "predict", "w.pt", "frames", "-o", "out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while len(list(Path("out").glob("*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "interrupted; what is written is whole" in said and "--force" in said
    assert "Traceback" not in said
    made = [path for path in Path("out").iterdir() if path.suffix == ".png"]
    assert 2 <= len(made) < 400
    for path in made:
        assert pixels_of(path).shape == (192, 640) or path.stem in "01"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (
            "raw/2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png",
            "2011_09_26_drive_0002_sync_0000000069",
        ),
        ("2011_09_26_drive_0002_sync/image_03/data/7.jpg", "2011_09_26_drive_0002_sync_image_03_7"),
        ("bathroom_0001/rgb_00045.jpg", "bathroom_0001_rgb_00045"),
        ("frames/0.png", "0"),
        ("a.b.png", "a.b"),
    ],
)
def test_predictions_are_called_as_score_looks_for_them(image: str, name: str) -> None:
    assert name_of(Path(image)) == name


@given(st.integers(1, 99999), st.integers(1, 99999))
def test_sizes_are_height_x_width(height: int, width: int) -> None:
    assert parse_resolution(f"{height}x{width}") == (height, width)


@given(st.text(max_size=12))
def test_any_other_text_is_refused(text: str) -> None:
    try:
        parsed = parse_resolution(text)
    except UsageError as error:
        assert str(error).startswith(f"--resolution {text}: ")
    else:
        assert parsed in ("full", "reduced") or all(side > 0 for side in parsed)


names = st.lists(
    st.tuples(st.sampled_from(["a", "b", "out"]), st.sampled_from(["1", "2", "3"]), st.sampled_from([".png", ".jpg"])),
    unique=True,
    max_size=5,
)


@given(names, st.sampled_from([".png", ".npy", "-color.png"]))
def test_no_two_images_share_a_file_and_none_is_overwritten(parts, suffix: str) -> None:
    images = [Path(folder) / f"{stem}{end}" for folder, stem, end in parts]
    try:
        jobs = outputs(images, Path("out"), suffix)
    except UsageError:
        stems = [image.stem for image in images]
        assert len(set(stems)) < len(stems) or any(Path("out") / f"{stem}{suffix}" in images for stem in stems)
    else:
        targets = [path for _, path in jobs]
        assert len(set(targets)) == len(images) and not set(targets) & set(images)
