"""Settings of training on several data sets that do not go together, and losses that a data set does not allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ablate.depth import objectives
from ablate.depth.conflicts import Conflict
from ablate.depth.data import datasets
from ablate.errors import UsageError

if TYPE_CHECKING:
    from ablate.depth.config import DepthConfig


def conflicts(config: DepthConfig) -> Iterator[Conflict]:
    """By the settings alone; what only the files tell is found by `data.sets.check_sets`."""
    if not config.train.epochs:  # nothing is trained
        return
    yield from _about_validation(config)
    yield from _about_sets(config)
    yield from _about_losses(config)


def _about_validation(config: DepthConfig) -> Iterator[Conflict]:
    if _kind(config.data.name) == "relative":
        yield Conflict(
            "data.name",
            config.data.name,
            f"{config.data.name} has inverse depth without a unit, so no run can be validated on it; name it in "
            "data.mix, which is what is trained on, and in data.name a data set in metres",
        )


def _about_sets(config: DepthConfig) -> Iterator[Conflict]:
    labels = [member.called for member in config.data.mix]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        yield Conflict(
            "data.mix", labels, f"two sets are called {repeated[0]}; give one of them another name with `label`"
        )
    for number, stage in enumerate(config.train.stages):
        unknown = [] if stage.sets == "all" else [name for name in stage.sets if name not in labels]
        if unknown:
            known = f"expected some of {', '.join(labels)}" if labels else "data.mix names no set"
            problem = f"stage {number + 1} trains on {unknown[0]}, but {known}, or `all`"
            yield Conflict("train.stages", unknown[0], problem, ("data.mix",))
    if config.train.objective == "mgda" and len(labels) < 2:
        problem = "mgda weighs several data sets against each other; name at least two in data.mix"
        yield Conflict("train.objective", "mgda", problem, ("data.mix",))
    if labels and (config.data.subset or config.data.labels != "metric"):
        key = "data.subset" if config.data.subset else "data.labels"
        yield Conflict(key, None, f"{key} is for training on one data set; leave it or data.mix out", ("data.mix",))
    if labels and config.train.alignment == "estimated":
        problem = "a scale and a shift can be estimated on one data set; leave train.alignment or data.mix out"
        yield Conflict("train.alignment", "estimated", problem, ("data.mix",))


def _about_losses(config: DepthConfig) -> Iterator[Conflict]:
    forced = config.train.force_dense_loss
    for name in dict.fromkeys([member.name for member in config.data.mix] or [config.data.name]):
        try:
            dataset = datasets.find(name)
        except UsageError:
            continue  # said elsewhere
        metric, dense = dataset.kind == "metric", dataset.dense is not False
        why = objectives.refusal(config.train.losses, data=name, dense=dense, metric=metric, forced=forced)
        if why:
            others = ("data.name", "data.mix", "train.force_dense_loss")
            yield Conflict(
                "train.loss", config.train.loss, f"{why} (train.force_dense_loss)" if metric else why, others
            )


def _kind(name: str) -> str:
    try:
        return datasets.find(name).kind
    except UsageError:
        return "metric"
