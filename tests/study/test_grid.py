"""Cells: what a study expands to, in which order, compared with a brute-force count."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.errors import StudyError
from ablate.study import Cell, Study, expand, expansion
from ablate.study.parse import parse
from ablate.study.yaml import parse_document

Cells = Callable[..., tuple[Cell, ...]]
Load = Callable[..., Study]


def values(cells: tuple[Cell, ...], *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(cell.settings.get(key, "-") for key in keys) for cell in cells]


def test_the_study_of_the_documentation(cells: Cells, study_text: str) -> None:
    found = cells(study_text)
    assert [cell.position for cell in found] == list(range(21))
    assert values(found[::3], "model.attention", "model.compression", "train.lr") == [
        ("standard", "-", 1e-4),
        ("standard", "-", 1e-5),
        ("performer", "-", 1e-5),
        ("memory_compressed", 2, 1e-4),
        ("memory_compressed", 2, 1e-5),
        ("memory_compressed", 3, 1e-4),
        ("memory_compressed", 3, 1e-5),
    ]
    assert [cell.seed for cell in found] == [0, 1, 2] * 7
    assert [cell.baseline for cell in found[::3]] == [0, 3, 3, 0, 3, 0, 3]
    assert [cell.baseline for cell in found[1::3]] == [1, 4, 4, 1, 4, 1, 4]
    assert found[20].config.model.compression == 3  # type: ignore[attr-defined]
    assert found[20].config.seed == 2


def test_without_axes_the_base_is_one_cell(cells: Cells) -> None:
    (cell,) = cells("base: {train.lr: 1e-4}")
    assert (cell.position, dict(cell.settings), cell.seed, cell.baseline) == (0, {}, 0, None)


def test_the_first_axis_is_slowest_and_zip_moves_together(cells: Cells) -> None:
    text = "task: toy\ngrid: {knobs.a: [1, 2], knobs.b: [3, 4]}\nzip: {knobs.c: [5, 6], knobs.d: [0.1, 0.2]}\nseeds: [7, 8]"
    found = cells(text)
    expected = [(a, b, *z, s) for a, b, z, s in itertools.product([1, 2], [3, 4], [(5, 0.1), (6, 0.2)], [7, 8])]
    assert [(*row, cell.seed) for row, cell in zip(values(found, "knobs.a", "knobs.b", "knobs.c", "knobs.d"), found, strict=True)] == expected  # fmt: skip


def test_axes_wait_for_what_their_conditions_name(cells: Cells) -> None:
    text = """
task: toy
grid:
  knobs.c: {values: [1, 2], when: {knobs.b: 5, knobs.label: plain}}
  knobs.b: {values: [4, 5], when: {knobs.a: [1]}}
  knobs.a: [0, 1]
"""
    assert values(cells(text), "knobs.a", "knobs.b", "knobs.c") == [
        (0, "-", "-"),
        (1, 4, "-"),
        (1, 5, 1),
        (1, 5, 2),
    ]


def test_conditions_on_base_defaults_and_zip(cells: Cells) -> None:
    axis = "grid: {knobs.a: {values: [1, 2], when: {knobs.label: loud}}}"
    assert values(cells(f"task: toy\n{axis}"), "knobs.a") == [("-",)]
    assert values(cells(f"task: toy\nbase: {{knobs.label: loud}}\n{axis}"), "knobs.a") == [(1,), (2,)]
    zipped = cells(f"task: toy\n{axis}\nzip: {{knobs.label: [quiet, loud], knobs.b: [1, 2]}}")
    assert values(zipped, "knobs.label", "knobs.b", "knobs.a") == [("quiet", 1, "-"), ("loud", 2, 1), ("loud", 2, 2)]
    size = "base: {data.resolution: [64, 64]}\ngrid: {train.flip: {values: [0, 1], when: {data.resolution: [64, 64]}}}"
    assert values(cells(size), "train.flip") == [(0.0,), (1.0,)]


def test_ablate_entries_change_base_one_at_a_time(cells: Cells) -> None:
    text = """
task: toy
base: {knobs.a: 1, extra: {n: 3}}
ablate:
  - {knobs.b: 5}
  - {knobs: {c: 6, label: loud}}
  - {extra: null}
baseline: {knobs: {b: 0, c: 0, label: plain}, extra: {n: 3}}
"""
    found = cells(text)
    configs = [(c.config.knobs.a, c.config.knobs.b, c.config.knobs.c, c.config.extra) for c in found]  # type: ignore[attr-defined]
    assert [row[:3] for row in configs] == [(1, 0, 0), (1, 5, 0), (1, 0, 6), (1, 0, 0)]
    assert [row[3] is None for row in configs] == [False, False, False, True]
    assert [cell.baseline for cell in found] == [0, 0, 0, 0]
    assert values(found, "knobs.b", "knobs.c", "knobs.label") == [
        (0, 0, "plain"),
        (5, 0, "plain"),
        (0, 6, "loud"),
        (0, 0, "plain"),
    ]


def test_ablate_cells_follow_those_of_the_grid_and_equal_ones_are_merged(load: Load, tasks: Any) -> None:
    study = load(
        "task: toy\ngrid: {knobs.a: [0, 1]}\nablate: [{knobs.a: 1}, {knobs.a: 2}, {knobs.workers: 4}]\nseeds: [0, 1]"
    )
    found = expansion(study, tasks["toy"])
    assert values(found.cells, "knobs.a") == [(0,), (0,), (1,), (1,), (2,), (2,)]
    assert (found.merged, found.excluded) == (4, 0)


def test_settings_that_nothing_uses_make_no_cells(load: Load, tasks: Any) -> None:
    study = load("grid: {model.attention: [standard, memory_compressed], model.compression: [2, 3]}")
    found = expansion(study, tasks["depth"])
    assert values(found.cells, "model.attention", "model.compression") == [
        ("standard", "-"),
        ("memory_compressed", 2),
        ("memory_compressed", 3),
    ]
    assert found.merged == 1


def test_files_at_two_paths_are_two_cells(cells: Cells) -> None:
    assert values(cells("grid: {model.weights: [null, a.pt, b.pt]}"), "model.weights") == [
        (None,),
        ("a.pt",),
        ("b.pt",),
    ]


def test_exclude_matches_axes_base_and_defaults(load: Load, tasks: Any) -> None:
    def left(exclude: str) -> list[tuple[Any, ...]]:
        text = f"task: toy\nbase: {{knobs.c: 9}}\ngrid: {{knobs.a: [1, 2], knobs.b: [3, 4]}}\nexclude: {exclude}"
        return values(expand(load(text), tasks["toy"]), "knobs.a", "knobs.b")

    assert left("[{knobs.a: 1, knobs.b: 4}]") == [(1, 3), (2, 3), (2, 4)]
    assert left("[{knobs.a: 1}, {knobs.b: 4}]") == [(2, 3)]
    assert left("[{knobs.a: 1, knobs.c: 9}]") == [(2, 3), (2, 4)]
    assert left("[{knobs.a: 1, knobs.c: 8}]") == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert left("[{knobs.a: [1, 2], knobs.b: 3, knobs.label: plain}]") == [(1, 4), (2, 4)]
    assert left("[{knobs: {a: 1}, extra: null}]") == [(2, 3), (2, 4)]


def test_a_baseline_that_no_cell_is(cells: Cells) -> None:
    text = "grid: {train.lr: [1e-4, 1e-5], train.flip: [0, 1]}\nexclude: [{train.lr: 1e-4, train.flip: 1}]\nbaseline: {train.lr: 1e-4}"
    assert [cell.baseline for cell in cells(text)] == [0, 0, None]
    assert [cell.baseline for cell in cells("grid: {train.lr: [1e-4]}\nbaseline: {train.flip: 1}")] == [None]


def test_axes_that_no_longer_apply_leave_the_baseline(cells: Cells) -> None:
    text = """
task: toy
grid:
  knobs.a: [0, 1]
  knobs.b: {values: [5, 6], when: {knobs.a: 1}}
  knobs.c: {values: [7, 8], when: {knobs.b: 6}}
baseline: {knobs.a: 0}
"""
    found = cells(text)
    assert values(found, "knobs.a", "knobs.b", "knobs.c") == [(0, "-", "-"), (1, 5, "-"), (1, 6, 7), (1, 6, 8)]
    assert [cell.baseline for cell in found] == [0, 0, 0, 0]


def test_a_group_that_is_null_in_base_is_filled_by_an_axis(cells: Cells) -> None:
    found = cells("base: {data.subset: null}\ngrid: {data.subset.n: [4, 8]}")
    assert [cell.config.data.subset.n for cell in found] == [4, 8]  # type: ignore[attr-defined]


def test_a_billion_cells_are_counted_not_built(load: Load, tasks: Any) -> None:
    numbers = str(list(range(90)))
    grid = f"grid: {{knobs.a: {numbers}, knobs.b: {numbers}, knobs.c: {numbers}, knobs.d: {numbers}, train.epochs: {numbers}}}"
    study = load(f"task: toy\n{grid}\nseeds: [0, 1]")
    started = time.process_time()
    with pytest.raises(StudyError) as caught:
        expand(study, tasks["toy"])
    assert time.process_time() - started < 1
    assert "11,809,800,000 cells, more than 100,000" in caught.value.problem
    assert "--max-cells 11809800000" in (caught.value.hint or "")


def test_the_count_respects_conditions(load: Load, tasks: Any) -> None:
    study = load(
        "task: toy\ngrid:\n  knobs.a: [0, 1, 2]\n  knobs.b: {values: [1, 2, 3, 4, 5], when: {knobs.a: 1}}\n"
        "  knobs.c: [1, 2]\nablate: [{knobs.d: 0.25}]\nexclude: [{knobs.a: 2}]\nseeds: [0, 1]"
    )
    assert len(expand(study, tasks["toy"], max_cells=30)) == (1 + 5) * 2 * 2 + 2
    with pytest.raises(StudyError, match="30 cells before exclusions, more than 29"):
        expand(study, tasks["toy"], max_cells=29)


def test_a_count_that_takes_too_long_is_a_bound(load: Load, tasks: Any) -> None:
    numbers = str(list(range(90)))
    axes = "".join(f"  knobs.{name}: {numbers}\n" for name in "abc")
    study = load(f"task: toy\ngrid:\n{axes}  knobs.d: {{values: [1, 2], when: {{knobs.a: 1, knobs.b: 2, knobs.c: 3}}}}")
    with pytest.raises(StudyError, match="up to 1,458,000 cells"):
        expand(study, tasks["toy"])


def test_a_thousand_cells_take_less_than_a_second(load: Load, tasks: Any) -> None:
    study = load(
        f"grid: {{train.lr: [1e-4, 1e-5], train.flip: [0, 0.5]}}\nseeds: {list(range(250))}\nbaseline: {{train.flip: 0}}"
    )
    started = time.process_time()
    assert len(expand(study, tasks["depth"])) == 1000
    assert time.process_time() - started < 1


KEYS = ("knobs.a", "knobs.b", "knobs.c", "knobs.on")
DOMAIN: dict[str, list[Any]] = {**{key: [0, 1, 2] for key in KEYS[:3]}, "knobs.on": [False, True]}
some = {key: st.lists(st.sampled_from(domain), min_size=1, unique=True) for key, domain in DOMAIN.items()}
ABSENT = object()


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    order = draw(st.permutations(KEYS))
    grid_keys = order[: draw(st.integers(0, 4))]
    zip_keys = [key for key in order if key not in grid_keys][: draw(st.integers(0, 2))]
    length = draw(st.integers(1, 2))
    zipped = {key: draw(st.permutations(DOMAIN[key]))[:length] for key in zip_keys}
    grid: dict[str, Any] = {}
    base = {key: draw(st.sampled_from(DOMAIN[key])) for key in KEYS if draw(st.booleans())}
    for index, key in enumerate(grid_keys):
        # Later axes may depend on earlier ones, on zip and on base; the file order is shuffled below.
        sources = [*grid_keys[:index], *(other for other in KEYS if other not in grid_keys)]
        axis: Any = draw(some[key])
        if sources and draw(st.booleans()):
            chosen = draw(st.sampled_from(sources))
            held = (
                grid[chosen]["values"] if isinstance(grid.get(chosen), dict) else grid.get(chosen, zipped.get(chosen))
            )
            wanted = draw(st.lists(st.sampled_from(held or DOMAIN[chosen]), min_size=1, max_size=2, unique=True))
            axis = {"values": axis, "when": {chosen: wanted if draw(st.booleans()) else wanted[0]}}
        grid[key] = axis
    grid = dict(draw(st.permutations(list(grid.items()))))
    held_values = {key: axis["values"] if isinstance(axis, dict) else axis for key, axis in grid.items()} | zipped
    excluded = {key: st.sampled_from(held_values.get(key, DOMAIN[key])) for key in KEYS}
    entry = st.fixed_dictionaries({}, optional={key: st.sampled_from(DOMAIN[key]) for key in KEYS}).filter(bool)
    return {
        "study": "random",
        "task": "toy",
        "base": base,
        "grid": grid,
        "zip": zipped,
        "ablate": draw(st.lists(entry, max_size=3)),
        "exclude": draw(st.lists(st.fixed_dictionaries({}, optional=excluded).filter(bool), max_size=2)),
        "seeds": draw(st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True)),
    }


def brute_force(study: dict[str, Any]) -> set[tuple[Any, ...]]:
    """The definition: every mixture of values and absences in which each axis exists exactly where it should."""
    found = set()
    defaults = {key: type(DOMAIN[key][0])() for key in KEYS}
    length = len(next(iter(study["zip"].values()))) if study["zip"] else 1
    drafts = []
    axes = {
        key: axis if isinstance(axis, dict) else {"values": axis, "when": {}} for key, axis in study["grid"].items()
    }
    for combination in itertools.product(*([*axis["values"], ABSENT] for axis in axes.values())):
        for row in range(length):
            assigned = {key: value for key, value in zip(axes, combination, strict=True) if value is not ABSENT}
            assigned |= {key: column[row] for key, column in study["zip"].items()}
            full = {**defaults, **study["base"], **assigned}
            if all((key in assigned) == met(axis.get("when", {}), full) for key, axis in axes.items()):
                drafts.append(full)
    drafts += [{**defaults, **study["base"], **entry} for entry in study["ablate"]]
    for full in drafts:
        if not any(met(entry, full) for entry in study["exclude"]):
            found |= {(*(full[key] for key in KEYS), seed) for seed in study["seeds"]}
    return found


def met(conditions: dict[str, Any], full: dict[str, Any]) -> bool:
    return all(full[key] in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in conditions.items())


@settings(max_examples=300, deadline=None)
@given(study=studies())
def test_expansion_is_what_brute_force_finds(study: dict[str, Any], tasks: dict[str, Any]) -> None:
    import json

    expected = brute_force(study)
    try:
        parsed = parse(parse_document(json.dumps(study), "random.yaml"), tasks)
        cells = expand(parsed, tasks["toy"])
    except StudyError as error:
        assert "leaves no cell" in error.problem
        assert not expected
        return
    knobs = [(*(getattr(cell.config.knobs, key[6:]) for key in KEYS), cell.seed) for cell in cells]  # type: ignore[attr-defined]
    assert len(set(knobs)) == len(knobs)
    assert set(knobs) == expected
    assert [cell.position for cell in cells] == list(range(len(cells)))
