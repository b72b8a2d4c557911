"""What a reader asks of a report, in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import UsageError
from ablate.report.options import AS_USUAL, Options, resolve, split_names
from ablate.report.render import FORMATS, render
from ablate.report.summary import StudySummary
from ablate.results.records import State


def names(text: str, rows: Any) -> list[str]:
    """The first cells of all rows with numbers."""
    return [row[0] for row in rows(text) if row[0].startswith(("std", "per"))]


def test_columns_are_shown_in_the_order_asked(grid: StudySummary, rows: Any) -> None:
    """By key, by the end of a setting, or by the header; `state` is another word for `status`."""
    text = render([grid], "md", Options(columns=("AbsRel", "lr", "run", "state")))
    assert rows(text)[0] == ["AbsRel ↓", "lr", "Run", "State"]
    assert rows(text)[2] == ["0.200", "0.0001", "std-a", "complete"]
    text = render([grid], "csv", Options(columns=("abs_rel", "lr", "run")))
    assert text.splitlines()[:2] == ["abs_rel,train.lr,run", "0.2,0.0001,std-a"]
    latex = render([grid], "latex", Options(columns=("run", "rmse")))
    assert r"Run & RMSE $\downarrow$ \\" in latex


def test_metrics_narrow_every_format_down(grid: StudySummary, rows: Any) -> None:
    wanted = Options(metrics=("rmse", "d1"))
    assert rows(render([grid], "md", wanted))[0] == ["Run", "attention", "lr", "Epoch", "RMSE ↓", "d1 ↑"]
    assert next(csv.reader(io.StringIO(render([grid], "csv", wanted))))[-4:] == [
        "rmse", "d1", "model.attention", "train.lr",
    ]  # fmt: skip
    (study,) = json.loads(render([grid], "json", wanted))["studies"]
    assert [metric["key"] for metric in study["metrics"]] == ["rmse", "d1"]
    assert list(study["runs"][0]["scores"][0]["metrics"]) == ["rmse", "d1"]
    assert "best AbsRel ↓ on val" in render([grid], "md", wanted)  # selection is told by a metric that is not shown


def test_metrics_follow_the_columns_that_were_asked_for(grid: StudySummary, rows: Any) -> None:
    text = render([grid], "md", Options(columns=("run",), metrics=("abs_rel",)))
    assert rows(text)[0] == ["Run", "AbsRel ↓"]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("abs_rel", ["std-b", "per-b", "std-a", "per-a"]),
        ("-abs_rel", ["per-a", "std-a", "per-b", "std-b"]),
        ("d1", ["std-b", "per-a", "std-a", "per-b"]),  # the highest is the best
        ("lr", ["std-b", "per-b", "std-a", "per-a"]),
        ("attention", ["per-a", "per-b", "std-a", "std-b"]),
        ("-run", ["std-b", "std-a", "per-b", "per-a"]),
        ("seed", ["std-a", "std-b", "per-a", "per-b"]),  # all alike: as the study has them
    ],
)
def test_sorting(grid: StudySummary, rows: Any, sort: str, order: list[str]) -> None:
    assert names(render([grid], "md", Options(sort=sort)), rows) == order * 2
    lines = csv.DictReader(io.StringIO(render([grid], "csv", Options(sort=sort))))
    assert list(dict.fromkeys(line["run"] for line in lines)) == order
    (study,) = json.loads(render([grid], "json", Options(sort=sort)))["studies"]
    assert [run["name"] for run in study["runs"]] == order
    sections = render([grid], "md", Options(sort=sort, style="progress"))
    assert len(re.findall(r"^## \d+\. ", sections, re.M)) == 4


def test_what_has_no_value_comes_last_either_way(make: Any, rows: Any) -> None:
    study = make.study(
        make.run("std-none", status=State.QUEUED),
        make.run("std-nan", make.score(None, None)),
        make.run("std-good", make.score(0.9, 0.1)),
        make.run("std-bad", make.score(0.9, 0.5)),
    )
    assert names(render([study], "md", Options(sort="abs_rel")), rows)[:2] == ["std-good", "std-bad"]
    assert names(render([study], "md", Options(sort="-abs_rel")), rows)[:2] == ["std-bad", "std-good"]


@given(st.lists(st.none() | st.integers(0, 9) | st.sampled_from(["a", "b", "unknown", [1, 2], True]), max_size=8))
def test_any_values_can_be_sorted_and_nothing_is_lost(make: Any, values: list[Any]) -> None:
    runs = [make.run(f"r-{place}", make.score(0.5), settings={"data.x": value}) for place, value in enumerate(values)]
    for sort in ("x", "-x"):
        for group in (None, "x"):
            study = make.study(*runs, axes=("data.x",))
            text = render([study], "csv", Options(sort=sort, group_by=group, columns=("run",)))
            assert sorted(text.split()[1:]) == sorted(run.name for run in runs)


def test_groups(grid: StudySummary, rows: Any) -> None:
    text = render([grid], "md", Options(group_by="attention", sort="abs_rel"))
    assert re.findall(r"^##### (.*)$", text, re.M) == ["attention: standard", "attention: performer"] * 2
    assert rows(text)[0][:3] == ["Run", "lr", "Epoch"]  # what a heading says is no column
    assert names(text, rows) == ["std-b", "std-a", "per-b", "per-a"] * 2
    latex = render([grid], "latex", Options(group_by="lr", metrics=("abs_rel",)))
    assert latex.count(r"\multicolumn{4}{l}{lr: ") == 4
    assert latex.count(r"\textbf{0.200}") == 1  # the best of its group


def test_groups_of_seeds(make: Any, rows: Any) -> None:
    score = make.score(0.1, 0.2, 0.3)
    study = make.study(*(make.run(f"std-{place}", score, seed=place % 2, selected_epoch=5) for place in range(4)))
    text = render([study], "md", Options(group_by="seed"))
    assert re.findall(r"^##### (.*)$", text, re.M) == ["Seed: 0", "Seed: 1"]
    assert names(text, rows) == ["std-0", "std-2", "std-1", "std-3"]
    assert "Seed" not in rows(text)[0]


def test_studies_that_lack_an_axis_are_shown_without_it(grid: StudySummary, make: Any, rows: Any) -> None:
    other = make.study(make.run("std-z", make.score(0.1, 0.2, 0.3)), name="other")
    text = render([grid, other], "md", Options(group_by="lr", columns=("run", "attention", "abs_rel")))
    assert ["Run", "AbsRel ↓"] in rows(text) and ["Run", "attention", "AbsRel ↓"] in rows(text)


WRONG = {
    "--columns": (Options(columns=("atention",)), "'atention': there is no such column; did you mean model.attention?"),
    "--metric": (Options(metrics=("rmze",)), "'rmze': there is no such metric; did you mean rmse?"),
    "--sort": (Options(sort="-abs_rell"), "'abs_rell': there is no such column; did you mean abs_rel?"),
    "--group-by": (Options(group_by="learning_rate"), "'learning_rate': there is no such axis"),
    "--style": (Options(style="prose"), "'prose': expected one of progress, table"),
    "--lang": (Options(lang="de"), "'de': expected one of en, es"),
}


@pytest.mark.parametrize("option", WRONG)
@pytest.mark.parametrize("form", FORMATS)
def test_names_that_nothing_has(grid: StudySummary, form: str, option: str) -> None:
    options, message = WRONG[option]
    with pytest.raises(UsageError, match=re.escape(f"{option} {message}")) as error:
        render([grid], form, options)
    if "no such" in message:
        assert "\n  known: " in str(error.value)


def test_all_that_there_is_is_listed(grid: StudySummary) -> None:
    with pytest.raises(UsageError) as error:
        resolve([grid], Options(group_by="x"))
    assert str(error.value).endswith("known: model.attention, train.lr, seed")


def test_json_has_no_columns(grid: StudySummary) -> None:
    with pytest.raises(UsageError, match="--columns: JSON always holds everything"):
        render([grid], "json", Options(columns=("run",)))


def test_nothing_to_report_refuses_nothing() -> None:
    assert render([], "md", Options(sort="abs_rel", columns=("x",))) == ""


def test_names_may_be_separated_by_commas() -> None:
    assert split_names(["a,b", " c ", ",", ""]) == ("a", "b", "c")
    assert split_names(None) == ()


def test_a_report_in_spanish_has_no_english_label(grid: StudySummary, make: Any) -> None:
    unfinished = make.run("bad", status=State.FAILED, reason="oom", message="x", last_epoch=1, seed=3)
    study = replace(grid, runs=(*grid.runs, unfinished))
    text = render([study], "md", Options(lang="es", style="progress"))
    assert "### Epoch seleccionada (mejor AbsRel ↓ en val, tamaño completo)" in text
    assert "partición test, 652 imágenes, 0 omitidas, máscara garg" in text
    assert "| fallido (oom) 1/5 " in text and "- **Estado**: fallido (oom) 1/5: x" in text
    for word in ("Selected", "split", "images", "skipped", "State", "Seed", "Weights", "failed", "not stated"):
        assert word not in text, word
    assert AS_USUAL.words.selected in render([study], "md")
