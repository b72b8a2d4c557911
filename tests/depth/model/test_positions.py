from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from ablate.depth.model.positions import resized


def ramp() -> torch.Tensor:
    """One class token and a 6x20 grid whose values are the columns."""
    return torch.cat([torch.full((1, 1, 2), -7.0), torch.arange(20.0).repeat(6)[None, :, None].expand(-1, -1, 2)], 1)


def test_the_own_grid_is_left_alone() -> None:
    learned = ramp()
    assert resized(learned, (6, 20), (6, 20), "bicubic") is learned


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_ramp_stays_a_ramp_and_the_class_token_stays(mode: str) -> None:
    found = resized(ramp(), (6, 20), (3, 10), mode)
    assert found.shape == (1, 31, 2)
    assert (found[:, 0] == -7).all()
    columns = found[0, 1:, 0].reshape(3, 10)
    assert torch.allclose(columns[:, 2:8], (torch.arange(2.0, 8.0) * 2 + 0.5).expand(3, -1), atol=1e-5)


def test_as_many_cells_in_another_shape_are_interpolated() -> None:
    found = resized(ramp(), (6, 20), (10, 12), "bilinear")
    assert found.shape == (1, 121, 2)
    assert not torch.equal(found, ramp())


@given(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.sampled_from([0, 1, 5]), st.sampled_from(["bilinear", "bicubic"]))  # fmt: skip
def test_constant_positions_stay_constant(grid: tuple[int, int], prefix: int, mode: str) -> None:
    found = resized(torch.full((1, prefix + 12, 3), 0.5), (3, 4), grid, mode)
    assert found.shape == (1, prefix + grid[0] * grid[1], 3)
    assert torch.allclose(found, torch.tensor(0.5))


def test_half_precision_is_interpolated_in_single() -> None:
    learned = torch.randn(1, 13, 4).to(torch.bfloat16)
    found = resized(learned, (3, 4), (5, 7), "bicubic")
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, resized(learned.float(), (3, 4), (5, 7), "bicubic").to(torch.bfloat16))


@given(st.tuples(st.integers(1, 8), st.integers(1, 8)), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_bicubic_is_torchs(old: tuple[int, int], new: tuple[int, int]) -> None:
    """Values and gradients of `F.interpolate`, whose gradient on a GPU is not reproducible."""
    ours = torch.randn(1, 1 + old[0] * old[1], 3, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    found = resized(ours, old, new, "bicubic")
    grid = theirs[:, 1:].transpose(1, 2).reshape(1, 3, *old)
    expected = F.interpolate(grid, size=new, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    assert torch.allclose(found[:, 1:], expected, atol=1e-5)
    weight = torch.randn(1, new[0] * new[1], 3)
    (found[:, 1:] * weight).sum().backward()
    (expected * weight).sum().backward()
    assert ours.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)  # type: ignore[arg-type]


def test_autocast_does_not_round_positions() -> None:
    learned = torch.randn(1, 13, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resized(learned, (3, 4), (5, 7), "bicubic")
    assert torch.equal(inside, resized(learned, (3, 4), (5, 7), "bicubic"))
