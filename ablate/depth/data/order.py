"""Which image comes when, and which are flipped: pure functions of seed, epoch and index.

They are part of the recipe, so they rest on raw words of numpy's bit generators, whose streams are fixed for ever,
and not on `Generator.permutation`, whose streams may change between releases (NEP 19).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ablate.depth.config import SubsetSettings
from ablate.errors import DataError

_ORDER, _SUBSET, _FLIP = 1, 2, 3
"""Purposes: streams that must be independent of each other although seed and epoch are the same."""


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


def flipped(seed: int, epoch: int, index: int, probability: float) -> bool:
    """Whether image `index` is mirrored in `epoch`."""
    word = np.random.SeedSequence([_FLIP, seed, epoch, index]).generate_state(1, np.uint64)[0]
    return float(word >> np.uint64(11)) * 2.0**-53 < probability


def _shuffled(n: int, purpose: int, seed: int, epoch: int) -> NDArray[np.int64]:
    words = np.random.Philox(np.random.SeedSequence([purpose, seed, epoch])).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)
