from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ablate.depth.config import EvalSettings
from ablate.depth.data.kitti import Frame, load_depth, read_split
from ablate.depth.data.nyu import NYU as NYU_READER
from ablate.depth.evaluation import Conditions, evaluate, predict_crop
from ablate.depth.metrics import KEYS
from ablate.depth.protocol import NYU, kb_crop, score, valid_mask
from ablate.errors import DataError, DivergedError
from ablate.task import Evaluation

TARGET = (64, 224)


def run(
    predict: Callable[[Tensor], Tensor],
    frames: tuple[Frame, ...],
    tick: Callable[[], None] = lambda: None,
    conditions: Conditions | None = None,
    **settings: object,
) -> list[Evaluation]:
    return list(evaluate(predict, "val", frames, EvalSettings.model_validate(settings), TARGET, tick, conditions))


def flat(metres: float) -> Callable[[Tensor], Tensor]:
    return lambda image: torch.full((1, 1, *image.shape[-2:]), float(metres))


def made(folder: Path, depth: np.ndarray, image: np.ndarray | None = None) -> Frame:
    """A frame of a depth map in metres."""
    pixels = np.zeros((*depth.shape, 3), dtype=np.uint8) if image is None else image
    Image.fromarray(pixels).save(folder / "image.png")
    Image.fromarray((depth * 256).astype(np.uint16)).save(folder / "depth.png")
    return Frame("made 0 l", folder / "image.png", folder / "depth.png")


# 12.3457 m: no depth of the form k / 256 lies exactly on one of its thresholds 1.25^n
def test_a_flat_prediction_scores_what_the_protocol_says(street: Path) -> None:
    frames = read_split(street, None, "val").frames
    full, reduced = run(flat(12.3457), frames, mask="eigen")
    for result, size in ((full, "352x1216"), (reduced, "64x224")):
        truths = [load_depth(frame.depth) for frame in frames]
        expected = [score(np.full_like(truth, 12.3457), truth, "eigen") for truth in truths]
        assert [one.image for one in result.scores] == [frame.name for frame in frames]
        for one, metrics in zip(result.scores, expected, strict=True):
            assert metrics is not None
            assert one.metrics == pytest.approx(metrics, rel=1e-5)
        for key in KEYS:
            assert result.metrics[key] == pytest.approx(np.mean([m[key] for m in expected if m]), rel=1e-5)
        assert (result.images, result.skipped, result.split) == (3, 0, "val")
        assert result.protocol["network_input"] == size
        assert result.protocol["mask"] == "eigen"
    assert (full.resolution, reduced.resolution) == ("full", "reduced")


def test_the_network_sees_the_crop_and_its_answer_goes_back_to_its_place(tmp_path: Path) -> None:
    """Depth is a function of the image's colour here; a prediction that reads the colour is then exact."""
    height, width = 375, 1242
    rows, columns = np.mgrid[0:height, 0:width]
    depth = np.round(10 + rows / 8 + columns / 60)
    frame = made(tmp_path, depth, np.repeat(depth[..., None], 3, axis=-1).astype(np.uint8))
    (result,) = run(
        lambda image: (image[:, :1] + 1) * 127.5,
        (frame,),
        resolutions=["full"],
        mask="none",
        select={"resolution": "full"},
    )
    assert result.metrics["rmse"] == pytest.approx(0, abs=1e-3)
    assert result.metrics["d1"] == 1
    assert result.loss == pytest.approx(0, abs=1e-6)

    sizes = []

    def coarse(image: Tensor) -> Tensor:
        sizes.append(tuple(image.shape))
        return (image[:, :1] + 1) * 127.5

    (result,) = run(coarse, (frame,), resolutions=["reduced"], select={"resolution": "reduced"})
    assert sizes == [(1, 3, 64, 224)]
    assert result.metrics["rmse"] is not None
    assert 0.01 < result.metrics["rmse"] < 1


def test_images_without_a_valid_pixel_are_skipped_and_say_so(tmp_path: Path, street: Path) -> None:
    empty = np.zeros((375, 1242))
    empty[:5] = 20  # above the crop
    frames = (made(tmp_path, empty), *read_split(street, None, "val").frames)
    (result,) = run(flat(12.3457), frames, resolutions=["reduced"])
    (without,) = run(flat(12.3457), frames[1:], resolutions=["reduced"])
    assert (result.images, result.skipped) == (3, 1)
    assert result.scores[0].metrics == dict.fromkeys(KEYS)
    assert result.metrics == without.metrics
    assert result.loss == without.loss
    (nothing,) = run(flat(12.3457), frames[:1], resolutions=["reduced"])
    assert nothing.metrics == dict.fromkeys(KEYS)
    assert (nothing.images, nothing.skipped, nothing.loss) == (0, 1, None)


def test_the_loss_is_silog_over_the_crop(tmp_path: Path) -> None:
    depth = np.zeros((375, 1242))
    box = kb_crop(*depth.shape)
    depth[box.rows, box.columns] = 10
    (result,) = run(flat(20), (made(tmp_path, depth),), resolutions=["reduced"])
    assert result.loss == pytest.approx(0.5 * np.log(2) ** 2, rel=1e-5)


def test_a_stop_is_asked_for_before_every_image(street: Path) -> None:
    frames = read_split(street, None, "val").frames
    ticks = []

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(flat(12.3457), frames, tick)
    assert len(ticks) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_an_error(street: Path, value: float) -> None:
    frames = read_split(street, None, "val").frames
    with pytest.raises(DivergedError, match=rf"prediction for {frames[0].name} is not finite at full"):
        run(flat(value), frames)


def test_an_image_of_another_size_than_its_depth_is_named(tmp_path: Path) -> None:
    frame = made(tmp_path, np.ones((375, 1242)), np.zeros((370, 1224, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"image\.png"):
        run(flat(12.3457), (frame,))


REDUCED = {"resolutions": ["reduced"]}


def shaded(folder: Path) -> Frame:
    """A frame whose depth is a function of its colour, so that a prediction can read it."""
    rows, columns = np.mgrid[0:375, 0:1242]
    depth = np.round(10 + rows / 8 + columns / 60)
    return made(folder, depth, np.repeat(depth[..., None], 3, axis=-1).astype(np.uint8))


def metres(image: Tensor) -> Tensor:
    return (image[:, :1] + 1) * 127.5


def test_the_protocol_says_what_the_numbers_depend_on(street: Path) -> None:
    frames = read_split(street, None, "val").frames
    full, reduced = run(flat(12), frames, align="median", flip=True)
    rules = {"crop": "kb", "mask": "garg", "cap": "0.001-80 m", "alignment": "median", "flip": True}
    assert full.protocol == {
        "network_input": "352x1216", **rules, "resize": "bicubic to multiples of 32"
    }  # fmt: skip
    assert reduced.protocol == {
        "network_input": "64x224", **rules, "resize": "minimal bicubic to multiples of 32"
    }  # fmt: skip
    other, _ = run(flat(12), frames, conditions=Conditions(multiple=14, labels="floor_metres"))
    assert (other.protocol["network_input"], other.protocol["labels"]) == ("350x1218", "floor_metres")
    assert other.protocol["resize"] == "bicubic to multiples of 14"


@pytest.mark.parametrize("how", ["median", "scale_shift"])
def test_relative_predictions_are_aligned_and_then_as_good_as_metres(tmp_path: Path, how: str) -> None:
    frame = shaded(tmp_path)
    full = {"resolutions": ["full"], "select": {"resolution": "full"}}
    factor, shift = (3e4, 700) if how == "scale_shift" else (3e4, 0)
    (result,) = run(
        lambda image: factor / metres(image) + shift, (frame,), conditions=Conditions(relative=True), align=how, **full
    )
    assert result.metrics["rmse"] == pytest.approx(0, abs=1e-3)
    assert result.loss == pytest.approx(0, abs=1e-6)
    assert result.protocol["alignment"] == how
    (unaligned,) = run(lambda image: metres(image) / 4, (frame,), **full)
    assert unaligned.metrics["abs_rel"] == pytest.approx(0.75)
    (aligned,) = run(lambda image: metres(image) / 4, (frame,), align=how, **full)
    assert aligned.metrics["abs_rel"] == pytest.approx(0, abs=1e-3)


def test_an_image_without_a_pixel_to_align_at_is_skipped(tmp_path: Path) -> None:
    depth = np.zeros((375, 1242))
    depth[30:100] = 20  # in the crop, above the mask
    (result,) = run(flat(12), (made(tmp_path, depth),), align="scale_shift", **REDUCED)
    assert (result.images, result.skipped, result.loss) == (0, 1, None)
    (plain,) = run(flat(12), (made(tmp_path, depth),), **REDUCED)
    assert (plain.images, plain.skipped) == (0, 1)
    assert plain.loss is not None, "the loss is that of the whole crop, as in training"


@given(seed=st.integers(0, 1000), height=st.integers(1, 12), width=st.integers(1, 12))
def test_averaging_with_the_mirror_image_changes_nothing_for_a_network_that_knows_no_left(
    seed: int, height: int, width: int
) -> None:
    torch.manual_seed(seed)
    image = torch.rand(1, 3, height, width)

    def symmetric(x: Tensor) -> Tensor:
        return x.square().mean(dim=1, keepdim=True)

    plain, flipped = (predict_crop(symmetric, image, (height, width), flip=flip) for flip in (False, True))
    assert torch.equal(plain, flipped)


def test_averaging_with_the_mirror_image_is_the_mean_of_both(tmp_path: Path) -> None:
    """A network that says 10 m on the left and 30 m on the right says 20 m."""
    sizes = []

    def lopsided(image: Tensor) -> Tensor:
        sizes.append(image.shape[-2:])
        depth = torch.full((1, 1, *image.shape[-2:]), 10.0)
        depth[..., image.shape[-1] // 2 :] = 30
        return depth

    frame = made(tmp_path, np.full((375, 1242), 20.0))
    (plain,) = run(lopsided, (frame,), **REDUCED)
    (averaged,) = run(lopsided, (frame,), flip=True, **REDUCED)
    assert plain.metrics["abs_rel"] == pytest.approx(0.5, rel=0.05)
    assert averaged.metrics["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert sizes == [TARGET] * 3
    assert (plain.protocol["flip"], averaged.protocol["flip"]) == (False, True)


def test_nyu_is_another_row_of_the_table(tmp_path: Path) -> None:
    """Whole frames, its own units, mask and cap."""
    depth = np.full((480, 640), 4.0)
    depth[:45] = 9  # outside the mask
    depth[200, 300] = 12  # beyond the cap
    Image.fromarray(np.zeros((480, 640, 3), dtype=np.uint8)).save(tmp_path / "rgb_1.png")
    Image.fromarray((depth * 1000).astype(np.uint16)).save(tmp_path / "sync_depth_1.png")
    frame = Frame("room 1", tmp_path / "rgb_1.png", tmp_path / "sync_depth_1.png")
    conditions = Conditions(protocol=NYU, reader=NYU_READER)
    full, _ = run(flat(5), (frame,), conditions=conditions, mask="eigen")
    assert full.metrics["rmse"] == pytest.approx(1)
    assert (full.protocol["network_input"], full.protocol["crop"]) == ("480x640", "none")
    assert (full.protocol["mask"], full.protocol["cap"]) == ("eigen", "0.001-10 m")
    with pytest.raises(DataError, match="480x640"):
        run(flat(5), (made(tmp_path, np.ones((375, 1242))),), conditions=conditions, mask="eigen")


def test_a_breakdown_by_range_has_every_scored_pixel_once(street: Path) -> None:
    """The pooled numbers over all ranges are those of all pixels, worked out from the depth maps."""
    frames = read_split(street, None, "val").frames
    (full, _) = run(flat(12.3457), frames, mask="eigen")
    found = full.breakdown
    assert found is not None and (found.by, found.unit) == ("ground-truth depth", "m")
    assert [(row["low"], row["high"]) for row in found.rows] == [(10.0 * n, 10.0 * n + 10) for n in range(8)]
    truth = np.concatenate([pixels(frame) for frame in frames])
    for row in found.rows:
        of = truth[(truth >= row["low"]) & (truth < row["high"])]
        assert row["pixels"] == of.size
        if of.size:
            assert row["abs_rel"] == pytest.approx(np.mean(np.abs(12.3457 - of) / of), rel=1e-5)
            assert row["rmse"] == pytest.approx(np.sqrt(np.mean((12.3457 - of) ** 2)), rel=1e-5)
            assert row["bias"] == pytest.approx(np.mean(12.3457 - of), rel=1e-4, abs=1e-4)
        else:
            assert row["abs_rel"] is row["rmse"] is row["bias"] is None
    assert sum(row["pixels"] for row in found.rows) == truth.size


def pixels(frame: Frame) -> np.ndarray:
    """The ground truth of a frame where it is scored."""
    depth = load_depth(frame.depth).astype(np.float64)
    box = kb_crop(*depth.shape)
    return depth[box.rows, box.columns][valid_mask(depth, "eigen")[box.rows, box.columns]]


def test_panels_show_the_same_images_at_the_selecting_resolution_whatever_the_network(street: Path) -> None:
    frames = read_split(street, None, "val").frames
    one, two = (run(flat(depth), frames, panels={"images": 2}) for depth in (5.0, 200.0))
    assert [evaluation.panels for evaluation in one if evaluation.resolution == "full"] == [()]
    (shown,) = (evaluation.panels for evaluation in one if evaluation.resolution == "reduced")
    (other,) = (evaluation.panels for evaluation in two if evaluation.resolution == "reduced")
    assert [panel.image for panel in shown] == [panel.image for panel in other]
    assert len(shown) == 2
    image, truth, prediction = shown[0].layers
    assert (image.values.shape, image.values.dtype) == ((352, 1216, 3), np.uint8)
    assert truth.unit == prediction.unit == "m"
    assert np.isfinite(truth.values).any() and np.isnan(truth.values).any()
    assert np.allclose(prediction.values, 5, rtol=1e-5), "resizing rounds"
    assert np.all(other[0].layers[2].values == 80), "as it was scored: within the cap"


def test_no_panels_no_pictures(street: Path) -> None:
    frames = read_split(street, None, "val").frames
    assert all(not one.panels for one in run(flat(5.0), frames, panels={"images": 0}))
