"""What a task's configuration class accepts, setting by setting, under dotted keys such as `train.lr`."""

from __future__ import annotations

import difflib
import itertools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from ablate.study.yaml import Trail, shown

_SCALARS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    types.NoneType: "null",
}
_ACCEPTED: dict[type, set[type]] = {bool: {bool}, int: {int, float}, float: {int, float}, str: {str, Path}}
"""Which fields take a YAML value of a type."""
PLUGIN_HINT = "a plug-in's names are known once its package is installed, or its folder is given with --plugins DIR"
_WORDS = {
    "Input should be ": "expected ",
    "Input is not ": "expected ",
    "a valid integer": "a whole number",
    "a valid string": "text",
    "a valid number": "a number",
    "a valid tuple": "a list",
    "a valid boolean": "true or false",
}
"""pydantic's words and ours."""


@dataclass(frozen=True)
class Setting:
    """One leaf: `owner.field` is reached from the configuration by `key`."""

    key: str
    owner: type[BaseModel]
    field: str

    @property
    def info(self) -> FieldInfo:
        return self.owner.model_fields[self.field]

    @property
    def identity(self) -> bool:
        """Whether the setting can change a result."""
        return is_identity(self.info)


@dataclass(frozen=True)
class Group:
    """A nested configuration class; `optional` if null is accepted in its place."""

    key: str
    config: type[BaseModel]
    optional: bool


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a value; `trail` leads to the offending part of it."""

    problem: str
    hint: str | None = None
    trail: Trail = ()


@dataclass(frozen=True)
class Catalogue:
    """Every setting of a configuration class, by dotted key, in declared order."""

    config: type[BaseModel]
    settings: Mapping[str, Setting]
    groups: Mapping[str, Group]

    def closest(self, key: str) -> str | None:
        """The known dotted key that `key` was probably meant to be."""
        group, _, last = key.rpartition(".")
        if group in self.groups or not group:
            siblings = self.groups[group].config if group else self.config
            if found := closest(last, siblings.model_fields):
                return f"{group}.{found}" if group else found
        tails: dict[str, str] = {}
        for name in self.settings:
            tails.setdefault(name.rpartition(".")[2], name)
        if last in tails:
            return tails[last]
        if not group:
            return tails.get(closest(last, tails) or "")
        return None if group in self.groups else closest(key, self.settings)

    def can_differ(self, key: str) -> bool:
        """Whether two cells that differ only in this setting can give different results.

        A path is no part of a run's identity, but the file it names is.
        """
        setting = self.settings[key]
        return setting.identity or Path in _members(setting.info.annotation)

    def check(self, key: str, value: Any) -> Iterator[Complaint]:
        """What is wrong with `value` as a value of the setting `key`, looked at alone."""
        setting = self.settings[key]
        if complaint := _converted(setting.info.annotation, value, ()):
            yield complaint
            return
        try:
            setting.owner.model_validate({setting.field: value})
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                # Missing neighbours, and rules over several settings, are judged on whole cells.
                if detail["loc"][:1] == (setting.field,):
                    yield self.complain(detail, key, detail["loc"][1:])

    def complain(self, detail: ErrorDetails, key: str, trail: Sequence[str | int] = ()) -> Complaint:
        """One of pydantic's errors about the setting or group `key` in the words of a study."""
        found = complain(detail, self.settings.get(key), trail)
        brought = getattr(self.config, "plugins", {}).values()
        if found.hint is None and key in brought and isinstance(detail["input"], str):
            return replace(found, hint=PLUGIN_HINT)
        return found

    def default(self, key: str) -> Any:
        """The default of a setting; None if it is required, or inside a group that is null by default."""
        first, *rest = key.split(".")
        value = self.config.model_fields[first].get_default(call_default_factory=True, validated_data={})
        for part in rest:
            value = getattr(value, part, None)
        return None if value is PydanticUndefined else value


@cache
def catalogue(config: type[BaseModel]) -> Catalogue:
    settings: dict[str, Setting] = {}
    groups: dict[str, Group] = {}

    def walk(owner: type[BaseModel], prefix: str, above: tuple[type[BaseModel], ...]) -> None:
        for name, info in owner.model_fields.items():
            inner, optional = nested_class(info)
            if inner is None or inner in above:
                settings[prefix + name] = Setting(prefix + name, owner, name)
            else:
                groups[prefix + name] = Group(prefix + name, inner, optional)
                walk(inner, f"{prefix}{name}.", (*above, inner))

    walk(config, "", (config,))
    return Catalogue(config, settings, groups)


def is_identity(info: FieldInfo) -> bool:
    extra = info.json_schema_extra
    return not (isinstance(extra, dict) and extra.get("identity") is False)


def nested_class(info: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """The configuration class that a field holds, if it holds one, and whether it may be null."""
    members = [*_members(info.annotation)]
    models = [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]
    rest = [member for member in members if member not in models and member is not types.NoneType]
    return (models[0] if len(models) == 1 and not rest else None), types.NoneType in members


def _members(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, `Annotated` unwrapped."""
    origin = get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def choices(setting: Setting) -> tuple[Any, ...]:
    """The values that a setting is limited to, if it is."""
    extra = setting.info.json_schema_extra
    if isinstance(extra, dict) and isinstance(listed := extra.get("enum"), list):
        return tuple(listed)
    return tuple(_literals(setting.info.annotation))


def _literals(annotation: Any) -> Iterator[Any]:
    for member in _members(annotation):
        if get_origin(member) is Literal:
            yield from get_args(member)
        elif get_origin(member) in (tuple, list):
            for part in get_args(member):
                yield from _literals(part)


def takes_list(setting: Setting) -> bool:
    """Whether a value of the setting is itself a list."""
    origins = {get_origin(member) or member for member in _members(setting.info.annotation)}
    return bool(origins & {tuple, list, set, frozenset, Sequence, Any})


def _converted(annotation: Any, value: Any, trail: Trail) -> Complaint | None:
    """Refuses the silent conversions of pydantic's lax mode: 'true' to 1, '3' in quotes to 3, 1 to true."""
    if isinstance(value, list):
        parts = [part for member in _members(annotation) for part in get_args(member) if part is not Ellipsis]
        inner = Union[tuple(parts)] if parts else Any  # noqa: UP007 - the members are only known at run time
        found = (_converted(inner, item, (*trail, index)) for index, item in enumerate(value))
        return next((complaint for complaint in found if complaint), None)
    wanted = {type(item) for item in _literals(annotation)}
    wanted |= {member for member in _members(annotation) if get_origin(member) is not Literal}
    if not wanted <= _SCALARS.keys() or value is None or isinstance(value, dict):
        return None
    if wanted & _ACCEPTED.get(type(value), wanted):
        return None
    quoted = isinstance(value, str) and bool(wanted & {int, float}) and _numeric(value)
    hint = "remove the quotes" if quoted else None
    return Complaint(f"expected {_expected(wanted)}, found {shown(value)}", hint, trail)


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _expected(wanted: Iterable[type]) -> str:
    return " or ".join(name for kind, name in _SCALARS.items() if kind in set(wanted))


def complain(detail: ErrorDetails, setting: Setting | None, trail: Sequence[str | int] = ()) -> Complaint:
    """One of pydantic's errors in the words of a study."""
    value, message = detail["input"], detail["msg"]
    indices = tuple(part for part in trail if isinstance(part, int))
    options = choices(setting) if setting else ()
    if detail["type"] == "missing":
        if indices and isinstance(value, dict):
            return Complaint(f"{shown(value)} lacks {detail['loc'][-1]}", None, indices)
        return Complaint(f"the list {shown(value)} is too short" if indices else "a value is required")
    if options and not isinstance(value, list | dict) and value not in options:
        close = closest(value, options) if isinstance(value, str) else None
        listed = ", ".join(str(option) for option in options)
        return Complaint(f"expected one of {listed}; found {shown(value)}", _did_you_mean(close), indices)
    if detail["type"] == "value_error":
        return Complaint(message.removeprefix("Value error, "), None, indices)
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    hint = None
    if isinstance(value, list) and setting is not None and not takes_list(setting):
        hint = "one value is expected here; several values to try belong under `grid:`"
    return Complaint(f"{message[:1].lower()}{message[1:]}, found {shown(value)}", hint, indices)


def _did_you_mean(close: str | None) -> str | None:
    return f"did you mean {close}?" if close else None


def closest(word: str, options: Iterable[Any]) -> str | None:
    """The option that `word` was probably meant to be."""
    texts = [str(option)[:100] for option in itertools.islice(options, 1000)]
    lower = {text.lower(): text for text in reversed(texts)}
    found = difflib.get_close_matches(word[:100].lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def nest(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted settings as nested mappings, later layers over earlier ones.

    A group set to null is filled again by a later setting inside it.
    """
    nested: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            *parents, last = key.split(".")
            inner = nested
            for parent in parents:
                if not isinstance(inner.get(parent), dict):
                    inner[parent] = {}
                inner = inner[parent]
            inner[last] = dict(value) if isinstance(value, dict) else value
    return nested


def lookup(config: BaseModel, key: str) -> Any:
    """The value of a dotted setting of a validated configuration; None inside a group that is null."""
    value: Any = config
    for part in key.split("."):
        if value is None:
            return None
        value = getattr(value, part)
    return value


_PLAIN = frozenset({str, int, float, types.NoneType})


def freeze(value: Any) -> Any:
    """A hashable stand-in: equal for values that mean the same (1 and 1.0, a list and a tuple), unlike True and 1."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, Mapping):
        return ("map", frozenset((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, BaseModel):
        return freeze(value.model_dump())
    return str(value) if isinstance(value, Path) else value
