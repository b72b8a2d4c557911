"""`--set key=value`: pins a setting in every cell, and is checked as a file is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ablate.errors import StudyError
from ablate.study import Cell, Study, identify

Cells = Callable[..., tuple[Cell, ...]]
Load = Callable[..., Study]
Refused = Callable[..., StudyError]


def test_a_pinned_axis_disappears(cells: Cells, load: Load, study_text: str) -> None:
    assert load(study_text, "train.lr=2e-3").axes == ("model.attention", "model.compression")
    found = cells(study_text, "train.lr=2e-3", "seeds=[5]")
    assert {cell.config.train.lr for cell in found} == {2e-3}  # type: ignore[attr-defined]
    assert [cell.settings.get("model.attention") for cell in found] == [
        "standard",
        "performer",
        *["memory_compressed"] * 2,
    ]
    assert all("train.lr" not in cell.settings for cell in found)
    assert [cell.baseline for cell in found] == [0, 0, 0, 0]


def test_conditions_see_the_pinned_value(cells: Cells, study_text: str) -> None:
    found = cells(study_text, "model.attention=memory_compressed", "seed=1")
    assert [cell.settings["model.compression"] for cell in found] == [2, 2, 3, 3]
    assert {(cell.seed, cell.baseline) for cell in found} == {(1, None)}
    assert len(cells(study_text, "model.attention=standard", "seed=1")) == 2


def test_ablate_entries_and_zip_lose_the_pinned_setting(cells: Cells, load: Load) -> None:
    text = "task: toy\nablate: [{knobs.a: 1, knobs.b: 2}, {knobs.a: 3}]"
    found = cells(text, "knobs.a=9")
    assert [(c.config.knobs.a, c.config.knobs.b) for c in found] == [(9, 0), (9, 2)]  # type: ignore[attr-defined]
    study = load("task: toy\nzip: {knobs.a: [1, 2], knobs.b: [3, 4]}", "knobs.a=9")
    assert [axis.key for axis in study.zip] == ["knobs.b"]
    assert load("task: toy\nzip: {knobs.a: [1, 2]}", "knobs.a=9").zip == ()
    # What is left of `ablate` without a grid: base alone, not base and an empty change.
    assert len(cells("task: toy\ngrid: {knobs.b: [1, 2]}\nablate: [{knobs.a: 1}]", "knobs.a=9")) == 2


def test_max_steps_makes_another_run(cells: Cells, tasks: Any) -> None:
    (long,) = cells("")
    (short,) = cells("", "train.max_steps=3")
    assert short.config.train.max_steps == 3
    assert identify(tasks["depth"], short.config).run_id != identify(tasks["depth"], long.config).run_id


def test_a_path_does_not(cells: Cells, tasks: Any) -> None:
    (here,) = cells("")
    (there,) = cells("", "data.root=/elsewhere", "data.workers=4")
    assert str(there.config.data.root) == "/elsewhere"  # type: ignore[attr-defined]
    assert identify(tasks["depth"], there.config) == identify(tasks["depth"], here.config)


def test_groups(cells: Cells) -> None:
    text = "base: {data: {subset: {n: 8, seed: 3}}}\n"
    (cell,) = cells(text, "data.subset.n=4")
    assert (cell.config.data.subset.n, cell.config.data.subset.seed) == (4, 3)  # type: ignore[attr-defined]
    (cell,) = cells(text, "data.subset=null")
    assert cell.config.data.subset is None  # type: ignore[attr-defined]
    (cell,) = cells(text, "data.subset=null", "data.subset.n=2")
    assert (cell.config.data.subset.n, cell.config.data.subset.seed) == (2, 0)  # type: ignore[attr-defined]
    (cell,) = cells(text + "grid: {data.subset.redraw: [false, true]}", "data={subset: {n: 2}, resolution: [64, 96]}", "data.subset.redraw=true")  # fmt: skip
    assert (cell.config.data.subset.n, cell.config.data.resolution) == (2, (64, 96))  # type: ignore[attr-defined]


def test_later_options_win_and_all_are_kept(load: Load) -> None:
    study = load("", "train.lr=1e-3", "train.lr=1e-2")
    assert study.base["train.lr"] == 1e-2
    assert study.overrides == ("train.lr=1e-3", "train.lr=1e-2")


def test_wandb_and_seeds(load: Load) -> None:
    study = load("wandb: {project: mine}", "wandb.mode=offline", "seeds=[3, 4]")
    assert (study.wandb.mode, study.wandb.project, study.seeds) == ("offline", "mine", (3, 4))


@pytest.mark.parametrize(
    ("option", "key", "problem", "hint"),
    [
        ("train.lr", None, "expected key=value", "--set train.lr=1e-4"),
        ("=3", None, "expected key=value", None),
        ("train.lr=", None, "there is no value", "--set train.lr=null"),
        ("train.lrr=1", "train.lrr", "no such setting", "did you mean train.lr?"),
        ("lr=1", "lr", "no such setting", "did you mean train.lr?"),
        ("train.lr=fast", "train.lr", "expected a number, found 'fast'", None),
        ("train.lr=[1, 2]", "train.lr", "expected a number", "under `grid:`"),
        ("train=3", "train", "expected a mapping of settings", None),
        ("data.resolution=[192, 641]", "data.resolution", "[192, 640]", None),
        ("data.root=[a", None, "not valid YAML", "quote the value"),
        ("data.root=@x", None, "not valid YAML", "quote the value"),
        ("data.root=!!str x", None, "tags are not supported", None),
        ("seeds=3", "seeds", "expected a list", "write [3]"),
        ("seed=x", "seeds", "expected a whole number", None),
        ("wandb.mode=onlin", "wandb.mode", "expected one of", "did you mean online?"),
        ("eval.resolutions=[full]", "eval", "'reduced' is not among", None),
        ("data.subset.seed=1", "data.subset.n", "a value is required", None),
    ],
)
def test_mistakes_name_the_option(
    refused: Refused, option: str, key: str | None, problem: str, hint: str | None
) -> None:
    found = refused("", option)
    assert (found.file, found.line, found.key) == (f"--set {option}", None, key)
    assert problem in found.problem
    assert (hint or "") in (found.hint or "")


def test_an_option_is_blamed_before_the_file_that_it_contradicts(refused: Refused) -> None:
    found = refused("base: {eval: {mask: garg, select: {metric: rmse}}}", "eval.resolutions=[full]")
    assert (found.file, found.line, found.key) == ("--set eval.resolutions=[full]", None, "eval")


def test_a_bomb_in_an_option(refused: Refused) -> None:
    assert "nested more than" in refused("", "train.lr=" + "[" * 3000).problem
