"""The attention family: one file each. A file's name is the value of `model.attention`.

A file defines one class marked with `@attention` (see `base`) and, where it takes settings of
`model`, a literal `OPTIONS = {"compression": 2}` (name -> default). Both are read without importing torch.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ablate import plugins

_HERE = Path(__file__).parent
_NOT_ATTENTION = {"__init__", "base"}


@cache
def built_in() -> tuple[str, ...]:
    """The attentions of this package, `standard` first."""
    found = sorted(path.stem for path in _HERE.glob("*.py") if path.stem not in _NOT_ATTENTION)
    return tuple(sorted(found, key=lambda name: name != "standard"))


def names() -> tuple[str, ...]:
    """All values of `model.attention`, those of other packages last."""
    return tuple(dict.fromkeys([*built_in(), *plugins.entries("ablate.attention")]))


@cache
def options(name: str) -> Mapping[str, Any]:
    """The settings of `model` that this attention uses, with their defaults."""
    path = _HERE / f"{name}.py"
    if name not in built_in():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["OPTIONS"]:
            return dict(ast.literal_eval(node.value))
    return {}


def all_options() -> frozenset[str]:
    """Settings of `model` that belong to attentions."""
    return frozenset(option for name in names() for option in options(name))
