"""`ablate score` on files, against what the published evaluator computed for the very same files."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ablate.cli import main

KEYS = ["d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10"]
EXPECTED = json.loads((Path(__file__).parents[1] / "data" / "scoring" / "expected.json").read_text())
SIZES = [(375, 1242), (370, 1226), (376, 1241), (374, 1238), (370, 1224)]


@pytest.fixture
def score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in this process: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["ablate", "score", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, compress_level=1)


def units(metres: np.ndarray) -> np.ndarray:
    return np.clip(metres * 256, 0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames as the reference's were generated: the pixels are the same, so that its figures hold."""
    folder = tmp_path_factory.mktemp("case")
    rng = np.random.default_rng(11)
    for i in range(6):
        h, w = SIZES[i % len(SIZES)]
        drive, frame = f"2011_09_26_drive_{9000 + i // 2:04d}_sync", f"{int(rng.integers(0, 400)):010d}"
        y, x = np.mgrid[0:h, 0:w]
        depth = 1.65 * 721.5 / np.maximum(y - 0.46 * h, 4) + 3 * np.sin(x / 90 + 11) + rng.normal(0, 0.4, (h, w))
        depth = np.clip(depth, 0.5, 95)
        gt = np.where(rng.random((h, w)) < 0.19, depth, 0)
        gt[: int(0.35 * h)] = 0
        save(folder / "gt" / drive / "proj_depth" / "groundtruth" / "image_02" / f"{frame}.png", units(gt))
        left = (w - 1216) // 2
        predicted = depth[h - 352 :, left : left + 1216] * rng.lognormal(0.04, 0.22, (352, 1216))
        predicted[rng.random(predicted.shape) < 0.002] = 0
        save(folder / "pred" / f"{drive}_{frame}.png", units(predicted))
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """One whole frame: 10 m everywhere, predicted as 11 m."""
    save(tmp_path / "gt" / "val" / "d_sync" / "proj_depth/groundtruth/image_02" / "0000000007.png",
         np.full((375, 1242), 2560, np.uint16))  # fmt: skip
    save(tmp_path / "pred" / "d_sync_0000000007.png", np.full((375, 1242), 2816, np.uint16))
    return tmp_path


@pytest.mark.parametrize("mask", ["garg", "eigen"])
def test_json_agrees_with_the_published_evaluator_on_every_image(score, case: Path, mask: str) -> None:
    done = score(str(case / "pred"), str(case / "gt"), "--kb-crop", "--mask", mask, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    got = json.loads(done.stdout)
    assert list(got) == ["mean", "images", "scored", "skipped"]
    assert (got["scored"], got["skipped"]) == (6, 0)
    assert list(got["mean"]) == KEYS
    assert got["mean"] == pytest.approx(EXPECTED[mask]["mean"], rel=1e-5)
    assert [image["file"] for image in got["images"]] == sorted(EXPECTED[mask]["per_image"])
    for image in got["images"]:
        assert list(image) == ["file", *KEYS]
        expected = EXPECTED[mask]["per_image"][image.pop("file")]
        assert image == pytest.approx(expected, rel=1e-5)


def test_the_reference_case_itself(ablate, shared: Path) -> None:
    folder = shared / "reference" / "scoring"
    done = ablate("score", str(folder / "pred"), str(folder / "gt"), "--kb-crop", "--format", "json")
    expected = json.loads((folder / "expected.json").read_text())
    assert expected == EXPECTED
    assert json.loads(done.stdout)["mean"] == pytest.approx(expected["garg"]["mean"], rel=1e-5)


def test_missing_ground_truth_is_counted_and_named(score, case: Path, tmp_path: Path) -> None:
    shutil.copytree(case / "pred", tmp_path / "pred")
    one = tmp_path / "pred" / "2011_09_26_drive_9002_sync_0000000171.png"
    one.rename(one.with_name("2011_09_26_drive_9003_sync_0000000171.png"))
    shutil.copy(tmp_path / "pred" / "2011_09_26_drive_9002_sync_0000000026.png", tmp_path / "pred" / "odd.png")
    arguments = [str(tmp_path / "pred"), str(case / "gt"), "--kb-crop"]
    done = score(*arguments, "--format", "json")
    assert done.returncode == 0
    got = json.loads(done.stdout)
    assert (got["scored"], got["skipped"], len(got["images"])) == (5, 2, 5)
    assert "2 predictions not scored" in done.stderr
    place = "2011_09_26_drive_9003_sync/proj_depth/groundtruth/image_02/0000000171.png"
    assert f"2011_09_26_drive_9003_sync_0000000171.png: no ground truth {case / 'gt' / place}" in done.stderr
    assert "odd.png: not named as 2011_09_26_drive_0002_sync_0000000069.png is" in done.stderr
    assert "5 scored, 2 skipped, dataset kitti, crop kb, mask garg, cap 0.001-80 m" in score(*arguments).stdout


def test_rows_of_images_are_there_on_request(score, case: Path) -> None:
    arguments = [str(case / "pred"), str(case / "gt"), "--kb-crop", "--format", "csv"]
    (mean,) = csv.DictReader(io.StringIO(score(*arguments).stdout))
    rows = list(csv.DictReader(io.StringIO(score(*arguments, "--per-image").stdout)))
    assert rows[-1] == mean
    assert list(mean) == ["file", *KEYS]
    assert [row["file"] for row in rows] == [*sorted(EXPECTED["garg"]["per_image"]), "mean"]
    assert float(rows[0]["rmse"]) == pytest.approx(EXPECTED["garg"]["per_image"][rows[0]["file"]]["rmse"], rel=1e-5)
    text = score(str(case / "pred"), str(case / "gt"), "--kb-crop", "--per-image").stdout
    assert len([line for line in text.splitlines() if line.startswith("| 2011")]) == 6
    assert "| mean of 6 " in text
    assert "AbsRel ↓" in text


def test_whole_frames_masks_and_caps(score, small: Path) -> None:
    def mean(*options: str) -> dict[str, float]:
        done = score("pred", "gt", "--format", "json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["mean"]

    assert mean()["abs_rel"] == pytest.approx(0.1)
    assert mean("--mask", "none", "--max-depth", "10.5")["rmse"] == pytest.approx(0.5), "clamped to the cap"
    refused = score("pred", "gt", "--max-depth", "9")
    assert refused.returncode == 2
    assert "no pixel within the mask and the cap" in refused.stderr


def test_nyu_has_its_own_names_units_and_mask(score, tmp_path: Path) -> None:
    truth = np.zeros((480, 640), np.uint16)
    truth[45:471, 41:601] = 2000
    guess = np.full((480, 640), 2500, np.uint16)
    save(tmp_path / "gt" / "test" / "bath_room" / "sync_depth_00045.png", truth)
    save(tmp_path / "pred" / "bath_room_rgb_00045.png", guess)
    done = score("pred", "gt", "--dataset", "nyu", "--format", "json")
    assert json.loads(done.stdout)["mean"]["rmse"] == pytest.approx(0.5)
    assert "mask eigen, cap 0.001-10 m" in score("pred", "gt", "--dataset", "nyu").stdout
    truth[:45] = 9000  # outside the crop
    save(tmp_path / "gt" / "test" / "bath_room" / "sync_depth_00045.png", truth)
    done = score("pred", "gt", "--dataset", "nyu", "--format", "json")
    assert json.loads(done.stdout)["mean"]["rmse"] == pytest.approx(0.5)
    for options, words in (
        (["--mask", "garg"], "the NYU protocol has no mask 'garg'; expected one of eigen, none"),
        (["--kb-crop"], "--kb-crop is KITTI's benchmark crop, which nyu does not have"),
    ):
        refused = score("pred", "gt", "--dataset", "nyu", *options)
        assert refused.returncode == 2
        assert words in refused.stderr


@pytest.mark.parametrize(
    ("damage", "options", "words"),
    [
        (lambda pred: save(pred, np.zeros((375, 1242), np.uint8)), [], "a PNG of 8 bits or fewer with 1 channel"),
        (lambda pred: save(pred, np.zeros((375, 1242, 3), np.uint8)), [], "with 3 channels"),
        (lambda pred: save(pred, np.zeros((352, 1216), np.uint16)), [], "add --kb-crop"),
        (lambda pred: None, ["--kb-crop"], "leave out --kb-crop"),
        (lambda pred: save(pred, np.zeros((192, 640), np.uint16)), [], "must have the ground truth's resolution"),
        (lambda pred: pred.write_bytes(b""), [], "empty file"),
        (lambda pred: pred.write_bytes(pred.read_bytes()[:-20]), [], "truncated PNG"),
        (lambda pred: shutil.copy(pred, pred.with_suffix(".PNG")), [], "are the same frame; remove one of them"),
        (lambda pred: pred.unlink(), [], "holds no prediction"),
        (lambda pred: pred.rename(pred.with_name("x_gt.png")), [], "holds no prediction"),
        (lambda pred: pred.rename(pred.with_name("e_sync_0000000007.png")), [], "none of 1 predictions can be scored"),
        (lambda pred: shutil.rmtree(pred.parent), [], "no such folder"),
        (lambda pred: shutil.rmtree(pred.parents[1] / "gt"), [], "no such folder"),
        (lambda pred: None, ["--min-depth", "5", "--max-depth", "2"], "expected 0 < min < max"),
        (lambda pred: None, ["--max-depth", "nan"], "expected 0 < min < max"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_with_its_name_and_the_remedy(score, small, damage, options, words) -> None:
    damage(small / "pred" / "d_sync_0000000007.png")
    done = score("pred", "gt", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_holes_in_a_prediction_are_clamped_and_nothing_is_ever_nan(score, small: Path) -> None:
    save(small / "pred" / "d_sync_0000000007.png", np.zeros((375, 1242), np.uint16))
    mean = json.loads(score("pred", "gt", "--format", "json").stdout)["mean"]
    assert mean["abs_rel"] == pytest.approx((10 - 1e-3) / 10)
    assert all(np.isfinite(value) for value in mean.values())
