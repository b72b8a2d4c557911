"""What the names under which scripts log numbers mean: which metric, of which split, at which resolution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.external.metrics import plain_name
from ablate.task import Metric

UNKNOWN = "unknown"
_SPLITS = {
    **dict.fromkeys(("val", "valid", "validation", "eval", "dev"), "val"),
    "test": "test",
    **dict.fromkeys(("train", "training"), "train"),
}
_RESOLUTIONS = ("full", "reduced")
_OF_EPOCHS = {
    "train/loss": "train_loss",
    "train/lr": "lr",
    "train/seconds": "seconds",
    "train/images_per_second": "images_per_second",
    "train/peak_memory_mb": "peak_memory_mb",
    "lr": "lr",
    "learning_rate": "lr",
}
"""As `ablate` itself names them in wandb, and as many scripts do."""


@dataclass(frozen=True)
class Meaning:
    """A number of an evaluation; `key` is a metric's or `loss`."""

    key: str
    split: str
    resolution: str


def of_epoch(name: str) -> str | None:
    """The field of an epoch's record that a logged number is; None for any other."""
    return _OF_EPOCHS.get(name) or ("train_loss" if _is_train_loss(name) else None)


def _is_train_loss(name: str) -> bool:
    return sorted(re.split(r"[/_. -]", name.lower())) in (["loss", "train"], ["loss", "training"])


def of_evaluation(name: str, metrics: Sequence[Metric]) -> Meaning | None:
    """'val/full/abs_rel', 'val_abs_rel', 'AbsRel/val' -> the same metric; None if any part of a name is not understood."""
    known = {plain_name(text): metric.key for metric in metrics for text in (metric.key, metric.header)}
    split = resolution = None
    rest = []
    for part in name.replace(".", "/").split("/"):
        words = re.split(r"[_ -]", part.lower())
        if words[0] in _SPLITS and split is None:
            split, words = _SPLITS[words[0]], words[1:]
        elif words[-1] in _SPLITS and split is None:
            split, words = _SPLITS[words[-1]], words[:-1]
        if words and words[0] in _RESOLUTIONS and resolution is None:
            resolution, words = words[0], words[1:]
        rest += ["".join(words)] if words else []
    rest = [part for part in rest if part not in ("metrics", "metric")]
    key = known.get(plain_name(rest[0])) if len(rest) == 1 else None
    if key is None and rest == ["loss"] and split in ("val", "test"):
        key = "loss"
    return Meaning(key, split or UNKNOWN, resolution or UNKNOWN) if key else None
