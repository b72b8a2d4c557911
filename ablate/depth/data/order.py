"""Which image comes when, and which are flipped: pure functions of seed, epoch and index.

They are part of the recipe, so they rest on raw words of numpy's bit generators, whose streams are fixed for ever,
and not on `Generator.permutation`, whose streams may change between releases (NEP 19).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ablate.depth.config import SubsetSettings
from ablate.errors import DataError

_ORDER, _SUBSET, _FLIP, _SETS, _WITHIN = 1, 2, 3, 4, 5
"""Purposes: streams that must be independent of each other although seed and epoch are the same."""

_PASSES = 2**32
"""More than there are epochs: what a further pass within an epoch is numbered apart by."""


def epoch_order(seed: int, epoch: int, n: int, subset: SubsetSettings | None) -> NDArray[np.int64]:
    """Indices of the training images of one epoch, in the order in which they are used.

    A permutation of 0..n-1; with a subset, a permutation of `subset.n` of them, which depend on `subset.seed` alone
    (so that runs of several seeds see the same images) and, if `redraw`, on the epoch.
    Raises DataError if the subset is larger than the list.
    """
    if subset is None:
        return _shuffled(n, _ORDER, seed, epoch)
    if subset.n > n:
        raise DataError(
            f"data.subset.n is {subset.n}, but only {n} training frames have depth; lower it to {n} at most"
        )
    drawn = _shuffled(n, _SUBSET, subset.seed, epoch if subset.redraw else 0)[: subset.n]
    return np.sort(drawn)[_shuffled(subset.n, _ORDER, seed, epoch)]


def mixed_order(seed: int, epoch: int, sizes: Mapping[int, int], count: int) -> list[tuple[int, int, int]]:
    """(data set, image, pass) of each of the `count` samples of one epoch.

    sizes: images of each set that takes part, by its number. Every sample's set is drawn uniformly, whatever the sizes;
    within an epoch a set's images come in a shuffled order, all of them before any comes again. The pass is the epoch,
    and another number whenever a set begins again.
    """
    numbers = sorted(sizes)
    words = np.random.Philox(np.random.SeedSequence([_SETS, seed, epoch])).random_raw(count)
    chosen = ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53 * len(numbers)).astype(np.int64)
    drawn = np.zeros((count, 3), np.int64)
    for place, number in enumerate(numbers):
        here = np.flatnonzero(chosen == place)
        turns = range(-(-len(here) // sizes[number]))
        orders = [_shuffled(sizes[number], _WITHIN, seed, epoch, number, turn) for turn in turns]
        drawn[here, 0] = number
        drawn[here, 1] = np.concatenate([*orders, np.zeros(0, np.int64)])[: len(here)]
        drawn[here, 2] = epoch + (np.arange(len(here)) // sizes[number]) * _PASSES
    return [(a, b, c) for a, b, c in drawn.tolist()]


def flipped(seed: int, epoch: int, index: int, probability: float) -> bool:
    """Whether image `index` is mirrored in `epoch`."""
    word = np.random.SeedSequence([_FLIP, seed, epoch, index]).generate_state(1, np.uint64)[0]
    return float(word >> np.uint64(11)) * 2.0**-53 < probability


def _shuffled(n: int, *purpose: int) -> NDArray[np.int64]:
    words = np.random.Philox(np.random.SeedSequence(purpose)).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)
