"""From a YAML document to a `Study`, or to one error that says where it is wrong and what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ablate.study.axes import AxisReader
from ablate.study.comparing import SECTIONS as COMPARING
from ablate.study.comparing import CompareReader
from ablate.study.model import Extras, Source, Study, WandbSettings, explain, known_part
from ablate.study.reading import Problems, Reader
from ablate.study.remarks import SECTIONS as REMARKS
from ablate.study.remarks import RemarksReader
from ablate.study.scheduling import SECTIONS as SCHEDULING
from ablate.study.scheduling import SchedulingReader
from ablate.study.settings import Catalogue, catalogue, closest, freeze, nest
from ablate.study.yaml import Document, Trail, shown
from ablate.task import Task

MATCHING = (*SCHEDULING, *REMARKS)
SECTIONS = (
    "study",
    "task",
    "base",
    "grid",
    "zip",
    "ablate",
    "exclude",
    "seeds",
    "baseline",
    *COMPARING,
    "wandb",
    *MATCHING,
)
NAME = r"[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9_-])?"
DEFAULT_TASK = "depth"
MAX_SEED = 2**31 - 1


def parse(document: Document, tasks: Mapping[str, Task]) -> Study:
    """The study that `document` declares. Raises StudyError for the first problem in it."""
    problems = Problems(document)
    data: dict[str, Any] = document.data
    _check_sections(problems, data, tasks)
    name = _name(problems, data)
    task = _task(problems, data, tasks)
    if task is None:
        problems.stop()
    study = _Parser(problems, catalogue(task.Config), data).study(name, task)
    problems.stop_if_any()
    check_base(study, catalogue(task.Config))
    return study


def _check_sections(problems: Problems, data: Mapping[str, Any], tasks: Mapping[str, Task]) -> None:
    for key in data:
        if key in SECTIONS:
            continue
        close = closest(key, SECTIONS)
        hint = f"did you mean {close}?" if close else f"known: {', '.join(SECTIONS)}"
        if key == "seed":
            hint = "use `seeds: [0, 1, 2]`"
        elif any(key.split(".")[0] in task.Config.model_fields for task in tasks.values()):
            hint = "settings go under `base:`"
        problems.add((key,), "there is no such key", hint=hint, key=True)


def _name(problems: Problems, data: Mapping[str, Any]) -> str:
    name = data.get("study")
    if "study" not in data:
        problems.add((), "the study has no name", name="study", hint="add a first line such as `study: my-study`")
    elif not isinstance(name, str):
        hint = None if name is None else "quote it if it is meant as text"
        problems.add(("study",), f"expected a name, found {shown(name)}", hint=hint)
    elif not re.fullmatch(NAME, name) or ".." in name:
        hint = "use up to 64 letters, digits, spaces, `.`, `_` and `-`; the first a letter or digit"
        problems.add(("study",), f"{shown(name)} cannot name a study", hint=hint)
    return name if isinstance(name, str) else ""


def _task(problems: Problems, data: Mapping[str, Any], tasks: Mapping[str, Task]) -> Task | None:
    name = data.get("task", DEFAULT_TASK)
    if isinstance(name, str) and name in tasks:
        return tasks[name]
    close = closest(name, tasks) if isinstance(name, str) else None
    hint = f"did you mean {close}?" if close else f"installed tasks: {', '.join(sorted(tasks)) or 'none'}"
    problems.add(("task",), f"there is no task {shown(name)}", hint=hint)
    return None


def read_seeds(problems: Problems, seeds: Any) -> tuple[int, ...]:
    """The list `seeds:`; what is wrong with it is added to `problems`."""
    if not isinstance(seeds, list):
        hint = f"write [{shown(seeds)}]" if isinstance(seeds, int) else "write [0, 1, 2]"
        problems.add(("seeds",), f"expected a list of whole numbers, found {shown(seeds)}", hint=hint)
        return (0,)
    if not seeds:
        problems.add(("seeds",), "the list is empty", hint="give at least one seed, such as [0]")
    seen: set[int] = set()
    for index, seed in enumerate(seeds):
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            problem = f"expected a whole number from 0 to {MAX_SEED}, found {shown(seed)}"
            problems.add(("seeds", index), problem)
        elif seed in seen:
            problems.add(("seeds", index), f"the seed {seed} is given twice")
        else:
            seen.add(seed)
    return tuple(seeds) if seeds and len(seen) == len(seeds) else (0,)


@dataclass(frozen=True)
class _Parser:
    """The parts of a study that depend on its task's settings."""

    problems: Problems
    known: Catalogue
    data: Mapping[str, Any]

    @property
    def reader(self) -> Reader:
        return Reader(self.problems, self.known)

    def study(self, name: str, task: Task) -> Study:
        axes = AxisReader(self.reader)
        grid, zipped = axes.read("grid", self.data.get("grid")), axes.read("zip", self.data.get("zip"))
        axes.check_zip(grid, zipped)
        axes.check_cycles(grid)
        document = self.problems.document
        scheduling = SchedulingReader(self.reader, self.data)
        remarks = RemarksReader(self.reader, self.data)
        study = Study(
            study=name,
            task=task.name,
            base=self._base(),
            grid=grid,
            zip=zipped,
            ablate=self._ablate(),
            exclude=self._exclude(),
            seeds=read_seeds(self.problems, self.data.get("seeds", [0])),
            baseline=self._baseline(),
            wandb=self._wandb(),
            priority=scheduling.priority(),
            defer=scheduling.defer(),
            resources=scheduling.resources(),
            notes=remarks.notes(),
            unknown=remarks.unknown(),
            source=Source(document.file, document.text, self.problems.origins),
        )
        comparing = CompareReader(self.reader, self.data, study.axes)
        verdicts = {"compare": comparing.compare(), "metric": comparing.metric(task.metrics)}
        study = study.model_copy(update=verdicts)
        if not self.problems.errors:
            self._check_reachable(study)
        return study

    def _base(self) -> dict[str, Any]:
        data = self.reader.mapping(("base",), self.data.get("base"), "settings")
        for trail in self.problems.document.keys:
            key = ".".join(str(part) for part in trail[1:])
            if trail[0] == "base" and key in self.known.groups:
                self.problems.mark(("base", key), trail, key=True)
        self.problems.mark(("base",), ("base",), key=True)
        return self.reader.settings(("base",), ("base",), data)

    def _entries(self, section: str, what: str) -> list[tuple[int, dict[str, Any]]]:
        """The mappings that a list section holds, by their index in the file."""
        value = self.data.get(section)
        if value is None:
            return []
        if not isinstance(value, list):
            hint = (
                f"start each entry with a dash: `- {{{next(iter(value))}: …}}`"
                if isinstance(value, dict) and value
                else None
            )
            self.problems.add((section,), f"expected a list of {what}, found {shown(value)}", hint=hint)
            return []
        entries: list[tuple[int, dict[str, Any]]] = []
        for index, entry in enumerate(value):
            if isinstance(entry, dict) and entry:
                entries.append((index, entry))
            else:
                problem = f"expected a mapping of settings, found {shown(entry)}"
                self.problems.add((section, index), problem, name=f"{section}[{index}]")
        return entries

    def _ablate(self) -> tuple[dict[str, Any], ...]:
        entries: list[dict[str, Any]] = []
        for index, entry in self._entries("ablate", "changes, each one cell"):
            self.problems.mark(("ablate", index), ("ablate", index))
            entries.append(self.reader.settings(("ablate", index), ("ablate", index), entry))
        return tuple(entries)

    def _exclude(self) -> tuple[dict[str, tuple[Any, ...]], ...]:
        entries: list[dict[str, tuple[Any, ...]]] = []
        for index, entry in self._entries("exclude", "partial cells"):
            self.problems.mark(("exclude", index), ("exclude", index))
            entries.append(self.reader.alternatives(("exclude", index), entry))
        return tuple(entries)

    def _baseline(self) -> dict[str, Any] | None:
        value = self.data.get("baseline")
        data = self.reader.mapping(("baseline",), value, "settings")
        if value == {}:
            self.problems.add(("baseline",), "the baseline is empty", hint="name a setting, or remove the line")
        self.problems.mark(("baseline",), ("baseline",), key=True)
        return self.reader.settings(("baseline",), ("baseline",), data) or None

    def _wandb(self) -> WandbSettings:
        reader = Reader(self.problems, catalogue(Extras))
        data = reader.mapping(("wandb",), self.data.get("wandb"), "its settings, such as mode and project")
        settings = reader.settings(("extras",), (), {"wandb": data})
        return WandbSettings(**nest(settings).get("wandb", {}))

    def _check_reachable(self, study: Study) -> None:
        """Conditions, exclusions and baselines must name values that some cell can have: the rest are typing errors."""
        for axis in study.grid:
            self._check_values(study, ("grid", axis.key, "when"), axis.when)
        for index, entry in enumerate(study.exclude):
            self._check_values(study, ("exclude", index), entry)
        for section in MATCHING:
            for index, matching in enumerate(getattr(study, section)):
                self._check_values(study, (section, index, "match"), matching.match)
        one_each = {key: (value,) for key, value in (study.baseline or {}).items()}
        self._check_values(study, ("baseline",), one_each)

    def _check_values(self, study: Study, trail: Trail, wanted: Mapping[str, tuple[Any, ...]]) -> None:
        for key, values in wanted.items():
            if not any(axis.key == key for axis in (*study.grid, *study.zip)):
                continue
            possible = {freeze(value): value for value in _possible(study, self.known, key)}
            for value in values:
                if freeze(value) not in possible:
                    close = closest(value, possible.values()) if isinstance(value, str) else None
                    hint = (
                        f"did you mean {close}?"
                        if close
                        else f"it is one of {', '.join(shown(other) for other in list(possible.values())[:12])}"
                    )
                    self.problems.add((*trail, key), f"no cell has the value {shown(value)}", name=key, hint=hint)


def _possible(study: Study, known: Catalogue, key: str) -> Iterable[Any]:
    """The values that the setting takes in some cell."""
    for axis in (*study.grid, *study.zip):
        if axis.key == key:
            yield from axis.values
    yield from (entry[key] for entry in study.ablate if key in entry)
    yield study.base.get(key, known.default(key))


def check_base(study: Study, known: Catalogue) -> None:
    """Raises StudyError if `base` is wrong in a way that no axis can mend."""
    try:
        known.config.model_validate(nest(study.base))
    except ValidationError as error:
        details = [detail for detail in error.errors() if not _may_be_mended(study, known, detail)]
        if details:
            raise explain(details, known, study.source) from None


def _may_be_mended(study: Study, known: Catalogue, detail: ErrorDetails) -> bool:
    """Whether an axis changes the setting at fault, or another that the rule is about (`task.Conflict.others`)."""
    others: list[str] = detail.get("ctx", {}).get("others", [])
    return any(_related(study, key) for key in (known_part(known, detail["loc"])[0], *others))


def _related(study: Study, key: str) -> bool:
    """Whether an axis changes `key`, something inside it, or something around it."""
    return any(not key or f"{axis}.".startswith(f"{key}.") or key.startswith(f"{axis}.") for axis in study.axes)
