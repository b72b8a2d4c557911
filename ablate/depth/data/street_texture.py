"""Colours of surfaces in a generated street, from coordinates on the surface in metres."""

from __future__ import annotations

from math import floor

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.street_scene import Box, Crown, Road

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

_FACADE_SUNK = 4.0
"""Metres by which facades reach below the road, so that none floats on a slope."""


def _noise_table() -> Float:
    """256x256 tileable noise in 0..1: fine grain plus two smoother octaves."""
    rng = np.random.default_rng(20110926)
    total = np.float32(0.45) * rng.random((256, 256), dtype=np.float32)
    for step, share in ((4, 0.3), (16, 0.25)):
        coarse = np.kron(rng.random((256 // step, 256 // step), dtype=np.float32), np.ones((step, step), np.float32))
        for axis in (0, 1):
            coarse = np.add.reduce([np.roll(coarse, shift, axis) for shift in range(step)]) / np.float32(step)
        total += np.float32(share) * coarse
    return total


_NOISE = _noise_table()


def _noise(u: Float, v: Float) -> Float:
    """Noise in 0..1 at texture coordinates in cells."""
    noise: Float = _NOISE[u.astype(np.int32) & 255, v.astype(np.int32) & 255]
    return noise


def _part(length: Float, period: float) -> Float:
    """How far into its period a length is, 0..1."""
    share = length * np.float32(1 / period)
    part: Float = share - np.floor(share)
    return part


def surface(aside: Float, z: Float, road: Road) -> Float:
    """Colours (N3) of the ground `aside` metres from the centre line."""
    distance = np.abs(aside)
    fade = 10 / (10 + z)
    grain = (_noise(aside * 14 + 4096, z * 14) - np.float32(0.5)) * fade
    patches = _noise(aside * 1.5 + 4096, z * 1.5) - np.float32(0.5)
    grey = np.float32(0.36) + np.float32(0.5) * grain + np.float32(0.18) * patches
    half, kerb = np.float32(road.half_width), np.float32(0.16)
    paint = np.abs(distance - (half - np.float32(0.35))) < np.float32(0.07)
    if road.dashes:
        paint |= (distance < np.float32(0.08)) & (_part(z, road.dashes) < np.float32(0.45))
    if road.zebra:
        paint |= (np.abs(z - np.float32(road.zebra)) < np.float32(1.6)) & (_part(aside, 1.0) < np.float32(0.5))
    paint &= distance < half
    grey[paint] += np.float32(0.42)
    colour = np.repeat(grey[:, None], 3, axis=1)
    walk = distance > half
    tile = np.float32(0.56) + np.float32(0.35) * grain[walk] + np.float32(0.1) * patches[walk]
    joints = (_part(aside[walk], 0.8) < np.float32(0.06)) | (_part(z[walk], 0.8) < np.float32(0.06))
    tile -= np.float32(0.22) * joints * fade[walk]
    tile += np.float32(0.14) * (distance[walk] < half + kerb)
    colour[walk] = tile[:, None] * np.asarray((1.0, 0.97, 0.92), np.float32)
    verge = distance > half + np.float32(road.pavement)
    rough = 1 + np.float32(1.3) * grain[verge] + np.float32(0.6) * patches[verge]
    colour[verge] = rough[:, None] * np.asarray(road.verge, np.float32)
    return colour


def leaves(u: Float, v: Float, crown: Crown) -> Float:
    """Mottle in 0..1 of a tree's crown."""
    shift = np.float32(floor(crown.z * 97) % 251)
    return _noise(u * 60 + shift, v * 60 + shift)


def texture(
    box: Box, number: int, a: Float, b: Float, depth: Float, on_side: Bool, on_top: Bool
) -> tuple[Float, Bool | None]:
    """Colours (N3) of N points on a box, and where they are glass.

    a: metres along the face from its middle; b: metres above the box's bottom; number: makes boxes differ.
    """
    fade: Float = np.float32(12) / (12 + depth)
    grain = 1 + np.float32(0.4) * fade * (_noise(a * 9 + number * 31, b * 9 + number * 17) - np.float32(0.5))
    colour: Float = np.multiply(grain[:, None], np.asarray(box.colour, np.float32), dtype=np.float32)
    match box.material:
        case "facade":
            return colour, _facade(colour, number, a, b, on_top)
        case "body":
            _wheels(colour, box, a, b, on_side)
            return colour, None
        case "van":
            _wheels(colour, box, a, b, on_side)
            return colour, _panes(colour, box, a, b, on_top, 0.58, 0.9)
        case "cabin":
            return colour, _panes(colour, box, a, b, on_top, 0.1, 0.85)
        case "slats":
            colour *= np.where(_part(a, 0.5) < np.float32(0.15), np.float32(0.6), np.float32(1))[:, None]
        case "leaves":
            colour *= (np.float32(0.4) + np.float32(1.2) * _noise(a * 16 + 999, b * 16))[:, None]
        case "person":
            colour[b > 1.45] = (0.72, 0.55, 0.45)
            colour[b < 0.75] *= np.float32(0.45)
    return colour, None


def _facade(colour: Float, number: int, a: Float, b: Float, on_top: Bool) -> Bool:
    """Windows in storeys, a darker ground floor with doors, ledges; returns the panes."""
    storey, bay = 2.9, 1.9 + 0.25 * (number % 5)
    height = b - np.float32(_FACADE_SUNK)
    across, up = _part(a, bay), _part(height, storey)
    column, floor_number = np.floor(a * np.float32(1 / bay)), np.floor(height * np.float32(1 / storey))
    chance = _noise(column * 37 + number * 11, floor_number * 91 + number * 7)
    wall, ground_floor = ~on_top, floor_number < 1
    frame = (np.abs(across - np.float32(0.5)) < 0.26) & (np.abs(up - np.float32(0.54)) < 0.29) & wall
    pane = (np.abs(across - np.float32(0.5)) < 0.21) & (np.abs(up - np.float32(0.54)) < 0.25) & wall
    door = ground_floor & (chance > 0.55) & (np.abs(across - np.float32(0.5)) < 0.28) & (up < 0.74) & wall
    colour[ground_floor & wall] *= np.float32(0.8)
    colour[(up < 0.05) & wall] *= np.float32(1.2)
    colour[frame] = (0.85, 0.84, 0.80)
    glass = np.float32(0.12) + np.float32(0.35) * chance[pane]
    colour[pane] = glass[:, None] * np.asarray((0.8, 0.95, 1.1), np.float32)
    colour[door] = (0.26, 0.19, 0.14)
    colour[on_top] *= np.float32(0.6)
    glass_only: Bool = pane & ~door
    return glass_only


def _wheels(colour: Float, box: Box, a: Float, b: Float, on_side: Bool) -> None:
    """Wheels on the sides; lamps, a plate and a bumper at the ends."""
    axle = np.abs(np.abs(a) - np.float32(0.31 * box.length))
    below = b - np.float32(0.12)
    squared = axle * axle + below * below
    colour[on_side & (squared < 0.33**2)] = (0.05, 0.05, 0.05)
    colour[on_side & (squared < 0.17**2)] = (0.45, 0.45, 0.46)
    end = ~on_side
    colour[end & (b < 0.25)] *= np.float32(0.45)
    edge = np.abs(a) - np.float32(0.5 * box.width)
    colour[end & (edge > -0.32) & (b > 0.42) & (b < 0.62)] = (0.70, 0.08, 0.06)
    colour[end & (np.abs(a) < 0.27) & (b > 0.3) & (b < 0.42)] = (0.90, 0.90, 0.86)


def _panes(colour: Float, box: Box, a: Float, b: Float, on_top: Bool, low: float, high: float) -> Bool:
    """A band of windows between two shares of the height, with pillars; returns the panes."""
    tall = box.bottom - box.top
    pane: Bool = (b > low * tall) & (b < high * tall) & (np.abs(_part(a, 1.3) - np.float32(0.5)) > 0.05) & ~on_top
    colour[pane] = (0.10, 0.12, 0.14)
    return pane
