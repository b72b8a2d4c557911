"""Fixtures for all tests: the toy task, installed as a third-party package is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"
CAMPAIGN = Path(__file__).parent / "campaign"
REPOSITORY = Path(__file__).parent.parent

sys.path.insert(0, str(TOY))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOY), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def shared() -> Path:
    """The folder of reference results and KITTI frames beside the checkout; most users have none."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder `shared` beside the checkout (reference results and KITTI frames, not shipped)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the campaigns, and puts the longest file first, so that two processes end at about the same time."""
    for item in items:
        if CAMPAIGN in item.path.parents:
            item.add_marker("proof")
    items.sort(key=lambda item: item.path.name != "test_quickstart.py")
