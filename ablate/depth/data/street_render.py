"""Pixels and depth of a generated street, by casting one ray per pixel at planes, boxes and ellipsoids.

Per pixel only +, -, x, /, square roots and table look-ups are used, which IEEE 754 fixes to the bit, so that other
processors give the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ablate.depth.data.street_scene import Box, Camera, Crown, Rng, Road, Scene
from ablate.depth.data.street_texture import Float, leaves, surface, texture

HEIGHT, WIDTH = 375, 1242
FOCAL, CENTRE_X, CENTRE_Y = 721.5, 609.6, 172.9
"""KITTI's camera 2, in pixels."""

MAX_RANGE = 85.0
DENSITY = 0.19
"""Share of pixels that have depth, as in KITTI's annotated maps."""

_TOP_BEAM = 118
"""No laser looks higher than this row."""

Window = tuple[slice, slice]
Point = tuple[float, float]


class Canvas:
    """Colour (HW3, 0-1), depth along the optical axis (HW, metres, inf = sky) and the rays of a camera."""

    def __init__(self, scene: Scene) -> None:
        self.camera, self.weather = scene.camera, scene.weather
        self.x, self.y, self.z = _rays(scene.camera)
        self.depth: Float = np.full((HEIGHT, WIDTH), np.inf, np.float32)
        self.colour: Float = np.empty((HEIGHT, WIDTH, 3), np.float32)
        self.matt = np.ones((HEIGHT, WIDTH), np.bool_)
        """False on glass, which gives a laser no echo."""

    def paint(self, window: Window, hit: NDArray[np.bool_], depth: Float, colour: Float) -> None:
        """Puts N pixels (colour N3, depth N) where `hit` (a mask over the window) is set, seen through haze."""
        air = depth / (depth + np.float32(self.weather.haze))
        colour += air[:, None] * (np.asarray(self.weather.air, np.float32) - colour)
        self.colour[window][hit] = colour
        self.depth[window][hit] = depth

    def light(self, x: Any, y: Any, z: Any) -> Any:
        """Brightness of a surface with that normal."""
        sun = self.weather.sun
        facing = np.maximum(np.float32(0), x * np.float32(sun[0]) + y * np.float32(sun[1]) + z * np.float32(sun[2]))
        ambient = np.float32(self.weather.ambient)
        return ambient + (np.float32(1.15) - ambient) * facing


def render(scene: Scene, rng: Rng) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """The picture (HW3, RGB) and its sparse depth map (HW, metres x 256, 0 = none)."""
    canvas = Canvas(scene)
    things: list[Box | Crown] = sorted([*scene.boxes, *scene.crowns], key=lambda thing: thing.z)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ground = _ground_depth(canvas, scene.road)
        canvas.depth[:] = ground
        for number, thing in enumerate(things):  # front to back, so that hidden pixels are not shaded
            if isinstance(thing, Crown):
                _crown(canvas, thing)
            else:
                _box(canvas, thing, number)
        _ground(canvas, scene.road, (canvas.depth == ground) & (ground < np.inf))
    _sky(canvas, rng)
    return _exposed(canvas, rng), _lidar(canvas, rng)


def _rays(camera: Camera) -> tuple[Float, Float, Float]:
    """Directions in the world, scaled so that a multiple of them is the depth along the optical axis."""
    u = ((np.arange(WIDTH) - CENTRE_X) / FOCAL)[None, :]
    v = ((np.arange(HEIGHT) - CENTRE_Y) / FOCAL)[:, None]
    x, y = cos(camera.roll) * u - sin(camera.roll) * v, sin(camera.roll) * u + cos(camera.roll) * v
    y, z = cos(camera.pitch) * y - sin(camera.pitch), sin(camera.pitch) * y + cos(camera.pitch)
    x, z = cos(camera.yaw) * x + sin(camera.yaw) * z, cos(camera.yaw) * z - sin(camera.yaw) * x
    return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)


def _sky(canvas: Canvas, rng: Rng) -> None:
    weather = canvas.weather
    blobs = Image.fromarray(rng.random((9, 24), dtype=np.float32)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    open_sky = canvas.depth == np.inf
    up = np.clip(canvas.y[open_sky] * np.float32(-3.2), 0, 1)[:, None]
    clouds = np.clip((np.asarray(blobs)[open_sky] - np.float32(0.75 - 0.45 * weather.clouds)) * 3, 0, 0.9)[:, None]
    air, zenith = np.asarray(weather.air, np.float32), np.asarray(weather.zenith, np.float32)
    sky = air + up * (zenith - air)
    canvas.colour[open_sky] = sky + clouds * up * (np.float32(0.95) - sky)


def _ground_depth(canvas: Canvas, road: Road) -> Float:
    """Depth (HW) of a plane that bends up or down at the crest; inf where it is not."""
    eye, slope, crest = np.float32(canvas.camera.height), np.float32(road.slope), np.float32(road.crest)
    near = eye / canvas.y
    beyond = (eye + slope * crest) / (canvas.y + slope * canvas.z)
    flat = (canvas.y > 0) & (near * canvas.z <= crest)
    far = (beyond > 0) & (beyond * canvas.z > crest) & (beyond < 400)
    depth: Float = np.where(flat, near, np.where(far, beyond, np.float32(np.inf)))
    return depth


def _ground(canvas: Canvas, road: Road, hit: NDArray[np.bool_]) -> None:
    """Road, markings, pavement and verge."""
    depth = canvas.depth[hit]
    x, z = depth * canvas.x[hit], depth * canvas.z[hit]
    aside = x - np.float32(road.offset) - np.float32(0.5 * road.curvature) * z * z
    colour = surface(aside, z, road)
    colour *= canvas.light(0, -1, 0)
    canvas.paint((slice(0, HEIGHT), slice(0, WIDTH)), hit, depth, colour)


def _window(canvas: Canvas, corners: Sequence[Point], top: float, bottom: float) -> Window | None:
    """The part of the picture that can show a prism over convex `corners` (x, z); None if none of it can be seen."""
    camera = canvas.camera
    turned = [
        (cos(camera.yaw) * x - sin(camera.yaw) * z, sin(camera.yaw) * x + cos(camera.yaw) * z) for x, z in corners
    ]
    points = [_projected(camera, x, y + camera.height, z) for x, z in _in_front(turned) for y in (top, bottom)]
    if not points:
        return None
    columns, rows = [u for u, _ in points], [v for _, v in points]
    left, right = max(0, int(min(columns)) - 1), min(WIDTH, int(max(columns)) + 2)
    upper, lower = max(0, int(min(rows)) - 1), min(HEIGHT, int(max(rows)) + 2)
    return (slice(upper, lower), slice(left, right)) if left < right and upper < lower else None


def _in_front(corners: Sequence[Point]) -> list[Point]:
    """A convex polygon cut off at z = 1, in front of the camera."""
    kept: list[Point] = []
    for (x0, z0), (x1, z1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if z0 >= 1:
            kept.append((x0, z0))
        if (z0 >= 1) != (z1 >= 1):
            kept.append((x0 + (x1 - x0) * (1 - z0) / (z1 - z0), 1.0))
    return kept


def _projected(camera: Camera, x: float, y: float, z: float) -> Point:
    """Column and row of a point relative to the eye, the yaw being undone already: the rest of `_rays` undone."""
    y, z = cos(camera.pitch) * y + sin(camera.pitch) * z, cos(camera.pitch) * z - sin(camera.pitch) * y
    x, y = cos(camera.roll) * x + sin(camera.roll) * y, cos(camera.roll) * y - sin(camera.roll) * x
    z = max(z, 0.3)
    return FOCAL * x / z + CENTRE_X, FOCAL * y / z + CENTRE_Y


def _box(canvas: Canvas, box: Box, number: int) -> None:
    window = _window(canvas, box.corners(), box.top, box.bottom)
    if window is None:
        return
    turn, lean = np.float32(cos(box.yaw)), np.float32(sin(box.yaw))
    ray_x, ray_z = canvas.x[window], canvas.z[window]
    across, along, down = turn * ray_x - lean * ray_z, lean * ray_x + turn * ray_z, canvas.y[window]
    eye_across = np.float32(-cos(box.yaw) * box.x + sin(box.yaw) * box.z)
    eye_along = np.float32(-sin(box.yaw) * box.x - cos(box.yaw) * box.z)
    eye_down = np.float32(-canvas.camera.height)
    half_width, half_length = np.float32(box.width / 2), np.float32(box.length / 2)
    enter_x, leave_x = _slab(-half_width - eye_across, half_width - eye_across, across)
    enter_z, leave_z = _slab(-half_length - eye_along, half_length - eye_along, along)
    enter_y, leave_y = _slab(np.float32(box.top) - eye_down, np.float32(box.bottom) - eye_down, down)
    depth = np.maximum(np.maximum(enter_x, enter_z), enter_y)
    hit = (depth < np.minimum(np.minimum(leave_x, leave_z), leave_y)) & (depth > 0.3) & (depth < canvas.depth[window])
    if not hit.any():
        return
    depth = depth[hit]
    on_side, on_top = depth == enter_x[hit], depth == enter_y[hit]
    a = np.where(on_side, eye_along + depth * along[hit], eye_across + depth * across[hit])
    b = np.float32(box.bottom) - (eye_down + depth * down[hit])
    sign = np.float32(1 if eye_across > 0 else -1)
    facing_side = canvas.light(sign * turn, 0, -sign * lean)
    facing_front = canvas.light(-lean, 0, -turn)
    light = np.where(on_top, canvas.light(0, -1, 0), np.where(on_side, facing_side, facing_front))
    colour, glass = texture(box, number, a, b, depth, on_side, on_top)
    colour *= light[:, None]
    canvas.paint(window, hit, depth, colour)
    if glass is not None:
        canvas.matt[window][hit] = ~glass


def _slab(low: np.float32, high: np.float32, ray: Float) -> tuple[Float, Float]:
    """Where rays enter and leave the space between two parallel planes."""
    inverse = 1 / ray
    first, second = low * inverse, high * inverse
    return np.minimum(first, second), np.maximum(first, second)


def _crown(canvas: Canvas, crown: Crown) -> None:
    window = _window(canvas, crown.corners(), crown.y - crown.rise, crown.y + crown.rise)
    if window is None:
        return
    squeeze = np.float32(crown.radius / crown.rise)  # makes the ellipsoid a ball
    ray_x, ray_y, ray_z = canvas.x[window], canvas.y[window] * squeeze, canvas.z[window]
    eye = np.asarray((-crown.x, -(crown.y + canvas.camera.height) * squeeze, -crown.z), np.float32)
    square = ray_x * ray_x + ray_y * ray_y + ray_z * ray_z
    middle = eye[0] * ray_x + eye[1] * ray_y + eye[2] * ray_z
    rest = (eye * eye).sum() - np.float32(crown.radius) ** 2
    inside = middle * middle - square * rest
    depth = (-middle - np.sqrt(np.maximum(inside, 0))) / square
    hit = (inside > 0) & (depth > 0.3) & (depth < canvas.depth[window])
    # Leaves: ragged at the rim, where the ray leaves again soon.
    ragged = leaves(ray_x, ray_y, crown) * np.float32(0.45 * crown.radius**2)
    hit &= inside > ragged * square
    if not hit.any():
        return
    depth = depth[hit]
    normal_x, normal_y, normal_z = (
        (eye[axis] + depth * ray[hit]) / np.float32(crown.radius) for axis, ray in enumerate((ray_x, ray_y, ray_z))
    )
    light = canvas.light(normal_x, normal_y, normal_z)
    light *= np.float32(0.55) + np.float32(0.9) * leaves(normal_x, normal_y, crown)
    canvas.paint(window, hit, depth, light[:, None] * np.asarray(crown.colour, np.float32))


def _exposed(canvas: Canvas, rng: Rng) -> NDArray[np.uint8]:
    grain = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    levels = canvas.colour * np.float32(255 * canvas.weather.exposure)
    levels += (grain.astype(np.float32) * np.float32(5 / 255) - 2)[..., None]
    pixels: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
    return pixels


def _lidar(canvas: Canvas, rng: Rng) -> NDArray[np.uint16]:
    """About 19 % of all pixels, in the lines that scans leave; none in the sky, on glass or beyond 85 m."""
    rows, columns = np.arange(HEIGHT, dtype=np.float32)[:, None], np.arange(WIDTH, dtype=np.float32)[None, :]
    tilt = rows + columns * np.float32(0.017) + (columns - 621) ** 2 * np.float32(2e-5)
    line = tilt / 3 - np.floor(tilt / 3)
    wanted = np.where(line < 0.45, np.float32(1), np.float32(0.22))
    wanted *= (canvas.depth < MAX_RANGE) & canvas.matt & (rows >= _TOP_BEAM)
    wanted *= np.float32(DENSITY * HEIGHT * WIDTH) / np.maximum(wanted.sum(dtype=np.float64), 1).astype(np.float32)
    kept = rng.random((HEIGHT, WIDTH), dtype=np.float32) < wanted
    units = np.zeros((HEIGHT, WIDTH), np.uint16)
    units[kept] = np.floor(canvas.depth[kept] * np.float32(256) + np.float32(0.5)).astype(np.uint16)
    return units
