"""A generated street that the tests of this folder share; they read it and never write into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablate.depth.config import DepthConfig
from ablate.depth.data.street import make_street


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("street")
    make_street(root, frames={"train": 7, "val": 3, "test": 2}, seed=0, say=lambda text: None)
    return root


@pytest.fixture
def settings(street: Path) -> dict[str, Any]:
    """A run that trains in a blink: 7 images, 4 steps of 2."""
    return {
        "model": {"name": "dpt_tiny"},
        "data": {"root": street, "resolution": (32, 96)},
        "train": {"epochs": 2, "batch_size": 2, "lr": 1e-3},
        "eval": {"resolutions": ("reduced",)},
    }


@pytest.fixture
def config(settings: dict[str, Any]) -> DepthConfig:
    return DepthConfig.model_validate(settings)
