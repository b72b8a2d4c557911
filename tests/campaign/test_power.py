"""Power cuts, simulated and real, in the size that `make test` has time for."""

from __future__ import annotations

import pytest

from tests.campaign import cuts
from tests.campaign.power import Simulation


@pytest.mark.slow
def test_a_thousand_simulated_cuts_lose_nothing() -> None:
    figures = Simulation(seed=1).run(1000, resumed=60, ingested=25)
    assert not figures.findings, vars(figures.findings)
    assert figures.states["all"] == 1000
    assert figures.operations > 150
    assert figures.states["damaged"] == 100


@pytest.mark.slow
def test_real_cuts_lose_nothing() -> None:
    figures = cuts.in_own_process(4, seed=1)
    if "skipped" in figures:
        pytest.skip(f"NO REAL POWER CUTS WERE MADE: {figures['skipped']}")
    assert not any(figures["findings"].values()), figures["findings"]
    assert figures["cuts"] == 4
    assert figures["canaries_lost"] == 4, "what was not synced must be gone, or these are no power cuts"
    assert figures["acknowledged_records"] > 0
