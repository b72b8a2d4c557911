"""PFM, the format of BlendedMVS's and many stereo sets' depth maps: one channel of 32-bit floats.

A header of three lines (`Pf`, width and height, scale), then rows from the bottom to the top. A negative scale means
little endian; its size says nothing about depth and is not applied. Source: Debevec's PFM description.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.errors import DataError

_HEADER = re.compile(rb"(Pf|PF)\s+([0-9]{1,6})\s+([0-9]{1,6})\s+([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)[ \t\r]*\n")

_MOST_PIXELS = 2**28
"""As many as Pillow takes for a decompression bomb, about."""


def read_pfm(path: Path) -> NDArray[np.float32]:
    """The values of a PFM file of one channel: HW, from the top. Raises DataError for a file that is anything else."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    match = _HEADER.match(content)
    if match is None:
        raise DataError(f"{path}: cannot be decoded: not a PFM file (it starts with {content[:12]!r})")
    if match[1] == b"PF":
        raise DataError(f"{path}: a PFM of three channels instead of one of depth")
    width, height, scale = int(match[2]), int(match[3]), float(match[4])
    if not width or not height or width * height > _MOST_PIXELS:
        raise DataError(f"{path}: cannot be decoded: a PFM of {height}x{width} pixels (height x width)")
    held, needed = len(content) - match.end(), 4 * width * height
    if held != needed:
        raise DataError(f"{path}: cannot be decoded: {held} bytes of pixels instead of {needed} (truncated PFM?)")
    values = np.frombuffer(content, "<f4" if scale < 0 else ">f4", offset=match.end()).reshape(height, width)
    return np.ascontiguousarray(values[::-1], dtype=np.float32)


def pfm_bytes(values_HW: NDArray[np.float32]) -> bytes:
    """A little-endian PFM file of HW values, given from the top."""
    height, width = values_HW.shape
    return f"Pf\n{width} {height}\n-1.0\n".encode() + values_HW[::-1].astype("<f4").tobytes()
