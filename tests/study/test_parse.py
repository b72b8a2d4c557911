"""What a study file may say, and what each mistake is answered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from ablate.errors import StudyError
from ablate.study import Study
from ablate.study.estimand import Matched, Tuned

Load = Callable[..., Study]
Refused = Callable[..., StudyError]


def test_the_study_of_the_documentation(load: Load, study_text: str) -> None:
    study = load(study_text)
    assert study.study == "compressed"
    assert study.task == "depth"
    assert study.base["train.lr"] == 1e-5
    assert study.base["eval.select.metric"] == "abs_rel"
    assert study.axes == ("model.attention", "model.compression", "train.lr")
    assert study.grid[1].when == {"model.attention": ("memory_compressed",)}
    assert study.exclude == ({"model.attention": ("performer",), "train.lr": (1e-4,)},)
    assert study.seeds == (0, 1, 2)
    assert study.baseline == {"model.attention": "standard"}
    assert study.wandb.mode == "disabled"
    assert study.source.text == study_text


def test_a_study_is_frozen(load: Load) -> None:
    with pytest.raises(ValidationError):
        load("").study = "other"


def test_sections_may_be_empty(load: Load) -> None:
    study = load("base:\ngrid:\nzip:\nablate:\nexclude:\nbaseline:\nwandb:\n")
    assert (study.axes, study.seeds, study.baseline) == ((), (0,), None)


def test_dotted_and_nested_spellings_are_one(load: Load) -> None:
    nested = load("base: {data: {subset: {n: 4}}, train: {lr: 1e-4}}")
    dotted = load("base: {data.subset.n: 4, train.lr: 1e-4}")
    mixed = load("base: {data: {subset.n: 4}, train.lr: 1e-4}")
    assert dict(nested.base) == dict(dotted.base) == dict(mixed.base) == {"data.subset.n": 4, "train.lr": 1e-4}


def test_what_verdicts_are_about(load: Load) -> None:
    assert (load("compare: matched").compare, load("compare:").metric) == (Matched(), None)
    study = load("grid: {train.lr: [1, 2]}\ncompare: {tuned: {over: train.lr, trials: 2}}\nmetric: rmse")
    assert (study.compare, study.metric) == (Tuned(("train.lr",), 2), "rmse")


def test_wandb(load: Load) -> None:
    study = load("wandb: {mode: offline, project: depth}")
    assert (study.wandb.mode, study.wandb.project) == ("offline", "depth")


def test_another_task(load: Load, toy_config: type[Any]) -> None:
    study = load("task: toy\nbase: {knobs: {a: 3}}")
    assert (study.task, dict(study.base)) == ("toy", {"knobs.a": 3})


@pytest.mark.parametrize("name", ["a", "Study 1", "lr_sweep-2.1", "0", "x" * 64])
def test_names(load: Load, name: str) -> None:
    assert load(f"study: '{name}'").study == name


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a\\\\b", ".hidden", "-x", "a..b", "x" * 65, "a ", "a.", "é", "a\nb"]
)
def test_names_that_are_refused(refused: Refused, name: str) -> None:
    found = refused(f'study: "{name}"'.replace("\n", "\\n"))
    assert "cannot name a study" in found.problem
    assert (found.line, found.column, found.key) == (1, 8, "study")


MISTAKES = [
    # text, line, column, key, words of the problem, words of the hint
    ("base: {model: {nam: dpt_tiny}}", 2, 16, "model.nam", "no such setting", "did you mean model.name?"),
    ("base: {train.lrr: 1e-4}", 2, 8, "train.lrr", "no such setting", "did you mean train.lr?"),
    ("base: {training: {lr: 1}}", 2, 8, "training", "no such setting", "did you mean train?"),
    ("base: {lr: 1}", 2, 8, "lr", "no such setting", "did you mean train.lr?"),
    ("base: {eval: {select: {metrics: rmse}}}", 2, 24, "eval.select.metrics", "no such", "eval.select.metric?"),
    ("base: {zzz: 1}", 2, 8, "zzz", "no such setting", "known: train, model, data, eval"),
    ("base: {seed: 1}", 2, 8, "seed", "not given here", "seeds: [0, 1, 2]"),
    ("bse: {}", 2, 1, "bse", "no such key", "did you mean base?"),
    ("seed: 3", 2, 1, "seed", "no such key", "seeds: [0, 1, 2]"),
    ("model: {name: dpt_tiny}", 2, 1, "model", "no such key", "settings go under `base:`"),
    ("train.lr: 1e-4", 2, 1, "train.lr", "no such key", "settings go under `base:`"),
    ("base: 3", 2, 7, "base", "expected a mapping of settings, found 3", None),
    ("base: {train: {lr: fast}}", 2, 20, "train.lr", "expected a number, found 'fast'", None),
    ("base: {train: {lr: '1e-4'}}", 2, 20, "train.lr", "found '1e-4'", "remove the quotes"),
    ("base: {train: {batch_size: true}}", 2, 28, "train.batch_size", "expected a whole number, found true", None),
    ("base: {train: {batch_size: 1.5}}", 2, 28, "train.batch_size", "a whole number", None),
    ("base: {data: {subset: {n: 4, redraw: 1}}}", 2, 38, "data.subset.redraw", "expected true or false, found 1", None),
    ("base: {train: {lr: [1e-4, 1e-5]}}", 2, 20, "train.lr", "expected a number", "belong under `grid:`"),
    ("base: {train: {lr: -1}}", 2, 20, "train.lr", "greater than 0, found -1", None),
    ("base: {train: {lr: null}}", 2, 20, "train.lr", "expected a number, found null", None),
    ("base: {model: {weights: 5}}", 2, 25, "model.weights", "expected a path or null, found 5", None),
    ("base: {model: {attention: perfomer}}", 2, 27, "model.attention", "expected one of", "did you mean performer?"),
    ("base: {model: {name: dpt_tinny}}", 2, 22, "model.name", "expected one of", "did you mean dpt_tiny?"),
    ("base: {data: {resolution: [192, 641]}}", 2, 27, "data.resolution", "[192, 640]", None),
    ("base: {data: {resolution: [192]}}", 2, 27, "data.resolution", "the list [192] is too short", None),
    ("base: {data: {resolution: 192}}", 2, 27, "data.resolution", "expected a list, found 192", None),
    ("base: {data: {resolution: [192, x]}}", 2, 33, "data.resolution", "whole number, found 'x'", None),
    ("base: {data: {subset: {seed: 3}}}", 2, 15, "data.subset.n", "a value is required", None),
    ("base: {data: {subset: {}}}", 2, 23, "data.subset.n", "a value is required", None),
    ("base: {data: {subset: 4}}", 2, 23, "data.subset", "expected a mapping of settings (n, seed, redraw)", None),
    ("base: {eval: {resolutions: [full]}}", 2, 8, "eval", "'reduced' is not among", None),
    ("base: {eval: {resolutions: [full, ful]}}", 2, 35, "eval.resolutions", "expected one of", "mean full?"),
    ("base: {train: {lr: 1}, train.lr: 2}", 2, 24, "train.lr", "given twice; first on line 2", None),
    ("base: {data.subset: null, data.subset.n: 2}", 2, 27, "data.subset.n", "given twice", None),
    ("base: {train: {checkpoint: {every: 3 parsecs}}}", 2, 36, "train.checkpoint.every", "a duration", None),
    ("base:\n  train:\n    lr: x\n  data:\n    name: y", 4, 9, "train.lr", "(and 1 more problem in this file)", None),
    ("grid: {train.lr: 1e-4}", 2, 18, "train.lr", "expected a list", "for one value write [0.0001]"),
    ("grid: {train.lr: }", 2, 17, "train.lr", "found nothing", "remove the axis"),
    ("grid: {train.lr: []}", 2, 18, "train.lr", "the axis is empty", "at least one value"),
    ("grid: {train.lr: {values: []}}", 2, 27, "train.lr", "the axis is empty", "at least one value"),
    ("grid: {train.lr: [1e-4, 0.0001]}", 2, 25, "train.lr", "0.0001 is given twice", None),
    ("grid: {train.epochs: [1, 1.0]}", 2, 26, "train.epochs", "1.0 is given twice", None),
    ("grid: {train.lr: [1e-4, -1]}", 2, 25, "train.lr", "greater than 0", None),
    ("grid: {lr: [1e-4]}", 2, 8, "lr", "no such setting", "did you mean train.lr?"),
    ("grid: {data.subset: [null]}", 2, 8, "data.subset", "a group of settings", "data.subset.n, data.subset.seed"),
    ("grid: {train: {lr: [1]}}", 2, 8, "train", "a group of settings", "train.lr"),
    ("grid: {seed: [1]}", 2, 8, "seed", "not given here", "seeds: [0, 1, 2]"),
    ("zip: {seed: [1]}", 2, 7, "seed", "not given here", "seeds: [0, 1, 2]"),
    ("ablate: [{seed: 1}]", 2, 11, "seed", "not given here", "seeds: [0, 1, 2]"),
    ("grid: {data.workers: [0, 1]}", 2, 22, "data.workers", "cannot change a result", "`base:`"),
    ("grid: {data.resolution: [192, 640]}", 2, 25, "data.resolution", "not several values but one", "[[192, 640]]"),
    ("grid: {data.resolution: [[192, 640], [352, 1210]]}", 2, 38, "data.resolution", "352x1210", None),
    ("grid: {train.lr: {vales: [1]}}", 2, 19, "grid.train.lr.vales", "no such key in an axis", "did you mean values?"),
    ("grid: {train.lr: {when: {train.flip: 1}}}", 2, 18, "train.lr", "the axis has no values", "{values:"),
    ("grid: {train.lr: {values: [1], when: {train.x: 1}}}", 2, 39, "train.x", "no such setting", None),
    ("grid: {train.lr: {values: [1], when: {train.flip: 3}}}", 2, 51, "train.flip", "less than or equal to 1", None),
    ("grid: {train.lr: {values: [1], when: {data.subset: null}}}", 2, 39, "data.subset", "a group of settings", None),
    ("grid: {train.lr: {values: [1], when: {train.flip: []}}}", 2, 51, "train.flip", "the list is empty", None),
    ("grid: {train.lr: {values: [1], when: 3}}", 2, 38, "grid.train.lr.when", "expected a mapping of conditions", None),
    ("grid: {train.lr: {values: [1], when: {train.lr: 1}}}", 2, 38, "train.lr", "train.lr -> train.lr", "remove one"),
    ("zip: {train.lr: [1, 2], train.flip: [1]}", 2, 37, "train.flip", "has 1 value, but train.lr has 2", "together"),
    ("zip: {train.lr: {values: [1]}}", 2, 17, "train.lr", "expected a list of values", "under `grid:`"),
    ("grid: {train.lr: [1]}\nzip: {train.lr: [1]}", 3, 7, "train.lr", "an axis of `grid` already", "one of the two"),
    ("ablate: {train.lr: 1e-4}", 2, 9, "ablate", "expected a list of changes", "`- {train.lr: …}`"),
    ("ablate: [{train.lr: 1e-4, eval.mask: grg}]", 2, 38, "eval.mask", "expected one of", "did you mean garg?"),
    ("ablate: [3]", 2, 10, "ablate[0]", "expected a mapping of settings, found 3", None),
    ("ablate: [{}]", 2, 10, "ablate[0]", "expected a mapping of settings", None),
    ("exclude: [{train.x: 1}]", 2, 12, "train.x", "no such setting", None),
    ("exclude: [{}]", 2, 11, "exclude[0]", "expected a mapping of settings", None),
    ("grid: {train.lr: [1e-4]}\nexclude: [{train.lr: 1e-3}]", 3, 22, "train.lr", "no cell has the value", "0.0001"),
    ("grid: {train.lr: [1e-4]}\nexclude: [{train.lr: 1e-4}]", None, None, "exclude", "leaves no cell", None),
    ("baseline: {model.atention: x}", 2, 12, "model.atention", "no such setting", "model.attention?"),
    ("baseline: {}", 2, 11, "baseline", "the baseline is empty", None),
    ("grid: {train.lr: [1]}\nbaseline: {train.lr: 2}", 3, 22, "train.lr", "no cell has the value 2", "one of 1"),
    ("seeds: 3", 2, 8, "seeds", "expected a list of whole numbers", "write [3]"),
    ("seeds: []", 2, 8, "seeds", "the list is empty", "[0]"),
    ("seeds: [0, 0]", 2, 12, "seeds", "the seed 0 is given twice", None),
    ("seeds: [0, -1]", 2, 12, "seeds", "expected a whole number from 0", None),
    ("seeds: [true]", 2, 9, "seeds", "found true", None),
    ("wandb: {mode: onlin}", 2, 15, "wandb.mode", "expected one of", "did you mean online?"),
    ("wandb: {mod: online}", 2, 9, "wandb.mod", "no such setting", "did you mean wandb.mode?"),
    ("wandb: online", 2, 8, "wandb", "expected a mapping of its settings, such as mode and project", None),
    ("compare: matchd", 2, 10, "compare", "expected `matched` or {tuned:", "did you mean matched?"),
    ("compare: {tuned: {over: train.lr, trials: 2}}", 2, 25, "compare.tuned.over", "no axis", "list its values"),
    ("compare: {tuned: {over: train.lx, trials: 2}}", 2, 19, "train.lx", "no such setting", None),
    (
        "grid: {train.lr: [1]}\ncompare: {tuned: {over: train.lr}}",
        3,
        18,
        "compare.tuned.trials",
        "is missing",
        "trials: 4",
    ),
    (
        "grid: {train.lr: [1]}\ncompare: {tuned: {over: train.lr, trials: 0}}",
        3,
        43,
        "compare.tuned.trials",
        "at least 1, found 0",
        None,
    ),
    (
        "grid: {train.lr: [1]}\ncompare: {tuned: {over: train.lr, trial: 1, trials: 1}}",
        3,
        35,
        "compare.tuned.trial",
        "no such key",
        "did you mean trials?",
    ),
    (
        "grid: {train.lr: [1]}\nbaseline: {train.lr: 1}\ncompare: {tuned: {over: train.lr, trials: 1}}",
        4,
        25,
        "compare.tuned.over",
        "`baseline` fixes it",
        "leave the setting out",
    ),
    ("metric: abs_rle", 2, 9, "metric", "there is no metric", "did you mean abs_rel?"),
    ("metric: loss", 2, 9, "metric", "there is no metric", "known: d1"),
    ("task: dept", 2, 7, "task", "no task 'dept'", "did you mean depth?"),
    ("task: [x]", 2, 7, "task", "no task ['x']", "installed tasks: depth, toy"),
    ("task: toy\nbase: {train.lr: 1}", 3, 8, "train.lr", "no such setting", None),
]


@pytest.mark.parametrize(
    ("text", "line", "column", "key", "problem", "hint"), MISTAKES, ids=[case[0] for case in MISTAKES]
)
def test_mistakes(
    refused: Refused, text: str, line: int | None, column: int | None, key: str, problem: str, hint: str | None
) -> None:
    found = refused(text)
    assert problem in found.problem
    assert (found.line, found.column, found.key) == (line, column, key)
    assert (hint or "") in (found.hint or "")
    assert (found.file or "").endswith("study.yaml")
    assert str(found).startswith(f"{found.file}:{line}:{column}: {key}: " if line else f"{found.file}: {key}: ")


def test_the_name_is_required(tmp_path: Any, tasks: Any) -> None:
    from ablate.study import load_study

    path = tmp_path / "s.yaml"
    path.write_text("base: {}\n")
    with pytest.raises(StudyError, match="the study has no name"):
        load_study(path, tasks)


def test_a_number_as_name(refused: Refused) -> None:
    assert refused("study: 2026").hint == "quote it if it is meant as text"


def test_a_rule_over_several_settings_is_checked_in_the_cell(refused: Refused) -> None:
    found = refused("base: {eval.select.resolution: full}\ngrid: {eval.resolutions: [[full, reduced], [reduced]]}")
    assert (found.line, found.column) == (3, 44)
    assert "(in the cell eval.resolutions=['reduced'])" in found.problem


def test_a_value_that_only_a_cell_uses_is_blamed_on_its_axis(refused: Refused) -> None:
    found = refused("base: {model.attention: memory_compressed}\ngrid: {model.compression: [2, 99]}")
    assert (found.line, found.column, found.key) == (3, 31, "model.compression")


def test_a_bad_ablate_entry_is_blamed(refused: Refused) -> None:
    found = refused("ablate:\n  - {eval.mask: none}\n  - {eval.resolutions: [full]}")
    assert (found.line, found.column, found.key) == (4, 24, "eval")


def test_base_may_need_what_an_axis_gives(load: Load) -> None:
    study = load("base: {data.subset.redraw: true}\ngrid: {data.subset.n: [1, 2]}")
    assert study.axes == ("data.subset.n",)


def test_thousands_of_mistakes_are_not_all_looked_up(refused: Refused) -> None:
    keys = ", ".join(f"unknown_{index}: 1" for index in range(20_000))
    assert "(and 99 more problems in this file)" in refused(f"base: {{{keys}}}").problem


def test_a_message_shows_no_control_characters(refused: Refused) -> None:
    found = refused("base: {'a\u202eb': 1}")
    assert found.key == "a\\u202eb"
    assert len(str(refused(f"base: {{train.lr: {'x' * 9000}}}"))) < 400
