"""The JSON Schema of study files, for editors: completion, descriptions and early complaints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ablate.study.model import WandbSettings
from ablate.study.parse import DEFAULT_TASK, MAX_SEED, NAME
from ablate.study.remarks import MAX_NOTE
from ablate.study.scheduling import MAX_REASON, SIZE
from ablate.study.settings import Catalogue, catalogue
from ablate.task import Json, RunSettings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SECTIONS = {
    "base": "What every cell starts from.",
    "grid": "Axes of a full product: a setting and the list of its values, or {values, when}.",
    "zip": "Axes that move together: lists of one length.",
    "ablate": "One change at a time against base: each entry is one cell.",
    "exclude": "Cells to leave out, by some of their settings.",
    "baseline": "Settings of the cells that reports compare with.",
    "compare": "What a difference stands for: `matched` arms differ in the factor alone; `tuned` ones are at their best.",
    "metric": "What verdicts are about; the metric of eval.select if not given.",
    "priority": "Cells to train first: higher values go before lower ones; 0 if no entry matches.",
    "defer": "Cells that are not trained unless --deferred is given, each with its reason.",
    "resources": "Memory that a run reserves on its device: one entry for all cells, or a list.",
    "notes": "What readers of the results must know; shown by plan, show and report.",
    "unknown": "Settings that the source of the cells does not state: tables show `unknown` in place of the value.",
}


def json_schema(configs: Mapping[str, type[RunSettings]]) -> dict[str, Json]:
    """The JSON Schema (2020-12) of a study file, given the configuration class of every task by name."""
    classes: list[type[BaseModel]] = [WandbSettings]
    for config in configs.values():
        classes += [config, *(group.config for group in catalogue(config).groups.values())]
    references, shared = models_json_schema(
        [(one, "validation") for one in dict.fromkeys(classes)], ref_template="#/$defs/{model}"
    )
    definitions: dict[str, Any] = shared["$defs"]
    names: dict[Any, str] = {
        one: reference["$ref"].removeprefix("#/$defs/") for (one, _), reference in references.items()
    }
    for definition in definitions.values():
        _loosen(definition)
    tasks = {task: _Sections(task, catalogue(config), definitions, names).all() for task, config in configs.items()}
    common = _common(configs, names[WandbSettings])
    schema: dict[str, Any] = {
        "$schema": DIALECT,
        "title": "ablate study",
        "type": "object",
        "required": ["study"],
        "additionalProperties": False,
        "properties": common | {key: {"description": text} for key, text in _SECTIONS.items()},
    }
    if len(tasks) == 1:  # without conditions editors complete better
        for key, section in next(iter(tasks.values())).items():
            schema["properties"][key] |= section
    else:
        schema["allOf"] = [_only_for(task, sections) for task, sections in tasks.items()]
    return schema | {"$defs": definitions}


def _loosen(definition: dict[str, Any]) -> None:
    """Nothing is required, since an axis may give it; our own marks are no part of JSON Schema."""
    definition.pop("required", None)
    for setting in definition.get("properties", {}).values():
        setting.pop("identity", None)


def _common(configs: Mapping[str, type[RunSettings]], wandb: str) -> dict[str, Any]:
    seed = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
    return {
        "study": {"type": "string", "pattern": f"^{NAME}$", "description": "The name of the study."},
        "task": {"enum": sorted(configs), "default": DEFAULT_TASK, "description": "The kind of experiment."},
        "seeds": _list_of(seed) | {"default": [0], "description": "Every cell is run once per seed."},
        "wandb": _or_null(_reference(wandb)) | {"description": "The optional mirror to Weights & Biases."},
    }


def _only_for(task: str, sections: Mapping[str, Any]) -> dict[str, Any]:
    condition: dict[str, Any] = {"properties": {"task": {"const": task}}}
    if task != DEFAULT_TASK:
        condition["required"] = ["task"]
    return {"if": condition, "then": {"properties": dict(sections)}}


@dataclass(frozen=True)
class _Sections:
    """The sections whose keys are the settings of one task; parts used twice go to `definitions`."""

    task: str
    known: Catalogue
    definitions: dict[str, Any]
    names: Mapping[Any, str]

    def all(self) -> dict[str, Any]:
        root = self.definitions[self.names[self.known.config]]["properties"]
        root.pop("seed", None)  # given by `seeds:`
        dotted = {key: self._setting(key) for key in self.known.settings if key != "seed"}
        optional = {key: self._group(key) for key, group in self.known.groups.items() if group.optional}
        single = self._define("settings", _mapping({**dotted, **optional, **root}))
        several = {key: {"anyOf": [value, _list_of(value)]} for key, value in dotted.items()}
        match = self._define(
            "match",
            _mapping({**several, **optional, **{key: of_root for key, of_root in root.items() if key not in dotted}}),
        )
        when = self._define("when", _mapping(several))
        axes = {key: _list_of(value) for key, value in dotted.items()}
        conditional = {key: {"anyOf": [axis, _conditional(axis, when)]} for key, axis in axes.items()}
        entries = {"type": "array", "items": single | {"minProperties": 1}}
        return {
            "base": _or_null(single),
            "grid": _or_null(_mapping(conditional)),
            "zip": _or_null(_mapping(axes)),
            "ablate": _or_null(entries),
            "exclude": _or_null({"type": "array", "items": match | {"minProperties": 1}}),
            "baseline": _or_null(single | {"minProperties": 1}),
            "compare": _compare(sorted(self.known.settings)),
            "metric": _or_null({"type": "string"}),
        } | self._matching(match)

    def _matching(self, match: dict[str, Any]) -> dict[str, Any]:
        seed = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
        seeds = {"anyOf": [seed, _list_of(seed)]}
        settings = self.definitions[match["$ref"].removeprefix("#/$defs/")]["properties"]
        cells = self._define("cells", _mapping({**settings, "seed": seeds}) | {"minProperties": 1})

        def entry(key: str, value: dict[str, Any]) -> dict[str, Any]:
            return _mapping({"match": _or_null(cells), key: value}) | {"required": [key]}

        reservation = entry("memory", {"type": "string", "pattern": f"^{SIZE}$", "description": "Such as 6GB."})
        return {
            "priority": _or_null(_any_number_of(entry("value", {"type": "number"}))),
            "defer": _or_null(
                _any_number_of(entry("reason", {"type": "string", "minLength": 1, "maxLength": MAX_REASON}))
            ),
            "resources": _or_null({"anyOf": [reservation, _any_number_of(reservation)]}),
            "notes": _or_null(_any_number_of(entry("text", {"type": "string", "minLength": 1, "maxLength": MAX_NOTE}))),
            "unknown": _or_null(_any_number_of(entry("settings", _list_of({"enum": self._keys()})))),
        }

    def _keys(self) -> list[str]:
        return sorted({*self.known.settings, *self.known.groups, "seed"})

    def _define(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        self.definitions[f"{self.task}:{name}"] = schema
        return _reference(f"{self.task}:{name}")

    def _setting(self, key: str) -> dict[str, Any]:
        setting = self.known.settings[key]
        return self._define(key, self.definitions[self.names[setting.owner]]["properties"][setting.field])

    def _group(self, key: str) -> dict[str, Any]:
        return _or_null(_reference(self.names[self.known.groups[key].config]))


def _compare(keys: list[str]) -> dict[str, Any]:
    key = {"enum": [one for one in keys if one != "seed"]}
    tuned = _mapping({"over": {"anyOf": [key, _list_of(key)]}, "trials": {"type": "integer", "minimum": 1}})
    return {
        "anyOf": [
            {"const": "matched"},
            _mapping({"tuned": tuned | {"required": ["over", "trials"]}}) | {"required": ["tuned"]},
            {"type": "null"},
        ]
    }


def _mapping(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _conditional(axis: Mapping[str, Any], when: Mapping[str, Any]) -> dict[str, Any]:
    return _mapping({"values": axis, "when": _or_null(when)}) | {"required": ["values"]}


def _list_of(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(item), "minItems": 1, "uniqueItems": True}


def _any_number_of(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(item)}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [dict(schema), {"type": "null"}]}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}
