"""What a training step needs: what it depends on, what is known of it, and where that is kept. No torch here.

`ablate.depth.cost` does the counting, half a minute per network and shape; what it found is kept in a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ablate.depth import attention
from ablate.depth.config import DepthConfig, ModelSettings
from ablate.depth.data.sets import stage_sets
from ablate.depth.model import specs
from ablate.task import Cost, Share

VERSION = 1
"""Raised when the same network would be counted otherwise: part of the cache's keys."""

CORE = (
    *("attention", "attention_blocks", "share_attention", "compression", "features", "landmarks", "window"),
    *("redraw_every", "null_key", "zero_padding"),
)
"""Settings of `model` that decide what happens between `qkv` and `proj`, and nothing else."""

STARTS = ("weights", "output", "attention_init", "decoder_init")
"""Settings of `model` that decide where it starts or how it is read, not what it computes."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the memory of an optimiser step depends on, besides the network.

    size: (height, width) of the network's input; batch_size: images per piece; pieces: of which an optimiser step
    adds the gradients up; average: whether a moving average of the weights is kept; tasks: gradients
    that are kept apart.
    """

    size: tuple[int, int]
    batch_size: int = 1
    pieces: int = 1
    optimizer: str = "adam"
    precision: str = "fp32"
    recompute: bool = False
    average: bool = False
    tasks: int = 1
    losses: tuple[str, ...] = ("silog",)


@dataclass(frozen=True)
class Operations:
    """Of one image: operations (2 per multiply-add) of a forward pass, of it and its backward pass, and of attention.

    `attention` is the forward part between `qkv` and `proj`, which is all that swapping an attention changes.
    """

    forward: int
    step: int
    attention: int

    @property
    def ceiling(self) -> float:
        """How many times faster a forward pass could be if attention cost nothing (Amdahl), counted in operations."""
        return 1 / (1 - self.attention / self.forward)


def step_of(config: DepthConfig) -> Step:
    train = config.train
    return Step(
        size=config.data.resolution,
        batch_size=train.batch_size,
        pieces=train.accumulate,
        optimizer=train.optimizer,
        precision=train.precision,
        recompute=train.gradient_checkpointing,
        average=train.ema is not None,
        tasks=_tasks(config) if train.objective == "mgda" else 1,
        losses=tuple(sorted(train.losses)),
    )


def _tasks(config: DepthConfig) -> int:
    """Data sets that a batch may hold, in the stage that has most: the one thing of a step that stages differ in."""
    stages = range(max(1, len(config.train.stages)))
    return max(1, min(max(len(stage_sets(config, number)) for number in stages), config.train.images_per_step))


def shape(config: DepthConfig) -> str:
    """Equal for runs whose steps need the same memory and take the same time on the same device."""
    train = config.train
    others = [train.channels_last, train.compile, train.augment.model_dump(mode="json"), config.data.name]
    return json.dumps([_network(config.model), asdict(step_of(config)), others], sort_keys=True)


def cost(config: DepthConfig, cache_dir: Path | None, *, compute: bool) -> Cost | None:
    """What is known of a step of this configuration; counted if it is not and `compute` is set.

    None for what is only evaluated. Networks and attentions of other packages are counted anew each time, since their
    code may have changed.
    """
    if not config.train.all_epochs():
        return None
    network, step = _network(config.model), step_of(config)
    folder = None if _is_plugged(config.model) else cache_dir

    def count_memory() -> dict[str, Any]:
        from ablate.depth.cost import peak_memory

        return {"peak_bytes": peak_memory(config.model, step)}

    def count_operations() -> dict[str, Any]:
        from ablate.depth.cost import operations

        return asdict(operations(config.model, step.size))

    peak = _remembered(["memory", network, asdict(step)], folder, count_memory if compute else None)
    counted = _remembered(["operations", network, step.size], folder, count_operations if compute else None)
    if peak is None or counted is None:
        return None
    found = Operations(**counted)
    core = Share("attention's core", tuple(f"model.{key}" for key in CORE), found.attention / found.forward)
    return Cost(int(peak["peak_bytes"]), found.forward, found.step, (core,))


def _network(model: ModelSettings) -> Mapping[str, Any]:
    return model.model_dump(mode="json", exclude=set(STARTS))


def _is_plugged(model: ModelSettings) -> bool:
    return model.name not in specs.SPECS or model.attention not in attention.built_in()


def _remembered(
    key: list[Any], cache_dir: Path | None, compute: Callable[[], dict[str, Any]] | None
) -> dict[str, Any] | None:
    """What was found before under this key with this torch, or what `compute` finds."""
    text = json.dumps([VERSION, version("torch"), version("timm"), *key], sort_keys=True)
    path = cache_dir / "cost" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json" if cache_dir else None
    if path is not None:
        with contextlib.suppress(OSError, ValueError):  # a cache that cannot be read is none
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
    if compute is None:
        return None
    made = compute()
    if path is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(".new")
            aside.write_text(json.dumps(made), encoding="utf-8")
            aside.replace(path)
    return made
