"""What of a configuration does not suit its network, and how the network's own values are spelled. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ablate.depth.conflicts import Conflict
from ablate.depth.model import specs
from ablate.depth.model.specs import NetworkSpec, heads_problem, taps_problem

if TYPE_CHECKING:
    from ablate.depth.config import ModelSettings

NAME = "model.name"


def own_spellings(model: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `model`, not yet validated, with what is the network's own anyway left out.

    So a run has one id, whether the network's heads, taps and readout are spelled or not.
    """
    values, name = dict(model), model.get("name", "dpt_hybrid")
    if name not in specs.names():
        return values
    spec = specs.load(name)
    for key, own in (("heads", spec.heads), ("taps", spec.taps), ("readout", spec.readout)):
        if _same(values.get(key), own):
            values[key] = None
    blocks, taps = values.get("attention_blocks"), values.get("taps") or spec.taps
    if isinstance(blocks, list | tuple):
        in_order = _same(blocks, tuple(range(len(blocks))))
        every = in_order and isinstance(taps, list | tuple) and taps[-1] == len(blocks) - 1
        alike = values.get("attention", "standard") == "standard" and not values.get("share_attention")
        values["attention_blocks"] = "all" if every or alike else blocks
    return values


def _same(given: Any, own: Any) -> bool:
    given = tuple(given) if isinstance(given, list) else given
    return type(given) is type(own) and given == own


def own_value(model: ModelSettings, key: str) -> Any:
    """The network's value of a setting of `model` that is not given; None for a setting that networks do not decide."""
    return getattr(specs.load(model.name), key) if key in ("heads", "taps", "readout") else None


def conflicts(model: ModelSettings, resolution: tuple[int, int]) -> Iterator[Conflict]:
    """Settings that the network cannot have, each with the remedy. `resolution` is (height, width) in training."""
    spec = specs.load(model.name)
    yield from _heads(model, spec)
    if model.taps is not None and (problem := taps_problem(spec, model.taps)):
        example = f"{model.name}'s own are {list(spec.taps)}"
        yield Conflict("model.taps", model.taps, f"{problem}; {example}", (NAME,))
    else:
        yield from _blocks(model, model.taps or spec.taps)
    if problem := size_problem(resolution, spec.stride):
        yield Conflict("data.resolution", resolution, problem, (NAME,))


def _heads(model: ModelSettings, spec: NetworkSpec) -> Iterator[Conflict]:
    heads = model.heads or spec.heads
    if problem := heads_problem(spec, heads):
        choices = ", ".join(map(str, spec.head_choices()))
        yield Conflict("model.heads", heads, f"{problem}; {model.name} can have {choices}", (NAME,))
    elif spec.rotary and model.head_dim is not None and model.head_dim != spec.embed_dim // heads:
        problem = (
            f"{model.name}'s rotary positions are made for heads of {spec.embed_dim // heads} channels, "
            f"not {model.head_dim}; leave head_dim out, or change heads"
        )
        yield Conflict("model.head_dim", model.head_dim, problem, (NAME, "model.heads"))


def _blocks(model: ModelSettings, taps: tuple[int, ...]) -> Iterator[Conflict]:
    blocks = model.attention_blocks
    if blocks == "all":
        return
    problem = None
    if not blocks:
        problem = f"no block would have {model.attention}; for none, write attention: standard"
    elif list(blocks) != sorted(set(blocks)):
        problem = f"blocks {list(blocks)} are not in ascending order, each once"
    elif blocks[-1] > taps[-1]:
        problem = f"block {blocks[-1]} is not built: {model.name} has blocks 0 to {taps[-1]}, its last tap"
    if problem:
        yield Conflict("model.attention_blocks", blocks, problem, (NAME, "model.attention", "model.taps"))


def size_problem(size: tuple[int, int], stride: int) -> str | None:
    """Why a network of that stride cannot take inputs of (height, width), with the closest size that it can."""
    if all(side > 0 and side % stride == 0 for side in size):
        return None
    height, width = size
    near = [max(stride, round(side / stride) * stride) for side in size]
    return (
        f"{height}x{width} (height x width) is not made of multiples of {stride}, the network's stride; "
        f"the closest size is [{near[0]}, {near[1]}]"
    )
