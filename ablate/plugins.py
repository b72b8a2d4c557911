"""What other packages bring: entry points, installed or in a folder that the user names (`--plugins DIR`).

A study file can name what is registered here; it can never make anything be imported.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablate.errors import UsageError

GROUPS = ("ablate.tasks", "ablate.attention", "ablate.models", "ablate.data", "ablate.metrics")

_GROUPS = ", ".join(GROUPS)

KINDS = {
    "ablate.tasks": "task",
    "ablate.attention": "attention",
    "ablate.models": "network",
    "ablate.data": "data set",
    "ablate.metrics": "metric",
}

VARIABLE = "ABLATE_PLUGINS"
"""Folders of `--plugins`, separated like a PATH; worker processes inherit it."""


@dataclass(frozen=True)
class Plugin:
    """An entry point and the package that it is from: what a run says of the code that is not ours."""

    group: str
    name: str
    value: str
    package: str | None = None
    version: str | None = None
    folder: str | None = None
    """Where it was found, if it came by `--plugins`."""
    source: str | None = None
    """SHA-256 of its Python files: a folder is edited without a new version."""

    @property
    def kind(self) -> str:
        return KINDS.get(self.group, self.group)

    @property
    def remedy(self) -> str:
        """How to get it back."""
        if self.folder is not None:
            return f"give its folder with --plugins (it was {self.folder})"
        wanted = f"{self.package}=={self.version}" if self.package and self.version else self.package or "its package"
        return f"install {wanted}, or give its folder with --plugins DIR"


def plugin(point: EntryPoint) -> Plugin:
    """Where an entry point comes from. Imports nothing."""
    digest = source_digest(point.module)
    if point.dist is not None:
        dist = point.dist
        return Plugin(point.group, point.name, point.value, dist.metadata["Name"], dist.version, source=digest)
    for folder in folders():
        if _declared(folder).get(point.group, {}).get(point.name) == point.value:
            project = _project(folder)
            named = (str(project.get("name", folder.name)), str(project.get("version", "")) or None)
            return Plugin(point.group, point.name, point.value, *named, str(folder), digest)
    return Plugin(point.group, point.name, point.value, source=digest)


def source_digest(module: str) -> str | None:
    """SHA-256 of the Python files of the package that a module is in; None if they cannot be found.

    `importlib.util.find_spec` would import the packages around a module; this asks for the outermost alone.
    """
    spec = PathFinder.find_spec(module.partition(".")[0])
    if spec is None:
        return None
    roots = [Path(place) for place in spec.submodule_search_locations or ()]
    files = sorted(path for root in roots for path in root.rglob("*.py"))
    if not roots and spec.origin is not None:
        files, roots = [Path(spec.origin)], [Path(spec.origin).parent]
    whole = hashlib.sha256()
    for path in files:
        place = next(path.relative_to(root).as_posix() for root in roots if path.is_relative_to(root))
        whole.update(f"{place}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest() if files else None


def entries(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of a group by name, those of folders first. Imports nothing.

    Raises UsageError if two packages register one name, or a folder of `ABLATE_PLUGINS` is none.
    """
    found = folders()
    return _entries(group, found, tuple(sys.path))


@lru_cache(maxsize=32)
def _entries(group: str, folders: tuple[Path, ...], path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """Once per place to look in: every cell of a grid asks, and each time all packages would be read."""
    found: dict[str, EntryPoint] = {}
    for folder in folders:
        for name, value in _declared(folder).get(group, {}).items():
            _add(found, EntryPoint(name=name, value=value, group=group))
    for point in entry_points(group=group):
        _add(found, point)
    return MappingProxyType(found)


def add_folder(folder: Path) -> None:
    """Makes what the folder's pyproject.toml declares known to this process and to those that it starts.

    Raises UsageError if the folder has no pyproject.toml, or it cannot be read or declares no plug-in.
    """
    folder = folder.expanduser().absolute()
    if not _declared(folder):
        raise UsageError(f"{folder}: no plug-in: its pyproject.toml has no [project.entry-points] of {_GROUPS}")
    known = [str(path) for path in folders()]
    if str(folder) not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, str(folder)])
    folders()


def folders() -> tuple[Path, ...]:
    """The folders of `ABLATE_PLUGINS`; what they hold can be imported from here on."""
    found = tuple(Path(text) for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text)
    for folder in found:
        for place in (folder / "src", folder):
            if place.is_dir() and str(place) not in sys.path:
                sys.path.append(str(place))
    return found


def _declared(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """The entry points of `folder/pyproject.toml`, by group."""
    points = _project(folder).get("entry-points", {})
    return {
        group: {str(name): str(value) for name, value in points[group].items()}
        for group in GROUPS
        if isinstance(points, dict) and isinstance(points.get(group), dict)
    }


def _project(folder: Path) -> Mapping[str, Any]:
    """The table `project` of `folder/pyproject.toml`. Raises UsageError."""
    path = folder / "pyproject.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: no plug-in: it has no pyproject.toml with [project.entry-points] of {_GROUPS}"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    project = content.get("project", {})
    return project if isinstance(project, dict) else {}


def _add(found: dict[str, EntryPoint], point: EntryPoint) -> None:
    other = found.setdefault(point.name, point)
    if other.value != point.value:
        raise UsageError(
            f"{point.group} {point.name!r} is registered twice, as {other.value} and as {point.value}; "
            "uninstall one of the two packages"
        )
