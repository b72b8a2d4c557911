"""Image, depth and mask stay together, whatever is drawn; what is drawn depends on (seed, epoch, index) alone."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.augment import PAD, Jitter, Plan, Recipe, apply, plan, recoloured
from ablate.depth.data.images import squash_depth
from ablate.depth.data.loader import squash_image
from ablate.depth.data.order import flipped
from ablate.depth.protocol import KITTI, NYU, Box, kb_crop
from ablate.errors import DataError

sides = st.integers(1, 40)
keys = st.tuples(st.integers(0, 2**31 - 1), st.integers(1, 100), st.integers(0, 10**6))
resizes = st.sampled_from(["squash", "shorter", "longer"])
recipes = st.builds(Recipe, size=st.tuples(sides, sides), resize=resizes, flip=st.sampled_from([0.0, 0.5, 1.0]))


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return squash_image(image, size).permute(1, 2, 0).numpy()


def places(height: int, width: int) -> np.ndarray:
    """A depth map whose values say where they are; 0 is none of them."""
    return np.arange(1, height * width + 1, dtype=np.float32).reshape(height, width)


def applied(planned: Plan, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return apply(planned, image, places(height, width), None, resize)


@settings(max_examples=100, deadline=None)
@given(recipes, keys, sides, sides)
def test_every_depth_is_that_of_its_source_pixel(recipe: Recipe, key: tuple[int, int, int], h: int, w: int) -> None:
    planned = plan(recipe, *key, (h, w))
    image, depth, mask = applied(planned, h, w)
    assert image.shape == (*recipe.size, 3) and image.dtype == np.uint8
    assert depth.shape == mask.shape == recipe.size and depth.dtype == np.float32 and mask.dtype == np.bool_
    torch.from_numpy(image), torch.from_numpy(depth), torch.from_numpy(mask)  # no negative strides
    rows, columns = planned.sources()
    for i, j in itertools.product(range(recipe.size[0]), range(recipe.size[1])):
        inside = rows[i] >= 0 and columns[j] >= 0
        assert mask[i, j] == inside
        assert depth[i, j] == (rows[i] * w + columns[j] + 1 if inside else 0)
        assert inside or (image[i, j] == PAD).all()


@settings(max_examples=60, deadline=None)
@given(recipes, keys, sides, sides, st.data())
def test_masks_and_missing_depth_stay_with_their_pixels(
    recipe: Recipe, key: tuple[int, int, int], h: int, w: int, data: st.DataObject
) -> None:
    chance = np.random.default_rng(data.draw(st.integers(0, 999))).random((2, h, w))
    depth, mask = np.where(chance[0] < 0.5, 0, places(h, w)).astype(np.float32), chance[1] < 0.5
    planned = plan(recipe, *key, (h, w))
    image = np.zeros((h, w, 3), np.uint8)
    _, got, allowed = apply(planned, image, depth, mask, resize)
    _, where, inside = apply(planned, image, places(h, w), None, resize)
    assert set(np.unique(got)) <= {0, *np.unique(depth)}
    source = where[inside].astype(int) - 1
    assert (got[inside] == depth.ravel()[source]).all() and (allowed[inside] == mask.ravel()[source]).all()
    assert not got[~inside].any() and not allowed[~inside].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 30), st.integers(4, 30), keys, st.sampled_from(["shorter", "longer"]), st.integers(1, 3))
def test_round_trip(h: int, w: int, key: tuple[int, int, int], how, factor: int) -> None:
    """Enlarged by a whole number, cropped and mirrored; the inverse geometry puts every value back."""
    side = factor * (min(h, w) if how == "shorter" else max(h, w))
    planned = plan(Recipe((side, side), resize=how), *key, (h, w))
    assert planned.resized == (factor * h, factor * w)
    _, depth, mask = applied(planned, h, w)
    back = np.zeros((h, w), np.float32)
    rows, columns = planned.sources()
    i, j = np.nonzero(mask)
    back[rows[i], columns[j]] = depth[i, j]
    seen = back > 0
    assert (back[seen] == places(h, w)[seen]).all()
    if how == "longer":  # nothing is cut off
        assert seen.all() and mask.sum() == factor * factor * h * w
    else:  # all of the shorter side, and as much of the other
        assert mask.all() and seen.sum() >= min(h, w) ** 2


@pytest.mark.parametrize("how", ["squash", "shorter", "longer"])
@pytest.mark.parametrize(
    "h, w, size", [(90, 120, (60, 60)), (40, 120, (64, 96)), (50, 40, (96, 96)), (64, 64, (32, 64))]
)
def test_image_and_depth_show_the_same_places(how, h: int, w: int, size: tuple[int, int]) -> None:
    """Red is twice the row and green twice the column; both are read back and compared with the depth's source."""
    image = np.zeros((h, w, 3), np.uint8)
    image[..., 0], image[..., 1] = 2 * np.arange(h)[:, None], 2 * np.arange(w)
    for index in range(6):
        planned = plan(Recipe(size, resize=how), 0, 1, index, (h, w))
        got, _, mask = apply(planned, image, places(h, w), None, resize)
        rows, columns = planned.sources()
        i, j = np.nonzero(mask)
        for seen, source, old, new in (
            (got[i, j, 0] / 2, rows[i], h, planned.resized[0]),
            (got[i, j, 1] / 2, columns[j], w, planned.resized[1]),
        ):
            inner = (source > 2 * old / new) & (
                source < old - 1 - 2 * old / new
            )  # edges are repeated beyond the border
            # the nearest pixel is half a pixel off at most, and always to one side where two are as near
            assert np.abs(seen - source)[inner].max() <= 0.5 + 0.25
            assert abs((seen - source)[inner].mean()) <= 0.5


@settings(max_examples=40, deadline=None)
@given(st.tuples(sides, sides), keys, sides, sides)
def test_squash_is_what_training_without_augmentation_does(
    size: tuple[int, int], key: tuple[int, int, int], h: int, w: int
) -> None:
    planned = plan(Recipe(size), *key, (h, w))
    image = np.random.default_rng(1).integers(0, 256, (h, w, 3), np.uint8)
    units = np.random.default_rng(2).integers(0, 2**16, (h, w), np.uint16)
    got, depth, mask = apply(planned, image, units.astype(np.float32), None, resize)
    mirror = -1 if flipped(*key, 0.5) else 1
    assert mask.all()
    assert (got == resize(image, size)[:, ::mirror]).all()
    assert (depth == squash_depth(units, size)[:, ::mirror]).all()


@given(recipes, keys, st.integers(1, 4000), st.integers(1, 4000))
def test_the_side_that_is_named_gets_the_size(recipe: Recipe, key: tuple[int, int, int], h: int, w: int) -> None:
    planned = plan(recipe, *key, (h, w))
    (height, width), (new_h, new_w) = recipe.size, planned.resized
    if recipe.resize == "squash":
        assert (new_h, new_w, planned.top, planned.left) == (height, width, 0, 0)
        return
    assert new_h == height or new_w == width
    covers = recipe.resize == "shorter"
    assert (new_h >= height and new_w >= width) if covers else (new_h <= height and new_w <= width)
    # the aspect is kept to half a pixel, or to the pixel that must be left
    by_height = new_h == height and (abs(w * new_h / h - new_w) <= 0.5 or (new_w == 1 > w * new_h / h))
    by_width = new_w == width and (abs(h * new_w / w - new_h) <= 0.5 or (new_h == 1 > h * new_w / w))
    assert by_height or by_width
    for offset, spare in ((planned.top, new_h - height), (planned.left, new_w - width)):
        assert min(0, spare) <= offset <= max(0, spare)


@pytest.mark.parametrize(
    "how, source, resized", [("shorter", (375, 1242), (384, 1272)), ("longer", (375, 1242), (116, 384)),
                             ("shorter", (640, 480), (512, 384)), ("longer", (640, 480), (384, 288))],
)  # fmt: skip
def test_384_as_the_log_and_as_the_paper_have_it(how, source: tuple[int, int], resized: tuple[int, int]) -> None:
    assert plan(Recipe((384, 384), resize=how), 0, 1, 0, source).resized == resized


@given(keys, st.integers(352, 500), st.integers(1216, 1400))
def test_the_frame_is_cropped_before_all_else(key: tuple[int, int, int], h: int, w: int) -> None:
    fixed = plan(Recipe((192, 640), frame_crop="fixed"), *key, (h, w))
    random = plan(Recipe((192, 640), frame_crop="random"), *key, (h, w))
    assert fixed.frame == kb_crop(h, w) and plan(Recipe((192, 640)), *key, (h, w)).frame == Box(0, 0, h, w)
    assert (random.frame.height, random.frame.width) == (352, 1216)
    assert 0 <= random.frame.top <= h - 352 and 0 <= random.frame.left <= w - 1216
    assert plan(Recipe((192, 640), frame_crop="random"), *key, (480, 640), NYU).frame == Box(0, 0, 480, 640)


def test_a_cropped_frame_is_what_is_resized() -> None:
    h, w = KITTI.crop.height + 20, KITTI.crop.width + 30  # type: ignore[union-attr]
    image = np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8)
    planned = plan(Recipe((96, 320), frame_crop="random", flip=0), 0, 1, 3, (h, w))
    got, depth, _ = apply(planned, image, places(h, w), None, resize)
    top, left = planned.frame[:2]
    assert (top, left) not in ((0, 0), kb_crop(h, w)[:2])
    crop = image[top : top + 352, left : left + 1216]
    assert (got == resize(crop, (96, 320))).all()
    assert (depth == squash_depth(places(h, w)[top : top + 352, left : left + 1216], (96, 320))).all()  # type: ignore[arg-type]


def test_a_frame_smaller_than_the_crop_is_refused() -> None:
    with pytest.raises(DataError, match="smaller than the 352x1216 crop"):
        plan(Recipe((96, 320), frame_crop="random"), 0, 1, 0, (300, 1242))


FULL = Recipe((384, 384), "random", "shorter", 0.5, Jitter(0.2, 0.3, 0.4, 0.1))


def test_literal_draws() -> None:
    """Pinned: other draws are another run."""
    planned = plan(FULL, 0, 1, 0, (375, 1242))
    assert (planned.frame, planned.resized) == (Box(23, 26, 352, 1216), (384, 1327))
    assert (planned.top, planned.left, planned.flip) == (0, 595, False)
    assert [name for name, _ in planned.colours] == ["saturation", "brightness", "hue", "contrast"]
    assert [amount for _, amount in planned.colours] == pytest.approx(
        [1.0652234447143811, 0.869394735997106, 0.01711587429525263, 1.2048537614022938], abs=1e-12
    )
    planned = plan(Recipe((64, 64), resize="longer"), 3, 2, 5, (480, 640))
    assert (planned.resized, planned.top, planned.left, planned.flip) == ((48, 64), -6, 0, False)


@settings(max_examples=40)
@given(keys)
def test_draws_depend_on_nothing_but_the_key(key: tuple[int, int, int]) -> None:
    one = plan(FULL, *key, (375, 1242))
    np.random.seed(1)
    np.random.random()
    assert plan(FULL, *key, (375, 1242)) == one
    assert one.flip == flipped(*key, 0.5)
    # one kind does not change another
    plain = plan(dataclasses.replace(FULL, jitter=Jitter(), flip=0.0), *key, (375, 1242))
    assert (plain.frame, plain.top, plain.left) == (one.frame, one.top, one.left)
    assert plain.colours == () and not plain.flip
    only_hue = plan(dataclasses.replace(FULL, jitter=Jitter(hue=0.1)), *key, (375, 1242))
    assert only_hue.colours == tuple(colour for colour in one.colours if colour[0] == "hue")


def test_draws_are_uniform_and_differ_between_seeds_epochs_and_images() -> None:
    plans = [plan(FULL, seed, epoch, i, (362, 1246)) for seed in (0, 1) for epoch in (1, 2) for i in range(500)]
    assert len(set(plans)) == 2000
    tops, lefts = (Counter(values) for values in zip(*(planned.frame[:2] for planned in plans), strict=True))
    assert sorted(tops) == list(range(11)) and sorted(lefts) == list(range(31))
    assert max(tops.values()) < 1.5 * 2000 / 11 and min(tops.values()) > 0.6 * 2000 / 11
    spare = plans[0].resized[1] - 384
    assert np.mean([planned.left for planned in plans]) == pytest.approx(spare / 2, rel=0.05)
    assert abs(np.corrcoef([p.frame.left for p in plans], [p.left for p in plans])[0, 1]) < 0.08
    for name, low, high in (
        ("brightness", 0.8, 1.2),
        ("contrast", 0.7, 1.3),
        ("saturation", 0.6, 1.4),
        ("hue", -0.1, 0.1),
    ):
        amounts = [dict(planned.colours)[name] for planned in plans]  # type: ignore[index]
        assert low <= min(amounts) < low + 0.01 * (high - low) and high - 0.01 * (high - low) < max(amounts) <= high
        assert np.mean(amounts) == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    orders = Counter(tuple(name for name, _ in planned.colours) for planned in plans)
    assert len(orders) == 24 and max(orders.values()) < 2 * 2000 / 24


def test_padding_is_placed_at_random_too() -> None:
    plans = [plan(Recipe((64, 64), resize="longer"), 0, 1, index, (32, 64)) for index in range(400)]
    assert {planned.left for planned in plans} == {0}
    assert {planned.top for planned in plans} == set(range(-32, 1))


# Colours


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 999),
    st.permutations(["brightness", "contrast", "saturation", "hue"]),
    st.floats(0, 3),
    st.floats(0, 3),
    st.floats(0, 3),
    st.floats(-0.5, 0.5),
)
def test_colours_are_torchvisions(
    seed: int, order: list, bright: float, contrast: float, sat: float, hue: float
) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    amounts = {"brightness": bright, "contrast": contrast, "saturation": sat, "hue": hue}
    image = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    image[0] = image[0, :, :1]  # greys
    image[1] = image[1] // 200 * 255  # corners of the colour cube
    expected = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    for name in order:
        expected = getattr(functional, f"adjust_{name}")(expected, amounts[name])
    got = recoloured(image, tuple((name, amounts[name]) for name in order)).astype(float)
    # hue is steep where a colour is nearly grey, so that rounding of the steps before may show
    assert np.abs(got - 255 * expected.permute(1, 2, 0).numpy()).max() <= 0.55


def test_worked_examples_of_colours() -> None:
    image = np.array([[[255, 0, 0], [100, 150, 200], [50, 50, 50]]], np.uint8)
    assert recoloured(image, (("brightness", 0.5),)).tolist() == [[[128, 0, 0], [50, 75, 100], [25, 25, 25]]]
    assert recoloured(image, (("hue", 1 / 3),)).tolist() == [[[0, 255, 0], [200, 100, 150], [50, 50, 50]]]
    assert recoloured(image, (("saturation", 0.0),))[0, 0].tolist() == [76, 76, 76]
    assert recoloured(image, (("contrast", 0.0),)).std() == 0
    assert recoloured(image, (("brightness", 1.0), ("hue", 0.0), ("contrast", 1.0))).tolist() == image.tolist()
    assert recoloured(image, ()) is image


def test_jitter_leaves_padding_depth_and_mask_alone() -> None:
    planned = plan(Recipe((32, 32), resize="longer", jitter=Jitter(brightness=0.5)), 0, 1, 0, (16, 32))
    plain = dataclasses.replace(planned, colours=())
    one, other = applied(planned, 16, 32), applied(plain, 16, 32)
    assert (one[1] == other[1]).all() and (one[2] == other[2]).all()
    assert (one[0][~one[2]] == PAD).all() and (one[0][one[2]] != other[0][one[2]]).any()


@pytest.mark.parametrize("wrong", [{"brightness": -0.1}, {"hue": 0.6}])
def test_strengths_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="strengths must be"):
        Jitter(**wrong)


def test_it_loads_no_torch() -> None:
    code = "import sys, ablate.depth.augment; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
