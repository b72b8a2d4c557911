"""Batches depend on frames, order and flips alone: not on workers, cache or the first step."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ablate.depth.config import DataSettings
from ablate.depth.data import loader
from ablate.depth.data.kitti import Frame, Kitti, load_depth, load_image, read_split
from ablate.depth.data.loader import Batch, TrainingData, batches, squash_image
from ablate.depth.data.splits import reader
from ablate.errors import DataError, TrainingError

SIZE = (96, 320)
ORDER = np.array([4, 0, 3, 5, 1])
FLIPS = np.array([True, False, False, True, True])


def all_batches(street: Path, cache_mb: int = 0, first_step: int = 0, workers: int = 0) -> list[Batch]:
    data = TrainingData(read_split(street, None, "train").frames, SIZE, cache_mb)
    return list(batches(data, ORDER, FLIPS, 2, first_step, workers))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.image, b.image) and torch.equal(a.depth, b.depth) and a.names == b.names
        for a, b in zip(one, other, strict=True)
    )


def test_batches_hold_the_named_frames_and_the_last_is_smaller(street: Path) -> None:
    frames = read_split(street, None, "train").frames
    got = all_batches(street)
    assert [batch.image.shape for batch in got] == [(2, 3, 96, 320), (2, 3, 96, 320), (1, 3, 96, 320)]
    assert [name for batch in got for name in batch.names] == [frames[index].name for index in ORDER]
    for batch in got:
        assert batch.depth.shape == (len(batch.names), 1, 96, 320)
        assert batch.image.dtype == batch.depth.dtype == torch.float32
        assert -1 <= batch.image.min() < -0.2 and 0.2 < batch.image.max() <= 1


def test_a_flip_mirrors_image_and_depth_together(street: Path) -> None:
    data = TrainingData(read_split(street, None, "train").frames, SIZE, 0)
    image, depth = data[2, False]
    mirrored_image, mirrored_depth = data[2, True]
    assert torch.equal(mirrored_image, image.flip(-1)) and torch.equal(mirrored_depth, depth.flip(-1))
    assert not torch.equal(mirrored_depth, depth)


def test_depth_keeps_values_that_the_map_holds(street: Path) -> None:
    frame = read_split(street, None, "train").frames[0]
    _, depth = TrainingData([frame], SIZE, 0)[0, False]
    stored = load_depth(frame.depth)
    assert set(np.unique(depth.numpy())) <= set(np.unique(stored))
    assert (depth > 0).float().mean() == pytest.approx((stored > 0).mean(), rel=0.1)


def test_the_image_is_resized_as_opencv_does(street: Path) -> None:
    """Against cv2.INTER_CUBIC's definition: a = -0.75 at the four nearest pixels, edges repeated, no antialiasing."""
    image = load_image(read_split(street, None, "train").frames[0].image)[:50, :70]

    def weights(new: int, old: int) -> np.ndarray:
        table, a = np.zeros((new, old)), -0.75
        for i in range(new):
            centre = (i + 0.5) * old / new - 0.5
            for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
                d = abs(centre - tap)
                near = (a + 2) * d**3 - (a + 3) * d**2 + 1
                far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
                table[i, min(max(tap, 0), old - 1)] += near if d <= 1 else far
        return table

    expected = np.einsum("ih,hwc,jw->cij", weights(32, 50), image.astype(float), weights(32, 70))
    got = squash_image(image, (32, 32)).numpy().astype(float)
    assert np.abs(got - np.clip(expected, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("cache_mb", [1, 64])
def test_the_cache_changes_nothing_and_keeps_its_limit(street: Path, cache_mb: int) -> None:
    assert same(all_batches(street), all_batches(street, cache_mb=cache_mb))
    data = TrainingData(read_split(street, None, "train").frames, SIZE, cache_mb)
    for _ in range(2):
        assert same(list(batches(data, ORDER, FLIPS, 2, 0, 0)), all_batches(street))
    held = sum(pixels.numel() + units.nbytes for pixels, units in data._cache.values())
    assert 0 < held <= cache_mb * 2**20


def test_a_cached_image_is_not_read_again(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = TrainingData(read_split(street, None, "train").frames, SIZE, 64)
    first = data[0, True]
    monkeypatch.setattr(Kitti, "load_image", None)
    monkeypatch.setattr(Kitti, "load_depth", None)
    assert all(torch.equal(again, once) for again, once in zip(data[0, True], first, strict=True))


def test_whole_metres_are_the_true_depth_rounded_down(street: Path) -> None:
    """As the log's 8-bit reader gave them: half a metre too near on average, and none below one metre."""
    frames = read_split(street, None, "train").frames
    true = TrainingData(frames, SIZE, 0)[0, False][1]
    read = TrainingData(frames, SIZE, 0, reader(DataSettings(root=street, labels="floor_metres"), "train"))
    floored = read[0, False][1]
    assert torch.equal(floored, true.floor())
    assert 0.4 < float((true - floored)[true > 1].mean()) < 0.6


@pytest.mark.parametrize("split, floored", [("train", True), ("val", True), ("test", False)])
def test_the_test_split_is_scored_on_the_true_depth(street: Path, split: str, floored: bool) -> None:
    data = DataSettings(root=street, labels="floor_metres")
    depth = reader(data, split).load_depth(read_split(street, None, split).frames[0].depth)
    assert bool(np.all(depth % 1 == 0)) is floored


@pytest.mark.parametrize("first_step", [0, 1, 2, 3, 9])
def test_a_resumed_epoch_gives_the_rest(street: Path, first_step: int) -> None:
    assert same(all_batches(street, first_step=first_step), all_batches(street)[first_step:])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_neither_batches_nor_random_state(street: Path, workers: int) -> None:
    expected = all_batches(street, first_step=1)
    before = torch.get_rng_state()
    assert same(all_batches(street, first_step=1, workers=workers), expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_became_bad_is_named(kitti, workers: int) -> None:
    frames = read_split(kitti(train=3), None, "train").frames
    frames[1].image.write_bytes(frames[1].image.read_bytes()[:100])
    data = TrainingData(frames, (32, 64), 0)
    made = batches(data, np.arange(3), np.zeros(3, bool), 1, 0, workers)
    assert next(made).names == (frames[0].name,)
    with pytest.raises(DataError) as error:
        list(made)
    assert str(error.value).startswith(f"{frames[1].image}: cannot be decoded") and "Traceback" not in str(error.value)


def test_image_and_depth_of_different_sizes_are_refused(kitti, tmp_path: Path) -> None:
    frame = read_split(kitti(train=1), None, "train").frames[0]
    smaller = tmp_path / "smaller.png"
    Image.fromarray(load_image(frame.image)[:, :600]).save(smaller)
    with pytest.raises(DataError, match=r"smaller\.png is \(352, 600\), but .* is \(352, 1216\)"):
        TrainingData([Frame(frame.name, smaller, frame.depth)], SIZE, 0)[0, False]


class _Deadly(TrainingData):
    """Kills its own process, as an out-of-memory killer does, at index 1; sleeps at index 2."""

    def __getitem__(self, key: tuple[int, bool]) -> tuple[torch.Tensor, torch.Tensor]:
        if key[0] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if key[0] == 2:
            signal.pause()
        return super().__getitem__(key)


@pytest.mark.parametrize(("order", "patience"), [([0, 1], 120.0), ([0, 2], 1.0)])
def test_a_killed_or_hanging_worker_fails_the_run(
    street: Path, order: list[int], patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "WORKER_TIMEOUT", patience)
    data = _Deadly(read_split(street, None, "train").frames, SIZE, 0)
    made = batches(data, np.array(order), np.zeros(2, bool), 1, 0, 1)
    with pytest.raises(TrainingError, match="a loader process died or hangs"):
        list(made)
    assert not multiprocessing.active_children()


def test_workers_leave_ctrl_c_to_the_trainer(street: Path) -> None:
    """A terminal's Ctrl-C reaches every process of the group; the trainer still finishes its step and saves."""
    data = TrainingData(read_split(street, None, "train").frames, SIZE, 0)
    made = batches(data, np.arange(6), np.zeros(6, bool), 1, 0, 1)
    next(made)
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    assert len(list(made)) == 5
