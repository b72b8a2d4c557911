"""What a network consists of: parameters by part, and modules that are used under several names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TypeVar

from torch import nn

from ablate.depth.model.dpt import DPT
from ablate.depth.model.specs import NetworkSpec
from ablate.task import Part

T = TypeVar("T")

LAST_NORM = r"pretrained\.model\.norm\."
"""Used where tapped tokens pass it (`NetworkSpec.tap_norm`), and else carried along as the classifier is."""

PARTS = (
    # unused: carried along because the published checkpoints have them
    ("unused", r"pretrained\.model\.head\.|scratch\.refinenet4\.resConfUnit1\."),
    ("backbone", r"pretrained\.model\.patch_embed\.backbone\."),
    ("embedding", r"pretrained\.model\.(patch_embed\.proj\.|cls_token|reg_token|pos_embed)"),
    ("attention", r"pretrained\.model\.blocks\.\d+\.attn\."),
    ("mlp", r"pretrained\.model\.blocks\.\d+\.mlp\."),
    # with the layer scales, which timm's ViT names ls1.gamma and its DINOv3 gamma_1
    ("norms", r"pretrained\.model\.(norm\.|blocks\.\d+\.(norm|ls\d|gamma_))"),
    ("reassemble", r"pretrained\.act_postprocess"),
    ("decoder", r"scratch\.(layer|refinenet)"),
    ("head", r"scratch\.output_conv\."),
)
"""Name and pattern of the parameters of a part; the first that matches counts."""


def count(model: nn.Module) -> int:
    """Parameters, each counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def parts(model: DPT, filled: Collection[str] | None = None) -> tuple[Part, ...]:
    """The parts of a DPT, whose parameters add up to `count`, followed by its shared modules, if any.

    `filled`: the names of the tensors that come from a file of weights; None if there is no such file.
    """
    totals = dict.fromkeys((name for name, _ in PARTS), 0)
    given = dict(totals)
    for key, parameter in model.named_parameters():
        part = part_of(key, model.spec)
        totals[part] += parameter.numel()
        given[part] += parameter.numel() if filled is not None and key in filled else 0
    found = [
        Part(name, total, pretrained=None if filled is None else given[name] / total)
        for name, total in totals.items()
        if total
    ]
    return (*found, *shared(model))


def part_of(key: str, spec: NetworkSpec) -> str:
    """The part that a tensor of `state_dict` belongs to, by its name. Raises ValueError if it belongs to none."""
    if re.match(LAST_NORM, key) and not spec.tap_norm:
        return "unused"
    for name, pattern in PARTS:
        if re.match(pattern, key):
            return name
    raise ValueError(f"{key} belongs to no part of a DPT; add a pattern to PARTS")


def shared(model: nn.Module) -> tuple[Part, ...]:
    """Modules with parameters that are reached under several names, and single parameters that are.

    Blocks that secretly share an attention train as one: an ablation that compares their number would lie.
    A module inside of a shared one is not named again.
    """
    found: list[Part] = []
    covered: set[int] = set()
    for names, module in _by_identity(model.named_modules(remove_duplicate=False)):
        parameters = list(module.parameters())
        if len(names) > 1 and parameters and id(module) not in covered:
            found.append(Part(names[0], sum(p.numel() for p in parameters), tuple(names[1:])))
            covered.update(id(inner) for inner in module.modules())
            covered.update(id(parameter) for parameter in parameters)
    for names, parameter in _by_identity(model.named_parameters(remove_duplicate=False)):
        if len(names) > 1 and id(parameter) not in covered:
            found.append(Part(names[0], parameter.numel(), tuple(names[1:])))
    return tuple(found)


def _by_identity(named: Iterator[tuple[str, T]]) -> list[tuple[list[str], T]]:
    """Objects in the order of their first name, with all their names."""
    groups: dict[int, tuple[list[str], T]] = {}
    for name, thing in named:
        groups.setdefault(id(thing), ([], thing))[0].append(name)
    return list(groups.values())
