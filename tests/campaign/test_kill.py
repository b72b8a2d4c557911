"""The campaign of kills, in the size that `make test` has time for; `python -m tests.campaign ci` runs the larger one."""

from __future__ import annotations

import random
import sys

import pytest

from tests.campaign.kill import ENOUGH, Atlas, Campaign

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs prctl and /proc")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sixty_kills_change_nothing() -> None:
    figures = Campaign(seed=1).run(kills=60, minutes=8, cover=False)
    assert not figures.findings, vars(figures.findings)
    assert figures.kills >= 60
    assert {"worker", "coordinator"} <= set(figures.roles)
    assert figures.resumes >= 10
    assert figures.acknowledged_epochs >= 4 * figures.runs, "every run has four epochs, and each was acknowledged"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_of_the_real_task_change_nothing() -> None:
    figures = Campaign("real", seed=1, kills_per_run=2).run(kills=3, minutes=5, cover=False)
    assert not figures.findings, vars(figures.findings)
    assert figures.kills >= 3


def test_moments_that_nobody_died_at_come_first() -> None:
    atlas = Atlas()
    atlas.learn("worker, new", {"worker: a": 1, "worker: b": 9})
    atlas.hits["worker: a"] = ENOUGH + 1
    chosen = [atlas.choose("worker", "new", random.Random(seed)) for seed in range(50)]
    assert {moment for moment, _ in filter(None, chosen)} == {"worker: b"}
    assert {at for _, at in filter(None, chosen)} > {1, 2}, "not always at the first pass"
    assert atlas.rare() == ["worker: b"]
    assert atlas.choose("report", "new", random.Random(0)) is None
