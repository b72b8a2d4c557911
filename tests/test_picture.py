from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ablate.picture import COLOURS, NOT_SHOWN, Scale, bar_of, colour_map, colours, draw

STREET = Scale(2, 80, "depth in metres, log scale")


def oklab(srgb: np.ndarray) -> np.ndarray:
    """8-bit sRGB -> Oklab, by inverting the two published matrices."""
    x = srgb / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    to_cones = np.array(
        [[0.4122214708, 0.5363325363, 0.0514459929],
         [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]
    )  # fmt: skip
    to_lab = np.array(
        [[0.2104542553, 0.793617785, -0.0040720468],
         [1.9779984951, -2.428592205, 0.4505937099],
         [0.0259040371, 0.7827717662, -0.808675766]]
    )  # fmt: skip
    return np.cbrt(linear @ to_cones.T) @ to_lab.T


def test_the_map_is_perceptually_uniform_and_lightness_alone_orders_it() -> None:
    lab = oklab(colour_map().astype(np.float64))
    every_8th = lab[::8]  # one step of 8 bits is coarser than one of the map
    steps = np.linalg.norm(np.diff(every_8th, axis=0), axis=1)
    assert steps.max() < 1.25 * steps.min()
    assert (np.diff(every_8th[:, 0]) > 0.01).all()
    assert lab[0, 0] < 0.2 and lab[-1, 0] > 0.95
    assert len(np.unique(colour_map(), axis=0)) == COLOURS


def test_a_depth_has_the_colour_that_the_bar_shows_above_its_label() -> None:
    depth = np.full((100, 1216), 10.0, np.float32)
    picture = np.asarray(draw(depth, STREET))
    bar = picture[100:]
    place = float(STREET.place(np.array([10.0]))[0])
    left, right = 25, 1216 - 26
    column = round(left + place * (right - left))
    found = np.abs(bar[:, column].astype(int) - picture[0, 0].astype(int)).sum(axis=1).min()
    assert found <= 6


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (STREET, [2, 5, 10, 20, 50, 80]),
        (Scale(0.25, 10, "m"), [0.25, 0.5, 1, 2, 5, 10]),
        (Scale(0.0111, 0.167, "", unit="", logarithmic=False), [0.0111, 0.05, 0.1, 0.15, 0.167]),
    ],
)
def test_ticks_are_round_and_the_ends_are_shown(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks() == pytest.approx(ticks)


def test_near_is_light_and_what_lies_beyond_has_the_colour_of_the_end() -> None:
    shown = colours(np.array([[1.0, 2.0, 10.0, 80.0, 500.0, np.nan]]), STREET)[0]
    assert shown[0].tolist() == shown[1].tolist() == colour_map()[-1].tolist()
    assert shown[3].tolist() == shown[4].tolist() == colour_map()[0].tolist()
    assert tuple(shown[5]) == NOT_SHOWN
    inverse = Scale(0, 1, "", unit="", logarithmic=False, near="high")
    assert colours(np.array([[1.0]]), inverse)[0, 0].tolist() == colour_map()[-1].tolist()


def test_the_bar_says_that_there_is_more_beyond_its_ends() -> None:
    def bar(depth: float) -> bytes:
        return draw(np.full((4, 600), depth, np.float32), STREET).crop((0, 4, 600, 70)).tobytes()

    assert bar(5) == bar(50)
    assert len({bar(5), bar(1), bar(100)}) == 3


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(width=32)),
    st.floats(1e-3, 1e3),
    st.floats(1.01, 1e4),
    st.booleans(),
)
def test_anything_can_be_drawn(values: np.ndarray, low: float, factor: float, logarithmic: bool) -> None:
    picture = draw(values, Scale(low, low * factor, "t", logarithmic=logarithmic))
    assert picture.mode == "RGB"
    assert picture.width >= 480 and picture.width % values.shape[1] == 0
    assert picture.height > picture.width // values.shape[1] * values.shape[0]
    assert isinstance(picture, Image.Image)


def test_a_picture_of_a_few_pixels_has_a_bar_that_can_be_read() -> None:
    """A page draws bars as wide as the pictures of a task; six pixels made the whole report fail."""
    assert bar_of(1, Scale(1, 20, "m", "depth")).width == bar_of(6, Scale(1, 20, "m", "depth")).width >= 50


def test_signed_numbers_are_blue_below_and_orange_above_and_as_light_at_either_distance() -> None:
    scale = Scale(-10, 10, "error", logarithmic=False, diverging=True)
    below, zero, above, gone = colours(np.array([[-10.0, 0.0, 10.0, np.nan]]), scale)[0].astype(int)
    assert below[2] > below[0] + 80 and above[0] > above[2] + 80
    assert zero.min() > 235
    assert tuple(gone) == NOT_SHOWN
    lab = oklab(colours(np.linspace(-10, 10, 41)[None], scale)[0].astype(np.float64))
    assert (np.diff(lab[:21, 0]) > 0).all() and (np.diff(lab[20:, 0]) < 0).all()
    assert draw(np.full((40, 600), 3.0, np.float32), scale).size[0] == 600
