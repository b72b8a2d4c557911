"""Batches depend on frames, order and flips alone: not on workers, cache or the first step."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ablate.depth import protocol
from ablate.depth.augment import Jitter, Recipe, apply, plan
from ablate.depth.config import DataSettings
from ablate.depth.data import loader
from ablate.depth.data.kitti import KITTI, Frame, Kitti, load_depth, load_image, read_split
from ablate.depth.data.loader import Batch, Samples, TrainingData, batches, squash_image
from ablate.depth.data.order import flipped
from ablate.depth.data.sets import TrainingSet
from ablate.depth.data.splits import reader
from ablate.errors import DataError, TrainingError

SIZE = (96, 320)
ORDER = [4, 0, 3, 5, 1]
KEYS = [(0, index, 1) for index in ORDER]
AUGMENTED = Recipe(SIZE, "random", "shorter", 0.5, Jitter(0.2, 0.2, 0.2, 0.1))


def samples(frames: Sequence[Frame], recipe: Recipe | None = None, cache_mb: int = 0) -> Samples:
    """Squashed, unless a recipe is given."""
    one = TrainingSet("kitti", KITTI, KITTI, protocol.KITTI, tuple(frames))
    return Samples([one], recipe or Recipe(SIZE), 0, cache_mb, squashed=recipe is None)


def all_batches(
    street: Path, cache_mb: int = 0, first_step: int = 0, workers: int = 0, recipe: Recipe | None = None
) -> list[Batch]:
    data = samples(read_split(street, None, "train").frames, recipe, cache_mb)
    return list(batches(data, KEYS, 2, first_step, workers))


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


def test_without_augmentation_a_sample_is_squashed_and_mirrored_as_ever(street: Path) -> None:
    frames = read_split(street, None, "train").frames
    plain, both = TrainingData(frames, SIZE, 0), set()
    for key in [*KEYS, (0, 2, 5), (0, 2, 6), (0, 2, 7)]:
        mirrored = flipped(0, key[2], key[1], 0.5)
        both.add(mirrored)
        for got, expected in zip(samples(frames)[key], plain[key[1], mirrored], strict=True):
            assert torch.equal(got, expected)
    assert both == {True, False}


def test_an_augmented_sample_is_what_the_plan_says_and_changes_with_the_pass(street: Path) -> None:
    frames = read_split(street, None, "train").frames
    data = samples(frames, AUGMENTED, cache_mb=64)
    image, depth = data[0, 3, 2]
    source, truth = load_image(frames[3].image), load_depth(frames[3].depth)
    planned = plan(AUGMENTED, 0, 2, 3, truth.shape)
    pixels, metres, _ = apply(planned, source, truth, None, loader._resize)
    assert np.array_equal(depth[0].numpy(), metres) and metres.any()
    assert np.array_equal(((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), pixels)
    again, other = data[0, 3, 2], data[0, 3, 4]
    assert torch.equal(again[0], image) and torch.equal(again[1], depth)
    assert not torch.equal(other[1], depth)


def test_several_sets_are_drawn_by_their_number_and_numbered_through(street: Path) -> None:
    frames = read_split(street, None, "train").frames
    parts = [
        TrainingSet(name, KITTI, KITTI, protocol.KITTI, tuple(part))
        for name, part in (("a", frames[:2]), ("b", frames[2:]))
    ]
    for recipe, squashed in ((Recipe(SIZE), True), (AUGMENTED, False)):
        mixed, whole = (Samples(sets, recipe, 0, 1, squashed=squashed) for sets in (parts, samples(frames).sets))
        batch = mixed.batch([(1, 1, 4), (0, 1, 4)])
        assert (batch.tasks, batch.relative) == ((1, 0), (False, False))
        assert batch.names == (frames[3].name, frames[1].name)
        expected = whole.batch([(0, 3, 4), (0, 1, 4)])
        assert torch.equal(batch.image, expected.image) and torch.equal(batch.depth, expected.depth)


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
    data = samples(read_split(street, None, "train").frames, None, cache_mb)
    for _ in range(2):
        assert same(list(batches(data, KEYS, 2, 0, 0)), all_batches(street))
    held = sum(pixels.numel() + units.nbytes for pixels, units in data._squash[0]._cache.values())
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
    for recipe in (None, AUGMENTED):
        whole = all_batches(street, recipe=recipe)
        assert same(all_batches(street, first_step=first_step, recipe=recipe), whole[first_step:])


@pytest.mark.parametrize(("workers", "recipe"), [(1, None), (2, None), (2, AUGMENTED)])
def test_workers_change_neither_batches_nor_random_state(street: Path, workers: int, recipe: Recipe | None) -> None:
    expected = all_batches(street, first_step=1, recipe=recipe)
    before = torch.get_rng_state()
    assert same(all_batches(street, first_step=1, workers=workers, recipe=recipe), expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_became_bad_is_named(kitti, workers: int) -> None:
    frames = read_split(kitti(train=3), None, "train").frames
    frames[1].image.write_bytes(frames[1].image.read_bytes()[:100])
    made = batches(samples(frames), [(0, index, 1) for index in range(3)], 1, 0, workers)
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


class _Deadly(Kitti):
    """Kills its own process, as an out-of-memory killer does, at frame 1; sleeps at frame 2."""

    def truth(self, frame: Frame) -> np.ndarray:
        if " 1 " in frame.name:
            os.kill(os.getpid(), signal.SIGKILL)
        if " 2 " in frame.name:
            signal.pause()
        return super().truth(frame)


@pytest.mark.parametrize(("order", "patience"), [([0, 1], 120.0), ([0, 2], 1.0)])
def test_a_killed_or_hanging_worker_fails_the_run(
    street: Path, order: list[int], patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "WORKER_TIMEOUT", patience)
    frames = read_split(street, None, "train").frames
    deadly = TrainingSet("deadly", _Deadly(), _Deadly(), protocol.KITTI, frames)
    data = Samples([deadly], Recipe(SIZE), 0, 0, squashed=True)
    made = batches(data, [(0, index, 1) for index in order], 1, 0, 1)
    with pytest.raises(TrainingError, match="a loader process died or hangs"):
        list(made)
    assert not multiprocessing.active_children()


def test_workers_leave_ctrl_c_to_the_trainer(street: Path) -> None:
    """A terminal's Ctrl-C reaches every process of the group; the trainer still finishes its step and saves."""
    data = samples(read_split(street, None, "train").frames)
    made = batches(data, [(0, index, 1) for index in range(6)], 1, 0, 1)
    next(made)
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    assert len(list(made)) == 5
