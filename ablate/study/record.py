"""What a study declared, as stored in `studies/<study>.json` of a runs directory. Text only: no file is touched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from ablate.errors import RecordError
from ablate.study.grid import Cell
from ablate.study.identity import Identity
from ablate.study.model import Study

VERSION = 1
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _folder_name(name: str) -> str:
    """Commands look for the run in the folder of this name, and a record may come from anybody."""
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError("not the name of a run")
    return name


@checked(frozen=True, config=_STRICT)
class CellRecord:
    """A cell as it was declared; `current` is false once the study no longer holds it.

    `notes` and `unknown` (dotted keys) are what the study says of it for people to read.
    """

    run_id: str
    name: Annotated[str, AfterValidator(_folder_name)]
    position: int
    settings: Mapping[str, Any]
    seed: int
    baseline: str | None = None
    current: bool = True
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    added: bool = False
    """By `ablate eval`, not by the study's file: declaring the study again does not drop it."""


@checked(frozen=True, config=_STRICT)
class StudyRecord:
    """The newest declaration of a study, and the cells that earlier ones held.

    `select` is {metric, split, resolution}; `declared` is Unix time; `axes` are dotted keys in declared order.
    """

    study: str
    task: str
    file: str
    text: str
    overrides: tuple[str, ...]
    select: Mapping[str, str]
    declared: float
    axes: tuple[str, ...]
    wandb: Mapping[str, str | int | None]
    cells: tuple[CellRecord, ...]
    compare: Any = None
    """As `compare:` in a study; None for `matched`."""
    metric: str | None = None
    """What verdicts are about; None for `select`'s."""
    v: int = VERSION

    def to_json(self) -> str:
        content = {"v": self.v} | asdict(self)
        return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, file: str) -> StudyRecord:
        """Raises RecordError, naming `file`, if the text is not what `to_json` wrote."""
        try:
            version = json.loads(text)["v"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise RecordError(f"{file}: damaged: not the record of a study") from None
        if version != VERSION:
            raise RecordError(f"{file}: has format {version!r}, but this version of ablate reads {VERSION}")
        try:
            return _RECORD.validate_json(text)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in detail["loc"])
            raise RecordError(f"{file}: damaged: {place or 'record'}: {detail['msg']}") from None


_RECORD = TypeAdapter(StudyRecord)


def record(study: Study, cells: Iterable[tuple[Cell, Identity]], declared: float) -> StudyRecord:
    """The record of a study as declared at Unix time `declared`.

    Cells that turn out to be one run (two paths, one content) are recorded once, at the first position.
    """
    pairs = list(cells)
    ids = {cell.position: identity.run_id for cell, identity in pairs}
    records: dict[str, CellRecord] = {}
    for cell, identity in pairs:
        baseline = None if cell.baseline is None else ids.get(cell.baseline)
        one = CellRecord(
            identity.run_id,
            identity.name,
            cell.position,
            cell.settings,
            cell.seed,
            baseline,
            notes=cell.notes,
            unknown=cell.unknown,
        )
        records.setdefault(identity.run_id, one)
    return StudyRecord(
        study=study.study,
        task=study.task,
        file=study.source.file,
        text=study.source.text,
        overrides=study.overrides,
        select=pairs[0][0].config.select.model_dump(mode="json"),
        declared=declared,
        axes=study.axes,
        wandb=study.wandb.model_dump(mode="json"),
        cells=tuple(records.values()),
        compare=study.compare.data,
        metric=study.metric,
    )


def merge(previous: StudyRecord | None, new: StudyRecord) -> StudyRecord:
    """`new`, followed by the cells that were added to the study, which stay, and by those that only earlier
    declarations held, which are no longer current."""
    if previous is None:
        return new
    held = {cell.run_id for cell in new.cells}
    rest = [cell for cell in previous.cells if cell.run_id not in held]
    gone = tuple(replace(cell, current=cell.current and cell.added) for cell in rest)
    stays = any(cell.added for cell in gone)
    return replace(new, axes=_joined(new, previous) if stays else new.axes, cells=(*new.cells, *gone))


def join(previous: StudyRecord | None, new: StudyRecord) -> StudyRecord:
    """`previous` with the cells of `new` added behind its own; what its file declared stays as it was."""
    added = tuple(replace(cell, added=True) for cell in new.cells)
    if previous is None:
        return replace(new, cells=added)
    current = {cell.run_id for cell in previous.cells if cell.current}
    behind = 1 + max((cell.position for cell in previous.cells), default=-1)
    added = tuple(
        replace(cell, position=behind + number)
        for number, cell in enumerate(cell for cell in added if cell.run_id not in current)
    )
    now = {cell.run_id for cell in added}
    kept = tuple(cell for cell in previous.cells if cell.run_id not in now)
    return replace(previous, axes=_joined(previous, new), cells=(*kept, *added))


def _joined(first: StudyRecord, second: StudyRecord) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first.axes, *second.axes)))
