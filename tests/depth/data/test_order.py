"""The order of training is part of the recipe: literals are pinned, since another order is another run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.depth.config import SubsetSettings
from ablate.depth.data.order import epoch_order, flipped
from ablate.errors import DataError

SEEDS = st.integers(0, 2**31 - 1)


def test_literal_orders() -> None:
    assert epoch_order(0, 1, 8, None).tolist() == [3, 6, 5, 7, 4, 1, 2, 0]
    assert epoch_order(0, 2, 8, None).tolist() == [2, 4, 0, 6, 5, 7, 1, 3]
    assert epoch_order(7, 1, 8, None).tolist() == [4, 2, 0, 7, 3, 1, 5, 6]
    assert epoch_order(0, 1, 100, SubsetSettings(n=6)).tolist() == [80, 91, 90, 9, 16, 6]
    assert epoch_order(0, 2, 100, SubsetSettings(n=6, seed=3, redraw=True)).tolist() == [43, 68, 22, 72, 33, 48]


def test_literal_flips() -> None:
    drawn = "".join(
        "LR"[flipped(seed, epoch, index, 0.5)] for seed in (0, 1) for epoch in (1, 2) for index in range(10)
    )
    assert drawn == "LLRLRRRLLRLLLLLRRRRLLLLRRLLRRRLRLLRRLLLR"


@given(SEEDS, st.integers(1, 500), st.integers(1, 300))
def test_an_epoch_uses_every_image_once(seed: int, epoch: int, n: int) -> None:
    order = epoch_order(seed, epoch, n, None)
    assert sorted(order.tolist()) == list(range(n)) and order.dtype == np.int64


@given(SEEDS, st.integers(1, 100), st.integers(1, 50), SEEDS)
def test_a_fixed_subset_is_the_same_in_every_epoch_and_for_every_seed(seed: int, epoch: int, n: int, own: int) -> None:
    subset = SubsetSettings(n=n, seed=own)
    order = epoch_order(seed, epoch, 50, subset)
    assert len(order) == len(set(order.tolist())) == n
    assert set(order.tolist()) == set(epoch_order(0, 1, 50, subset).tolist()) <= set(range(50))


def test_a_redrawn_subset_changes_with_the_epoch_but_not_with_the_runs_seed() -> None:
    subset = SubsetSettings(n=20, redraw=True)
    drawn = [frozenset(epoch_order(seed, epoch, 1000, subset).tolist()) for seed in (0, 1) for epoch in (1, 2, 3)]
    assert len(set(drawn)) == 3 and drawn[:3] == drawn[3:]


def test_a_subset_larger_than_the_list_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.subset\.n is 51, but only 50 .* lower it to 50"):
        epoch_order(0, 1, 50, SubsetSettings(n=51))


def test_seeds_epochs_and_purposes_are_independent() -> None:
    orders = {tuple(epoch_order(seed, epoch, 50, None).tolist()) for seed in range(20) for epoch in range(1, 21)}
    assert len(orders) == 400
    first = np.bincount([epoch_order(seed, 1, 5, None)[0] for seed in range(2000)], minlength=5)
    assert (np.abs(first - 400) < 100).all()


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_flips_have_their_probability(probability: float) -> None:
    share = np.mean([flipped(1, 1, index, probability) for index in range(4000)])
    assert share == pytest.approx(probability, abs=0.03 if 0 < probability < 1 else 0)


@given(SEEDS, st.integers(1, 100), st.integers(0, 50000), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_probability_flips_more_of_the_same_images(
    seed: int, epoch: int, index: int, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert flipped(seed, epoch, index, high) or not flipped(seed, epoch, index, low)
