"""The quickstart as shipped: it learns the image rather than the row, survives kills, and takes real KITTI frames."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ablate.runs.files import sha256_of

REPOSITORY = Path(__file__).parent.parent
STUDY = REPOSITORY / "studies" / "quickstart.yaml"
ABLATE = [sys.executable, "-c", "from ablate.cli import main; main()"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def ablate(folder: Path, *arguments: str) -> str:
    """Runs a command in `folder`; returns what it prints on stdout."""
    done = subprocess.run([*ABLATE, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{folder}/results.duckdb' AS r (TYPE duckdb, READ_ONLY)")
        connection.execute("USE r")
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `make demo`'s commands have run."""
    folder = tmp_path_factory.mktemp("demo")
    ablate(folder, "data", "sample", "data/sample")
    ablate(folder, "run", str(STUDY), "--workers", "2")
    return folder


def test_every_cell_is_complete_and_in_the_table(demo: Path) -> None:
    assert query(demo, "SELECT status, count(*) FROM runs GROUP BY ALL") == [("complete", 4)]
    report = ablate(demo, "report", "--format", "md")
    header = "|  d1 ↑  |  d2 ↑  |  d3 ↑  |  AbsRel ↓  |  SqRel ↓  |  RMSE ↓  |  RMSElog ↓  |  SILog ↓  |  log10 ↓  |"
    assert header in report
    for title in ("#### Output (Full size)", "#### Output (Reduced size)"):
        assert title in report


def test_every_cell_beats_the_mean_depth_of_each_pixel_by_a_fifth(demo: Path) -> None:
    from ablate.depth.data.baseline import mean_depth, score_constant
    from ablate.depth.data.kitti import read_split

    root = demo / "data" / "sample"
    mean = mean_depth(read_split(root, None, "train").frames, (375, 1242))
    rows = query(
        demo,
        "SELECT e.run_id, e.split, e.abs_rel FROM evaluations e WHERE e.resolution = 'reduced' "
        "AND e.epoch = (SELECT max(epoch) FROM evaluations t WHERE t.run_id = e.run_id AND t.split = 'test')",
    )
    assert len(rows) == 8
    for split in ("val", "test"):
        baseline = score_constant(mean, read_split(root, None, split).frames, "garg")["abs_rel"]
        assert baseline is not None
        for run_id, scored, abs_rel in rows:
            if scored == split:
                assert abs_rel < 0.8 * baseline, (run_id, split, baseline)


def test_shuffling_the_images_makes_every_cell_worse(demo: Path) -> None:
    from ablate.depth.data.kitti import Frame, read_split
    from ablate.depth.evaluation import evaluate
    from ablate.depth.task import DepthTask
    from ablate.runs import directory
    from ablate.runs.checkpoint import Checkpoints
    from ablate.runs.paths import RunsDir
    from ablate.task import Placement

    frames = read_split(demo / "data" / "sample", None, "val").frames
    images = [frame.image for frame in frames]
    shuffled = [Frame(f.name, image, f.depth) for f, image in zip(frames, images[1:] + images[:1], strict=True)]
    task = DepthTask()
    for paths in RunsDir(demo / "runs").runs():
        config = task.Config.model_validate(directory.read_config(paths).config)
        session = task.open(config, Placement(threads=1))
        checkpoints = Checkpoints(paths.checkpoints)
        manifest = checkpoints.latest(print)
        assert manifest is not None
        checkpoints.load_best(manifest, session.components["weights"])
        scores = []
        for some in (frames, shuffled):
            evaluations = evaluate(session._predict, "val", some, config.eval, config.data.resolution, lambda: None)
            scores.append({e.resolution: e.metrics["abs_rel"] for e in evaluations}["reduced"])
        session.close()
        assert scores[1] > 1.3 * scores[0], paths.name


def test_a_second_time_nothing_is_left_to_do(demo: Path) -> None:
    before = ablate(demo, "report")
    begin = time.monotonic()
    done = subprocess.run([*ABLATE, "run", str(STUDY)], cwd=demo, capture_output=True, text=True)
    assert done.returncode == 0
    assert "nothing left to do" in done.stderr
    assert time.monotonic() - begin < 10
    assert ablate(demo, "report") == before


SHORT = ["--set", "train.epochs=2", "--set", "train.checkpoint.every=3 steps", "--threads", "1"]


def processes(folder: Path) -> Iterator[int]:
    """Every process that works in `folder`, as one who pulls the plug would see them."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").resolve() == folder:
                    yield int(entry.name)
            except OSError:
                continue


def kill_everything(folder: Path) -> int:
    victims = list(processes(folder))
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(victims)


def test_killing_everything_at_random_moments_changes_no_row(tmp_path: Path, demo: Path) -> None:
    if not Path("/proc/self/cwd").exists():
        pytest.skip("finds the processes to kill in /proc, which this system does not have")
    for name in ("calm", "storm"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "sample").symlink_to(demo / "data" / "sample")
    command = [*ABLATE, "run", str(STUDY), *SHORT, "--only", "model.attention=performer,memory_compressed"]
    subprocess.run(command, cwd=tmp_path / "calm", check=True, capture_output=True)
    draw = random.Random(7)
    storm = tmp_path / "storm"
    for _ in range(4):
        process = subprocess.Popen(
            command, cwd=storm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(draw.uniform(4, 14))
        kill_everything(storm)
        process.wait()
    subprocess.run(command, cwd=storm, check=True, capture_output=True)
    views = {"evaluations": "*", "image_metrics": "*", "epochs": "run_id, epoch, train_loss, lr"}
    for view, columns in views.items():
        sql = f"SELECT {columns} FROM {view} ORDER BY ALL"
        rows = query(storm, sql)
        assert rows
        assert rows == query(tmp_path / "calm", sql), view
    assert weights(storm) == weights(tmp_path / "calm")


def weights(folder: Path) -> list[str]:
    return sorted(sha256_of(path) for path in (folder / "runs").glob("*/checkpoints/*.weights.pt"))


def test_real_kitti_frames_train_and_report(tmp_path: Path, shared: Path) -> None:
    root = shared / "kitti-sample"
    ablate(tmp_path, "run", str(STUDY), "--set", f"data.root={root}", "--max-steps", "4")
    rows = query(tmp_path, "SELECT abs_rel, d1, images FROM evaluations WHERE split = 'val'")
    assert rows
    assert all(abs_rel > 0 and 0 <= d1 <= 1 and images == 2 for abs_rel, d1, images in rows)
    report = ablate(tmp_path, "report")
    assert "AbsRel ↓" in report
    runs = json.loads(ablate(tmp_path, "ls", "--json"))
    assert {run["status"] for run in runs} == {"complete"}
