"""Small attentions and tokens that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ablate.depth import attention
from ablate.depth.attention import base

Make = Callable[..., base.Attention]
Tokens = Callable[..., torch.Tensor]


@pytest.fixture(scope="session")
def make() -> Make:
    """make(name, {option: value}, dim=16, heads=2, seed=0): options that are not given have their defaults."""

    def make(
        name: str, options: dict[str, Any] | None = None, dim: int = 16, heads: int = 2, seed: int = 0
    ) -> base.Attention:
        torch.manual_seed(seed)
        return base.load(name)(dim, heads, True, **{**attention.options(name), **(options or {})})

    return make


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    """tokens(batch, rows, columns, prefix, dim=16, scale=1.0): BND, the same for the same sizes."""

    def tokens(batch: int, rows: int, columns: int, prefix: int, dim: int = 16, scale: float = 1.0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(rows * 100 + columns)
        return scale * torch.randn(batch, prefix + rows * columns, dim, generator=generator)

    return tokens
