"""A study that has been validated: frozen, and still aware of where in its file everything stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

from ablate.errors import StudyError
from ablate.study.estimand import Estimand, Matched
from ablate.study.settings import Catalogue, Complaint
from ablate.study.yaml import Trail, printable
from ablate.task import Settings


class Origin(NamedTuple):
    """Where a part of a study was written: a file with line and column, or a command-line option."""

    file: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True)
class Source:
    """The text of a study, and the origin of its parts.

    Trails: ("base", key), ("axis", key), ("axis", key, index), ("ablate", index), ("ablate", index, key),
    ("exclude", index), ("baseline",), and (section, index) for sections with `match`, with dotted keys.
    """

    file: str = "<study>"
    text: str = ""
    origins: Mapping[Trail, Origin] = field(default_factory=dict, repr=False)

    def error(self, trail: Trail, problem: str, *, key: str | None = None, hint: str | None = None) -> StudyError:
        """A StudyError at the closest known place around `trail`."""
        origin = Origin(self.file)
        for length in range(len(trail), 0, -1):
            if trail[:length] in self.origins:
                origin = self.origins[trail[:length]]
                break
        shown_key = printable(key) if key else None
        return StudyError(problem, file=origin.file, line=origin.line, column=origin.column, key=shown_key, hint=hint)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Axis(_Frozen):
    """A setting and the values it takes; it exists only in cells where every condition of `when` holds."""

    key: str
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = {}


class Matching(_Frozen):
    """Something said of the cells where every setting of `match` has one of its values; of all, if it is empty."""

    match: Mapping[str, tuple[Any, ...]] = {}


class Priority(Matching):
    """Cells with a higher `value` are trained first."""

    value: float


class Deferral(Matching):
    """Cells that are not trained unless asked for, and why."""

    reason: str


class Reservation(Matching):
    """Bytes of device memory that a run of such a cell needs."""

    memory: int


class Note(Matching):
    """What a reader of the results of such cells must know."""

    text: str


class Unknown(Matching):
    """Settings that the source of such cells does not state: what they are set to is a guess, and is not shown."""

    settings: tuple[str, ...]


class WandbSettings(Settings):
    mode: Literal["offline", "online", "disabled"] = Field(
        default="disabled", description="Mirror runs to Weights & Biases; a failure there never stops a run."
    )
    project: str | None = Field(
        default=None, min_length=1, max_length=128, description="WANDB_PROJECT, or the study's name, if not given."
    )
    entity: str | None = Field(
        default=None, min_length=1, max_length=128, description="WANDB_ENTITY, or the account's own, if not given."
    )
    log_every: int = Field(default=10, ge=1, description="Of single steps every n-th is logged, and the first.")


class Extras(Settings):
    """Settings of a study that no run's configuration holds."""

    wandb: WandbSettings = WandbSettings()


class Study(_Frozen):
    """What a study file says, overrides applied. Settings are flat: dotted keys to plain YAML values."""

    study: str
    task: str = "depth"
    base: Mapping[str, Any] = {}
    grid: tuple[Axis, ...] = ()
    zip: tuple[Axis, ...] = ()
    ablate: tuple[Mapping[str, Any], ...] = ()
    exclude: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    seeds: tuple[int, ...] = (0,)
    baseline: Mapping[str, Any] | None = None
    compare: Estimand = Matched()
    metric: str | None = None
    """What verdicts are about; None for the metric by which epochs are selected."""
    wandb: WandbSettings = WandbSettings()
    priority: tuple[Priority, ...] = ()
    defer: tuple[Deferral, ...] = ()
    resources: tuple[Reservation, ...] = ()
    notes: tuple[Note, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    overrides: tuple[str, ...] = ()
    source: Source = Field(default=Source(), repr=False)

    @property
    def axes(self) -> tuple[str, ...]:
        """Every setting that differs between cells: of `grid`, `zip`, then `ablate`, in declared order."""
        keys = [axis.key for axis in (*self.grid, *self.zip)] + [key for entry in self.ablate for key in entry]
        return tuple(dict.fromkeys(keys))


def explain(
    details: Sequence[ErrorDetails],
    known: Catalogue,
    source: Source,
    owners: Mapping[str, Trail] = {},
    where: str = "",
) -> StudyError:
    """The first of pydantic's errors about a configuration, by place in the file.

    `owners` says which part of the study set a key, where that is not `base`; `where` names the cell.
    """
    found = [_explain_one(detail, known, source, owners, where) for detail in details]
    return min(found, key=lambda one: (one.line is None, one.line or 0, one.column or 0))


def _explain_one(
    detail: ErrorDetails, known: Catalogue, source: Source, owners: Mapping[str, Trail], where: str
) -> StudyError:
    key, rest = known_part(known, detail["loc"])
    complaint: Complaint = known.complain(detail, key, rest)
    others: list[str] = detail.get("ctx", {}).get("others", [])  # see `task.Conflict`
    named = [*owners, *(str(trail[1]) for trail in source.origins if trail[0] == "base" and len(trail) == 2)]
    given = (one for one in (key, *others) if any(_within(name, one) for name in named))
    trail = _blamed(next(given, key), source, owners)
    return source.error(trail, complaint.problem + where, key=key or None, hint=complaint.hint)


def known_part(known: Catalogue, loc: Trail) -> tuple[str, Trail]:
    """The dotted key of a setting or group that pydantic's location `loc` starts with, and what follows it."""
    for length in range(len(loc), 0, -1):
        key = ".".join(str(part) for part in loc[:length])
        if key in known.settings or key in known.groups:
            return key, loc[length:]
    return "", loc


def _blamed(key: str, source: Source, owners: Mapping[str, Trail]) -> Trail:
    """Who set `key`, or something inside it, or else the closest group around it: cells, then options, then base."""
    inside = [trail for owned, trail in owners.items() if _within(owned, key)]
    if inside:
        return inside[-1]
    base = {str(trail[1]): trail for trail in source.origins if trail[0] == "base" and len(trail) == 2}
    around = key
    while True:
        held = [trail for name, trail in base.items() if _within(name, around)]
        options = [trail for trail in held if source.origins[trail].line is None]
        if options:
            return options[-1]
        if held:
            return base.get(around, held[0])
        if not around:
            return ("base",)
        around = around.rpartition(".")[0]


def _within(key: str, group: str) -> bool:
    return not group or key == group or key.startswith(f"{group}.")
