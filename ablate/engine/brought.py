"""What a run uses of other packages: written down with every attempt, and asked for when it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from ablate import plugins
from ablate.errors import RecordError, UsageError
from ablate.plugins import Plugin
from ablate.runs import journal
from ablate.runs.paths import RunPaths
from ablate.study.settings import lookup
from ablate.task import RunSettings

_TASKS = "ablate.tasks"


def used(task: str, config: RunSettings) -> tuple[Plugin, ...]:
    """The plug-ins that a run uses: those that its settings name, and those that every run of its task uses."""
    return tuple(plugins.plugin(point) for point in _points(task, config))


def _points(task: str, config: RunSettings) -> Iterator[Any]:
    for group, key in {_TASKS: None, **config.plugins}.items():
        found = plugins.entries(group)
        wanted = [task] if group == _TASKS else list(found) if key is None else [lookup(config, key)]
        yield from (found[name] for name in wanted if name in found and not found[name].value.startswith("ablate."))


def facts(task: str, config: RunSettings) -> dict[str, Any]:
    """For the facts of an attempt; nothing for a run that uses no other package."""
    found = [asdict(plugin) for plugin in used(task, config)]
    return {"plugins": found} if found else {}


def require(paths: RunPaths) -> None:
    """Raises UsageError, with the remedy, if a plug-in that the run's newest attempt used is not here."""
    for plugin in recorded(paths):
        point = plugins.entries(plugin.group).get(plugin.name)
        if point is None or point.value != plugin.value:
            package = f" of the package {plugin.package} {plugin.version or ''}".rstrip() if plugin.package else ""
            raise UsageError(
                f"{paths.name}: needs the {plugin.kind} {plugin.name!r}{package}, which is not here; {plugin.remedy}"
            )


def recorded(paths: RunPaths) -> tuple[Plugin, ...]:
    """The plug-ins that the newest attempt of a run used; nothing if its journal cannot be read."""
    newest: Mapping[str, Any] = {}
    try:
        for line in journal.read(paths.journal):
            if line.record.type == "attempt":
                newest = line.record.body
    except (OSError, RecordError):  # whoever goes on with the run will say so
        return ()
    return tuple(of_attempt(newest))


def of_attempt(body: Mapping[str, Any]) -> Iterator[Plugin]:
    """The plug-ins that an attempt's record names; whatever else it holds is left alone."""
    known = {field.name for field in fields(Plugin)}
    listed = (body.get("facts") or {}).get("plugins") or ()
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, Mapping) and {"group", "name", "value"} <= one.keys():
            yield Plugin(**{key: value for key, value in one.items() if key in known})
