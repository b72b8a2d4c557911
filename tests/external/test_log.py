"""Progress logs: what is read, what is refused with its line, and what hostile ones cost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.depth.metrics import METRICS
from ablate.external.log import parse
from ablate.external.metrics import read_table
from ablate.external.phrases import read_phrases

HEADERS = [f"{metric.header} {'↑' if metric.better == 'max' else '↓'}" for metric in METRICS]


def table(cells: list[str], headers: list[str] | None = None) -> str:
    rows = [headers or HEADERS, [":---:"] * len(headers or HEADERS), cells]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def section(
    number: int = 1, title: str = "A run", cells: list[str] | None = None, size: str = "Full size", **fields: str
) -> str:
    lines = "".join(f"- **{name}**: {value}\n" for name, value in fields.items())
    return f"## {number}. {title}\n\n{lines}\n##### Output ({size})\n\n{table(cells or ['0.500'] * 9)}\n"


def test_all_rows_of_a_log(progress: Path) -> None:
    log = parse(progress.read_text(encoding="utf-8"), METRICS)
    assert (log.problems, log.remarks) == ([], [])
    assert [row.number for row in log.rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [sorted(row.outputs) for row in log.rows] == [["full"]] * 3 + [["full", "reduced"]] * 4
    assert [row.phrases.epochs for row in log.rows] == [None, None, 5, 10, 13, 20, 20]
    assert [row.phrases.hours for row in log.rows] == [None, None, None, 17.0, 20.0, 35.5, 35.0]
    assert [row.phrases.images for row in log.rows] == [None, None, 1000, 44000, 44000, 44000, 44000]
    assert log.rows[2].phrases.about == () and log.rows[3].phrases.about == ("images", "hours")
    five = log.rows[4]
    assert (five.weights, five.wandb) == ("weight/cinco_006.pt", "test/performer-lr1e-4")
    assert five.notes == ("Hubo un corte de luz.", "Después empeora (?)")
    assert five.commands == ("./run_eval.sh",)
    assert log.rows[2].weights is None
    assert five.outputs["full"].texts["sq_rel"] == "1.590" and five.outputs["full"].values["sq_rel"] == 1.59


def test_the_authors_own_log(shared: Path) -> None:
    log = parse((shared / "progress-log.md").read_text(encoding="utf-8"), METRICS)
    assert (log.problems, log.remarks, len(log.rows)) == ([], [], 7)
    assert log.rows[2].notes[0].startswith("Este modelo era una prueba de concepto")
    assert log.rows[3].notes[0].endswith("el bs puede ser 2 en vez de 1.")


def test_english_is_understood_as_well() -> None:
    text = section(
        3, "Base model with Performer Attention (2 epochs, ~1.5k images per epoch) ~90 min", size="reduced",
        Weights="`w/three.pt` the best", Notes="went well", WandB="a/b",
    ).replace("Output", "Results")  # fmt: skip
    [row] = parse(text, METRICS).rows
    assert (row.phrases.epochs, row.phrases.images, row.phrases.hours) == (2, 1500, 1.5)
    assert (row.weights, row.wandb, row.notes) == ("w/three.pt", "a/b", ("went well", "the best"))
    assert list(row.outputs) == ["reduced"]


def test_notes_over_several_lines_and_prose() -> None:
    text = section().replace(
        "\n##### ", "- **Notas**: first\n  and second\n\nA remark\nthat goes on\n\n- a point\n\n##### "
    )
    [row] = parse(text, METRICS).rows
    assert row.notes == ("first and second", "A remark that goes on", "- a point")


def test_a_heading_in_a_fenced_block_is_none() -> None:
    text = section(1).replace("\n##### ", "\n```\n## 9. not a run\n| a | b |\n```\n##### ", 1)
    log = parse(text + section(2), METRICS)
    assert [row.number for row in log.rows] == [1, 2] and not log.problems
    assert log.rows[0].commands == ("## 9. not a run", "| a | b |")


def test_sections_without_a_run_are_left_alone() -> None:
    log = parse(
        "## 1. Setup\n\nInstall things.\n\n# Theory\n\n1. One\n\n" + section(2) + "## Later\n\n| a |\n", METRICS
    )
    assert [row.number for row in log.rows] == [2] and not log.problems
    assert log.remarks == ["line 1: no run: neither weights, notes nor a table below it"]


PROBLEMS = {
    "missing table": (section().split("| d1")[0], "line 4: no table below this heading"),
    "no rule": (section().replace("| :---: ", "|"), "a table needs a line such as"),
    "no row": (section().replace("| " + " | ".join(["0.500"] * 9) + " |\n", ""), "expected one row of numbers, found 0"),
    "two rows": (section() .replace("0.500 |\n", "0.500 |\n| 1 |\n"), "expected one row of numbers, found 2"),
    "few cells": (section(cells=["0.5"] * 8), "line 8: 8 cells below 9 headers"),
    "many cells": (section(cells=["0.5"] * 10), "line 8: 10 cells below 9 headers"),
    "text": (section(cells=["0.5"] * 8 + ["fast"]), "expected a number, found 'fast'"),
    "percent": (section(cells=["50 %"] + ["0.5"] * 8), "expected a number, found '50 %'"),
    "mixed commas": (section(cells=["1,234"] + ["0.5"] * 8), "both decimal points and commas"),
    "thousands": (section(cells=["1,234.5"] + ["1"] * 8), "both decimal points and commas"),
    "huge number": (section(cells=["1e999"] + ["0.5"] * 8), "1e999 is too large"),
    "arrow": (section().replace("AbsRel ↓", "AbsRel ↑"), "of AbsRel the lower is better"),
    "column twice": (section().replace("d2 ↑", "a1"), "is there twice"),
    "table twice": (section() + section().partition("\n\n")[2], "two tables of full size"),
    "field twice": (section(Pesos="a.pt", Weights="b.pt"), "weights is there twice in run 1"),
    "loose table": (section(Notas="x").replace("##### Output (Full size)", ""), "a table without a heading"),
    "long title": (section(title="x" * 1001), "a title of more than 1000 characters"),
    "no name": (section(size="???"), "a size must have a name"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_cannot_be_read_as_it_is_meant_is_named_with_its_line(name: str) -> None:
    text, words = PROBLEMS[name]
    problems = parse(text, METRICS).problems
    assert any(words in problem for problem in problems), problems
    assert all(problem.startswith("line ") for problem in problems)


def test_decimal_commas() -> None:
    [row] = parse(section(cells=["0,723", "123,437", *["**1**"] * 6, "n/a"]), METRICS).rows
    numbers = row.outputs["full"]
    assert (numbers.values["d1"], numbers.values["d2"], numbers.values["log10"]) == (0.723, 123.437, None)
    assert (numbers.texts["d1"], numbers.texts["log10"]) == ("0,723", "n/a")


def test_columns_that_are_no_metric_of_ours_are_kept_as_text() -> None:
    text = f"## 1. A run\n##### Output (Full size)\n{table(['12 fps', '0.5'], ['Speed', 'AbsRel'])}"
    log = parse(text, METRICS)
    assert log.rows[0].outputs["full"].texts == {"Speed": "12 fps", "abs_rel": "0.5"}
    assert log.rows[0].outputs["full"].values == {"abs_rel": 0.5}
    assert "'Speed' is no metric" in log.remarks[0]


def test_headings_with_one_number_are_both_kept_and_said() -> None:
    log = parse(section(4, "One") + section(4, "Two"), METRICS)
    assert [row.title for row in log.rows] == ["One", "Two"]
    assert log.remarks == ["line 10: heading 4 stands at line 1 too"]


def test_control_characters_do_not_get_in() -> None:
    hostile = "\x1b[2J\x1b]0;gone\x07<script>alert(1)</script>\u202eevil\0"
    [row] = parse(section(title=hostile, Notas=hostile), METRICS).rows
    for text in (row.title, *row.notes):
        assert text.isprintable() and "<script>alert(1)</script>" in text


@pytest.mark.parametrize(
    "text",
    [
        "## 1. a\n" * 60_000,
        "|" * 500_000,
        "## 1. x\n" + "- **" * 200_000,
        "## 1. x\n##### Output (Full size)\n" + ("|" + "1" * 1000) * 500 + "|\n|" + "-" * 500_000 + "|\n",
        "## 1. " + "~" * 300_000 + "1" * 300_000 + " epochs",
        "## 1. " + "1,1." * 100_000 + "k images",
        "`" * 400_000 + "\n## 1. x\n" + "`" * 399_999,
    ],
    ids=["headings", "pipes", "bullets", "cells", "digits", "groups", "fences"],
)
def test_large_and_crooked_logs_cost_time_in_proportion(text: str) -> None:
    began = time.monotonic()
    parse(text, METRICS)
    read_phrases(text[:5000])
    assert time.monotonic() - began < 20


numbers = st.integers(0, 999_999).map(lambda value: f"{value // 1000}.{value % 1000:03}")
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6),
            words,
            st.lists(numbers, min_size=9, max_size=9),
            st.none() | st.lists(numbers, min_size=9, max_size=9),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_every_number_comes_back_as_it_was_written(rows: list[Any]) -> None:
    text = ""
    for number, title, full, reduced in rows:
        text += section(number, f"Run {title}", full)
        text += f"##### Output (Reduced size)\n{table(reduced)}" if reduced else ""
    log = parse(text, METRICS)
    assert not log.problems
    assert len(log.rows) == len(rows)
    for row, (number, title, full, reduced) in zip(log.rows, rows, strict=True):
        assert (row.number, row.title.split()) == (number, f"Run {title}".split()) or not title.isprintable()
        assert list(row.outputs["full"].texts.values()) == full
        assert [f"{value:.3f}" for value in row.outputs["full"].values.values()] == full
        if reduced:
            assert list(row.outputs["reduced"].texts.values()) == reduced


pieces = st.sampled_from(
    ["## 1. ", "##### Output (Full size)", "| d1 | d2 |", "|:-:|:-:|", "| 1 | 2 |", "```", "~~~", "- **Pesos**: ", "\\|",
     "- **Notas**:", "(10 epochs, ~4k images) ~1h", "\n", "\r\n", "\t", "\0", "|", "# x", "---", "\u2028", "0,1", "**"]
)  # fmt: skip


@given(st.lists(pieces | st.text(max_size=5), max_size=40).map("".join))
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    log = parse(text, METRICS)
    assert all(problem.startswith("line ") for problem in (*log.problems, *log.remarks))
    for row in log.rows:
        assert text.count("\n") + 1 >= row.line >= 1
        assert row.title.isprintable()


@given(st.lists(st.tuples(st.integers(1, 99), st.text("|-: ab1.,\\", max_size=20)), min_size=1, max_size=4))
def test_any_lines_are_a_table_or_a_problem(lines: list[tuple[int, str]]) -> None:
    found, problems, _ = read_table(lines, METRICS)
    assert problems or found.texts


def test_phrases() -> None:
    assert read_phrases("x (5 épocas, 1.000 imágenes) 2 días").hours == 48
    assert read_phrases("x (5 épocas, 1.000 imágenes) 2 días").images == 1000
    assert read_phrases("1,5k images").images == 1500
    assert read_phrases("1.5 images").images is None
    assert read_phrases("12.5 epochs").epochs is None
    assert read_phrases("DPT-Hybrid with 12 heads").hours is None
    assert read_phrases("").about == ()
