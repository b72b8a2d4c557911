"""Loading as a whole: it writes nothing, needs no heavy library, and no file makes it fall over."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.errors import StudyError
from ablate.study import expand, json_schema, load_study
from ablate.study.overrides import override
from ablate.study.parse import parse
from ablate.study.settings import catalogue
from ablate.study.yaml import parse_document

FULL = """\
study: full
task: toy
base: &base
  knobs: {a: 1, d: 1e-4, label: "x", file: a/b.pt}
  extra: {n: 3}
  train: {epochs: 2, checkpoint: {every: 5 steps}}
grid:
  knobs.b: [1, 2]
  knobs.c: {values: [3, 4], when: {knobs.b: [2]}}
zip: {knobs.d: [.5e-3, 1E1], knobs.workers: [0, 1]}
ablate:
  - {knobs.on: true}
  - knobs: {a: 5}
    extra: null
exclude:
  - {knobs.b: 1, knobs.d: 10}
seeds: [0, 1]
baseline: {knobs.b: 1}
wandb: {mode: offline, project: p}
"""
TOKENS = [*"[]{}:,-?&*!|>%@`'\"#\n\t ", "- ", ": ", "\n  ", "&a ", "*base", "!!str ", "<<: ", "---\n", "null", "1e-4", "\0", "é", "\u2028", "[" * 50, "0x", ".inf"]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
    ["values", "when", "knobs.a", "knobs", "extra", "seed", "base", "plain", 0, 1, 2]
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def survives(text: str, tasks: dict[str, Any], *overrides: str) -> None:
    """Loading and expanding either works or is a StudyError of bounded length."""
    try:
        document = parse_document(text, "f.yaml")
        if isinstance(document.data, dict):
            study = parse(document, tasks)
            task = tasks[study.task]
            cells = expand(override(study, overrides, catalogue(task.Config)), task, max_cells=2000)
            assert cells
    except StudyError as error:
        assert error.file
        assert len(str(error)) < 2000


def test_the_text_that_is_mutated_is_a_good_study(tasks: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(FULL)
    assert len(expand(load_study(path, tasks), tasks["toy"])) == 14


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_edited_text(data: st.DataObject, tasks: Any) -> None:
    text = FULL
    for _ in range(data.draw(st.integers(1, 5))):
        where = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        text = text[:where] + data.draw(st.sampled_from(TOKENS) | st.text(max_size=3)) + text[where + length :]
    survives(text, tasks)


@settings(max_examples=300, deadline=5000)
@given(data=st.data())
def test_edited_structure(data: st.DataObject, tasks: Any) -> None:
    study = parse_document(FULL, "f").data
    for _ in range(data.draw(st.integers(1, 3))):
        holder: Any = study
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and data.draw(st.booleans()):
                holder = holder[key]
                continue
            action = data.draw(st.sampled_from(["replace", "remove", "rename", "copy"]))
            value = holder[key]
            if action == "replace":
                holder[key] = data.draw(anything)
            elif action == "remove":
                del holder[key]
            elif isinstance(holder, list):
                holder.append(value)
            else:
                holder[data.draw(st.text(max_size=5) | st.sampled_from(["knobs.a", "knobs", "extra.n", "grid"]))] = (
                    value
                )
            break
    survives(json.dumps(study), tasks)


@settings(max_examples=150, deadline=5000)
@given(data=st.data())
def test_edited_bytes(data: st.DataObject, tasks: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(FULL.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(content) - 1))
        content[where : where + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=4))
    path = tmp_path_factory.mktemp("bytes") / "s.yaml"
    path.write_bytes(bytes(content))
    try:
        expand(load_study(path, tasks), tasks["toy"], max_cells=2000)
    except StudyError as error:
        assert error.file == str(path)
    except KeyError as error:  # only this test's own look-up of a task that was renamed
        pytest.fail(f"{error!r}")


@settings(max_examples=150, deadline=5000)
@given(
    st.sampled_from(
        ["knobs.a", "knobs", "extra", "extra.n", "seed", "seeds", "wandb", "wandb.mode", "train.max_steps", "x", ""]
    ),
    st.sampled_from(["=", "", " = "]),
    st.text(max_size=10) | anything.map(lambda value: json.dumps(value)),
)
def test_any_override(tasks: Any, key: str, equals: str, value: str) -> None:
    survives(FULL, tasks, f"{key}{equals}{value}")


@settings(max_examples=100, deadline=5000)
@given(anything, st.sampled_from(["depth", "toy"]))
def test_anything_at_all_under_any_section(tasks: Any, content: Any, task: str) -> None:
    for section in ("study", "base", "grid", "zip", "ablate", "exclude", "seeds", "baseline", "wandb"):
        survives(json.dumps({"study": "s", "task": task, section: content}), tasks)


def test_nothing_is_written(tmp_path: Path, tasks: Any, study_text: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(study_text)
    load_study(path, tasks, ["train.max_steps=1"])
    with pytest.raises(StudyError):
        load_study(path, tasks, ["train.max_stepz=1"])
    assert list(tmp_path.iterdir()) == [path]


def test_a_study_of_a_thousand_values_loads_quickly(load: Callable[..., Any]) -> None:
    values = ", ".join(f"{index}e-6" for index in range(1, 1001))
    started = time.process_time()
    assert len(load(f"grid: {{train.lr: [{values}]}}").grid[0].values) == 1000
    assert time.process_time() - started < 1


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, ablate.study; print([m for m in ('torch', 'pandas', 'wandb', 'duckdb', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_schema_of_the_installed_tasks_is_json(tasks: Any) -> None:
    json.dumps(json_schema({name: task.Config for name, task in tasks.items()}), allow_nan=False)
