"""What makes two runs the same run: a hash over the settings that can change a result.

The id of a run is the first eight base32 letters of the SHA-256 of canonical JSON
`{"digests": …, "recipe": …, "settings": …, "task": …}`, where `settings` are those that differ from their
defaults, by dotted key. Changing anything here gives every run of every user another name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from ablate.study.settings import freeze, is_identity
from ablate.task import Json, RunSettings, Task

ID_LENGTH = 8
MAX_SLUG = 60


@dataclass(frozen=True)
class Identity:
    """Which run a configuration is: `run_id` for people, `hash` for machines, `name` for its directory."""

    run_id: str
    hash: str
    name: str
    settings: Mapping[str, Json] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


def identify(task: Task, config: RunSettings) -> Identity:
    """The identity of a configuration. Raises DataError if a file that belongs to it is missing."""
    settings, digests = identity_settings(config), dict(task.digests(config))
    content = {"digests": digests, "recipe": task.recipe, "settings": settings, "task": task.name}
    digest = hashlib.sha256(canonical_json(content).encode("ascii"))
    run_id = base64.b32encode(digest.digest()).decode("ascii").lower()[:ID_LENGTH]
    return Identity(run_id, digest.hexdigest(), run_name(task.slug(config), run_id), settings, digests)


def run_name(text: str, run_id: str) -> str:
    """What the directory of a run is called."""
    return f"{_slug(text)}-{run_id}"


def _slug(text: str) -> str:
    """`text` as a safe beginning of a directory name: lower case letters, digits, dots and dashes."""
    slug = re.sub(r"[^a-z0-9.]+", "-", text.lower())
    slug = re.sub(r"\.{2,}", ".", slug)[:MAX_SLUG].strip("-.")
    return slug or "run"


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, floats as `repr` gives them.

    Tuples are lists, paths are text and -0.0 is 0.0. Raises ValueError for numbers that are not finite,
    TypeError for what JSON cannot hold.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plain(value: Any) -> Json:
    """`value` in terms of JSON. Raises ValueError and TypeError as `canonical_json` does."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        if odd := next((key for key in value if not isinstance(key, str)), None):
            raise TypeError(f"the key {odd!r} is not text")
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=canonical_json)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    raise TypeError(f"{type(value).__name__} has no canonical form")


def identity_settings(config: BaseModel) -> dict[str, Json]:
    """The settings of `config` that differ from their defaults and can change a result, by dotted key."""
    return {key: plain(_identifying(value)) for key, value in _differing(config, None, "", exempt=False)}


def _identifying(value: Any) -> Any:
    """A value without what, in the settings within a list, cannot change a result."""
    if isinstance(value, BaseModel):
        return {item.name: _identifying(getattr(value, item.name)) for item in _fields(type(value)) if item.identity}
    return [_identifying(item) for item in value] if isinstance(value, list | tuple) else value


def cell_key(config: BaseModel) -> Hashable:
    """Equal for configurations that are the same run as far as can be known without opening a file.

    Unlike `identity_settings` it keeps paths: files at two paths may hold different things.
    """
    return tuple((key, freeze(value)) for key, value in _differing(config, None, "", exempt=True))


@dataclass(frozen=True)
class _Field:
    name: str
    default: Any
    identity: bool


@cache
def _fields(owner: type[BaseModel]) -> Sequence[_Field]:
    return [
        _Field(name, info.get_default(call_default_factory=True, validated_data={}), is_identity(info))
        for name, info in owner.model_fields.items()
    ]


def _differing(
    config: BaseModel, defaults: BaseModel | None, prefix: str, *, exempt: bool
) -> Iterator[tuple[str, Any]]:
    """Settings of `config` that are not as in `defaults`, or not as its class says; with paths if `exempt`."""
    for item in _fields(type(config)):
        value = getattr(config, item.name)
        default = getattr(defaults, item.name, item.default) if defaults is not None else item.default
        if not item.identity and not (exempt and isinstance(value, PurePath)):
            continue
        if not isinstance(value, BaseModel):
            if value is not default and freeze(value) != freeze(default):
                yield prefix + item.name, value
            continue
        key = prefix + item.name
        if isinstance(default, BaseModel) and type(default) is type(value):
            yield from _differing(value, default, f"{key}.", exempt=exempt)
        else:
            inner = list(_differing(value, None, f"{key}.", exempt=exempt))
            # A group that is null by default and present with nothing but defaults still differs.
            yield from inner or [(key, {})]
