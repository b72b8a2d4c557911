"""What stands in a generated street: a random layout in metres, before any pixel.

World: x to the right, y down with the road at the camera's foot at 0 (so heights are negative), z forward. The
camera stands at (0, -height, 0). A road bends (`curvature`) and rises or falls from some distance on, so that the
depth of a pixel cannot be told from its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan, cos, sin

import numpy as np

Rng = np.random.Generator
Colour = tuple[float, float, float]
"""Red, green, blue, 0-1."""

FAR = 95.0
"""Metres to which streets are built; depth is measured up to 85."""

_FACADES: tuple[Colour, ...] = (
    (0.78, 0.70, 0.56),
    (0.72, 0.43, 0.32),
    (0.62, 0.60, 0.58),
    (0.80, 0.77, 0.70),
    (0.56, 0.36, 0.28),
    (0.66, 0.68, 0.55),
    (0.50, 0.56, 0.62),
)
_PAINTS: tuple[Colour, ...] = (
    (0.75, 0.76, 0.78),
    (0.13, 0.14, 0.16),
    (0.60, 0.10, 0.09),
    (0.14, 0.24, 0.50),
    (0.86, 0.86, 0.84),
    (0.35, 0.37, 0.39),
    (0.16, 0.36, 0.24),
    (0.72, 0.56, 0.16),
)
_VEHICLES = (
    (0.68, 1.75, 4.2, 1.45, "car"),
    (0.20, 1.95, 5.0, 2.2, "van"),
    (0.12, 2.5, 8.5, 3.3, "van"),
)
"""Share, width, length, height in metres, material."""


@dataclass(frozen=True)
class Camera:
    """`height` in metres above the road; angles in radians (nose up, turned right, leaning right)."""

    height: float
    pitch: float
    yaw: float
    roll: float


@dataclass(frozen=True)
class Road:
    """Centre line x = offset + curvature z² / 2; flat up to `crest`, then rising by `slope` metres per metre."""

    half_width: float
    pavement: float
    offset: float
    curvature: float
    slope: float
    crest: float
    verge: Colour
    dashes: float
    zebra: float

    def centre(self, z: float) -> float:
        return self.offset + 0.5 * self.curvature * z * z

    def ground(self, z: float) -> float:
        """y of the road surface at z."""
        return -self.slope * max(0.0, z - self.crest)


@dataclass(frozen=True)
class Box:
    """A cuboid turned by `yaw`: centre (x, z), from `bottom` up to `top` (y, so top < bottom), `material` names its
    texture."""

    x: float
    z: float
    bottom: float
    top: float
    width: float
    length: float
    yaw: float
    colour: Colour
    material: str

    def corners(self) -> list[tuple[float, float]]:
        """(x, z) of the four corners, going round."""
        across, along = 0.5 * self.width, 0.5 * self.length
        return [
            (self.x + cos(self.yaw) * a + sin(self.yaw) * b, self.z - sin(self.yaw) * a + cos(self.yaw) * b)
            for a, b in ((-across, -along), (across, -along), (across, along), (-across, along))
        ]


@dataclass(frozen=True)
class Crown:
    """The leaves of a tree: an ellipsoid with two horizontal radii `radius` and a vertical one `rise`."""

    x: float
    y: float
    z: float
    radius: float
    rise: float
    colour: Colour

    def corners(self) -> list[tuple[float, float]]:
        """(x, z) of a square around it, going round."""
        return [(self.x + a * self.radius, self.z + b * self.radius) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


@dataclass(frozen=True)
class Weather:
    """`sun` points towards the sun; `haze` is the distance in metres at which half of a colour is air."""

    sun: tuple[float, float, float]
    ambient: float
    haze: float
    air: Colour
    zenith: Colour
    clouds: float
    exposure: float


@dataclass(frozen=True)
class Scene:
    camera: Camera
    road: Road
    weather: Weather
    boxes: tuple[Box, ...]
    crowns: tuple[Crown, ...]


def random_scene(rng: Rng) -> Scene:
    """A street drawn from `rng` alone."""
    camera = Camera(
        height=1.65 + rng.uniform(-0.12, 0.12),
        pitch=float(np.clip(rng.normal(0, 0.016), -0.035, 0.035)),
        yaw=rng.uniform(-0.05, 0.05),
        roll=float(np.clip(rng.normal(0, 0.012), -0.03, 0.03)),
    )
    road = _road(rng)
    boxes: list[Box] = []
    crowns: list[Crown] = []
    for side in (-1, 1):
        edge = road.half_width + road.pavement
        open_side = rng.random() < 0.3
        setback = rng.uniform(6, 14) if open_side else rng.uniform(0, 4)
        boxes += _buildings(rng, road, side, edge + setback, gap=0.5 if open_side else 0.15)
        crowns_here, trunks = _trees(rng, road, side, edge, rng.uniform(6, 12) if open_side else rng.uniform(10, 40))
        crowns += crowns_here
        boxes += trunks + _poles(rng, road, side) + _parked(rng, road, side)
        if open_side and rng.random() < 0.6:
            boxes += _hedge(rng, road, side, edge + rng.uniform(0.3, 2))
    boxes += _traffic(rng, road) + _end(rng, road)
    return Scene(camera, road, _weather(rng), tuple(boxes), tuple(crowns))


def _road(rng: Rng) -> Road:
    half_width = rng.uniform(2.8, 6.0)
    return Road(
        half_width=half_width,
        pavement=rng.uniform(1.2, 3.5),
        offset=rng.uniform(-0.45, 0.45) * half_width,
        curvature=float(rng.choice([0.0, 1.0])) * rng.uniform(-0.011, 0.011),
        slope=rng.uniform(-0.05, 0.07),
        crest=rng.uniform(8, 40),
        verge=_tinted(rng, (0.34, 0.40, 0.20), 0.08),
        dashes=rng.uniform(4, 9) if rng.random() < 0.75 else 0.0,
        zebra=rng.uniform(6, 30) if rng.random() < 0.3 else 0.0,
    )


def _weather(rng: Rng) -> Weather:
    sun = np.array([rng.uniform(-1, 1), -rng.uniform(0.5, 1.2), rng.uniform(-1, 0.6)])
    sun /= np.sqrt((sun**2).sum())
    grey = rng.uniform(0.72, 0.86)
    return Weather(
        sun=(float(sun[0]), float(sun[1]), float(sun[2])),
        ambient=rng.uniform(0.45, 0.7),
        haze=rng.uniform(50, 75),
        air=(grey * 0.97, grey, grey * 1.03),
        zenith=_tinted(rng, (0.36, 0.55, 0.85), 0.08),
        clouds=rng.uniform(0, 1),
        exposure=rng.uniform(0.85, 1.12),
    )


def _tinted(rng: Rng, colour: Colour, by: float) -> Colour:
    red, green, blue = (float(np.clip(channel + rng.uniform(-by, by), 0, 1)) for channel in colour)
    return red, green, blue


def _pick(rng: Rng, colours: tuple[Colour, ...]) -> Colour:
    return _tinted(rng, colours[int(rng.integers(len(colours)))], 0.06)


def _along(road: Road, z: float, sideways: float) -> tuple[float, float]:
    """x of a point `sideways` metres right of the centre line at z, and the yaw of the road there."""
    return road.centre(z) + sideways, atan(road.curvature * z)


def _buildings(rng: Rng, road: Road, side: int, distance: float, gap: float) -> list[Box]:
    boxes: list[Box] = []
    z = rng.uniform(-6, 2)
    while z < FAR:
        length = rng.uniform(6, 18)
        if rng.random() < gap:
            z += rng.uniform(3, 10)
        middle, depth = z + length / 2, 9.0
        x, yaw = _along(road, middle, side * (distance + rng.uniform(0, 1.5) + depth / 2))
        ground, tall = road.ground(middle), rng.uniform(4, 17)
        boxes.append(Box(x, middle, ground + 4, ground - tall, depth, length, yaw, _pick(rng, _FACADES), "facade"))
        z += length
    return boxes


def _trees(rng: Rng, road: Road, side: int, edge: float, spacing: float) -> tuple[list[Crown], list[Box]]:
    crowns: list[Crown] = []
    trunks: list[Box] = []
    z = rng.uniform(5, 5 + spacing)
    while z < 70:
        x, yaw = _along(road, z, side * (edge - 0.6 + rng.uniform(0, 2)))
        ground, radius, stem = road.ground(z), rng.uniform(1.2, 2.6), rng.uniform(2.2, 3.2)
        rise = radius * rng.uniform(0.9, 1.5)
        green = _tinted(rng, (0.22, 0.36, 0.13), 0.07)
        crowns.append(Crown(x, ground - stem - 0.75 * rise, z, radius, rise, green))
        thick = rng.uniform(0.2, 0.45)
        brown = _tinted(rng, (0.30, 0.23, 0.17), 0.04)
        trunks.append(Box(x, z, ground + 1, ground - stem - 0.3 * rise, thick, thick, yaw, brown, "plain"))
        z += spacing * rng.uniform(0.6, 1.6)
    return crowns, trunks


def _poles(rng: Rng, road: Road, side: int) -> list[Box]:
    boxes: list[Box] = []
    z = rng.uniform(6, 30)
    while z < 70 and rng.random() < 0.8:
        x, yaw = _along(road, z, side * (road.half_width + 0.4))
        ground, tall = road.ground(z), rng.uniform(2.5, 7)
        boxes.append(Box(x, z, ground + 1, ground - tall, 0.14, 0.14, yaw, (0.42, 0.43, 0.44), "plain"))
        if tall < 3.6:  # a traffic sign
            face = _tinted(rng, (0.75, 0.2, 0.18), 0.2)
            boxes.append(Box(x, z - 0.1, ground - tall + 0.7, ground - tall, 0.7, 0.05, yaw, face, "plain"))
        z += rng.uniform(10, 30)
    return boxes


def _hedge(rng: Rng, road: Road, side: int, distance: float) -> list[Box]:
    tall, green = rng.uniform(0.7, 2.0), _tinted(rng, (0.24, 0.36, 0.15), 0.06)
    material = "leaves" if rng.random() < 0.6 else "slats"
    boxes: list[Box] = []
    for z in np.arange(4.0, 80.0, 8.0):
        x, yaw = _along(road, z, side * distance)
        ground = road.ground(z)
        boxes.append(Box(x, float(z), ground + 1.5, ground - tall, 0.5, 8.2, yaw, green, material))
    return boxes


def _vehicle(rng: Rng, road: Road, z: float, sideways: float) -> list[Box]:
    """A shadow, a body and, on a car, a cabin."""
    choice = int(np.searchsorted(np.cumsum([share for share, *_ in _VEHICLES]), rng.random()))
    _, width, length, tall, material = _VEHICLES[min(choice, len(_VEHICLES) - 1)]
    width, length, tall = (size * rng.uniform(0.92, 1.1) for size in (width, length, tall))
    middle = z + length / 2
    x, yaw = _along(road, middle, sideways)
    yaw += rng.uniform(-0.05, 0.05)
    ground, paint = road.ground(middle), _pick(rng, _PAINTS)
    waist = 0.56 * tall if material == "car" else tall
    boxes = [
        Box(x, middle, ground, ground - 0.03, width + 0.5, length + 0.5, yaw, (0.05, 0.05, 0.06), "plain"),
        Box(
            x, middle, ground - 0.12, ground - waist, width, length, yaw, paint, "body" if material == "car" else "van"
        ),
    ]
    if material == "car":
        boxes.append(
            Box(x, middle + 0.1, ground - waist, ground - tall, 0.88 * width, 0.56 * length, yaw, paint, "cabin")
        )
    return boxes


def _parked(rng: Rng, road: Road, side: int) -> list[Box]:
    boxes: list[Box] = []
    if rng.random() < 0.25:
        return boxes
    crowded = rng.uniform(0.2, 0.9)
    z = rng.uniform(3, 9)
    while z < 65:
        if rng.random() < crowded:
            boxes += _vehicle(rng, road, z, side * (road.half_width - rng.uniform(0.6, 1.1)))
        z += rng.uniform(5.6, 10.5)
    return boxes


def _traffic(rng: Rng, road: Road) -> list[Box]:
    """Vehicles and people on the road: often one right ahead, at any distance."""
    boxes: list[Box] = []
    if rng.random() < 0.6:
        z = float(5 + min(rng.exponential(14), 60))
        boxes += _vehicle(rng, road, z, -road.offset + rng.uniform(-0.8, 0.8))
    for _ in range(int(rng.integers(0, 3))):
        boxes += _vehicle(rng, road, rng.uniform(8, 70), rng.uniform(-0.6, 0.6) * road.half_width)
    for _ in range(int(rng.integers(0, 4))):
        z = rng.uniform(5, 35)
        x, yaw = _along(road, z, rng.uniform(-1.2, 1.2) * (road.half_width + 1))
        ground, tall = road.ground(z), rng.uniform(1.5, 1.9)
        boxes.append(Box(x, z, ground, ground - tall, 0.5, 0.4, yaw, _pick(rng, _PAINTS), "person"))
    return boxes


def _end(rng: Rng, road: Road) -> list[Box]:
    """What closes the street, if anything: a house across, a wall, or a bridge."""
    kind = rng.random()
    z = rng.uniform(16, 75)
    x, yaw = _along(road, z, 0.0)
    ground, yaw = road.ground(z), yaw + rng.uniform(-0.2, 0.2)
    if kind < 0.45:
        tall = rng.uniform(4, 15)
        return [Box(x, z, ground + 4, ground - tall, 70.0, 8.0, yaw, _pick(rng, _FACADES), "facade")]
    if kind < 0.6:
        tall = rng.uniform(1.5, 4)
        return [Box(x, z, ground + 4, ground - tall, 70.0, 0.6, yaw, _tinted(rng, (0.5, 0.42, 0.36), 0.1), "slats")]
    if kind < 0.7:
        return [Box(x, z, ground - 4.6, ground - 6.2, 70.0, 7.0, yaw, _tinted(rng, (0.55, 0.55, 0.53), 0.06), "plain")]
    return []
