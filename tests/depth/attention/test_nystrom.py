from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.attention import base
from ablate.depth.attention.nystrom import pseudo_inverse, segment_means

Make = Callable[..., base.Attention]


def heads(tokens: int, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    return (scale * torch.randn(3, 2, 2, tokens, 8, generator=torch.Generator().manual_seed(4))).unbind()


def test_with_a_landmark_for_every_token_it_is_standard_attention(make: Make) -> None:
    q, k, v = heads(25)
    exact = F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(make("nystrom", {"landmarks": 25}).attend(q, k, v, (4, 6), 1), exact)
    assert not torch.allclose(make("nystrom", {"landmarks": 24}).attend(q, k, v, (4, 6), 1), exact, atol=1e-3)


def test_it_approximates_softmax_attention(make: Make) -> None:
    """Of smooth queries and keys, as an image has; better than a mean of all values, and better with more landmarks."""
    q, k, v = heads(481)
    q, k = (
        F.avg_pool1d(x.flatten(0, 1).transpose(1, 2), 41, 1, 20).transpose(1, 2).reshape(x.shape) * 12 for x in (q, k)
    )
    exact = F.scaled_dot_product_attention(q, k, v)
    mean = float((v.mean(dim=2, keepdim=True) - exact).norm())
    errors = [
        float((make("nystrom", {"landmarks": count}).attend(q, k, v, (12, 40), 1) - exact).norm()) / mean
        for count in (4, 16, 64)
    ]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.4


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(1, 300), segments=st.integers(1, 70))
def test_segments_are_even_and_in_order(tokens: int, segments: int) -> None:
    segments = min(segments, tokens)
    means = segment_means(tokens, segments, torch.device("cpu"))
    assert torch.allclose(means.sum(dim=1), torch.ones(segments))
    counts = (means > 0).sum(dim=1)
    assert int(counts.sum()) == tokens
    assert int(counts.max() - counts.min()) <= 1
    assert torch.equal((means > 0).int().argmax(dim=0), (means > 0).int().argmax(dim=0).sort().values)


def test_the_inverse_is_an_inverse() -> None:
    matrix = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 4 * torch.eye(8)).softmax(dim=-1)
    error = (pseudo_inverse(matrix) @ matrix - torch.eye(8)).abs().max()
    assert float(error) < 1e-5


def test_each_inverse_is_its_own() -> None:
    """One scale for a whole batch, as the paper's code had, would make images depend on each other."""
    matrices = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    together = pseudo_inverse(matrices)
    assert torch.allclose(together[1:], pseudo_inverse(matrices[1:]), atol=1e-5)


def test_landmarks_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        base.load("nystrom")(16, 2, True, landmarks=0)  # type: ignore[call-arg]
