"""Settings under which an evaluation would not say what it seems to say. No torch here.

The tensors of a relative DPT are those of a metric one: only the published file names and digests tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.depth import attention, objectives
from ablate.depth.conflicts import Conflict
from ablate.depth.model import source
from ablate.depth.protocol import check_mask, protocol_of
from ablate.errors import RecordError, UsageError
from ablate.runs.directory import read_config
from ablate.runs.paths import RunPaths

if TYPE_CHECKING:
    from ablate.depth.config import DepthConfig
    from ablate.depth.train_settings import TrainSettings

RELATIVE_SHA256 = ("501f0c75", "d889a10e", "2f21e586", "f6b98070")
"""How the digests of the published relative weights start: DPT-Hybrid in both layouts, DPT-Large, MiDaS v2.1."""

_RELATIVE = re.compile(r"midas|depth[-_]?anything", re.IGNORECASE)
_METRIC = re.compile(r"metric|kitti|nyu", re.IGNORECASE)


def known_relative(weights: Path, sha256: str = "") -> bool:
    """Whether weights are of the MiDaS kind: a file by its digest, or else by its name (without folders); a run if it
    was evaluated as such.
    """
    if sha256.startswith(RELATIVE_SHA256):
        return True
    if found := source.run_and_epoch(weights):
        return _of_relative_run(found[0])
    if len(weights.parts) == 1 and weights.suffix not in source.SUFFIXES:
        return False  # a run by its name; where it is, is not known yet
    return bool(_RELATIVE.search(weights.name)) and not _METRIC.search(weights.name)


def _of_relative_run(run: Path) -> bool:
    try:
        model = read_config(RunPaths(run)).config.get("model", {})
    except RecordError:
        return False  # whoever reads its weights says more
    return isinstance(model, Mapping) and model.get("output") == "relative"


def has_no_unit(train: TrainSettings) -> bool:
    """Whether training leaves the scale and the shift of inverse depth open: no loss of it compares metres."""
    return train.epochs > 0 and objectives.spaces(train.losses) == {"disparity"}


def conflicts(config: DepthConfig, sha256: str = "") -> Iterator[Conflict]:
    """A mask that the data set's protocol does not have, and inverse depth that would be read as metres.

    sha256: the digest of the weights, if it is known.
    """
    try:
        check_mask(config.eval.mask, protocol_of(config.data.name))
    except UsageError as error:
        yield Conflict("eval.mask", config.eval.mask, str(error), ("data.name",))
    model, trained, losses = config.model, config.train.epochs > 0, config.train.losses
    aligned = config.train.alignment == "estimated"
    if model.output == "relative" and trained:
        yield Conflict(
            "model.output",
            model.output,
            "relative weights are evaluated as they are, and training makes them metric; set train.epochs: 0, or leave "
            "model.output out (train.alignment: estimated finds the scale and shift to start from)",
            ("train.epochs",),
        )
    elif has_no_unit(config.train) and config.eval.align == "none":
        yield Conflict(
            "eval.align",
            config.eval.align,
            f"{' and '.join(losses)} teach{'' if len(losses) > 1 else 'es'} inverse depth up to scale and shift, which has no unit and is "
            "never scored in metres; set eval.align: scale_shift (or median), or add a loss in metres, such as silog",
            ("train.loss", "train.epochs"),
        )
    elif model.output == "relative" and config.eval.align == "none":
        yield Conflict(
            "eval.align",
            config.eval.align,
            "the network's inverse depth has no unit and is never read as metres; "
            "set eval.align: scale_shift (least squares in inverse depth, as MiDaS is evaluated), or median",
            ("model.output",),
        )
    elif (
        model.output == "metric"
        and not (trained or aligned)
        and model.weights
        and known_relative(model.weights, sha256)
    ):
        yield Conflict(
            "model.output",
            model.output,
            f"{model.weights.name} is known to predict inverse depth without a unit, and nothing trains it here; "
            "set model.output: relative and eval.align: scale_shift, or train.alignment: estimated for one scale and "
            "shift over the training images, or rename the file if it does predict metres",
            ("model.weights", "train.epochs", "train.alignment"),
        )


def marks(config: DepthConfig) -> tuple[str, ...]:
    """What every table that shows such a run must say: it repeats a mistake of the progress log on purpose."""
    found = []
    if attention.as_logged(config.model.attention):
        found.append(
            f"as logged: {config.model.attention} repeats the package of the progress log, mistakes and all, and is "
            "exempt from the tests that every attention must pass"
        )
    if config.model.share_attention:
        found.append("as logged: one attention module is shared by all blocks that use it")
    if config.data.labels == "floor_metres":
        found.append("as logged: trained and validated on depth rounded down to whole metres")
    return tuple(found)
