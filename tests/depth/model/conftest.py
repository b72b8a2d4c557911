"""Networks of a few thousand parameters, one of each family, and weights under which every tensor matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from ablate.depth.model.specs import SPECS, NetworkSpec

PLAIN = {
    "embed_dim": 32,
    "blocks": 4,
    "heads": 4,
    "taps": (0, 1, 2, 3),
    "classes": 0,
    "map_channels": (8, 12, 16, 16),
    "features": 8,
    "head_channels": (4, 32),
}

SMALL: dict[str, NetworkSpec] = {
    "hybrid": SPECS["dpt_tiny"],
    "large": replace(SPECS["dpt_large"], **PLAIN, position_grid=(4, 4)),
    "dinov2": replace(SPECS["dpt_dinov2_small"], **PLAIN, position_grid=(4, 4)),
    "dinov3": replace(SPECS["dpt_dinov3_small"], **PLAIN),
    "dinov2_registers": replace(SPECS["dpt_dinov2_small"], **PLAIN, position_grid=(4, 4), registers=4),
}


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> NetworkSpec:
    """Each family in turn."""
    return SMALL[request.param]


@pytest.fixture
def small_spec() -> Callable[[str], NetworkSpec]:
    """hybrid, large, dinov2, dinov3 or dinov2_registers -> a small network of that family."""
    return SMALL.__getitem__


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Fills a network with weights that keep its output away from zero: layer scales of 1e-5 would hide a block."""

    def fill(model: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
                if "norm" in name and name.endswith("weight"):
                    parameter.add_(1)
            model.scratch.output_conv[4].bias.fill_(3)  # type: ignore[union-attr, index, operator]
        return model.eval()

    return fill
