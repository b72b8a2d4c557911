"""Which tasks there are: the installed entry points of the group `ablate.tasks`, and nothing else.

A study file can name a task; it can never make one be imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from ablate.errors import UsageError
from ablate.task import Task

GROUP = "ablate.tasks"

_BUILT_IN = EntryPoint(name="depth", value="ablate.depth.task:DepthTask", group=GROUP)
"""The same line as in pyproject.toml, for a checkout that is not installed (`python cli.py`)."""


class Tasks(Mapping[str, Task]):
    """Task by name; a task is imported when it is first asked for."""

    def __init__(self) -> None:
        self._points = {_BUILT_IN.name: _BUILT_IN} | {point.name: point for point in entry_points(group=GROUP)}
        self._loaded: dict[str, Task] = {}

    def __getitem__(self, name: str) -> Task:
        if name not in self._points:
            raise KeyError(name)
        if name not in self._loaded:
            self._loaded[name] = self._points[name].load()()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)


def find_task(name: str) -> Task:
    """Raises UsageError if no installed package offers the task."""
    tasks = Tasks()
    if name not in tasks:
        raise UsageError(f"no installed package offers the task {name!r}; known: {', '.join(sorted(tasks))}")
    return tasks[name]
