"""Numbers as a picture that a person can read: a perceptually uniform colour map, and a bar that says what it means.

The map is a path through Oklab (Ottosson 2020, https://bottosson.github.io/posts/oklab/), from dark violet to light
yellow, cut into steps of equal length: equal distances look equally different, and lightness alone orders them, so that
the picture survives a black and white printer and most colour blindness. Near is light, far is dark.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

COLOURS = 256
NOT_SHOWN = (128, 128, 128)
"""Where there is no value."""

_LIGHTNESS = (0.18, 0.96)
_HUE = (285.0, 470.0)
"""Degrees; past 360 it goes on through red."""
_CHROMA = 0.155
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_NARROWEST = 64
"""Pixels across a bar: below that its numbers do not fit."""
_LEAST_WIDTH = 480
"""Pixels; smaller images are enlarged, or the bar's labels would not fit."""

LONGEST = 60
"""Characters of a name in a picture."""


@dataclass(frozen=True)
class Scale:
    """What the colours mean: from `low` to `high`, both shown; values beyond get the colour of the end.

    The `near` end is light. `title` names the quantity and its unit, `unit` follows the first and last number.
    `diverging`: of signed numbers, from -high to high; blue is below 0, white is 0, and orange above.
    """

    low: float
    high: float
    title: str
    unit: str = "m"
    logarithmic: bool = True
    near: str = "low"
    diverging: bool = False

    def place(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where values lie between `low` (0) and `high` (1); not clipped."""
        low, high = self._of(np.array([self.low, self.high], dtype=np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):
            placed: NDArray[np.float64] = (self._of(values.astype(np.float64)) - low) / (high - low)
        return placed

    def _of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(values) if self.logarithmic else values

    def ticks(self) -> list[float]:
        """Round numbers to label, with the ends; close neighbours of the ends are left out."""
        inner = _round_logarithmic(self.low, self.high) if self.logarithmic else _round_linear(self.low, self.high)
        placed = {value: float(self.place(np.array([value]))[0]) for value in inner}
        return [self.low, *(value for value, place in placed.items() if 0.04 < place < 0.96), self.high]


def _round_logarithmic(low: float, high: float) -> Iterator[float]:
    """1, 2, 5, 10, 20, 50 … between low and high."""
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in (1, 2, 5):
            if low < step * 10.0**power < high:
                yield step * 10.0**power


def _round_linear(low: float, high: float) -> Iterator[float]:
    """About five multiples of 1, 2 or 5 between low and high."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    for number in range(math.floor(low / step) + 1, math.ceil(high / step)):
        yield number * step


def draw(values_HW: NDArray[np.floating], scale: Scale) -> Image.Image:
    """The picture: colours by `scale`, and a bar below it. Pixels that are not finite are grey.

    As wide as the values, or a whole multiple of it if that is less than 480 pixels.
    """
    picture = Image.fromarray(colours(values_HW, scale), "RGB")
    enlarged = -(-_LEAST_WIDTH // picture.width)
    if enlarged > 1:
        picture = picture.resize((picture.width * enlarged, picture.height * enlarged), Image.Resampling.NEAREST)
    finite = values_HW[np.isfinite(values_HW)]
    beyond = (bool((finite < scale.low).any()), bool((finite > scale.high).any()))
    bar = bar_of(picture.width, scale, beyond)
    whole = Image.new("RGB", (picture.width, picture.height + bar.height), _PAPER)
    whole.paste(picture, (0, 0))
    whole.paste(bar, (0, picture.height))
    return whole


def colours(values_HW: NDArray[np.floating], scale: Scale) -> NDArray[np.uint8]:
    """HW -> HW3, 8-bit sRGB."""
    found = _coloured(np.nan_to_num(np.clip(scale.place(values_HW), 0.0, 1.0)), scale)
    found[~np.isfinite(values_HW)] = NOT_SHOWN
    return found


def _coloured(place: NDArray[np.float64], scale: Scale) -> NDArray[np.uint8]:
    """Places on the scale, 0 to 1 -> colours, with one dimension more."""
    if not scale.diverging:
        place = 1 - place if scale.near == "low" else place
    found: NDArray[np.uint8] = map_of(scale)[np.rint(place * (COLOURS - 1)).astype(np.intp)]
    return found


def map_of(scale: Scale) -> NDArray[np.uint8]:
    """256x3, 8-bit sRGB."""
    return diverging_map() if scale.diverging else colour_map()


@cache
def diverging_map() -> NDArray[np.uint8]:
    """256x3, 8-bit sRGB: blue over white to orange, straight through Oklab; told apart with any common colour blindness."""
    ends_33 = np.array([[0.45, -0.04, -0.15], [0.97, 0.0, 0.0], [0.55, 0.13, 0.11]])
    along = np.linspace(0.0, 2.0, COLOURS)
    return _encoded(np.stack([np.interp(along, [0, 1, 2], ends_33[:, axis]) for axis in range(3)], axis=1))


@cache
def colour_map() -> NDArray[np.uint8]:
    """256x3, 8-bit sRGB, dark to light in equal steps of Oklab."""
    path_N3 = _path(4096)
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path_N3, axis=0), axis=1))])
    wanted = np.linspace(0.0, lengths[-1], COLOURS)
    even_N3 = np.stack([np.interp(wanted, lengths, path_N3[:, axis]) for axis in range(3)], axis=1)
    return _encoded(even_N3)


def _encoded(lab_N3: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Oklab -> 8-bit sRGB."""
    linear_N3 = np.clip(_linear_rgb(lab_N3), 0.0, 1.0)
    encoded_N3 = np.where(linear_N3 <= 0.0031308, 12.92 * linear_N3, 1.055 * linear_N3 ** (1 / 2.4) - 0.055)
    table: NDArray[np.uint8] = np.rint(encoded_N3 * 255).astype(np.uint8)
    table.flags.writeable = False
    return table


def _path(points: int) -> NDArray[np.float64]:
    """Points in Oklab, dark to light; where a screen cannot show the chroma it is lowered until it can."""
    along = np.linspace(0.0, 1.0, points)
    lightness = _LIGHTNESS[0] + (_LIGHTNESS[1] - _LIGHTNESS[0]) * along
    hue = np.deg2rad(_HUE[0] + (_HUE[1] - _HUE[0]) * along)
    chroma = np.full(points, _CHROMA)
    for _ in range(400):
        lab_N3 = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
        rgb_N3 = _linear_rgb(lab_N3)
        outside = (rgb_N3.min(axis=1) < 0) | (rgb_N3.max(axis=1) > 1)
        if not outside.any():
            break
        chroma[outside] *= 0.99
    half = points // 8  # a kink in the chroma would look like an edge in the picture
    chroma = np.convolve(np.pad(chroma, half, mode="edge"), np.ones(2 * half + 1) / (2 * half + 1), "valid")
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)


def _linear_rgb(lab_N3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Oklab -> linear sRGB, the two matrices of Ottosson 2020."""
    to_cones = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.707614701],
        ]
    )
    rgb: NDArray[np.float64] = (lab_N3 @ to_cones.T) ** 3 @ to_rgb.T
    return rgb


def bar_of(width: int, scale: Scale, beyond: tuple[bool, bool] = (False, False)) -> Image.Image:
    """The scale as a strip: title, gradient, ticks and numbers. beyond: whether values lie below and above it.

    Below a picture of a few pixels it is wider than `width`: a scale has to be readable.
    """
    width = max(width, _NARROWEST)
    size = max(13, min(26, width // 48))
    font = ImageFont.load_default(size)
    margin, gap, thick = size, size // 3, size
    height = gap + 2 * (size + gap) + thick + 2 * gap
    strip = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(strip)
    left, right = margin, width - margin - 1
    pen.text((left, gap), scale.title, fill=_INK, font=font)
    top = 2 * gap + size + gap // 2
    shown = np.linspace(0.0, 1.0, right - left + 1)
    gradient_1W3 = _coloured(shown, scale)[None]
    strip.paste(Image.fromarray(np.repeat(gradient_1W3, thick, axis=0), "RGB"), (left, top))
    pen.rectangle((left - 1, top - 1, right + 1, top + thick), outline=_INK)
    free = 0.0
    ticks = scale.ticks()
    for number, value in enumerate(ticks):
        x = left + float(scale.place(np.array([value]))[0]) * (right - left)
        ends = (number == 0, number == len(ticks) - 1)
        text = _label(value, scale, ends, beyond)
        long = pen.textlength(text, font=font)
        begin = min(max(x - long / 2, left), right - long)
        last = right - pen.textlength(_label(ticks[-1], scale, (False, True), beyond), font=font)
        if begin < free or (not any(ends) and begin + long + size > last):
            continue  # it would touch its neighbour
        pen.line((x, top + thick, x, top + thick + gap), fill=_INK, width=max(1, size // 12))
        pen.text((begin, top + thick + gap), text, fill=_INK, font=font)
        free = begin + long + size / 2
    return strip


def _label(value: float, scale: Scale, ends: tuple[bool, bool], beyond: tuple[bool, bool]) -> str:
    """'5', and at the ends '≤ 2 m' or '80 m'."""
    text = f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    sign = "< " if ends[0] and beyond[0] else "> " if ends[1] and beyond[1] else ""
    return f"{sign}{text} {scale.unit}".rstrip() if any(ends) else text


def clean(text: str, longest: int = LONGEST) -> str:
    """One line without control and formatting characters, which XML forbids or which reorder what is read."""
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    kept = " ".join(kept.split()) or "–"
    return kept if len(kept) <= longest else kept[: longest - 1] + "…"
