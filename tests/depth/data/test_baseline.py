"""The mean depth of the training frames, which every network must beat by far."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.depth.data.baseline import mean_depth, score_constant
from ablate.depth.data.kitti import Frame, read_split
from ablate.errors import DataError


def frames_of(folder: Path, *maps: np.ndarray) -> list[Frame]:
    frames = []
    for number, metres in enumerate(maps):
        path = folder / f"{number}.png"
        Image.fromarray((np.asarray(metres) * 256).astype(np.uint16)).save(path)
        frames.append(Frame(str(number), folder / "none.png", path))
    return frames


def test_the_mean_is_over_frames_that_have_depth_there(tmp_path: Path) -> None:
    frames = frames_of(tmp_path, [[2, 0, 8], [4, 0, 85]], [[4, 6, 0], [0, 0, 0]])
    mean = mean_depth(frames, (2, 3))
    assert mean[0].tolist() == [3, 6, 8]
    assert mean[1].tolist() == [4, 6, 8]  # 85 m is beyond the cap: filled from above, as the empty pixel is
    assert mean.dtype == np.float32


def test_empty_columns_are_filled_from_the_nearest(tmp_path: Path) -> None:
    frames = frames_of(tmp_path, [[0, 0, 5, 0, 0, 0, 9]])
    assert mean_depth(frames, (1, 7))[0].tolist() == [5, 5, 5, 5, 5, 9, 9]


def test_no_depth_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training frame has a depth"):
        mean_depth(frames_of(tmp_path, np.zeros((2, 2))), (2, 2))


def test_scored_at_each_frames_own_size(tmp_path: Path) -> None:
    frames = frames_of(tmp_path, np.full((375, 1242), 10), np.full((370, 1226), 20), np.zeros((376, 1241)))
    metrics = score_constant(np.full((24, 80), 10, np.float32), frames, "garg")
    assert metrics["abs_rel"] == pytest.approx((0 + 0.5) / 2)  # a frame without depth does not count


def test_a_generated_street_cannot_be_predicted_from_the_pixels_place(street: Path) -> None:
    mean = mean_depth(read_split(street, None, "train").frames, (192, 640))
    assert np.isfinite(mean).all() and mean.min() > 1
    scored = [score_constant(mean, read_split(street, None, which).frames, "garg") for which in ("val", "test")]
    assert min(metrics["abs_rel"] for metrics in scored) > 0.2
