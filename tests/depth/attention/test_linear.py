from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ablate.depth.attention import base

Make = Callable[..., base.Attention]


def test_it_is_the_papers_formula(make: Make) -> None:
    """Equation 5 with phi(x) = elu(x) + 1, in float64, with the weights of each query written out."""
    q, k, v = torch.randn(3, 2, 2, 13, 8, generator=torch.Generator().manual_seed(4)).unbind()
    out = make("linear").attend(q, k, v, (3, 4), 1).double().numpy()

    def phi(x: torch.Tensor) -> np.ndarray:
        array = x.double().numpy()
        return np.where(array > 0, array + 1, np.exp(array))

    weights = phi(q) @ phi(k).swapaxes(-1, -2)
    expected = weights @ v.double().numpy() / weights.sum(axis=-1, keepdims=True)
    assert np.abs(out - expected).max() < 1e-5


def test_a_query_that_is_far_below_zero_still_gets_a_mean(make: Make) -> None:
    """elu(x) + 1 is exactly 0 in float32 there, for query and keys alike."""
    q = k = torch.full((1, 2, 13, 8), -200.0)
    v = torch.arange(13.0)[None, None, :, None].expand(1, 2, 13, 8)
    assert torch.allclose(make("linear").attend(q, k, v, (3, 4), 1), torch.tensor(6.0), atol=1e-4)
