"""Any other data set: a table that names an image and a depth map per row.

root/[split/]{train,val,test}.csv, or .parquet, with the columns

image   a PNG or JPEG, relative to root
depth   a PNG of 8 or 16 bits, a PFM, or an array of NumPy (.npy, HW); empty: the image has no depth
mask    an 8-bit PNG of the depth map's size, 0 where depth must not be used; may be left out or empty
kind    `metric`: value x scale is metres; `inverse`: value x scale is 1/metres; `disparity`: inverse depth up to an
        unknown scale and shift (stereo, flow, other networks), which only losses without a unit can use.
        `metric` if left out
scale   1 if left out; of no account for `disparity`
drive   the drive, scene or sequence, for `data.holdout: drives`; may be left out

0, and whatever is not finite, means that there is no depth. A mask makes 0 disparity count: it is the farthest there is.
A row's image, depth, mask, kind and scale decide the run id; other columns are ignored.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.base import SPLITS, Dataset, Frame, Split, SplitName, folder_names, no_repeats
from ablate.depth.data.images import load_mask, load_values, masked
from ablate.depth.data.pfm import read_pfm
from ablate.depth.protocol import DepthProtocol
from ablate.errors import DataError

__all__ = ["PAIRS", "Pairs"]

KINDS = ("metric", "inverse", "disparity")

_EXAMPLE = "image,depth,mask,kind,scale / images/0001.jpg,depth/0001.png,,metric,0.001"

_GAP = 1 / 256
"""Of the range of a disparity map: how far its lowest value is put above 0, which stands for none."""

PROTOCOL = DepthProtocol(name="pairs", max_depth=80.0, scale=0.00006016, shift=0.00579, units_per_metre=256)
"""Whole frames, depth between 0.001 and 80 m, no mask; the head's scale and shift are KITTI's."""


class _Row(NamedTuple):
    image: str
    depth: str | None
    mask: str | None
    kind: Literal["metric", "inverse", "disparity"]
    scale: float
    drive: str | None

    @property
    def line(self) -> str:
        return "\t".join([self.image, self.depth or "", self.mask or "", self.kind, repr(self.scale)])


class Pairs(Dataset):
    """Images and depth maps by a table; see above."""

    name: ClassVar[str] = "pairs"
    protocol: ClassVar[DepthProtocol] = PROTOCOL
    dense: ClassVar[bool | None] = None
    lists: ClassVar[Mapping[str, tuple[str, ...]]] = {name: (f"{name}.csv", f"{name}.parquet") for name in SPLITS}
    example: ClassVar[str] = _EXAMPLE

    def read_split(self, root: Path, split: Path | None, which: SplitName) -> Split:
        """See `Dataset.read_split`."""
        listed = self.list_files(root, split).get(which)
        if listed is None:
            return Split(())
        exists = cache(folder_names)
        frames, without_depth, without_image = [], [], []
        for row in _rows_of(listed):
            image = root / row.image
            if image.name not in exists(image.parent):
                without_image.append(image)
            depth = root / row.depth if row.depth else None
            if depth is None or depth.name not in exists(depth.parent):
                without_depth.append(_frame_name(row))
            else:
                frames.append(_frame(root, row, depth))
        return Split(tuple(frames), tuple(without_depth), tuple(without_image))

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        """The values as they are stored: HW."""
        return _values(path)

    def truth(self, frame: Frame) -> NDArray[np.float32]:
        """Metres, or for `disparity` inverse depth > 0 without a unit; 0 = none."""
        values_HW = _values(frame.depth)
        valid_HW = np.isfinite(values_HW)
        if frame.mask is not None:
            valid_HW &= masked(np.ones_like(values_HW), load_mask(frame.mask), frame) > 0
        if frame.mask is None or frame.stored != "disparity":
            valid_HW &= values_HW != 0
        if frame.stored == "disparity":
            return _above_zero(values_HW, valid_HW)
        if (values_HW[valid_HW] < 0).any():
            raise DataError(f"{frame.depth}: holds depth that is negative; 0 means that there is none")
        scaled_HW = np.where(valid_HW, values_HW * np.float32(frame.scale), np.float32(0))
        if frame.stored == "inverse":
            np.divide(1, scaled_HW, out=scaled_HW, where=scaled_HW > 0)
        return scaled_HW

    def depth_bits(self, path: Path) -> int | None:
        return super().depth_bits(path) if path.suffix.lower() == ".png" else None

    def names_of(self, path: Path) -> tuple[str, ...]:
        return tuple(row.line for row in _rows_of(path))

    def drive_of(self, name: str) -> str | None:
        return name.partition(" in ")[2] or None


PAIRS = Pairs()


def _frame_name(row: _Row) -> str:
    """With the drive, since data sets keep no state and names are all that `drive_of` is told."""
    return f"{row.image} in {row.drive}" if row.drive else row.image


def _frame(root: Path, row: _Row, depth: Path) -> Frame:
    mask = root / row.mask if row.mask else None
    kind: Literal["metric", "relative"] = "relative" if row.kind == "disparity" else "metric"
    return Frame(_frame_name(row), root / row.image, depth, mask, kind, row.kind, row.scale)


def _values(path: Path) -> NDArray[np.float32]:
    suffix = path.suffix.lower()
    if suffix == ".pfm":
        return read_pfm(path)
    if suffix != ".npy":
        return load_values(path)
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be decoded: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        shape = getattr(array, "shape", None)
        raise DataError(f"{path}: an array of {shape} instead of numbers of (height, width)")
    return array.astype(np.float32)


def _above_zero(values_HW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values that are known up to a shift, moved so that every valid one is > 0; 0 elsewhere."""
    if not valid_HW.any():
        return np.zeros_like(values_HW)
    low, high = float(values_HW[valid_HW].min()), float(values_HW[valid_HW].max())
    if low > 0:
        return np.where(valid_HW, values_HW, np.float32(0))
    up = np.float32((high - low) * _GAP or 1.0)
    return np.where(valid_HW, values_HW - np.float32(low) + up, np.float32(0))


def _rows_of(path: Path) -> tuple[_Row, ...]:
    status = path.stat()
    return _parsed(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _parsed(path: Path, size: int, mtime_ns: int) -> tuple[_Row, ...]:
    """Read once per process. Raises DataError, naming the row."""
    found = [(number, _row(path, number, cells)) for number, cells in _cells(path)]
    no_repeats(path, ((number, row.image) for number, row in found), _EXAMPLE)
    return tuple(row for _, row in found)


def _cells(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table by column, with their line (CSV) or number. Raises DataError."""
    if path.suffix != ".parquet":
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                _refuse_columns(path, reader.fieldnames or ())
                for cells in reader:
                    yield reader.line_num, cells
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read as CSV: {error}") from error
        return
    import duckdb

    try:
        with duckdb.connect() as connection:
            table = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
            columns = [column[0] for column in table.description or ()]
            rows = table.fetchall()
    except duckdb.Error as error:
        raise DataError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    _refuse_columns(path, columns)
    for number, row in enumerate(rows, 1):
        yield number, dict(zip(columns, row, strict=True))


def _refuse_columns(path: Path, columns: Any) -> None:
    for needed in ("image", "depth"):
        if needed not in columns:
            others = f" (but {', '.join(columns)})" if columns else ": it is empty"
            raise DataError(f"{path}: has no column {needed!r}{others}; expected {_EXAMPLE}")


def _row(path: Path, number: int, cells: Mapping[str, Any]) -> _Row:
    def text(column: str) -> str | None:
        value = cells.get(column)
        return None if value is None else str(value).strip() or None

    place = f"{path}:{number}"
    kind = text("kind") or "metric"
    if kind not in KINDS:
        raise DataError(f"{place}: the kind {kind!r} is none of {', '.join(KINDS)}")
    image = _inside(place, "image", text("image"))
    if image is None:
        raise DataError(f"{place}: names no image")
    depth, mask = (_inside(place, column, text(column)) for column in ("depth", "mask"))
    scale = 1.0 if kind == "disparity" else _scale(place, text("scale"))
    return _Row(image, depth, mask, cast(Literal["metric", "inverse", "disparity"], kind), scale, text("drive"))


def _inside(place: str, column: str, text: str | None) -> str | None:
    """A path below the root, with forward slashes. Raises DataError for one that leads out of it."""
    if text is None:
        return None
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise DataError(f"{place}: {column} is {text[:80]!r}; expected a path below data.root, with forward slashes")
    return str(path)


def _scale(place: str, text: str | None) -> float:
    try:
        scale = float(text or 1)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0):
        raise DataError(f"{place}: the scale {text!r} is not a number above 0")
    return scale
