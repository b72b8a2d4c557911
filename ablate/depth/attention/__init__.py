"""The attention family: one file each. A file's name is the value of `model.attention`.

A file defines one class marked with `@attention` (see `base`) and, where it takes settings of `model`, a literal
`OPTIONS = {"compression": 2}` (name -> default). `AS_LOGGED = True` marks one that repeats the progress log's
mistakes. Other packages register a class under the entry points `ablate.attention`; the file of that class may have
an `OPTIONS` too, of settings that exist. All of this is read without importing anything, torch least of all.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from ablate import plugins
from ablate.errors import UsageError

_HERE = Path(__file__).parent
_NOT_ATTENTION = {"__init__", "base"}


@cache
def built_in() -> tuple[str, ...]:
    """The attentions of this package, `standard` first."""
    found = sorted(path.stem for path in _HERE.glob("*.py") if path.stem not in _NOT_ATTENTION)
    return tuple(sorted(found, key=lambda name: name != "standard"))


def plugged() -> Mapping[str, EntryPoint]:
    """The attentions of other packages, by name. Imports nothing.

    Raises UsageError if one has the name of a built-in.
    """
    return _plugged(os.environ.get(plugins.VARIABLE, ""), tuple(sys.path))


@lru_cache(maxsize=8)
def _plugged(folders: str, path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """Once per place to look in: every cell of a grid asks."""
    found = plugins.entries("ablate.attention")
    for name in sorted(found.keys() & set(built_in())):
        raise UsageError(
            f"ablate.attention {name!r} of {found[name].value} has the name of a built-in attention; "
            "give it another name in the package's entry points"
        )
    return found


def names() -> tuple[str, ...]:
    """All values of `model.attention`, those of other packages last."""
    return (*built_in(), *plugged())


def options(name: str) -> Mapping[str, Any]:
    """The settings of `model` that this attention uses, with their defaults.

    Raises ValueError if a plug-in's names one that does not exist.
    """
    if name in built_in():
        return dict(_literals(_HERE / f"{name}.py").get("OPTIONS", {}))
    point = plugged().get(name)
    source = _source(point.module) if point else None
    found: dict[str, Any] = dict(_literals(source).get("OPTIONS", {})) if source else {}
    for option in sorted(found.keys() - all_options()):
        raise ValueError(
            f"attention {name!r}: OPTIONS of {source} names {option!r}, which is no setting of an attention; "
            f"expected some of {', '.join(sorted(all_options()))}"
        )
    return found


@cache
def all_options() -> frozenset[str]:
    """Settings of `model` that belong to attentions."""
    return frozenset(option for name in built_in() for option in options(name))


def as_logged(name: str) -> bool:
    """Whether this attention repeats what the progress log ran, mistakes and all, instead of what its name says."""
    return name in built_in() and _literals(_HERE / f"{name}.py").get("AS_LOGGED", False) is True


@cache
def _literals(path: Path) -> Mapping[str, Any]:
    """`NAME = literal` at the top level of a file, for the names that this family gives a meaning."""
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id in ("OPTIONS", "AS_LOGGED"):
                found[target.id] = ast.literal_eval(node.value)
    return found


def _source(module: str) -> Path | None:
    """The file of a module. `importlib.util.find_spec` would import its packages; this asks the finders alone."""
    path, origin = None, None
    parts = module.split(".")
    for depth in range(len(parts)):
        name = ".".join(parts[: depth + 1])
        specs = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return None
        path, origin = spec.submodule_search_locations, spec.origin
    return Path(origin) if origin and origin.endswith(".py") else None
