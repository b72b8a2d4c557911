"""Markdown drawn on a terminal: no number is cut, and nothing from a study moves the cursor."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ablate.cli.terminal import show_markdown
from ablate.report.columns import Column
from ablate.report.markdown import bullets, fenced, line, pipe_table


def shown(text: str, width: int = 80) -> str:
    out = io.StringIO()
    show_markdown(text, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def table(columns: int, rows: int) -> str:
    names = Column("run", "Run", "left", tuple(f"run-number-{row}" for row in range(rows)))
    numbers = [
        Column(f"m{place}", f"Metric{place} ↓", "center", tuple(f"{row}.{place:03}" for row in range(rows)))
        for place in range(columns)
    ]
    return pipe_table([names, *numbers])


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_wide_tables_are_cut_into_pieces(width: int) -> None:
    text = shown(table(12, 3), width)
    for row in range(3):
        for place in range(12):
            assert text.count(f"{row}.{place:03}") == 1
    pieces = text.count("Run")
    assert pieces == 1 if width == 300 else pieces > 1
    if width >= 40:
        assert text.count("run-number-0") == pieces
        assert max(len(row) for row in text.splitlines()) <= width


def test_the_blocks_of_a_report() -> None:
    text = "\n\n".join(
        ["## A study", "### Selected epoch", table(2, 1), bullets(["a & <b> `x`", "# two"]), "---",
         "## 1. Title \\*\\#", "- **Weights**: w/a_b.pt -> falls", fenced(["ablate run x --only 'a=[1]'"])]
    )  # fmt: skip
    found = shown(text)
    for plain in ("A study\n", "Metric1 ↓", "• a & <b> `x`", "• # two", "1. Title *#", "Weights: w/a_b.pt -> falls"):
        assert plain in found
    assert "ablate run x --only 'a=[1]'" in found
    assert "**" not in found and "```" not in found and "|" not in found


def test_an_empty_table_and_no_report() -> None:
    assert shown("") == ""
    assert "Run" in shown(table(1, 0))


nasty = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    [
        "[red]x[/]",
        "[link=http://x]y[/link]",
        "\x1b]0;t\x07",
        "\x1b[2J",
        "a|b",
        "<b>",
        "\u202eabc",
        "[/]",
        ":smile:",
        "\\",
    ]
)


@settings(deadline=None)
@given(nasty, nasty, nasty)
def test_hostile_text_is_shown_as_text(cell: str, note: str, command: str) -> None:
    columns = [Column("run", "Run", "left", (cell,)), Column("d1", cell, "center", ("0.123",))]
    text = shown(f"{line(note)}\n\n{pipe_table(columns)}\n\n{fenced([command])}", 200)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "0.123" in text
    if cell.isprintable() and cell.isascii():
        assert cell.strip() in text
