"""Augmentation: which part of a frame is trained on, how large, mirrored and recoloured (no torch).

`plan` draws, as a pure function of (seed, epoch, index), and `apply` does it to image, depth and mask at once. Geometry
and colours come from streams of their own beside that of the flips, whose draws are those of `data.order.flipped`; so
adding one kind of augmentation changes none of the others. `index` counts over everything that is trained on; samples
with the same index are augmented alike.

Sizes are (height, width) in pixels. In this order: crop of the frame, resize, crop or padding to the network's input,
colour jitter, mirror. Depth and mask take the source pixel nearest to each new pixel's centre and are never
interpolated, so that no value arises that was not measured; the image is resized by the function that is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.order import flipped
from ablate.depth.protocol import KITTI, Box, DepthProtocol, crop_box

FrameCrop = Literal["none", "fixed", "random"]
Resize = Literal["squash", "shorter", "longer"]
Operation = Literal["brightness", "contrast", "saturation", "hue"]
ResizeImage = Callable[[NDArray[np.uint8], tuple[int, int]], NDArray[np.uint8]]
"""(HW3, (height, width)) -> HW3, aligned by the images' borders (`align_corners=False`)."""

PAD = 128
"""Grey of padding: 0.004 in the network's input."""

_GEOMETRY, _COLOUR = 11, 12
"""Purposes, as in `data.order`: streams that are independent of each other."""

_GREY = np.array([0.2989, 0.587, 0.114], np.float32)
"""ITU-R BT.601, as torchvision rounds it."""


@dataclass(frozen=True)
class Jitter:
    """Strengths of colour changes, 0 for none, in an order that is drawn too; factors as torchvision's ColorJitter.

    brightness, contrast, saturation: the factor is uniform in max(0, 1 - s) .. 1 + s. hue: the shift is uniform in
    -s .. s of a full turn, s <= 0.5. Raises ValueError if a strength is out of range.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation, self.hue) < 0 or self.hue > 0.5:
            raise ValueError(f"{self}: strengths must be >= 0, and hue <= 0.5")


@dataclass(frozen=True)
class Recipe:
    """What may happen to a sample.

    size: the network's input.
    frame_crop: `fixed` takes the protocol's crop (KITTI: 352x1216, at the bottom and centred) before all else,
        `random` a rectangle of that size from anywhere in the frame. Without effect where a protocol has no crop.
    resize: `squash` brings the frame to `size` whatever its aspect; the others keep it. `shorter` makes it cover
        `size`, of which a random crop is taken: with 384x384 the shorter side becomes 384, as the progress log says.
        `longer` makes it fit into `size`: the longer side becomes 384, as the DPT paper says. No 384x384 can be cropped
        from that, so it lies at a random place on grey padding, which has neither depth nor mask.
    flip: probability of a mirror image.
    """

    size: tuple[int, int]
    frame_crop: FrameCrop = "none"
    resize: Resize = "squash"
    flip: float = 0.5
    jitter: Jitter = Jitter()


@dataclass(frozen=True)
class Plan:
    """What happens to one sample: `frame` of the source is resized to `resized`, in which the network's input of
    `size` begins at (top, left); negative: in the padding. `colours` in their order, with factor or shift."""

    frame: Box
    resized: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    flip: bool
    colours: tuple[tuple[Operation, float], ...] = ()

    def sources(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The source's row of every row of the input, and column of every column; -1 in the padding."""
        rows = _nearest(self.size[0], self.top, self.resized[0], self.frame.top, self.frame.height)
        columns = _nearest(self.size[1], self.left, self.resized[1], self.frame.left, self.frame.width)
        return rows, columns[::-1].copy() if self.flip else columns


def plan(
    recipe: Recipe, seed: int, epoch: int, index: int, source: tuple[int, int], protocol: DepthProtocol = KITTI
) -> Plan:
    """What happens to image `index` of size `source` in `epoch`.

    Raises DataError if the frame is smaller than the protocol's crop and `recipe` has one.
    """
    down, right, from_top, from_left = _uniform(_GEOMETRY, seed, epoch, index, 4)
    frame = _frame(recipe.frame_crop, source, protocol, down, right)
    resized = _resized(recipe, frame)
    return Plan(
        frame=frame,
        resized=resized,
        top=_offset(resized[0] - recipe.size[0], from_top),
        left=_offset(resized[1] - recipe.size[1], from_left),
        size=recipe.size,
        flip=flipped(seed, epoch, index, recipe.flip),
        colours=_colours(recipe.jitter, seed, epoch, index),
    )


def apply(
    planned: Plan,
    image_HW3: NDArray[np.uint8],
    depth_HW: NDArray[np.float32],
    mask_HW: NDArray[np.bool_] | None,
    resize_image: ResizeImage,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]:
    """Image, depth and mask of the network's input: hw3, hw and hw.

    depth: any unit, 0 = none. mask: where depth may be used; everywhere if None. It is False in the padding.
    """
    mask = np.ones(depth_HW.shape, np.bool_) if mask_HW is None else mask_HW
    rows, columns = planned.sources()
    inside = (rows >= 0)[:, None] & (columns >= 0)
    depth = np.where(inside, depth_HW[rows[:, None], columns], np.float32(0))
    return _input_image(planned, image_HW3, resize_image), depth, inside & mask[rows[:, None], columns]


def recoloured(image_HW3: NDArray[np.uint8], colours: tuple[tuple[Operation, float], ...]) -> NDArray[np.uint8]:
    """An image after colour changes in their order, rounded to 8 bits once. Nothing changes if there are none."""
    if not colours:
        return image_HW3
    pixels = image_HW3.astype(np.float32)
    pixels /= 255
    for operation, amount in colours:
        pixels = _shift_hue(pixels, amount) if operation == "hue" else _blended(pixels, operation, amount)
    rounded: NDArray[np.uint8] = np.rint(pixels * 255).astype(np.uint8)
    return rounded


def _frame(crop: FrameCrop, source: tuple[int, int], protocol: DepthProtocol, down: float, right: float) -> Box:
    whole = Box(0, 0, *source)
    if crop == "none":
        return whole
    fixed = crop_box(*source, protocol)
    if crop == "fixed":
        return fixed
    top, left = _offset(whole.height - fixed.height, down), _offset(whole.width - fixed.width, right)
    return fixed._replace(top=top, left=left)


def _resized(recipe: Recipe, frame: Box) -> tuple[int, int]:
    """Rounded to the nearest pixel, but exact along the side that decides."""
    height, width = recipe.size
    if recipe.resize == "squash":
        return height, width
    by_height = height * frame.width >= width * frame.height  # scaled to `height`, it covers `width`
    if by_height != (recipe.resize == "shorter"):
        return max(1, (2 * frame.height * width + frame.width) // (2 * frame.width)), width
    return height, max(1, (2 * frame.width * height + frame.height) // (2 * frame.height))


def _offset(spare: int, share: float) -> int:
    """A whole number of 0..spare, each as likely as the others; of spare..0 if it is negative."""
    drawn = int(share * (abs(spare) + 1))
    return drawn if spare >= 0 else -drawn


def _nearest(size: int, start: int, resized: int, first: int, length: int) -> NDArray[np.int64]:
    """Source indices along one axis, by the pixel nearest to each centre, as `data.images.squash_depth`."""
    places = np.arange(start, start + size)
    nearest = first + (2 * places + 1) * length // (2 * resized)
    return np.where((places >= 0) & (places < resized), nearest, -1).astype(np.int64)


def _input_image(planned: Plan, image_HW3: NDArray[np.uint8], resize_image: ResizeImage) -> NDArray[np.uint8]:
    frame = image_HW3[planned.frame.rows, planned.frame.columns]
    resized = frame if frame.shape[:2] == planned.resized else resize_image(frame, planned.resized)
    (y, x), (height, width) = (max(0, -planned.top), max(0, -planned.left)), planned.size
    seen = resized[max(0, planned.top) :, max(0, planned.left) :][: height - y, : width - x]
    image = np.full((height, width, 3), PAD, np.uint8)
    image[y : y + seen.shape[0], x : x + seen.shape[1]] = recoloured(seen, planned.colours)
    return image[:, ::-1].copy() if planned.flip else image  # torch takes no negative strides


def _colours(jitter: Jitter, seed: int, epoch: int, index: int) -> tuple[tuple[Operation, float], ...]:
    drawn = _uniform(_COLOUR, seed, epoch, index, 8)
    names: tuple[Operation, ...] = ("brightness", "contrast", "saturation", "hue")
    found: list[tuple[float, Operation, float]] = []
    for number, name in enumerate(names):
        strength = float(getattr(jitter, name))
        low = -strength if name == "hue" else max(0.0, 1 - strength)
        high = strength if name == "hue" else 1 + strength
        if strength:
            found.append((drawn[4 + number], name, low + (high - low) * drawn[number]))
    return tuple((name, amount) for _, name, amount in sorted(found))


def _uniform(purpose: int, seed: int, epoch: int, index: int, count: int) -> list[float]:
    """Numbers in 0..1, 1 excluded; from raw words, whose stream is fixed for ever (see `data.order`)."""
    words = np.random.SeedSequence([purpose, seed, epoch, index]).generate_state(count, np.uint64)
    return [float(word >> np.uint64(11)) * 2.0**-53 for word in words]


def _blended(pixels: NDArray[np.float32], operation: Operation, factor: float) -> NDArray[np.float32]:
    """Away from black, from the image's mean grey, or from each pixel's grey, by `factor`."""
    grey: NDArray[np.float32] | np.float32 = np.float32(0)
    if operation != "brightness":
        grey = (pixels @ _GREY)[..., None]
        grey = grey.mean(dtype=np.float32) if operation == "contrast" else grey
    blended: NDArray[np.float32] = (np.float32(factor) * pixels + np.float32(1 - factor) * grey).clip(0, 1)
    return blended


def _shift_hue(pixels: NDArray[np.float32], turn: float) -> NDArray[np.float32]:
    """Colours moved along the circle of hues of HSV (Smith 1978); saturation and value stay."""
    high, low = pixels.max(axis=-1), pixels.min(axis=-1)
    chroma = high - low
    red, green, blue = np.moveaxis(pixels, -1, 0)
    safe = np.where(chroma > 0, chroma, np.float32(1))
    sixths = np.where(
        high == red,
        (green - blue) / safe,
        np.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixths = (sixths + np.float32(6 * turn)) % 6
    # each channel is full within one sixth of its own hue and 0 beyond two
    channels = [np.clip(np.abs((sixths - peak + 3) % 6 - 3) - 1, 0, 1) for peak in (0, 2, 4)]
    shifted = high[..., None] - chroma[..., None] * np.stack(channels, axis=-1)
    return np.asarray(shifted.clip(0, 1), np.float32)
