"""A proof that does not fail when the product is broken proves nothing: here it is broken on purpose, and must fail."""

from __future__ import annotations

import sys

import pytest

from tests.campaign.contention import contend
from tests.campaign.kill import Campaign
from tests.campaign.mutations import MUTATIONS, mutated
from tests.campaign.observe import Findings
from tests.campaign.power import Simulation

pytestmark = pytest.mark.slow

SIMULATED = (
    "no fsync of files",
    "no fsync of folders",
    "no fsync of what a killed process left",
    "no fsync of the journal",
    "no fsync of the journal before a checkpoint",
    "no SHA-256 of files",
    "no SHA-256 of the manifest",
    "manifest before its files",
    "no optimiser state",
    "no random state",
)
KILLED = ("no lease", "rows and place in two transactions")
CONTENDED = ("no lock of the database",)


def simulated(states: int, resumed: int) -> Findings:
    """The same states of the same recordings each time, until one of them shows something."""
    return Simulation(seed=2).run(states, resumed=resumed, ingested=0, until_found=True).findings


def test_every_mutation_is_tried() -> None:
    assert {*SIMULATED, *KILLED, *CONTENDED} == set(MUTATIONS)


def test_the_simulation_finds_nothing_in_the_product_as_it_is() -> None:
    findings = simulated(2000, 80)
    assert not findings, vars(findings)


@pytest.mark.parametrize("mutation", SIMULATED)
def test_the_simulation_finds(mutation: str) -> None:
    with mutated(mutation):
        assert simulated(40_000, 2000)
    assert not Simulation(seed=1).run(50, resumed=0, ingested=0).findings, "the mutation was not taken back"


@pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs prctl and /proc")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", KILLED)
def test_kills_find(mutation: str) -> None:
    assert Campaign(seed=1, mutation=mutation).run(kills=None, minutes=5, cover=False, until_found=True).findings


@pytest.mark.parametrize("mutation", CONTENDED)
def test_contention_finds(mutation: str) -> None:
    assert contend(3, mutation).findings
