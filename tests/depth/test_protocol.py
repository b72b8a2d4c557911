"""Against the published evaluator: figures that it printed, its rules as loops, and its input sizes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.depth.data.images import load_depth
from ablate.depth.data.kitti import Kitti
from ablate.depth.metrics import KEYS, mean_metrics
from ablate.depth.protocol import (
    KITTI,
    NYU,
    PROTOCOLS,
    Box,
    Crop,
    DepthProtocol,
    Mask,
    crop_box,
    kb_crop,
    network_size,
    protocol_of,
    score,
    valid_mask,
)
from ablate.errors import DataError, UsageError

# What the published evaluator printed for the case that `made_up_case` makes (seed 11, six frames), as means.
PRINTED = {
    "garg": {
        "d1": 0.6822776198387146,
        "d2": 0.953033983707428,
        "d3": 0.9955026507377625,
        "abs_rel": 0.18903367221355438,
        "sq_rel": 0.9722355008125305,
        "rmse": 4.969346046447754,
        "rmse_log": 0.4691333472728729,
        "silog": 46.86445236206055,
        "log10": 0.08486101031303406,
    },
    "eigen": {
        "d1": 0.6828423142433167,
        "d2": 0.953402042388916,
        "d3": 0.9955523610115051,
        "abs_rel": 0.1887574940919876,
        "sq_rel": 1.079026460647583,
        "rmse": 5.367577075958252,
        "rmse_log": 0.47517165541648865,
        "silog": 47.471893310546875,
        "log10": 0.08492416888475418,
    },
}


def made_up_case(seed: int, frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ground truth and prediction in metres over the full frame, as the reference's case was generated."""
    rng = np.random.default_rng(seed)
    sizes = [(375, 1242), (370, 1226), (376, 1241), (374, 1238), (370, 1224)]
    case = []
    for i in range(frames):
        h, w = sizes[i % len(sizes)]
        rng.integers(0, 400)
        y, x = np.mgrid[0:h, 0:w]
        depth = 1.65 * 721.5 / np.maximum(y - 0.46 * h, 4) + 3 * np.sin(x / 90 + seed) + rng.normal(0, 0.4, (h, w))
        depth = np.clip(depth, 0.5, 95)
        gt = np.where(rng.random((h, w)) < 0.19, depth, 0)
        gt[: int(0.35 * h)] = 0
        box = kb_crop(h, w)
        crop = depth[box.rows, box.columns] * rng.lognormal(0.04, 0.22, (352, 1216))
        crop[rng.random(crop.shape) < 0.002] = 0
        prediction = np.zeros((h, w), np.float32)
        prediction[box.rows, box.columns] = np.floor(np.clip(crop * 256, 0, 65535)) / 256
        case.append((np.floor(np.clip(gt * 256, 0, 65535)).astype(np.float32) / 256, prediction))
    return case


def by_hand(prediction: np.ndarray, gt: np.ndarray, borders: tuple[float, float, float, float]) -> dict[str, float]:
    """The published evaluator as one loop over pixels, in Python's own floats."""
    height, width = gt.shape
    top, bottom, left, right = (
        int(borders[0] * height), int(borders[1] * height), int(borders[2] * width), int(borders[3] * width)
    )  # fmt: skip
    sums = dict.fromkeys(("n", *KEYS, "e"), 0.0)
    for y, x in zip(*np.nonzero((gt > 1e-3) & (gt < 80)), strict=True):
        if not (top <= y < bottom and left <= x < right):
            continue
        truth, guess = float(gt[y, x]), min(max(float(prediction[y, x]), 1e-3), 80.0)
        error = math.log(guess) - math.log(truth)
        ratio = max(truth / guess, guess / truth)
        sums["n"] += 1
        for k in (1, 2, 3):
            sums[f"d{k}"] += ratio < 1.25**k
        sums["abs_rel"] += abs(truth - guess) / truth
        sums["sq_rel"] += (truth - guess) ** 2 / truth
        sums["rmse"] += (truth - guess) ** 2
        sums["rmse_log"] += error * error
        sums["e"] += error
        sums["log10"] += abs(error) / math.log(10)
    n = sums["n"]
    means = {key: sums[key] / n for key in KEYS}
    means["silog"] = 100 * math.sqrt(means["rmse_log"] - (sums["e"] / n) ** 2)
    return means | {"rmse": math.sqrt(means["rmse"]), "rmse_log": math.sqrt(means["rmse_log"])}


GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
EIGEN = (0.3324324, 0.91351351, 0.0359477, 0.96405229)


@pytest.mark.parametrize(("mask", "borders"), [("garg", GARG), ("eigen", EIGEN)])
def test_scores_equal_a_slow_loop(mask: Mask, borders: tuple[float, float, float, float]) -> None:
    gt, prediction = made_up_case(3, 1)[0]
    assert score(prediction, gt, mask) == pytest.approx(by_hand(prediction, gt, borders), rel=1e-9)


@pytest.mark.parametrize("mask", ["garg", "eigen"])
def test_scores_equal_what_the_published_evaluator_printed(mask: Mask) -> None:
    scores = [score(prediction, gt, mask) for gt, prediction in made_up_case(11, 6)]
    assert mean_metrics(scores) == pytest.approx(PRINTED[mask], rel=1e-5)


@pytest.mark.parametrize("mask", ["garg", "eigen"])
def test_every_image_of_the_reference_case(mask: Mask, shared: Path) -> None:
    case = shared / "reference" / "scoring"
    expected = json.loads((case / "expected.json").read_text())[mask]
    scores = {}
    for name in expected["per_image"]:
        drive, frame = name.removesuffix(".png").rsplit("_", 1)
        gt = load_depth(case / "gt" / drive / "proj_depth" / "groundtruth" / "image_02" / f"{frame}.png")
        box, prediction = kb_crop(*gt.shape), np.zeros_like(gt)
        prediction[box.rows, box.columns] = load_depth(case / "pred" / name)
        scores[name] = score(prediction, gt, mask)
        assert scores[name] == pytest.approx(expected["per_image"][name], rel=1e-5)
    assert len(scores) == 6
    assert mean_metrics(scores.values()) == pytest.approx(expected["mean"], rel=1e-5)


def test_network_sizes_are_the_published_ones() -> None:
    assert network_size(352, 1216, None) == (352, 1216)
    assert network_size(352, 1216, (192, 640)) == (192, 672)
    assert network_size(352, 1216, (384, 384)) == (384, 1312)  # DPT's own default
    for height, width in [(375, 1242), (370, 1226), (376, 1241), (374, 1238), (370, 1224)]:
        assert network_size(height, width, (192, 640)) == (192, 640)


def test_without_a_target_a_size_changes_only_for_networks_that_need_it() -> None:
    assert network_size(480, 640, None) == (480, 640)
    assert network_size(352, 1216, None, 16) == (352, 1216)
    assert network_size(352, 1216, None, 14) == (350, 1218)
    assert network_size(480, 640, (480, 640)) == (480, 640)


@given(st.integers(352, 400), st.integers(1216, 1300), st.integers(1, 20), st.integers(1, 40))
def test_network_sizes_are_multiples_near_the_aspect(height: int, width: int, rows: int, columns: int) -> None:
    new_height, new_width = network_size(height, width, (32 * rows, 32 * columns))
    assert new_height % 32 == new_width % 32 == 0
    assert new_height >= 32 and new_width >= 32
    # One axis decides; the other follows to within half a multiple (or the least size).
    assert new_height == 32 * rows or new_width == 32 * columns or 32 in (new_height, new_width)


@given(st.integers(1, 500), st.integers(1, 1500))
def test_the_crop_lies_within_the_frame_or_is_refused(height: int, width: int) -> None:
    if height < 352 or width < 1216:
        with pytest.raises(DataError, match=f"{height}x{width}"):
            kb_crop(height, width)
        return
    box = kb_crop(height, width)
    assert box.top + box.height == height
    assert 0 <= box.left <= width - 1216 and abs((width - 1216 - box.left) - box.left) <= 1


def test_the_crop_of_a_common_frame() -> None:
    assert kb_crop(375, 1242) == Box(23, 13, 352, 1216)
    assert np.zeros((375, 1242))[kb_crop(375, 1242).rows, kb_crop(375, 1242).columns].shape == (352, 1216)


def test_the_mask_is_cut_from_the_uncropped_frame() -> None:
    gt = np.full((375, 1242), 10.0, np.float32)
    rows, columns = np.nonzero(valid_mask(gt, "garg"))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (153, 371, 44, 1197)
    rows, columns = np.nonzero(valid_mask(gt, "eigen"))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (124, 342, 44, 1197)
    assert valid_mask(gt, "none").all()


def test_the_mask_of_nyu_is_in_pixels() -> None:
    gt = np.full((480, 640), 5.0, np.float32)
    rows, columns = np.nonzero(valid_mask(gt, "eigen", NYU))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (45, 471, 41, 601)
    assert valid_mask(gt, "none", NYU).all()
    assert not valid_mask(gt + 5, "none", NYU).any(), "10 m is not below the cap"
    with pytest.raises(UsageError, match="NYU protocol has no mask 'garg'; expected one of eigen, none"):
        valid_mask(gt, "garg", NYU)


@given(st.integers(60, 500), st.integers(60, 1500), st.sampled_from(["garg", "eigen"]))
def test_masks_lie_within_any_frame_and_keep_its_middle(height: int, width: int, mask: Mask) -> None:
    inside = valid_mask(np.full((height, width), 10.0, np.float32), mask)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert inside.sum() == rows.size * columns.size == (np.ptp(rows) + 1) * (np.ptp(columns) + 1), "a rectangle"
    assert inside[int(0.6 * height), width // 2]
    assert not inside[0].any() and not inside[-1].any() and not inside[:, 0].any() and not inside[:, -1].any()


@given(st.integers(1, 1000), st.integers(1, 1500))
def test_frames_of_another_size_than_nyus_are_refused(height: int, width: int) -> None:
    if (height, width) != (480, 640):
        with pytest.raises(DataError, match=f"{height}x{width} .* the NYU protocol evaluates, 480x640"):
            crop_box(height, width, NYU)
    assert crop_box(480, 640, NYU) == Box(0, 0, 480, 640)


def test_a_network_reads_its_numbers_as_the_data_set_does() -> None:
    """KITTI's anchors, and where NYU's constants put x = 0."""
    for protocol, x, metres in ((KITTI, 0, 172.7), (KITTI, 111.5, 80), (KITTI, 1566, 10), (NYU, 0, 7.257)):
        assert 1 / (protocol.scale * x + protocol.shift) == pytest.approx(metres, rel=1e-3)
    assert (KITTI.units_per_metre, NYU.units_per_metre) == (256, 1000)
    assert (KITTI.cap, NYU.cap) == ("0.001-80 m", "0.001-10 m")


def test_a_protocol_is_data() -> None:
    """A row that nobody has foreseen works as the two that ship."""
    row = DepthProtocol(name="yard", crop=Crop("low", 4, 6), max_depth=20, scale=1e-4, shift=0.01, units_per_metre=100)
    gt = np.full((10, 10), 15.0)
    gt[:6] = 18.0  # above the crop
    assert crop_box(10, 10, row) == Box(6, 2, 4, 6)
    assert score(np.full((10, 10), 30.0), gt, "none", row)["rmse"] == pytest.approx(5), "clamped to 20 m"
    assert row.usual_mask == "none"


def test_data_sets_name_their_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    assert protocol_of("kitti") is PROTOCOLS["kitti"] is KITTI
    assert protocol_of("nyu") is NYU
    monkeypatch.setattr(Kitti, "protocol", NYU)
    assert protocol_of("kitti") is NYU, "a row of one's own"
    monkeypatch.setattr(Kitti, "protocol", "mars")
    with pytest.raises(UsageError, match="data set 'kitti': its protocol is 'mars'; expected kitti, nyu"):
        protocol_of("kitti")


def test_depth_counts_strictly_between_the_caps() -> None:
    gt = np.array([[0.0, 1e-3, 0.002, 79.99, 80.0, 85.0]])
    assert valid_mask(gt, "none").tolist() == [[False, False, True, True, False, False]]


def test_an_image_without_a_valid_pixel_has_no_score() -> None:
    gt, prediction = np.zeros((375, 1242), np.float32), np.ones((375, 1242), np.float32)
    gt[0, 0] = 10  # outside the crop
    assert score(prediction, gt, "none") is None


def test_what_lies_outside_the_crop_is_not_scored_even_without_a_mask() -> None:
    gt = np.full((375, 1242), 10.0, np.float32)
    box = kb_crop(*gt.shape)
    prediction = np.zeros_like(gt)
    prediction[box.rows, box.columns] = 10
    assert score(prediction, gt, "none")["abs_rel"] == 0


@pytest.mark.parametrize(
    ("predicted", "counts_as"),
    [(np.nan, 1e-3), (-np.inf, 1e-3), (-5.0, 1e-3), (0.0, 1e-3), (np.inf, 80.0), (200.0, 80.0)],
)
def test_predictions_are_clamped_as_published(predicted: float, counts_as: float) -> None:
    gt = np.full((375, 1242), 10.0, np.float32)
    got = score(np.full_like(gt, predicted), gt, "garg")
    assert got["abs_rel"] == pytest.approx(abs(10 - counts_as) / 10)
    assert all(math.isfinite(value) for value in got.values())


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        score(np.zeros((375, 1242)), np.zeros((370, 1226)), "garg")
