"""Pixels of one file, decoded completely or refused with the file's name: colour images and 16-bit depth maps."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ablate.depth.data.base import Frame
from ablate.errors import DataError

METRES_PER_UNIT = 1 / 256
"""KITTI's depth PNGs hold metres x 256; 0 means that there is no measurement."""

FLOORED = "8-bit depth became floor(metres): use KITTI's data_depth_annotated files unconverted"
"""What 8 bits make of KITTI's depth maps: a reader that drops the lower byte of metres x 256 leaves whole metres."""

_PNG = b"\x89PNG\r\n\x1a\n"
_COLOUR_MODES = ("RGB", "RGBA", "L", "P")
_EIGHT_BITS = (*_COLOUR_MODES, "1", "LA")

Number = TypeVar("Number", np.uint16, np.float32)


def load_image(path: Path) -> NDArray[np.uint8]:
    """The pixels of an image file: HW3, RGB, 8 bits. Raises DataError, naming the file and what is wrong with it."""
    image = _decoded(path)
    if image.mode not in _COLOUR_MODES:
        raise DataError(f"{path}: not an 8-bit colour image (Pillow mode {image.mode}); KITTI's are 8-bit RGB")
    return np.asarray(image.convert("RGB"))


def load_depth(path: Path) -> NDArray[np.float32]:
    """The depth map of a 16-bit PNG: HW, metres, 0 where nothing was measured. Raises DataError as `load_raw_depth`."""
    return load_raw_depth(path).astype(np.float32) * np.float32(METRES_PER_UNIT)


def load_raw_depth(path: Path, unit: str = "metres x 256", lost: str = FLOORED) -> NDArray[np.uint16]:
    """The stored values of a 16-bit PNG: HW, metres x 256. Raises DataError if it is damaged or anything else.

    unit, lost: what the values are, and what becomes of them in 8 bits, for the message.
    """
    image = _decoded(path)
    if image.format != "PNG" or image.mode != "I;16":
        raise DataError(f"{path}: {_described(image)} instead of a 16-bit single-channel PNG of {unit}; {lost}")
    return np.asarray(image)


def load_mask(path: Path) -> NDArray[np.bool_]:
    """Where a mask image lets pixels through: HW, by its first channel; 8-bit values above 127, 1-bit ones that are set.

    Raises DataError if it is damaged or no 8-bit image.
    """
    image = _decoded(path)
    if image.mode not in _EIGHT_BITS:
        raise DataError(f"{path}: {_described(image)} instead of an 8-bit mask")
    return np.asarray(image.convert("L")) > 127


def load_grey(path: Path) -> NDArray[np.uint8]:
    """The values of an 8-bit image of one channel, or of three that are the same: HW. Raises DataError."""
    image = _decoded(path)
    if image.mode not in ("L", "RGB", "P"):
        raise DataError(f"{path}: {_described(image)} instead of 8 bits in one channel")
    if image.mode == "L":
        return np.asarray(image)
    pixels = np.asarray(image.convert("RGB"))
    if (pixels != pixels[..., :1]).any():
        raise DataError(f"{path}: a colour image instead of one channel of values")
    return pixels[..., 0]


def load_values(path: Path) -> NDArray[np.float32]:
    """The values of a PNG of one channel, of 8 or 16 bits: HW. Raises DataError if it is damaged or anything else."""
    image = _decoded(path)
    if image.format != "PNG" or image.mode not in ("L", "I;16"):
        raise DataError(f"{path}: {_described(image)} instead of a PNG of 8 or 16 bits in one channel")
    return np.asarray(image).astype(np.float32)


def masked(values_HW: NDArray[np.float32], mask_HW: NDArray[np.bool_], frame: Frame) -> NDArray[np.float32]:
    """The values, 0 where the mask lets nothing through. Raises DataError if the sizes differ."""
    if values_HW.shape != mask_HW.shape:
        raise DataError(
            f"{frame.mask} is {mask_HW.shape}, but {frame.depth} is {values_HW.shape} (height, width): a mask must have "
            "the size of its depth map"
        )
    return np.where(mask_HW, values_HW, np.float32(0))


def stored_bits(path: Path) -> int | None:
    """Bits per value that an image file stores, read from its header; None if it is no PNG or JPEG.

    Raises DataError if it cannot be read.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return 8 if image.mode in _EIGHT_BITS else 16 if "16" in image.mode else 32
    except UnidentifiedImageError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged headers, as `_decoded`
        raise DataError(f"{path}: cannot be decoded: {_reason(error)}") from error


def squash_depth(depth_HW: NDArray[Number], size: tuple[int, int]) -> NDArray[Number]:
    """A depth map resized to `size` by the pixel nearest to each new pixel's centre.

    OpenCV's INTER_NEAREST takes the pixel nearest to the corner instead, half a pixel off the image that was resized
    around centres: on the road at 40 m that is a bias of some per cent.
    """
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, depth_HW.shape, strict=True))
    squashed: NDArray[Number] = depth_HW[rows[:, None], columns]
    return squashed


def _described(image: Image.Image) -> str:
    bits = "16 bits" if "16" in image.mode else "8 bits or fewer" if image.mode in _EIGHT_BITS else "?"
    channels = len(image.getbands())
    return f"a {image.format} of {bits} with {channels} channel{'s' if channels > 1 else ''} (Pillow mode {image.mode})"


def _decoded(path: Path) -> Image.Image:
    """The file's image with all its pixels in memory. Raises DataError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not content:
        raise DataError(f"{path}: empty file (0 bytes)")
    try:
        if content.startswith(_PNG):
            _verify_png(content)
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 2**31):
            raise Image.DecompressionBombError(f"{image.width * image.height:,} pixels")
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: refused as a decompression bomb: {error}") from None
    except Exception as error:  # Pillow's decoders raise anything from SyntaxError to struct.error on damaged files
        raise DataError(f"{path}: cannot be decoded: {_reason(error)}") from error
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "neither PNG nor JPEG"
    return str(error) or type(error).__name__


def _verify_png(content: bytes) -> None:
    """Checks what Pillow skips: the checksum of every chunk and that the file ends with IEND. Raises ValueError."""
    place = len(_PNG)
    while True:
        if place + 12 > len(content):
            raise ValueError("truncated PNG")
        (length,) = struct.unpack_from(">I", content, place)
        end = place + 12 + length
        if end > len(content):
            raise ValueError("truncated PNG")
        kind = content[place + 4 : place + 8]
        if zlib.crc32(memoryview(content)[place + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise ValueError(f"wrong checksum in PNG chunk {kind!r}")
        if kind == b"IEND":
            return
        place = end
