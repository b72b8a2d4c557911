"""What other packages bring: entry points, installed or in a folder that the user names (`--plugins DIR`).

A study file can name what is registered here; it can never make anything be imported.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from ablate.errors import UsageError

GROUPS = ("ablate.tasks", "ablate.attention", "ablate.models", "ablate.data", "ablate.metrics")

VARIABLE = "ABLATE_PLUGINS"
"""Folders of `--plugins`, separated like a PATH; worker processes inherit it."""


def entries(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of a group by name, those of folders first. Imports nothing.

    Raises UsageError if two packages register one name, or a folder of `ABLATE_PLUGINS` is none.
    """
    found: dict[str, EntryPoint] = {}
    for folder in folders():
        for name, value in _declared(folder).get(group, {}).items():
            _add(found, EntryPoint(name=name, value=value, group=group))
    for point in entry_points(group=group):
        _add(found, point)
    return found


def add_folder(folder: Path) -> None:
    """Makes what the folder's pyproject.toml declares known to this process and to those that it starts.

    Raises UsageError if the folder has no pyproject.toml or it cannot be read.
    """
    folder = folder.expanduser().absolute()
    _declared(folder)
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
    path = folder / "pyproject.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: no plug-in: it has no pyproject.toml with [project.entry-points] of {', '.join(GROUPS)}"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    points = content.get("project", {}).get("entry-points", {})
    return {group: points[group] for group in GROUPS if isinstance(points.get(group), dict)}


def _add(found: dict[str, EntryPoint], point: EntryPoint) -> None:
    other = found.setdefault(point.name, point)
    if other.value != point.value:
        raise UsageError(
            f"{point.group} {point.name!r} is registered twice, as {other.value} and as {point.value}; "
            "uninstall one of the two packages"
        )
