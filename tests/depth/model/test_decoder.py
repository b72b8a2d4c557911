from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.model.decoder import Decoder, Fusion, ResidualUnit


def test_fusion_is_the_published_order_of_resize_and_convolution() -> None:
    """isl-org/DPT resizes the map before the 1x1 convolution; resizing it after is the same."""
    torch.manual_seed(0)
    fusion = Fusion(6)
    x, path = torch.randn(2, 2, 6, 3, 5).unbind()
    inner = fusion.resConfUnit2(path + fusion.resConfUnit1(x))
    for size in ((6, 10), (5, 9), (3, 5)):
        resized = F.interpolate(inner, size=size, mode="bilinear", align_corners=True)
        assert torch.allclose(fusion(x, path, size), fusion.out_conv(resized), atol=1e-5)
    zero = torch.zeros_like(x)
    assert torch.allclose(fusion(x, None, (6, 10)), fusion(zero, x - fusion.resConfUnit1(zero), (6, 10)), atol=1e-5)


def test_resizing_to_the_next_map_is_doubling_where_sizes_double() -> None:
    """To the bit: released results came from `scale_factor=2`."""
    x = torch.randn(1, 3, 7, 20)
    doubled = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    assert torch.equal(F.interpolate(x, size=(14, 40), mode="bilinear", align_corners=True), doubled)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5))
def test_decoder_takes_the_maps_of_any_grid(rows: int, columns: int) -> None:
    """Maps of 4, 2, 1 and 1/2 cells per token; the last one is rounded up."""
    decoder = Decoder((8, 8, 12, 12), 6, (4, 4))
    sizes = [(4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns), (-(-rows // 2), -(-columns // 2))]
    maps = [torch.randn(2, width, *size) for width, size in zip((8, 8, 12, 12), sizes, strict=True)]
    out = decoder(maps, (14 * rows, 14 * columns))
    assert out.shape == (2, 1, 14 * rows, 14 * columns)
    assert (out >= 0).all()


def test_without_norm_the_decoder_is_as_published() -> None:
    keys = {
        key.rpartition("refinenet1.")[2] for key in Decoder((8,) * 4, 6, (4, 4)).state_dict() if "refinenet1" in key
    }
    assert {key for key in keys if "Unit1" in key} == {
        f"resConfUnit1.conv{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")
    }


def test_batch_norm_follows_each_convolution_which_has_no_bias() -> None:
    """isl-org/DPT's `use_bn`."""
    unit = ResidualUnit(4, "batch").train()
    assert {key for key in unit.state_dict() if key.startswith("conv")} == {"conv1.weight", "conv2.weight"}
    x = torch.randn(3, 4, 5, 6) * 3 + 1
    first = F.batch_norm(F.conv2d(x.relu(), unit.conv1.weight, padding=1), None, None, training=True)
    second = F.batch_norm(F.conv2d(first.relu(), unit.conv2.weight, padding=1), None, None, training=True)
    assert torch.allclose(unit(x), x + second, atol=1e-5)
    before = unit.bn1.running_mean.clone()  # type: ignore[union-attr, operator]
    unit.eval()(x)
    assert torch.equal(unit.bn1.running_mean, before), "evaluation must not change what a checkpoint holds"  # type: ignore[arg-type]
