from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.attention import base

Make = Callable[..., base.Attention]


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    prefix=st.integers(0, 3),
    window=st.integers(1, 10),
)
def test_it_is_softmax_attention_under_a_mask(
    make: Make, batch: int, rows: int, columns: int, prefix: int, window: int
) -> None:
    """Against the whole matrix with -inf between patches of different squares."""
    tokens = prefix + rows * columns
    q, k, v = torch.randn(3, batch, 2, tokens, 8, generator=torch.Generator().manual_seed(4)).unbind()
    row, column = torch.meshgrid(torch.arange(rows) // window, torch.arange(columns) // window, indexing="ij")
    square = (row * 100 + column).flatten()
    mask = torch.ones(tokens, tokens, dtype=torch.bool)
    mask[prefix:, prefix:] = square[:, None] == square[None, :]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    out = make("window", {"window": window}).attend(q, k, v, (rows, columns), prefix)
    assert torch.allclose(out, expected, atol=1e-5)


def test_prefix_tokens_alone_carry_anything_across(make: Make) -> None:
    module = make("window", {"window": 4})
    for prefix, heard in ((0, False), (1, True)):
        x = torch.randn(1, prefix + 64, 16, generator=torch.Generator().manual_seed(0))
        changed = x.clone()
        changed[:, prefix] += 1  # a patch of the first square; the last patch is in the last one
        outs = [module(tokens, grid=(8, 8), prefix=prefix) for tokens in (x, changed)]
        assert torch.equal(outs[0][:, -1], outs[1][:, -1])
        again = [module(out, grid=(8, 8), prefix=prefix) for out in outs]
        assert torch.equal(again[0][:, -1], again[1][:, -1]) != heard


def test_a_window_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        base.load("window")(16, 2, True, window=0)  # type: ignore[call-arg]
