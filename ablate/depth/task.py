"""Monocular depth as a task of the engine. Torch is imported by `describe` and `open` alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ablate.depth.config import DataSettings, DepthConfig, ModelSettings
from ablate.depth.data.check import check_dataset
from ablate.depth.data.kitti import SPLITS, list_digest, list_files, read_split
from ablate.errors import DataError
from ablate.task import Checked, Description, Metric, Placement, RunSettings, Session

if TYPE_CHECKING:
    from ablate.task import Task

METRICS = (
    Metric("d1", "d1", "max"),
    Metric("d2", "d2", "max"),
    Metric("d3", "d3", "max"),
    Metric("abs_rel", "AbsRel", "min"),
    Metric("sq_rel", "SqRel", "min"),
    Metric("rmse", "RMSE", "min"),
    Metric("rmse_log", "RMSElog", "min"),
    Metric("silog", "SILog", "min"),
    Metric("log10", "log10", "min"),
)
"""In the order of the progress log."""


class DepthTask:
    """See `ablate.task.Task`. It holds no state."""

    name: ClassVar[str] = "depth"
    recipe: ClassVar[int] = 1
    Config: ClassVar[type[RunSettings]] = DepthConfig
    metrics: ClassVar[Sequence[Metric]] = METRICS

    def absolute(self, config: RunSettings, root: Path) -> DepthConfig:
        config = _depth(config)
        data = config.data.model_copy(update={"root": _under(root, config.data.root)})
        weights = config.model.weights
        model = config.model.model_copy(update={"weights": _under(root, weights) if weights else None})
        return config.model_copy(update={"data": data, "model": model})

    def digests(self, config: RunSettings) -> Mapping[str, str]:
        config = _depth(config)
        lists = list_files(config.data.root, config.data.split)
        digests = {name: list_digest(path) for name, path in lists.items()}
        return digests | ({"weights": _sha256(config.model.weights)} if config.model.weights else {})

    def slug(self, config: RunSettings) -> str:
        config = _depth(config)
        words = [_attention_word(config.model), f"lr{_short(config.train.lr)}"]
        if config.train.batch_size != 1:
            words.append(f"bs{config.train.batch_size}")
        if config.data.resolution != DataSettings().resolution:
            height, width = config.data.resolution
            words.append(f"{height}x{width}")
        if config.seed:
            words.append(f"s{config.seed}")
        return "-".join(words)

    def check(self, config: RunSettings, cache_dir: Path | None, say: Callable[[str], None]) -> Checked:
        config = _depth(config)
        checked = check_dataset(config.data.root, config.data.split, cache_dir, say)
        return replace(checked, notes=(*_upright(config), *checked.notes))

    def describe(self, config: RunSettings) -> Description:
        import torch

        from ablate.depth.model import audit
        from ablate.depth.model.dpt import build

        config = _depth(config)
        with torch.device("meta"):  # shapes without memory: a DPT-Hybrid takes a blink
            model = build(config.model)
        images, notes = _images(config)
        return Description(audit.count(model), audit.parts(model), images, (*_upright(config), *notes))

    def open(self, config: RunSettings, placement: Placement) -> Session:
        from ablate.depth.session import DepthSession

        return DepthSession(_depth(config), placement)


def _depth(config: RunSettings) -> DepthConfig:
    if not isinstance(config, DepthConfig):
        raise TypeError(f"the depth task needs a DepthConfig, not a {type(config).__name__}")
    return config


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
    for name in SPLITS:
        split = read_split(config.data.root, config.data.split, name)
        counts[name] = len(split.frames)
        if split.without_depth:
            left_out, listed = len(split.without_depth), len(split.frames) + len(split.without_depth)
            verbs = ("has", "is") if left_out == 1 else ("have", "are")
            notes.append(
                f"{left_out} of the {listed} frames of the {name} list {verbs[0]} no depth map and {verbs[1]} left out"
            )
    subset = config.data.subset
    if subset:
        notes.append(
            f"{subset.n} of {counts['train']} training images, "
            f"{'drawn anew' if subset.redraw else 'the same'} every epoch"
        )
        counts["train"] = min(subset.n, counts["train"])
    return counts, tuple(notes)


def _sha256(path: Path) -> str:
    try:
        status = path.stat()
        return _sha256_of_version(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(
            f"{path}: {(error.strerror or str(error)).lower()}; check data.split and model.weights"
        ) from error


@lru_cache(maxsize=64)
def _sha256_of_version(path: Path, size: int, mtime_ns: int) -> str:
    """Hashed once per process: the cells of a study share their files, and weights are large."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if TYPE_CHECKING:
    _: Task = DepthTask()
