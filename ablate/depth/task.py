"""Monocular depth as a task of the engine. Torch is imported by `describe` and `open` alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ablate.depth import budget, fair
from ablate.depth.config import DataSettings, DepthConfig, ModelSettings
from ablate.depth.data.sets import check_sets, set_digests, training_sets
from ablate.depth.data.splits import list_digests, read_splits, said_of, use_of
from ablate.depth.metrics import AllMetrics
from ablate.depth.model import source
from ablate.depth.title import title
from ablate.errors import DataError
from ablate.task import Checked, Cost, Description, Metric, Placement, RunSettings, Session

if TYPE_CHECKING:
    from ablate.task import Task


class DepthTask:
    """See `ablate.task.Task`. It holds no state."""

    name: ClassVar[str] = "depth"
    recipe: ClassVar[int] = 1
    Config: ClassVar[type[RunSettings]] = DepthConfig
    metrics: ClassVar[Sequence[Metric]] = AllMetrics()

    def absolute(self, config: RunSettings, root: Path) -> DepthConfig:
        config = _depth(config)
        mix = tuple(one.model_copy(update={"root": _under(root, one.root)}) for one in config.data.mix)
        data = config.data.model_copy(update={"root": _under(root, config.data.root), "mix": mix})
        weights = config.model.weights
        model = config.model.model_copy(update={"weights": source.located(root, weights) if weights else None})
        return config.model_copy(update={"data": data, "model": model})

    def digests(self, config: RunSettings) -> Mapping[str, str]:
        config = _depth(config)
        digests = list_digests(config.data, use=use_of(config.train.epochs)) | set_digests(config)
        return digests | ({"weights": source.digest(config.model.weights)} if config.model.weights else {})

    def slug(self, config: RunSettings) -> str:
        config = _depth(config)
        words = [_attention_word(config.model), f"lr{_short(config.train.lr)}"]
        if not config.train.epochs:  # evaluated as it is: what it would be trained with says nothing
            words = ["eval", config.model.name, *words[:1]]
        elif config.train.batch_size != 1:
            words.append(f"bs{config.train.batch_size}")
        if config.data.resolution != DataSettings().resolution:
            height, width = config.data.resolution
            words.append(f"{height}x{width}")
        if config.seed:
            words.append(f"s{config.seed}")
        return "-".join(words)

    def title(self, configuration: Mapping[str, Any], lang: str) -> tuple[str, tuple[str, ...]] | None:
        return title(configuration, lang)

    def check(self, config: RunSettings, cache_dir: Path | None, say: Callable[[str], None]) -> Checked:
        config = _depth(config)
        _refuse_relative_weights(config)
        checked = check_sets(config, cache_dir, say)
        return replace(checked, notes=(*_upright(config), *checked.notes))

    def describe(self, config: RunSettings) -> Description:
        import torch

        from ablate.depth.model import audit
        from ablate.depth.model.dpt import build
        from ablate.depth.model.weights import survey

        config = _depth(config)
        with torch.device("meta"):  # shapes without memory: a DPT-Hybrid takes a blink
            model = build(config.model)
        weights = config.model.weights
        filled = survey(model, weights, config.model).filled if weights else None
        images, notes = _images(config)
        said = (*fair.marks(config), *_upright(config), *notes)
        return Description(audit.count(model), audit.parts(model, filled), images, said)

    def shape(self, config: RunSettings) -> str:
        return budget.shape(_depth(config))

    def cost(self, config: RunSettings, cache_dir: Path | None, *, compute: bool) -> Cost | None:
        return budget.cost(_depth(config), cache_dir, compute=compute)

    def open(self, config: RunSettings, placement: Placement) -> Session:
        from ablate.depth.session import DepthSession

        return DepthSession(_depth(config), placement)


def _depth(config: RunSettings) -> DepthConfig:
    if not isinstance(config, DepthConfig):
        raise TypeError(f"the depth task needs a DepthConfig, not a {type(config).__name__}")
    return config


def _refuse_relative_weights(config: DepthConfig) -> None:
    """By what the file holds, whatever it is called. Raises DataError."""
    weights = config.model.weights
    for conflict in fair.conflicts(config, source.digest(weights) if weights else ""):
        raise DataError(f"{weights}: {conflict.key}: {conflict.problem}")


def _under(root: Path, path: Path) -> Path:
    return Path(os.path.abspath(root / path.expanduser()))  # noqa: PTH100  (resolve() would follow links)


def _attention_word(model: ModelSettings) -> str:
    """`memory_compressed` with compression 2 -> `mem-com-2`; single words stay."""
    words = model.attention.split("_")
    short = [word[:3] for word in words] if len(words) > 1 else words
    return "-".join([*short, *([str(model.compression)] if model.compression else [])])


def _short(lr: float) -> str:
    """1e-05 -> 1e-5, 0.0003 -> 3e-4."""
    mantissa, exponent = f"{lr:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _upright(config: DepthConfig) -> Iterator[str]:
    """A size written width first, as most tools do, trains without complaint on frames squashed beyond recognition."""
    height, width = config.data.resolution
    if height > width:
        yield (
            f"data.resolution [{height}, {width}] is higher than wide, and KITTI's frames are 375x1242 (height x width); "
            f"was [{width}, {height}] meant?"
        )


def _images(config: DepthConfig) -> tuple[dict[str, int], tuple[str, ...]]:
    """Images per split, as trained and evaluated on, and what is worth saying about them."""
    counts: dict[str, int] = {}
    notes: list[str] = []
    splits = read_splits(config.data, use=use_of(config.train.epochs))
    for name, split in splits.items():
        counts[name] = len(split.frames)
        if split.without_depth:
            left_out, listed = len(split.without_depth), len(split.frames) + len(split.without_depth)
            verbs = ("has", "is") if left_out == 1 else ("have", "are")
            notes.append(
                f"{left_out} of the {listed} frames of the {name} list {verbs[0]} no depth map and {verbs[1]} left out"
            )
    notes += said_of(config.data, splits)
    if config.data.mix:
        sets = training_sets(config)
        counts["train"] = sum(len(one.frames) for one in sets)
        mixed = ", ".join(f"{one.name} ({len(one.frames)} images)" for one in sets)
        notes.append(f"trained on {mixed}; validated and tested on {config.data.name}")
    subset = config.data.subset
    if subset:
        notes.append(
            f"{subset.n} of {counts['train']} training images, "
            f"{'drawn anew' if subset.redraw else 'the same'} every epoch"
        )
        counts["train"] = min(subset.n, counts["train"])
    return counts, tuple(notes)


if TYPE_CHECKING:
    _: Task = DepthTask()
