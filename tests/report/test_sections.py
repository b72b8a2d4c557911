"""A section per run: its title, its fields, and tables that a log's reader reads again."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.external.log import parse
from ablate.report.labels import EN, ES
from ablate.report.markdown import fenced
from ablate.report.options import Options
from ablate.report.render import render
from ablate.report.sections import duration, title
from ablate.report.summary import StudySummary
from ablate.results.records import State

PROGRESS = Options(style="progress")


def test_titles_of_what_was_measured(make: Any) -> None:
    details = make.details(
        titles={"en": "DPT-Hybrid with Performer attention", "es": "DPT-Hybrid con Performer Attention"},
        titled=("model.attention",), epochs=13, images=43_600, hours=20.04,
    )  # fmt: skip
    settings = {"model.attention": "performer", "train.lr": 1e-4}
    run = make.run("r", settings=settings, details=details, planned_epochs=13)
    study = make.study(run, axes=("model.attention", "train.lr"))
    assert title(study, run, EN, "en") == (
        "DPT-Hybrid with Performer attention, lr 0.0001 (13 epochs, ~44k images per epoch) ~20h"
    )
    assert title(study, run, ES, "es") == (
        "DPT-Hybrid con Performer Attention, lr 0.0001 (13 epochs, ~44k imágenes por epoch) ~20h"
    )


def test_titles_of_tasks_without_words(make: Any) -> None:
    """The settings in which runs differ, and seeds if there are several; the name if there is nothing else."""
    one = make.run("a", settings={"data.size": [192, 640]}, seed=0, planned_epochs=1,
                   details=make.details(epochs=1, images=8))  # fmt: skip
    two = make.run("b", settings={}, seed=1, unknown=("data.size",), details=make.details())
    study = make.study(one, two, axes=("data.size",))
    assert title(study, one, EN, "en") == "size 192x640, seed 0 (1 epoch, 8 images per epoch)"
    assert title(study, two, ES, "es") == "size desconocido, semilla 1"
    assert title(make.study(two), two, EN, "en") == "b"
    assert title(make.study(replace(one, details=None)), replace(one, details=None), EN, "en") == "a"


def test_unfinished_runs_say_how_far_they_are(make: Any) -> None:
    run = make.run("r", status=State.FAILED, reason="diverged", message="loss nan", last_epoch=3,
                   planned_epochs=20, details=make.details(epochs=3))  # fmt: skip
    text = render([make.study(run)], "md", PROGRESS)
    assert "## 1. r (3 of 20 epochs)" in text
    assert "- **State**: failed (diverged) 3/20: loss nan\n- **Weights**: N/A" in text


@pytest.mark.parametrize(
    ("hours", "text"),
    [(20.0, "20h"), (35.5, "35.5h"), (1.04, "1h"), (0.5, "30min"), (0.01, "36s"), (1e-9, "1s"), (0.999, "60min")],
)
def test_durations(hours: float, text: str) -> None:
    assert duration(hours) == text


def test_numbers_and_protocol_of_the_selected_epoch(grid: StudySummary) -> None:
    text = render([grid], "md", PROGRESS)
    section = text.partition("## 2. ")[2].partition("---\n\n")[0]
    assert section.startswith("attention standard, lr 1e-5\n")
    assert section.count("- **Reported**: epoch 4 of 5, test split, 652 images") == 1
    assert "##### Output (Full size)" in section and "##### Output (Reduced size)" in section
    assert re.search(r"\| +d1 ↑ +\| +AbsRel ↓ +\| +RMSE ↓ +\|\n\|:-+:\|:-+:\|:-+:\|\n\| 0.900 ", section)


def test_tables_alone(grid: StudySummary) -> None:
    text = render([grid], "md")
    assert not re.search(r"^## \d", text, re.M)
    assert render([grid], "md", PROGRESS).startswith(text[:500])


def test_numbers_count_on_over_studies_but_logs_keep_theirs(make: Any) -> None:
    studies = [make.study(make.run("a"), make.run("b"), name="one"), make.study(make.run("c"), name="two")]
    logged = [make.run(f"log-{row}", details=make.details(number=row, title=f"T{row}")) for row in (5, 7)]
    text = render([*studies, make.study(*logged, name="three")], "md", PROGRESS)
    assert re.findall(r"^## (\d+)\. (\w+)", text, re.M) == [
        ("1", "a"), ("2", "b"), ("3", "c"), ("5", "T5"), ("7", "T7"),
    ]  # fmt: skip


def test_a_log_is_quoted(make: Any) -> None:
    """Numbers as they were written, columns of its own, remarks where they stood."""
    details = make.details(
        number=5, title="Five (13 epochs) ~20h", weights="w/five.pt", weights_remark="then it falls (?)",
        wandb="test/five", notes=("The power went.",), prose=("A proof of concept.",), commands=("./run.sh",),
        written={"full": {"d1": "0,5160", "Speed": "12 fps"}},
    )  # fmt: skip
    run = make.run("log-5", make.score(0.516), external=make.origin(5), details=details)
    text = render([make.study(run)], "md", replace(PROGRESS, lang="es"))
    section = text[text.index("## 5. ") :]
    lines = [line for line in section.splitlines() if line]
    assert lines[:8] == [
        "## 5. Five (13 epochs) ~20h", "A proof of concept.", "- **Pesos**: w/five.pt -> then it falls (?)",
        "- **Wandb**: test/five", "- **Notas**: The power went.", "``` bash", "./run.sh", "```",
    ]  # fmt: skip
    assert [cell.strip() for cell in lines[9].strip("|").split("|")] == ["d1 ↑", "Speed"]
    assert [cell.strip() for cell in lines[11].strip("|").split("|")] == ["0,5160", "12 fps"]


def test_what_a_log_says_is_quoted_once_but_warnings_stand_by_the_table(make: Any) -> None:
    notes = ("not saturated",)
    logged = make.run("a", make.score(0.5), notes=notes, details=make.details(notes=notes), external=make.origin())
    measured = make.run("b", make.score(0.5), notes=("diverged",), details=make.details(notes=("diverged",)))
    study = make.study(logged, measured)
    assert "- a: not saturated" in render([study], "md").splitlines()
    lines = render([study], "md", PROGRESS).splitlines()
    assert "- a: not saturated" not in lines and "- **Notes**: not saturated" in lines
    assert "- b: diverged" in lines and "- **Notes**: diverged" in lines


def test_several_notes_are_a_list(make: Any) -> None:
    run = make.run("a", details=make.details(notes=("one", "two")))
    assert "- **Notes**:\n  - one\n  - two" in render([make.study(run)], "md", PROGRESS)


values = st.floats(0, 999.9994).map(lambda value: round(value, 3))


@settings(deadline=None)
@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=4))
def test_a_report_is_a_log_that_can_be_imported(make: Any, numbers: list[tuple[float, float, float]]) -> None:
    runs = [
        make.run(
            f"run-{place}", make.score(*three),
            details=make.details(weights=f"runs/run-{place}", commands=("ablate run x",), notes=("a", "b"),
                                 epochs=5, images=1000, hours=2.0),
        )
        for place, three in enumerate(numbers)
    ]  # fmt: skip
    log = parse(render([make.study(*runs)], "md", PROGRESS), make.metrics)
    assert not log.problems and len(log.rows) == len(runs)
    for row, row_given in zip(log.rows, numbers, strict=True):
        assert row.outputs["full"].values == dict(zip(("d1", "abs_rel", "rmse"), row_given, strict=True))
        assert (row.phrases.epochs, row.phrases.images, row.phrases.hours) == (5, 1000, 2.0)
        assert row.commands == ("ablate run x",) and row.weights == f"runs/run-{row.number - 1}"


nasty = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["a|b", "```", "~~~\n```", "<script>alert(1)</script>", "[x](javascript:1)", "# Title", "## 9. Run", "| a |\n|---|",
     "---", "***", "\u2028", "\x1b[31m", "**bold**", "<!--", "- x", "> q", "1. x", "=====", "    code", "http://x.y", "___", "+ x", "2) x", "# x #", ":---"]
)  # fmt: skip


@settings(deadline=None)
@given(name=nasty, note=nasty, command=nasty, weights=nasty, prose=nasty, cell=nasty)
def test_hostile_text_never_breaks_a_section(
    make: Any, name: str, note: str, command: str, weights: str, prose: str, cell: str
) -> None:
    """Read as GitHub reads it: the same blocks as with harmless text, no HTML, no links."""
    from markdown_it import MarkdownIt

    def blocks(*texts: str) -> list[str]:
        called, noted, typed, file, above, written = texts
        details = make.details(
            number=1, title=called, weights=file, notes=(noted, "x"), prose=(above,), commands=(typed,),
            written={"full": {"d1": written}},
        )  # fmt: skip
        text = render([make.study(make.run("r", make.score(0.5), details=details))], "md", PROGRESS)
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
        inner = [child.type for token in tokens for child in token.children or ()]
        assert not {"html_inline", "link_open", "image", "code_inline"} & set(inner)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", text)
        return [token.type for token in tokens if token.type != "inline"]

    texts = [
        text if text.strip() and text.isprintable() else f"x{text}x"
        for text in (name, note, command, weights, prose, cell)
    ]
    assert blocks(*texts) == blocks(*["x"] * 6)


@given(st.lists(nasty, min_size=1, max_size=3))
def test_no_command_closes_its_fence(commands: list[str]) -> None:
    opening, *inside, closing = fenced(commands).split("\n")
    fence = opening.split()[0]
    assert closing == fence and len(inside) == len(commands) + 2
    assert not any(line.strip().startswith(fence) for line in inside)
