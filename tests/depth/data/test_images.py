"""A file is decoded completely or refused by name, whatever has become of it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ablate.depth.data.images import load_depth, load_image, load_raw_depth, squash_depth
from ablate.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 60, 3), np.uint8)
UNITS = RNG.integers(0, 65536, (40, 60)).astype(np.uint16)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    Image.fromarray(UNITS).save(tmp_path / "depth.png")
    return tmp_path / "depth.png"


def test_pixels_come_back_exactly(image: Path, depth: Path) -> None:
    assert np.array_equal(load_image(image), PIXELS) and load_image(image).dtype == np.uint8
    assert np.array_equal(load_raw_depth(depth), UNITS)
    metres = load_depth(depth)
    assert metres.dtype == np.float32 and np.array_equal(metres.astype(np.float64) * 256, UNITS)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P"):
        Image.fromarray(PIXELS).convert(mode).save(tmp_path / f"{mode}.png")
        assert load_image(tmp_path / f"{mode}.png").shape == (40, 60, 3)


def test_eight_bit_labels_are_refused_with_the_cause(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "floor.png"
    Image.fromarray((UNITS // 256).astype(np.uint8)).save(path)
    with pytest.raises(DataError, match=r"floor\.png.*8 bits.*floor\(metres\)"):
        load_depth(path)
    with pytest.raises(DataError, match="3 channels"):
        load_depth(image)


def test_a_sixteen_bit_map_is_no_image(depth: Path) -> None:
    with pytest.raises(DataError, match="not an 8-bit colour image"):
        load_image(depth)


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        load_image(tmp_path / "gone.png")
    for name, content, reason in [("zero.png", b"", "0 bytes"), ("text.png", b"<html>404</html>", "neither PNG nor")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.*{reason}"):
            load_image(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        load_image(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.data())
def test_any_cut_or_flipped_bit_of_a_png_is_found(depth: Path, data: st.DataObject) -> None:
    whole = depth.read_bytes()
    broken = depth.with_name("broken.png")
    if data.draw(st.booleans()):
        content = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
        content = whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
    broken.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        load_raw_depth(broken)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(content=st.binary(max_size=200), prefix=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]))
def test_arbitrary_bytes_never_give_anything_but_a_data_error(tmp_path: Path, content: bytes, prefix: bytes) -> None:
    path = tmp_path / "noise.png"
    path.write_bytes(prefix + content)
    with pytest.raises(DataError, match=r"noise\.png"):
        load_image(path)


def test_a_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(PIXELS).save(path)
    assert load_image(path).shape == (40, 60, 3)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"image\.jpg"):
        load_image(path)


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_a_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"bomb\.png: refused as a decompression bomb"):
        load_image(path)


def test_squashed_depth_takes_the_pixel_at_each_centre() -> None:
    ramp = np.arange(6, dtype=np.uint16)[None].repeat(4, axis=0)
    assert squash_depth(ramp, (4, 6)).tolist() == ramp.tolist()
    assert squash_depth(ramp, (2, 2)).tolist() == [[1, 4], [1, 4]]
    assert squash_depth(ramp, (1, 12))[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50))
def test_squashing_invents_no_depth_and_is_unbiased(height: int, width: int, rows: int, columns: int) -> None:
    places = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    squashed = squash_depth(places, (rows, columns))
    assert squashed.shape == (rows, columns)
    # How far each new pixel's centre lies from that of the pixel it took: never more than half an old pixel.
    taken = squashed[:, 0] // width + 0.5
    assert np.abs(taken - (np.arange(rows) + 0.5) * height / rows).max() <= 0.5 + 1e-9
