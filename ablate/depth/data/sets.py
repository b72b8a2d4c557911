"""The data sets that a run trains on: `data` itself, or those of `data.mix`, each a task of its own. No torch.

Validation and test are always those of `data`, whose training list is used only if `data.mix` names that set too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.depth import objectives
from ablate.depth.config import DataSettings, DepthConfig
from ablate.depth.data.base import Dataset, Frame, Reader
from ablate.depth.data.check import check_dataset
from ablate.depth.data.datasets import find
from ablate.depth.data.inspection import Say
from ablate.depth.data.splits import list_digests, read_splits, reader, use_of
from ablate.depth.protocol import DepthProtocol, protocol_of
from ablate.errors import DataError
from ablate.task import Checked

SPARSE = 0.5
"""Below this share of pixels with depth, a loss that compares neighbouring pixels is refused unless it is forced."""


@dataclass(frozen=True)
class TrainingSet:
    """Frames to train on, what reads them, and which depths of them count."""

    name: str
    dataset: Dataset
    reader: Reader
    protocol: DepthProtocol
    frames: tuple[Frame, ...]


def members(config: DepthConfig) -> dict[str, DataSettings]:
    """The settings of each set of `data.mix`, by what stages call it; only its training list is used.

    A set that is `data` itself has its hold-out, so that nothing is trained on that is validated on.
    """
    data, found = config.data, {}
    for member in config.data.mix:
        same = (member.name, member.root, member.split) == (data.name, data.root, data.split)
        update = {"name": member.name, "root": member.root, "split": member.split, "mix": ()}
        found[member.called] = data.model_copy(update=update if same else {**update, "holdout": "none"})
    return found


def training_sets(config: DepthConfig) -> tuple[TrainingSet, ...]:
    """In the order of `data.mix`. Raises DataError for lists that cannot be used or name no frame with depth, and for
    frames that the losses cannot be used with."""
    sets = members(config) or {config.data.name: config.data}
    return tuple(_training_set(name, data, config) for name, data in sets.items())


def stage_sets(config: DepthConfig, stage: int) -> tuple[int, ...]:
    """The numbers, in `training_sets`, of those that a stage trains on."""
    labels = [member.called for member in config.data.mix]
    stages = config.train.stages
    if not labels or not stages or stages[stage].sets == "all":
        return tuple(range(max(1, len(labels))))
    return tuple(number for number, label in enumerate(labels) if label in stages[stage].sets)


def set_digests(config: DepthConfig) -> dict[str, str]:
    """SHA-256 of what each set of `data.mix` is and of the frames that it trains on, by name. Raises DataError."""
    digests = {}
    for name, data in members(config).items():
        (frames,) = list_digests(data, use="training").values()
        text = f"{data.name}\n{data.holdout}\n{frames}\n"
        digests[f"mix {name}"] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def check_sets(config: DepthConfig, cache_dir: Path | None, say: Say) -> Checked:
    """Looks at every file of `data` and of all sets of `data.mix`. Raises DataError as `check_dataset`, and if sets
    share images with what is validated or tested on, or are too sparse for the losses."""
    checked = check_dataset(config.data, cache_dir, say, use=use_of(config.train.epochs))
    notes, facts = list(checked.notes), dict(checked.facts)
    shares = {} if config.data.mix else {config.data.name: facts}
    for name, data in members(config).items():
        found = check_dataset(data, cache_dir, say, use="training")
        notes += [f"{name}: {note}" for note in found.notes]
        shares[name] = dict(found.facts)
    if config.data.mix:
        facts["mix"] = shares
        _refuse_leaks(config)
    if config.train.epochs:
        for one in training_sets(config):
            _refuse_sparse(one, config, shares[one.name]["splits"]["train"]["depth_share"])
    return Checked(tuple(notes), facts)


def _training_set(name: str, data: DataSettings, config: DepthConfig) -> TrainingSet:
    dataset = find(data.name)
    # a set whose list of its own is held out in part needs both lists, as `data` itself does
    alone = bool(config.data.mix) and data.holdout == "none"
    frames = read_splits(data, use="training" if alone else use_of(config.train.epochs))["train"].frames
    if not frames and config.train.epochs:
        raise DataError(f"{data.root}: no frame of the train list has a depth map")
    if config.train.epochs and any(dataset.kind_of(frame) == "relative" for frame in frames):
        why = objectives.refusal(config.train.losses, data=name, dense=True, metric=False)
        if why:
            raise DataError(f"{data.root}: {why}")
    return TrainingSet(name, dataset, reader(data, "train"), protocol_of(data.name), frames)


def _refuse_sparse(one: TrainingSet, config: DepthConfig, share: float) -> None:
    if one.dataset.dense is not None or share >= SPARSE:
        return
    name, forced = f"{one.name} (depth at {share:.0%} of its pixels)", config.train.force_dense_loss
    why = objectives.refusal(config.train.losses, data=name, dense=False, metric=True, forced=forced)
    if why:
        raise DataError(f"{why} (train.force_dense_loss)")


def _refuse_leaks(config: DepthConfig) -> None:
    """By path: the check of each set finds copies within it."""
    splits = read_splits(config.data)
    judged: Mapping[Path, str] = {
        frame.image.resolve(): name for name in ("val", "test") for frame in splits[name].frames
    }
    for one in training_sets(config):
        shared = [frame for frame in one.frames if frame.image.resolve() in judged]
        if shared:
            raise DataError(_leak(one.name, shared, judged[shared[0].image.resolve()]))


def _leak(name: str, shared: Sequence[Frame], split: str) -> str:
    return (
        f"data.mix: {name} trains on {len(shared)} image{'s' * (len(shared) > 1)} that data has in {split}, such as "
        f"{shared[0].image}; take them out of one of the lists"
    )
