"""Panels as pictures: input, ground truth, prediction and error side by side, with bars that say what colours mean.

Nothing here knows what the numbers are of: names, units and scales come with the layers.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ablate.picture import Scale, bar_of, clean, colours
from ablate.runs.panels import StoredLayer, StoredPanel, decode

WIDTH = 400
"""Pixels of a tile, at most."""
ERROR = "error"
_GAP = 6
_TEXT = 13
_INK, _WEAK, _PAPER = (20, 20, 20), (110, 110, 110), (255, 255, 255)
_LEAST = 160
"""Pixels that a bar needs for its numbers."""
_SPARSE = 0.5
"""A layer with numbers at fewer of the pixels is shown with larger dots."""


@dataclass(frozen=True)
class Tile:
    """One layer as it is shown: `picture` is HW3, 8-bit sRGB; `scale` says what its colours mean, None for an image."""

    name: str
    picture: NDArray[np.uint8]
    scale: Scale | None
    beyond: tuple[bool, bool] = (False, False)
    """Whether numbers lie below and above the scale."""

    def png(self) -> bytes:
        return to_png(Image.fromarray(self.picture, "RGB"))


def tiles(folder: Path, panel: StoredPanel, width: int = WIDTH) -> tuple[Tile, ...]:
    """The layers of a panel in their order, then the error. Raises RecordError, naming the file, if one is damaged."""
    found = []
    numbers: dict[str, NDArray[np.float32]] = {}
    for layer in panel.layers:
        values: NDArray[Any] = decode(folder, layer)
        if layer.kind == "image":
            found.append(Tile(layer.name, _smaller_image(values, width), None))
        else:
            numbers[layer.name] = values
            found.append(_tile(layer.name, values, _scale(layer, values), width))
    error = panel.error
    if error is not None and error.first in numbers and error.second in numbers:
        first, second = numbers[error.first], numbers[error.second]
        if first.shape == second.shape:
            unit = next(layer.unit for layer in panel.layers if layer.name == error.first)
            title = f"{error.first} - {error.second}" + (f" in {unit}" if unit else "")
            scale = Scale(-error.limit, error.limit, title, unit, logarithmic=False, diverging=True)
            found.append(_tile(ERROR, first - second, scale, width))
    return tuple(found)


def _scale(layer: StoredLayer, values: NDArray[np.float32]) -> Scale:
    shades = layer.shades
    if shades is not None and shades.low < shades.high and (shades.low > 0 or not shades.logarithmic):
        title = layer.name + (f" in {layer.unit}" if layer.unit else "") + (", log scale" * shades.logarithmic)
        return Scale(shades.low, shades.high, title, layer.unit, shades.logarithmic, shades.near)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return Scale(low, high if high > low else low + 1.0, layer.unit, layer.unit, logarithmic=False)


def _tile(name: str, values: NDArray[np.float32], scale: Scale, width: int) -> Tile:
    finite = values[np.isfinite(values)]
    beyond = (bool((finite < scale.low).any()), bool((finite > scale.high).any()))
    return Tile(name, colours(readable(values, width), scale), scale, beyond)


def readable(values_HW: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Shrunk by a whole factor to at most `width`, by the median of what a block holds; single dots are enlarged."""
    factor = max(1, -(-values_HW.shape[1] // width))
    height, across = (side // factor for side in values_HW.shape)
    if factor > 1 and height and across:
        blocks = values_HW[: height * factor, : across * factor].reshape(height, factor, across, factor)
        values_HW = _median(blocks.transpose(0, 2, 1, 3).reshape(height, across, factor * factor))
    share = float(np.isfinite(values_HW).mean()) if values_HW.size else 1.0
    return _grown(values_HW) if 0 < share < _SPARSE else values_HW


def _grown(values_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Empty pixels beside one that has a number get the median of such neighbours."""
    padded = np.pad(values_HW, 1, constant_values=np.nan)
    height, width = values_HW.shape
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.where(np.isfinite(values_HW), values_HW, _median(np.stack(around, axis=-1)))


def _median(values_HWN: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis, of what is finite; the lower of two in the middle, so that no number is made up."""
    ordered = np.sort(values_HWN, axis=-1)  # NaN comes last
    count = np.isfinite(values_HWN).sum(axis=-1)
    place = np.maximum(count - 1, 0) // 2
    found: NDArray[np.float32] = np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0]
    return found


def _smaller_image(image_HW3: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    factor = max(1, -(-image_HW3.shape[1] // width))
    size = (max(1, image_HW3.shape[1] // factor), max(1, image_HW3.shape[0] // factor))
    return np.asarray(Image.fromarray(image_HW3, "RGB").resize(size, Image.Resampling.BOX))


@dataclass(frozen=True)
class Row:
    """What stands above a row of tiles, and the tiles."""

    label: str
    tiles: tuple[Tile, ...]


def sheet(rows: Sequence[Row]) -> Image.Image:
    """Rows of tiles with their names on top and the bars of their colours below; tiles may differ in size."""
    columns = max((len(row.tiles) for row in rows), default=0)
    widths = [
        max((row.tiles[place].picture.shape[1] for row in rows if place < len(row.tiles)), default=1)
        for place in range(columns)
    ]
    lefts = [_GAP + sum(widths[:place]) + _GAP * place for place in range(columns)]
    line = _TEXT + _GAP
    tops = [line * (1 + _names_change(rows, place)) for place in range(len(rows))]
    heights = [max((tile.picture.shape[0] for tile in row.tiles), default=1) for row in rows]
    bars = _bars(rows, widths)
    size = (_GAP + sum(widths) + _GAP * columns, sum(heights) + sum(tops) + len(rows) * _GAP + _GAP)
    whole = Image.new("RGB", (size[0], size[1] + max((bar.height for bar in bars.values()), default=0)), _PAPER)
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(_TEXT)
    top = _GAP
    for row, above, height in zip(rows, tops, heights, strict=True):
        pen.text((_GAP, top), _fitting(row.label, size[0] - 2 * _GAP, font), fill=_INK, font=font)
        for left, tile, width in zip(lefts, row.tiles, widths, strict=False):
            if above > line:
                pen.text((left, top + line), _fitting(tile.name, width, font), fill=_WEAK, font=font)
            whole.paste(Image.fromarray(tile.picture, "RGB"), (left, top + above))
        top += above + height + _GAP
    for place, bar in bars.items():
        whole.paste(bar, (lefts[place], top))
    return whole


def _names_change(rows: Sequence[Row], place: int) -> bool:
    """Whether the tiles of a row are called other than those above them."""
    names = [tuple(tile.name for tile in row.tiles) for row in rows]
    return place == 0 or names[place] != names[place - 1]


def _bars(rows: Sequence[Row], widths: Sequence[int]) -> dict[int, Image.Image]:
    """The bar of each column whose tiles have colours, which mean the same in all rows."""
    found = {}
    for place, width in enumerate(widths):
        coloured = [row.tiles[place] for row in rows if place < len(row.tiles) and row.tiles[place].scale is not None]
        if coloured and coloured[0].scale is not None and width >= _LEAST:
            beyond = (any(tile.beyond[0] for tile in coloured), any(tile.beyond[1] for tile in coloured))
            found[place] = bar_of(width, coloured[0].scale, beyond)
    return found


def _fitting(text: str, width: int, font: Any) -> str:
    """As much of a text as fits; Pillow draws what its font lacks as boxes."""
    text = clean(text, 200)
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2].rstrip("…") + "…"
    return text


def to_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
