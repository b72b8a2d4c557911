"""Which tasks there are: the entry points of the group `ablate.tasks`, installed or of `--plugins`, and nothing else.

A study file can name a task; it can never make one be imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint

from ablate import plugins
from ablate.errors import UsageError
from ablate.task import Task

GROUP = "ablate.tasks"

_BUILT_IN = EntryPoint(name="depth", value="ablate.depth.task:DepthTask", group=GROUP)
"""The same line as in pyproject.toml, for a checkout that is not installed (`python cli.py`)."""


class Tasks(Mapping[str, Task]):
    """Task by name; a task is imported when it is first asked for."""

    def __init__(self) -> None:
        self._points = {_BUILT_IN.name: _BUILT_IN, **plugins.entries(GROUP)}
        if self._points[_BUILT_IN.name].value != _BUILT_IN.value:
            raise UsageError(
                f"{GROUP} {_BUILT_IN.name!r} of {self._points[_BUILT_IN.name].value} has the name of the built-in task; "
                "give it another name in the package's entry points"
            )
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
        raise UsageError(
            f"no installed package offers the task {name!r}; known: {', '.join(sorted(tasks))}; "
            "install the package that has it, or give its folder with --plugins DIR"
        )
    return tasks[name]
