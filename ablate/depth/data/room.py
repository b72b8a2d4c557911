"""A generated room in NYU Depth v2's layout as BTS has it: furnished boxes, 480x640, dense depth in millimetres.

Depth is the same to the bit for everybody; pictures are JPEGs, as NYU's are, and libraries round those differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, sin
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.base import SPLITS
from ablate.depth.data.generated import Layout, Place, Say, make

HEIGHT, WIDTH = 480, 640
FOCAL, CENTRE_X, CENTRE_Y = 518.8579, 325.5824, 253.7362
"""NYU's depth camera, in pixels."""

HOLES = 0.06
"""Share of pixels without depth: the sensor fails at random, and always on the far side of edges."""

Rng = np.random.Generator
Float = NDArray[np.float32]
Colour = tuple[float, float, float]


def make_room(folder: Path, *, frames: Mapping[str, int], seed: int, say: Say) -> None:
    """Writes rooms of `frames["train"]`, `["val"]` and `["test"]` frames; each frame is another room.

    The splits are different scenes. Raises UsageError as `generated.make`.
    """
    make(folder, ROOM, frames=frames, seed=seed, say=say)


@dataclass(frozen=True)
class _Cuboid:
    """Low and high corner (x right, y down, z forward, in metres from the eye), and a colour 0-1."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: Colour


def _place(split: str, drive: int, frame: int) -> Place:
    scene, number = f"room_{drive:04d}", f"{frame:05d}"
    folder = Path("official_splits", "test", scene) if split == "test" else Path("sync", scene)
    image, depth = f"rgb_{number}.jpg", f"sync_depth_{number}.png"
    line = f"/{scene}/{image} /{scene}/{depth} {FOCAL}"
    return Place(split, drive, frame, line, folder / image, folder / depth)


def draw_room(rng: Rng) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """A picture (HW3, RGB) and its depth map (HW, millimetres, 0 = none)."""
    room, things = _furnished(rng)
    x, y, z = _rays(rng.uniform(-0.12, 0.25), rng.uniform(-0.5, 0.5))
    depth, normal = _leave(room, x, y, z)
    colour = np.empty((HEIGHT, WIDTH, 3), np.float32)
    floor, ceiling = (0.45, 0.34, 0.25), (0.9, 0.9, 0.88)
    for axis in range(3):
        colour[normal == axis] = room.colour
    colour[(normal == 1) & (y > 0)] = floor
    colour[(normal == 1) & (y <= 0)] = ceiling
    for thing in things:
        near, side = _enter(thing, x, y, z)
        hit = near < depth
        depth[hit], normal[hit] = near[hit], side[hit]
        colour[hit] = thing.colour
    return _shaded(colour, depth, normal, (x, y, z), rng), _measured(depth, rng)


def _furnished(rng: Rng) -> tuple[_Cuboid, list[_Cuboid]]:
    """The room around the eye, and boxes on its floor, walls and ceiling."""
    wide, long, eye = rng.uniform(2.6, 5.5), rng.uniform(3.0, 8.5), rng.uniform(1.1, 1.7)
    left = -wide * rng.uniform(0.3, 0.7)
    wall: Colour = tuple(rng.uniform(0.55, 0.9, 3))
    room = _Cuboid((left, eye - rng.uniform(2.3, 2.9), -0.6), (left + wide, eye, long), wall)
    things = []
    for _ in range(int(rng.integers(4, 12))):
        across, along, tall = rng.uniform(0.3, 1.6), rng.uniform(0.3, 1.2), rng.uniform(0.35, 1.9)
        x = rng.uniform(left, left + wide - across)
        z = rng.uniform(1.0, max(1.1, long - along))
        colour: Colour = tuple(rng.uniform(0.1, 0.9, 3))
        bottom = eye if rng.random() < 0.8 else eye - rng.uniform(1.0, 1.6)  # a shelf or a lamp
        things.append(_Cuboid((x, bottom - tall, z), (x + across, bottom, z + along), colour))
    return room, things


def _rays(pitch: float, yaw: float) -> tuple[Float, Float, Float]:
    """Directions scaled so that a multiple of them is the depth along the optical axis; pitch: nose down."""
    u = ((np.arange(WIDTH) - CENTRE_X) / FOCAL)[None, :] + np.zeros((HEIGHT, 1))
    v = ((np.arange(HEIGHT) - CENTRE_Y) / FOCAL)[:, None] + np.zeros((1, WIDTH))
    y, z = cos(pitch) * v + sin(pitch), cos(pitch) - sin(pitch) * v
    x, z = cos(yaw) * u + sin(yaw) * z, cos(yaw) * z - sin(yaw) * u
    return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)


def _crossed(box: _Cuboid, rays: tuple[Float, Float, Float]) -> list[tuple[Float, Float]]:
    """Per axis, where rays from the eye cross the nearer and the farther plane."""
    found = []
    for low, high, ray in zip(box.low, box.high, rays, strict=True):
        with np.errstate(divide="ignore"):
            first, second = np.float32(low) / ray, np.float32(high) / ray
        found.append((np.minimum(first, second), np.maximum(first, second)))
    return found


def _leave(room: _Cuboid, x: Float, y: Float, z: Float) -> tuple[Float, NDArray[np.intp]]:
    """Depth (HW) at which rays leave the room, and the axis of the wall that they meet."""
    far = np.stack([second for _, second in _crossed(room, (x, y, z))])
    axis = far.argmin(axis=0)
    depth: Float = np.take_along_axis(far, axis[None], axis=0)[0]
    return depth, axis


def _enter(box: _Cuboid, x: Float, y: Float, z: Float) -> tuple[Float, NDArray[np.intp]]:
    """Depth (HW) at which rays enter a box, inf where they miss it, and the axis of the face that they meet."""
    crossed = _crossed(box, (x, y, z))
    near = np.stack([first for first, _ in crossed])
    axis = near.argmax(axis=0)
    depth = np.take_along_axis(near, axis[None], axis=0)[0]
    leave = np.minimum(np.minimum(crossed[0][1], crossed[1][1]), crossed[2][1])
    seen: Float = np.where((depth < leave) & (depth > np.float32(0.4)), depth, np.float32(np.inf))
    return seen, axis


def _shaded(
    colour: Float, depth: Float, normal: NDArray[np.intp], rays: tuple[Float, Float, Float], rng: Rng
) -> NDArray[np.uint8]:
    """Light from a lamp at the ceiling, stripes along the surfaces, grain."""
    light = np.asarray((0.75, 1.0, 0.85), np.float32)[normal] * (np.float32(3) / (np.float32(2) + depth))
    along = np.where(normal == 0, depth * rays[2], depth * rays[0])
    stripes = np.floor(along * np.float32(4)) % 2
    pixels = colour * (light * (np.float32(0.92) + np.float32(0.08) * stripes))[..., None] * np.float32(200)
    grain = rng.integers(0, 9, (HEIGHT, WIDTH, 1)).astype(np.float32)
    shaded: NDArray[np.uint8] = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return shaded


def _measured(depth: Float, rng: Rng) -> NDArray[np.uint16]:
    """Millimetres, with holes."""
    rounded = np.floor(np.minimum(depth, np.float32(60)) * np.float32(1000) + np.float32(0.5))
    units: NDArray[np.uint16] = rounded.astype(np.uint16)
    edge = np.zeros((HEIGHT, WIDTH), np.bool_)
    edge[:, 1:] = depth[:, 1:] - depth[:, :-1] > np.float32(0.15)
    units[edge | (rng.random((HEIGHT, WIDTH), dtype=np.float32) < np.float32(HOLES))] = 0
    return units


ROOM = Layout("room", {name: f"nyudepthv2_{name}_files_with_gt.txt" for name in SPLITS}, _place, 1, draw_room)
