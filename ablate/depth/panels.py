"""What a report shows of an evaluated image: input, ground truth, prediction, and what the two differ by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ablate.depth.protocol import DepthProtocol
from ablate.evaluated import Layer, Panel, Shades, Subtracted

INPUT, TRUTH, PREDICTION = "input", "ground truth", "prediction"


def shades_of(protocol: DepthProtocol) -> Shades:
    """One scale for all pictures under a protocol, so that a colour means one depth."""
    return Shades(protocol.max_depth / 40, protocol.max_depth, logarithmic=True)


def panel(
    image: str,
    image_HW3: NDArray[np.uint8],
    truth_HW: NDArray[np.float32],
    depth_HW: NDArray[np.floating] | None,
    protocol: DepthProtocol,
) -> Panel:
    """Of one crop. truth_HW: metres, 0 = none; only what lies within the cap is shown. depth_HW: metres, as scored.

    The prediction is clamped to the cap; without one (nothing to align at) that layer is empty.
    """
    low, high = protocol.min_depth, protocol.max_depth
    shown_HW = np.where((truth_HW > low) & (truth_HW < high), truth_HW, np.nan).astype(np.float32)
    clamped_HW = np.full_like(shown_HW, np.nan) if depth_HW is None else np.clip(depth_HW, low, high)
    unit, steps, shades = "m", protocol.units_per_metre, shades_of(protocol)
    layers = (
        Layer(INPUT, "image", image_HW3, fixed=True),
        Layer(TRUTH, "scalar", shown_HW, unit, steps, shades, fixed=True),
        Layer(PREDICTION, "scalar", clamped_HW, unit, steps, shades),
    )
    return Panel(image, layers, Subtracted(PREDICTION, TRUTH, high / 8))
