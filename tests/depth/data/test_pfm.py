"""PFM files: round trips, the published byte orders, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ablate.depth.data.pfm import pfm_bytes, read_pfm
from ablate.errors import DataError

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(values=hnp.arrays(np.float32, SHAPES, elements=FLOATS))
def test_what_is_written_is_read(values: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("pfm") / "a.pfm"
    path.write_bytes(pfm_bytes(values))
    assert np.array_equal(read_pfm(path), values, equal_nan=True)


@pytest.mark.parametrize(("scale", "order"), [("-1.000000", "<"), ("1", ">"), ("-0.5e1", "<")])
def test_rows_are_stored_from_the_bottom_in_the_byte_order_of_the_scale(tmp_path: Path, scale: str, order: str) -> None:
    path = tmp_path / "a.pfm"
    path.write_bytes(f"Pf\n3 2\n{scale}\n".encode() + struct.pack(f"{order}6f", 4, 5, 6, 1, 2, 3))
    assert read_pfm(path).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a PFM file"),
        (b"P5\n2 2\n255\n    ", "not a PFM file"),
        (b"PF\n1 1\n-1\n" + bytes(12), "three channels"),
        (b"Pf\n2 2\n-1\n" + bytes(15), "15 bytes of pixels instead of 16"),
        (b"Pf\n2 2\n-1\n" + bytes(17), "17 bytes of pixels instead of 16"),
        (b"Pf\n0 2\n-1\n", "2x0 pixels"),
        (b"Pf\n999999 999999\n-1\n", "999999x999999 pixels"),
    ],
)
def test_anything_else_is_refused_with_the_files_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.pfm"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as error:
        read_pfm(path)
    assert str(error.value).startswith(str(path))


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.pfm: no such file"):
        read_pfm(tmp_path / "a.pfm")
