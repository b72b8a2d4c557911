"""`--set key=value`: replaces a setting of `base` and pins it in every cell, before identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from ablate.errors import StudyError
from ablate.study.model import Axis, Extras, Origin, Study, explain
from ablate.study.parse import check_base, read_seeds
from ablate.study.reading import Problems, Reader, overlap
from ablate.study.settings import Catalogue, catalogue, nest
from ablate.study.yaml import Document, Trail, parse_value
from ablate.task import RunSettings

_T = TypeVar("_T")


def override(study: Study, overrides: Sequence[str], known: Catalogue) -> Study:
    """The study with every `key=value` of `overrides` applied, later ones last.

    A pinned setting is no axis any more: it leaves `grid`, `zip`, `ablate` and `baseline`. Beside the task's
    settings, `seeds=[0, 1]` (or `seed=1`), the settings of `wandb` can be set. Raises StudyError.
    """
    for text in overrides:
        study = _Option.parse(text).apply(study, known)
    if overrides:
        study = study.model_copy(update={"overrides": (*study.overrides, *overrides)})
        check_base(study, known)
    return study


@dataclass(frozen=True)
class _Option:
    name: str
    key: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> _Option:
        name = f"--set {text if text.isprintable() else ascii(text)[1:-1]}"
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise StudyError("expected key=value", file=name, hint="for instance --set train.lr=1e-4")
        if not value.strip():
            raise StudyError("there is no value", file=name, hint=f"for nothing, write --set {key}=null")
        return cls(name, key.strip(), parse_value(value, name))

    def _problems(self) -> Problems:
        return Problems(Document(self.name, "", {self.key: self.value}, {}, {}), option=self.name)

    def apply(self, study: Study, known: Catalogue) -> Study:
        if self.key in ("seed", "seeds"):
            return self._seeds(study)
        if self.key.split(".")[0] == "wandb":
            return self._wandb(study)
        problems = self._problems()
        pinned = Reader(problems, known).settings(("base",), (), {self.key: self.value})
        problems.stop_if_any()
        return _pin(study, pinned, problems.origins)

    def _seeds(self, study: Study) -> Study:
        problems = self._problems()
        seeds = read_seeds(problems, [self.value] if self.key == "seed" else self.value)
        problems.stop_if_any()
        return study.model_copy(update={"seeds": seeds})

    def _wandb(self, study: Study) -> Study:
        problems = self._problems()
        settings = Reader(problems, catalogue(Extras)).settings(("extras",), (), {self.key: self.value})
        problems.stop_if_any()
        changes = nest(settings).get("wandb", {})
        return study.model_copy(update={"wandb": study.wandb.model_copy(update=changes)})


def _pin(study: Study, pinned: Mapping[str, Any], origins: Mapping[Trail, Origin]) -> Study:
    def free(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(axis for axis in axes if not _pinned(axis.key, pinned))

    source = replace(study.source, origins={**study.source.origins, **origins})
    return study.model_copy(
        update={
            "base": {**_without(study.base, pinned), **pinned},
            "grid": free(study.grid),
            "zip": free(study.zip),
            # An entry that loses every key stays, empty, so that the others keep their places; it is no cell.
            "ablate": tuple(_without(entry, pinned) for entry in study.ablate),
            "baseline": _without(study.baseline, pinned) or None if study.baseline else None,
            "source": source,
        }
    )


def _without(settings: Mapping[str, _T], pinned: Mapping[str, Any]) -> dict[str, _T]:
    return {key: value for key, value in settings.items() if not _pinned(key, pinned)}


def _pinned(key: str, pinned: Mapping[str, Any]) -> bool:
    return any(overlap(key, other) for other in pinned)


def with_settings(config: type[RunSettings], values: Mapping[str, Any], overrides: Sequence[str]) -> RunSettings:
    """A stored configuration with `key=value` overrides applied. Raises StudyError as `override` does."""
    known = catalogue(config)
    study = override(Study(study="run"), overrides, known)
    try:
        return config.model_validate(merged(dict(values), nest(study.base)))
    except ValidationError as error:
        raise explain(error.errors(), known, study.source) from None


def merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with nested `changes` laid over them."""
    for key, change in changes.items():
        old = values.get(key)
        values[key] = merged(dict(old), change) if isinstance(old, Mapping) and isinstance(change, Mapping) else change
    return values
