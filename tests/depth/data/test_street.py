"""The generated street: KITTI's layout and figures, the same bytes for the same seed, and never half a set."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ablate.depth.data.kitti import load_depth, load_image, read_split
from ablate.depth.data.street import make_street
from ablate.depth.data.street_render import CENTRE_X, CENTRE_Y, FOCAL, render
from ablate.depth.data.street_scene import Box, Camera, Road, Scene, Weather, random_scene
from ablate.errors import UsageError

FRAMES = {"train": 6, "val": 2, "test": 2}


def quiet(text: str) -> None:
    pass


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_loader_reads_it_and_drives_are_apart(street: Path) -> None:
    splits = {which: read_split(street, None, which) for which in FRAMES}
    assert {which: len(split.frames) for which, split in splits.items()} == FRAMES
    assert not any(split.without_depth or split.without_image for split in splits.values())
    drives = {which: {frame.name.split()[0] for frame in split.frames} for which, split in splits.items()}
    assert drives == {which: {f"2011_09_26/2011_09_26_drive_900{n}_sync"} for n, which in enumerate(FRAMES, 1)}


def test_pictures_and_depth_are_like_kittis(street: Path) -> None:
    for which in FRAMES:
        for frame in read_split(street, None, which).frames:
            image, depth = load_image(frame.image), load_depth(frame.depth)
            assert image.shape == (375, 1242, 3) and depth.shape == (375, 1242)
            # Bits per channel and colour type in the PNG's header: 16-bit grey, 8-bit RGB.
            assert (frame.depth.read_bytes()[24:26], frame.image.read_bytes()[24:26]) == (b"\x10\x00", b"\x08\x02")
            assert (depth > 0).mean() == pytest.approx(0.19, abs=0.005)
            assert depth[depth > 0].min() > 2 and depth.max() <= 85
            assert not depth[:100].any()  # lasers do not look up
            assert image.std() > 25


def test_the_same_seed_gives_the_same_bytes_in_another_process(street: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ablate.depth.data.street import make_street;"
        f"make_street(Path(sys.argv[1]), frames={FRAMES!r}, seed=0, say=print)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "again")], check=True, env=environment)
    assert digests(tmp_path / "again") == digests(street)


def test_another_seed_gives_another_street_and_longer_sets_begin_alike(street: Path, tmp_path: Path) -> None:
    make_street(tmp_path / "other", frames={"train": 1, "val": 1}, seed=1, say=quiet)
    make_street(tmp_path / "short", frames={"train": 1, "val": 1, "test": 0}, seed=0, say=quiet)
    first = "raw/2011_09_26/2011_09_26_drive_9001_sync/image_02/data/0000000000.png"
    assert digests(tmp_path / "other")[first] != digests(street)[first] == digests(tmp_path / "short")[first]
    assert not (tmp_path / "short" / "test_files.txt").exists()


def test_a_set_that_is_there_is_left_alone(street: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in street.rglob("*")}
    said: list[str] = []
    start = time.monotonic()
    make_street(street, frames=FRAMES, seed=0, say=said.append)
    assert time.monotonic() - start < 1
    assert "nothing to do" in said[0] and len(said) == 1
    assert {path: path.stat().st_mtime_ns for path in street.rglob("*")} == before


def test_a_lost_frame_or_list_is_made_again(street: Path, tmp_path: Path) -> None:
    make_street(tmp_path, frames=FRAMES, seed=0, say=quiet)
    frame = read_split(tmp_path, None, "val").frames[1]
    for damage in (frame.image.unlink, lambda: frame.depth.write_bytes(b""), (tmp_path / "val_files.txt").unlink):
        damage()
        make_street(tmp_path, frames=FRAMES, seed=0, say=quiet)
        assert digests(tmp_path) == digests(street)


def test_a_killed_making_is_not_taken_for_a_set_and_is_finished(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ablate.depth.data.street import make_street;"
        "make_street(Path(sys.argv[1]), frames={'train': 20, 'val': 1}, seed=5, say=print)"
    )
    folder = tmp_path / "street"
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(folder.rglob("00000000*.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(folder.rglob("*.png")) and not list(folder.glob("*_files.txt"))
    make_street(folder, frames={"train": 20, "val": 1}, seed=5, say=quiet)
    make_street(tmp_path / "undisturbed", frames={"train": 20, "val": 1}, seed=5, say=quiet)
    made = {name: digest for name, digest in digests(folder).items() if not name.endswith(".tmp")}
    assert made == digests(tmp_path / "undisturbed")


@pytest.mark.parametrize("held", ["photos/a.jpg", "train_files.txt"])
def test_a_folder_that_holds_something_else_is_refused_untouched(tmp_path: Path, held: str) -> None:
    (tmp_path / held).parent.mkdir(exist_ok=True)
    (tmp_path / held).write_text("mine")
    before = digests(tmp_path)
    with pytest.raises(UsageError, match="holds something else"):
        make_street(tmp_path, frames=FRAMES, seed=0, say=quiet)
    assert digests(tmp_path) == before


def test_another_street_or_a_file_is_refused_untouched(street: Path, tmp_path: Path) -> None:
    before = digests(street)
    with pytest.raises(UsageError, match="another generated street"):
        make_street(street, frames=FRAMES, seed=1, say=quiet)
    assert digests(street) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="not a folder"):
        make_street(tmp_path / "file", frames=FRAMES, seed=0, say=quiet)


@pytest.mark.parametrize(
    ("frames", "seed"),
    [({"train": 0, "val": 1}, 0), ({"train": 1}, 0), ({"train": 1, "val": 1, "dev": 1}, 0), (FRAMES, -1)],
)
def test_impossible_streets_are_refused(tmp_path: Path, frames: dict[str, int], seed: int) -> None:
    with pytest.raises(UsageError):
        make_street(tmp_path / "street", frames=frames, seed=seed, say=quiet)
    assert not (tmp_path / "street").exists()


SKY_BLUE = Weather((0.0, -1.0, 0.0), 0.6, 1e6, (0.8, 0.8, 0.8), (0.4, 0.6, 0.9), 0.0, 1.0)
FLAT = Road(4.0, 2.0, 0.0, 0.0, 0.0, 1e6, (0.3, 0.4, 0.2), 6.0, 0.0)


def test_flat_ground_has_the_depth_that_perspective_gives() -> None:
    scene = Scene(Camera(1.65, 0.0, 0.0, 0.0), FLAT, SKY_BLUE, (), ())
    _, units = render(scene, np.random.default_rng(0))
    rows, columns = np.nonzero(units)
    expected = 1.65 * FOCAL / (rows - CENTRE_Y)
    assert np.abs(units[rows, columns] / 256 - expected).max() < 0.01
    assert rows.min() > CENTRE_Y and len(rows) > 80_000


def test_a_box_stands_where_a_pinhole_camera_sees_it() -> None:
    box = Box(x=3.0, z=21.0, bottom=0.0, top=-4.0, width=2.0, length=2.0, yaw=0.0, colour=(1, 0, 0), material="plain")
    scene = Scene(Camera(1.65, 0.0, 0.0, 0.0), FLAT, SKY_BLUE, (box,), ())
    image, units = render(scene, np.random.default_rng(0))
    red = (image[..., 0] > 2.0 * image[..., 1]) & (image[..., 0] > 60)
    rows, columns = np.nonzero(red)
    # Left edge: the near corner at x = 2 or the far one at z = 22, whichever is seen further left.
    assert columns.min() == pytest.approx(CENTRE_X + FOCAL * 2 / 22, abs=1.5)
    assert columns.max() == pytest.approx(CENTRE_X + FOCAL * 4 / 20, abs=1.5)
    assert rows.max() == pytest.approx(CENTRE_Y + FOCAL * 1.65 / 20, abs=1.5)
    assert rows.min() == pytest.approx(CENTRE_Y - FOCAL * (4 - 1.65) / 20, abs=1.5)
    front = units[150:200, int(CENTRE_X + FOCAL * 3 / 20)]
    assert set(front[front > 0].tolist()) == {20 * 256}


def test_streets_differ_so_that_a_row_does_not_tell_the_depth() -> None:
    """Medians of the rows of a column band: they must spread over frames, not be a function of the row."""
    depths = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        _, units = render(random_scene(rng), rng)
        row = units[215:225, 300:900]
        depths.append(np.median(row[row > 0]) / 256)
    assert max(depths) > 2 * min(depths)
