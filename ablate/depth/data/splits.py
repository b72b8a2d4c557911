"""The frames that a run trains, selects and is tested on: the lists, the hold-out and the labels of `data`. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.depth.config import DataSettings
from ablate.depth.data.base import SPLITS, Dataset, Frame, Reader, Split
from ablate.depth.data.datasets import find
from ablate.errors import DataError

Use = Literal["everything", "training", "evaluation"]
"""What frames are wanted for: a run trains, validates and tests; a set of `data.mix` is only trained on; without
training, the lists that there are suffice."""


def use_of(epochs: int) -> Use:
    """What a run of so many epochs wants the frames of `data` for."""
    return "everything" if epochs else "evaluation"


HELD_OUT = 0.05
"""Share of the training list's frames that `data.holdout: drives` validates on, about."""

_MOST_HELD_OUT = 0.075
"""A drive that would make it more than this is left for training, if there is any other."""

LABELLED = ("train", "val")
"""Splits whose depth `data.labels` changes. The log read its own validation as it read its training data; its test
figures came from the published evaluator, which read the true depth."""


def read_splits(data: DataSettings, *, use: Use = "everything") -> dict[str, Split]:
    """Every split that is put to this `use`, empty without its list. Opens no image.

    Raises DataError for lists that are absent or damaged, and if `data.holdout` cannot be done.
    """
    dataset, listed = find(data.name), list_files(data, use=use)
    splits = {name: dataset.read_split(data.root, data.split, name) for name in SPLITS if name in listed}
    if data.holdout == "drives":
        splits["train"], splits["val"] = hold_out(dataset, splits["train"], listed["train"])
    return {name: splits.get(name, Split(())) for name in SPLITS}


def list_files(data: DataSettings, *, use: Use = "everything") -> dict[str, Path]:
    """The list files that decide a run's splits, by name. Raises DataError as `read_splits`."""
    dataset = find(data.name)
    listed = dataset.list_files(data.root, data.split)
    if "train" not in listed and (use != "evaluation" or data.holdout == "drives"):
        raise DataError(dataset.lacks(data.root, data.split, "train"))
    if use == "training":
        return {"train": listed["train"]}
    if data.holdout == "drives":
        listed.pop("val", None)
    elif "val" not in listed and use == "everything":
        raise DataError(
            dataset.lacks(data.root, data.split, "val") + "; without one, set data.holdout: drives, "
            "which validates on whole drives of the training list"
        )
    return listed


def list_digests(data: DataSettings, *, use: Use = "everything") -> dict[str, str]:
    """SHA-256 of the frames of each list that decides a run's splits. Raises DataError as `list_files`."""
    dataset, listed = find(data.name), list_files(data, use=use)
    if use == "evaluation" and data.holdout == "none":
        listed.pop("train", None)  # what is not trained on decides nothing
    return {name: dataset.list_digest(path) for name, path in listed.items()}


def hold_out(dataset: Dataset, train: Split, file: Path) -> tuple[Split, Split]:
    """(train, val): the training list without some whole drives, and those drives; each in the list's order.

    Which drives depends on the frames that are listed and on nothing else, not even their order. file: the list, for
    messages. Raises DataError if the data set knows no drives or the list has only one.
    """
    held = held_out(_drives(dataset, train.names(), file), file)
    owner = {frame.image: frame.name for frame in train.frames}

    def part(wanted: bool) -> Split:
        def belongs(name: str) -> bool:
            return (dataset.drive_of(name) in held) is wanted

        return Split(
            tuple(frame for frame in train.frames if belongs(frame.name)),
            tuple(name for name in train.without_depth if belongs(name)),
            # a frame that has neither file is reported with the training frames
            tuple(path for path in train.without_image if (belongs(owner[path]) if path in owner else not wanted)),
        )

    return part(False), part(True)


def held_out(drives: Mapping[str, int], file: Path) -> frozenset[str]:
    """The drives to validate on, of `drives` (name -> frames). Raises DataError if there are not two.

    They are taken in the order of a hash of their names until about 5 % of the frames are held out, at least one
    drive; drives that would make it more than 7.5 % are passed over. If all do, the smallest is held out.
    """
    if len(drives) < 2:
        raise DataError(
            f"{file}: all frames are of one drive, so data.holdout: drives has none to validate on; "
            "use a list with several drives, or data.holdout: none with a validation list"
        )
    total, count = sum(drives.values()), 0
    ordered = sorted(drives, key=lambda name: hashlib.sha256(name.encode()).digest())
    held: list[str] = []
    for name in ordered:
        if count >= HELD_OUT * total:
            break
        if count + drives[name] <= _MOST_HELD_OUT * total:
            held.append(name)
            count += drives[name]
    return frozenset(held or [min(ordered, key=lambda name: drives[name])])


def said_of(data: DataSettings, splits: Mapping[str, Split]) -> Iterator[str]:
    """Sentences on what `data` makes of the lists and labels."""
    if data.holdout == "drives":
        dataset = find(data.name)
        held, kept = ({dataset.drive_of(name) for name in splits[which].names()} for which in ("val", "train"))
        yield (
            f"validated on {len(held)} of the {len(held) + len(kept)} drives of the train list "
            f"({', '.join(sorted(str(drive) for drive in held)[:3])}{' …' if len(held) > 3 else ''}), trained on the rest"
        )
    if data.labels == "floor_metres":
        yield "depth is rounded down to whole metres in train and val, as in 8-bit labels; test is scored on the true depth"


def reader(data: DataSettings, split: str) -> Reader:
    """What reads the files of that split's frames, with depth as `data.labels` says."""
    dataset = find(data.name)
    return WholeMetres(dataset) if data.labels == "floor_metres" and split in LABELLED else dataset


@dataclass(frozen=True)
class WholeMetres:
    """Reads depth rounded down to whole metres; less than one metre becomes none."""

    reader: Reader

    def load_image(self, path: Path) -> NDArray[np.uint8]:
        return self.reader.load_image(path)

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        depth_HW: NDArray[np.float32] = np.floor(self.reader.load_depth(path))
        return depth_HW

    def truth(self, frame: Frame) -> NDArray[np.float32]:
        depth_HW: NDArray[np.float32] = np.floor(self.reader.truth(frame))
        return depth_HW


def _drives(dataset: Dataset, names: Iterable[str], file: Path) -> dict[str, int]:
    drives: dict[str, int] = {}
    for name in names:
        drive = dataset.drive_of(name)
        if drive is None:
            raise DataError(f"{file}: data set {dataset.name!r} names no drives; use data.holdout: none")
        drives[drive] = drives.get(drive, 0) + 1
    return drives
