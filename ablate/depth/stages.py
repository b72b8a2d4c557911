"""How many steps a stage of training has, and which samples an epoch of it sees: pure functions of the settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.depth.config import DepthConfig
from ablate.depth.data.order import epoch_order, mixed_order
from ablate.depth.data.sets import stage_sets


@dataclass(frozen=True)
class Stage:
    """sizes: images of every training set, in the order of `data.mix`; number: from 0."""

    config: DepthConfig
    sizes: Sequence[int]
    number: int

    def steps(self) -> int:
        """Optimiser steps of each of its epochs."""
        train = self.config.train
        return train.steps_per_epoch or math.ceil(self._images() / train.images_per_step)

    def before(self) -> int:
        """Optimiser steps of all earlier stages."""
        earlier = (Stage(self.config, self.sizes, number) for number in range(self.number))
        return sum(len(self.config.train.epochs_of(stage.number)) * stage.steps() for stage in earlier)

    def done(self, epoch: int) -> int:
        """Its optimiser steps before `epoch`, which is one of its own."""
        return (epoch - self.config.train.epochs_of(self.number).start) * self.steps()

    def steps_in_all(self) -> int:
        """Its optimiser steps, as far as `train.max_steps` lets them happen."""
        train = self.config.train
        total = len(train.epochs_of(self.number)) * self.steps()
        return total if train.max_steps is None else max(0, min(total, train.max_steps - self.before()))

    def keys(self, epoch: int) -> list[tuple[int, int, int]]:
        """(data set, image, pass over the images) of every sample of an epoch.

        On one set a pass is an epoch, unless epochs count steps; on several, whose samples are drawn uniformly over the
        sets, see `mixed_order`.
        """
        train, seed = self.config.train, self.config.seed
        count = self.steps() * train.images_per_step if train.steps_per_epoch else self._images()
        if self.config.data.mix:
            return mixed_order(seed, epoch, {one: self.sizes[one] for one in self._sets()}, count)
        if train.steps_per_epoch is None:
            return [(0, int(index), epoch) for index in self._order(epoch)]
        size, places = self._images(), range((epoch - 1) * count, epoch * count)
        orders = {number: self._order(number + 1) for number in range(places[0] // size, places[-1] // size + 1)}
        return [(0, int(orders[place // size][place % size]), place // size + 1) for place in places]

    def _sets(self) -> tuple[int, ...]:
        return stage_sets(self.config, self.number)

    def _images(self) -> int:
        subset = self.config.data.subset
        return subset.n if subset else sum(self.sizes[one] for one in self._sets())

    def _order(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return epoch_order(self.config.seed, epoch, self.sizes[0], self.config.data.subset)
