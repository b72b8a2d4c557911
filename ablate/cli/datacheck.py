"""How `ablate data check` looks at data, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ablate.cli.console import emit, escape, fail, print_table, say, talk
from ablate.depth.config import DataSettings, DepthConfig
from ablate.depth.data import datasets
from ablate.depth.data.check import Examination, examine
from ablate.engine.tasks import Tasks
from ablate.errors import DataError, UsageError
from ablate.runs.paths import RunsDir
from ablate.study import expand, load_study

_MISSING = "–"


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    what: Path
    dataset: str | None
    split: Path | None
    holdout: str | None
    overrides: tuple[str, ...]
    runs_dir: Path


def check_all(asked: Asked, *, as_json: bool) -> int:
    """Examines each different data set once, prints what it found, and gives the exit code.

    Raises UsageError, StudyError.
    """
    cache = RunsDir(asked.runs_dir).cache.absolute() if asked.runs_dir.is_dir() else None
    code, found = 0, []
    for data in _of_folder(asked) if asked.what.is_dir() else _of_study(asked):
        try:
            examination = examine(data, cache, say)
        except DataError as error:
            code = error.exit_code
            found.append({"dataset": data.name, "root": str(data.root), "errors": [str(error)]})
            if not as_json:
                fail(error)
            continue
        code = DataError.exit_code if examination.errors else code
        found.append(as_data(examination))
        if not as_json:
            show(examination)
    if as_json:
        emit(json.dumps({"v": 1, "data": found}, indent=1, ensure_ascii=False))
    return code


def _of_folder(asked: Asked) -> list[DataSettings]:
    if asked.overrides:
        raise UsageError("--set needs a study; with a folder, use --dataset, --split and --holdout")
    root = asked.what.absolute()
    if asked.dataset is not None:
        datasets.find(asked.dataset)  # an unknown name is refused in words
    name = asked.dataset or _recognised(root, asked.split)
    values: dict[str, Any] = {"name": name, "root": root, "split": asked.split, "holdout": asked.holdout or "none"}
    return [DataSettings.model_validate(values)]


def _recognised(root: Path, split: Path | None) -> str:
    """The first data set whose training list is there; KITTI if none is, whose error says what is missing."""
    for name in datasets.names():
        try:
            datasets.find(name).list_files(root, split)
        except DataError:
            continue
        return name
    return datasets.names()[0]


def _of_study(asked: Asked) -> list[DataSettings]:
    if asked.dataset is not None or asked.split is not None or asked.holdout is not None:
        raise UsageError("--dataset, --split and --holdout need the folder of a data set; with a study, use --set")
    tasks = Tasks()
    study = load_study(asked.what, tasks, asked.overrides)
    task = tasks[study.task]
    found: dict[tuple[object, ...], DataSettings] = {}
    for cell in expand(study, task, 100_000):
        config = task.absolute(cell.config, Path.cwd())
        if not isinstance(config, DepthConfig):
            raise UsageError(f"{asked.what}: a study of the task {study.task!r}; only depth data can be looked at")
        data = config.data
        found.setdefault((data.name, data.root, data.split, data.labels, data.holdout), data)
    return list(found.values())


def as_data(found: Examination) -> dict[str, Any]:
    return {
        "dataset": found.dataset,
        "kind": found.kind,
        "root": str(found.root),
        "lists": {name: str(path) for name, path in found.lists.items()},
        "fingerprint": found.fingerprint,
        "contents": found.contents,
        "splits": found.splits,
        "errors": list(found.errors),
        "notes": list(found.notes),
    }


def show(found: Examination) -> None:
    """A table on stdout; what is wrong, and what should be known, on stderr."""
    print_table(_table(found))
    for note in found.notes:
        say(f"note: {note}")
    if found.errors:
        fail(DataError("\n".join(found.errors)))
    else:
        talk.print(f"{escape(str(found.root))}: good to train on")


def _table(found: Examination) -> Table:
    unit = "m" if found.kind == "metric" else "no unit"
    table = Table(title=f"{escape(found.dataset)} · {escape(str(found.root))} · data {found.fingerprint[:8]}")
    headers = ("Images", "No depth", "Size", f"Depth ({unit})", "Dense %", "Values", "Bits", "Drives", "Neighbours")
    for header in ("Split", *headers):
        table.add_column(header, justify="left" if header in ("Split", "Size") else "right")
    for name, fact in found.splits.items():
        table.add_row(name, *(escape(cell) for cell in _cells(fact)))
    values = "Values: different depths in a map, median and most"
    table.caption = f"{values} · Drives, Neighbours: of them in train" if len(found.splits) > 1 else values
    return table


def _cells(fact: Mapping[str, Any]) -> Sequence[str]:
    low, high = fact["depth_metres"]
    return (
        f"{fact['frames']:,}",
        f"{len(fact['without_depth']):,}",
        _sizes(fact["sizes"]),
        f"{low:.2f}-{high:.2f}",
        f"{100 * fact['depth_share']:.1f}",
        "/".join(f"{count:,}" for count in fact["distinct_values"]),
        ", ".join(fact["bits"]) or _MISSING,
        _drives(fact),
        _MISSING if fact.get("neighbours_in_train") is None else f"{fact['neighbours_in_train']:,}",
    )


def _sizes(sizes: Mapping[str, int], most: int = 2) -> str:
    """The commonest first: '375x1242, 370x1224 and 3 more'."""
    ordered = sorted(sizes, key=lambda size: -sizes[size])
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _drives(fact: Mapping[str, Any]) -> str:
    if not fact["drives"]:
        return _MISSING
    return f"{fact['drives']:,}" + (f" ({len(fact['drives_in_train']):,})" if "drives_in_train" in fact else "")
