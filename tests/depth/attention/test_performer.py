from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import timm.layers
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.attention import base
from ablate.depth.attention.performer import PerformerAttention, orthogonal_features

Make = Callable[..., PerformerAttention]


def reference_favor(q: np.ndarray, k: np.ndarray, v: np.ndarray, features: np.ndarray) -> np.ndarray:
    """FAVOR+ of one head in float64, token by token, as performer_pytorch computes it."""
    count, dim = features.shape

    def positive(x: np.ndarray, top: np.ndarray | float) -> np.ndarray:
        dots = features @ (x * dim**-0.25)
        return (np.exp(dots - (x @ x) / (2 * np.sqrt(dim)) - top) + 1e-4) / np.sqrt(count)

    top = max((features @ (x * dim**-0.25)).max() for x in k)
    keys = [positive(x, top) for x in k]
    out = []
    for x in q:
        query = positive(x, (features @ (x * dim**-0.25)).max())
        weights = np.array([query @ key for key in keys])
        out.append((weights[:, None] * v).sum(axis=0) / weights.sum())
    return np.array(out)


def test_performer_is_favor(make: Make) -> None:
    module = make("performer", {})
    q, k, v = torch.randn(3, 2, 2, 13, 8, generator=torch.Generator().manual_seed(4)).unbind()
    out = module.attend(q, k, v, (3, 4), 1)
    features = module.get_buffer("features").double().numpy()
    for image, head in itertools.product(range(2), range(2)):
        one = [x[image, head].double().numpy() for x in (q, k, v)]
        assert np.allclose(out[image, head].numpy(), reference_favor(*one, features), rtol=1e-4, atol=1e-5)


def test_it_approaches_softmax_with_more_features(make: Make) -> None:
    q, k, v = (0.7 * torch.randn(3, 1, 2, 30, 16, generator=torch.Generator().manual_seed(4))).unbind()
    exact = F.scaled_dot_product_attention(q, k, v)
    errors = []
    for count in (16, 4096):
        module = make("performer", {"features": count}, dim=32, heads=2)
        assert module.features.shape == (count, 16)
        errors.append(float((module.attend(q, k, v, (5, 6), 0) - exact).abs().mean()))
    assert errors[1] < 0.25 * errors[0]
    assert errors[1] < 0.02


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 60), dim=st.integers(1, 16), seed=st.integers(0, 99))
def test_features_are_orthogonal_with_gaussian_norms(count: int, dim: int, seed: int) -> None:
    features = orthogonal_features(count, dim, torch.Generator().manual_seed(seed))
    assert features.shape == (count, dim)
    for block in features.split(dim):
        directions = F.normalize(block.double(), dim=1)
        assert torch.allclose(directions @ directions.T, torch.eye(len(block), dtype=torch.float64), atol=1e-5)
    again = orthogonal_features(count, dim, torch.Generator().manual_seed(seed))
    assert torch.equal(features, again)


def test_squared_norms_of_features_are_chi_squared() -> None:
    squares = orthogonal_features(8000, 16, torch.Generator().manual_seed(0)).square().sum(dim=1)
    assert float(squares.mean()) == pytest.approx(16, rel=0.02)
    assert float(squares.var()) == pytest.approx(32, rel=0.1)


def test_features_are_saved_frozen_and_of_the_published_number(make: Make) -> None:
    module = make("performer", {}, dim=128, heads=2)
    assert module.state_dict()["features"].shape == (266, 64)
    assert "features" not in dict(module.named_parameters())
    assert not torch.equal(make("performer", seed=1).features, make("performer", seed=2).features)
    assert torch.equal(make("performer", seed=1).features, make("performer", seed=1).features)


def test_heads_of_another_width_have_projections_of_their_own() -> None:
    """The log's: 768 channels, 8 heads of 64."""
    old = timm.layers.Attention(768, num_heads=12, qkv_bias=True)
    (new,) = base.replacements([old], "performer", 768, 8, head_dim=64)
    assert new.qkv.weight.shape == (3 * 512, 768)
    assert new.proj.weight.shape == (768, 512)
    assert new.get_buffer("features").shape == (266, 64)
    assert new(torch.randn(2, 7, 768), (2, 3), 1).shape == (2, 7, 768)
    (same,) = base.replacements([old], "performer", 768, 12, head_dim=64)
    assert torch.equal(same.qkv.weight, old.qkv.weight)


def test_redrawn_features_follow_the_generator_and_change_what_comes_out(make: Make) -> None:
    module, x = make("performer"), torch.randn(1, 13, 16)
    first, buffer = module.features.clone(), module.features
    before = module(x, (3, 4), 1)
    module.redraw(torch.Generator().manual_seed(1))
    assert module.features is buffer
    assert not torch.equal(module.features, first)
    assert not torch.equal(module(x, (3, 4), 1), before)
    second = module.features.clone()
    module.redraw(torch.Generator().manual_seed(2))
    module.redraw(torch.Generator().manual_seed(1))
    assert torch.equal(module.features, second)
