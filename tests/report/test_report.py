"""From run directories to text, and what hostile names do to it."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import UsageError
from ablate.report.arms import short_names
from ablate.report.markdown import escape
from ablate.report.options import IDENTITY_COLUMNS
from ablate.report.render import FORMATS, render
from ablate.report.summary import RunSummary, Score, StudySummary, best_epoch
from ablate.report.tables import show, state, tables
from ablate.report.tabular import safe
from ablate.results.records import EvaluationRow, State
from ablate.task import Metric, SelectSettings

HEADERS = ("d1", "d2", "d3", "AbsRel", "SqRel", "RMSE", "RMSElog", "SILog", "log10")
KEYS = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10")
METRICS = tuple(
    Metric(key, header, "max" if key in ("d1", "d2", "d3") else "min")
    for key, header in zip(KEYS, HEADERS, strict=True)
)
SELECT = SelectSettings(metric="abs_rel", split="val", resolution="reduced")


def score(checkpoint="selected", epoch=4, split="test", resolution="full", images=652, value=0.5, **protocol):
    marks = dict.fromkeys(KEYS, value)
    return Score(checkpoint, epoch, split, resolution, marks, 0.25, images, 0, {"mask": "garg", **protocol})


def run(name="std-aaaaaaaa", *scores, **changes):
    values = {
        "run_id": name[-8:], "name": name, "settings": {"train.lr": 1e-5}, "seed": 0, "baseline": None,
        "status": State.COMPLETE, "reason": None,
        "message": None, "selected_epoch": 4, "last_epoch": 5, "planned_epochs": 5, "scores": scores,
    }  # fmt: skip
    return RunSummary(**{**values, **changes})


def study(*runs, name="compressed", axes=("train.lr",)):
    return StudySummary(name, "depth", "studies/x.yaml", axes, METRICS, SELECT, runs)


def cells(line):
    """A row of a GFM table, split as cmark-gfm does: a backslash takes the next character along."""
    return re.findall(r"((?:\\.|[^|\\])*)\|", line.strip().removeprefix("|"))


def table_rows(text):
    """The rows of all tables, as lists of cells."""
    return [[cell.strip() for cell in cells(line)] for line in text.splitlines() if line.startswith("|")]


def test_the_table_is_that_of_the_log(shared):
    """The headers, their order and arrows, and three decimals, as the progress log has them."""
    log = (shared / "progress-log.md").read_text(encoding="utf-8")
    theirs = next(row for row in table_rows(log) if "AbsRel ↓" in row)
    values = (0.723, 0.906, 0.973, 0.159, 1.198, 6.607, 0.251, 22.173, 0.078)
    mine = replace(score(), metrics=dict(zip(KEYS, values, strict=True)))
    header, align, row = table_rows(render([study(run("std-aaaaaaaa", mine))], "md"))[:3]
    assert header[-9:] == theirs
    expected = next(r for r in table_rows(log) if r[0] == "0.723")
    assert row[-9:] == expected
    assert all(re.fullmatch(":-+:", cell) for cell in align[-9:])
    assert "#### Output (Full size)" in render(
        [study(run("std-aaaaaaaa", mine))], "md"
    ) and "#### Output (Full size)" in log.replace("#####", "####")


def test_one_row_from_one_checkpoint():
    text = render([study(run("std-aaaaaaaa", score(), score("last", 5, value=0.7)))], "md")
    rows = table_rows(text)
    assert rows[2][:3] == ["std-aaaaaaaa", "1e-5", "4/5"] and set(rows[2][3:]) == {"0.500"}
    assert rows[5][:3] == ["std-aaaaaaaa", "1e-5", "5/5"] and set(rows[5][3:]) == {"0.700"}
    assert "test split, 652 images, 0 skipped, mask garg" in text
    assert "Selected epoch (best AbsRel ↓ on val, reduced size)" in text


def test_the_same_table_is_not_printed_twice():
    one = run("std-aaaaaaaa", score(epoch=5), score("last", 5), selected_epoch=5)
    text = render([study(one)], "md")
    assert "The last epoch is the selected one in every run." in text
    assert len(table_rows(text)) == 3


def test_unfinished_runs_are_shown_with_their_reason():
    text = render([study(
        run("ok-aaaaaaaa", score(), score("last", 5)),
        run("bad-bbbbbbbb", status=State.FAILED, reason="oom", message="no memory | left\nat all", last_epoch=2,
            selected_epoch=None),
        run("new-cccccccc", status=State.QUEUED, last_epoch=None, selected_epoch=None),
    )], "md")  # fmt: skip
    rows = table_rows(text)
    assert [row[2] for row in rows[2:5]] == ["complete", "failed (oom) 2/5", "queued"]
    assert set(rows[3][3:]) == {"–"}
    assert "- bad-bbbbbbbb is failed (oom) 2/5: no memory \\| left at all" in text
    assert "- new-cccccccc is queued" in text


def test_numbers_that_cannot_be_compared_carry_a_warning():
    text = render([study(
        run("a-aaaaaaaa", score(images=652, input=[192, 672]), score("last", 5)),
        run("b-bbbbbbbb", score(images=697, split="val", input=[96, 320]), score("last", 5)),
    )], "md")  # fmt: skip
    assert "scored on different numbers of images: 652 (a-aaaaaaaa), 697 (b-bbbbbbbb)" in text
    assert "scored on different splits: test (a-aaaaaaaa), val (b-bbbbbbbb)" in text
    assert "protocol differs in input: 192x672 (a-aaaaaaaa), 96x320 (b-bbbbbbbb)" in text
    assert "Split" in table_rows(text)[0]


def test_what_rows_do_not_share_is_a_column():
    """Rows under different protocols, as when MiDaS is aligned and scored beside what was trained."""
    text = render([study(
        run("a-aaaaaaaa", score(alignment="none", network_input="192x672"), score("last", 5)),
        run("b-bbbbbbbb", replace(score(alignment="scale_shift", network_input="192x672"), skipped=1), score("last", 5)),
        run("c-cccccccc", status=State.QUEUED),
    )], "md")  # fmt: skip
    header, _, first, second, third = table_rows(text)[:5]
    shown = {name: place for place, name in enumerate(header)}
    assert [row[shown["Alignment"]] for row in (first, second, third)] == ["none", "scale_shift", "–"]
    assert [row[shown["Skipped"]] for row in (first, second, third)] == ["0", "1", "–"]
    assert "Mask" not in header and "Network input" not in header and "Images" not in header
    assert "test split, 652 images, mask garg, network input 192x672" in text


def test_the_protocol_of_equal_rows_is_one_line():
    rules = {"alignment": "none", "flip": False}
    text = render([study(*(run(f"{name}-aaaaaaaa", score(**rules)) for name in "ab"))], "md")
    assert "test split, 652 images, 0 skipped, mask garg, alignment none, flip false" in text
    assert table_rows(text)[0][:4] == ["Run", "lr", "Epoch", "d1 ↑"]


def test_csv_and_json_carry_the_protocol_of_every_score():
    one = study(run("a-aaaaaaaa", score(flip=True, input=[192, 672])), run("b-bbbbbbbb", score(labels="floor_metres")))
    first, second = csv.DictReader(io.StringIO(render([one], "csv")))
    assert (first["protocol.mask"], first["protocol.flip"], first["protocol.input"]) == ("garg", "true", "[192, 672]")
    assert (first["protocol.labels"], second["protocol.labels"], second["protocol.flip"]) == ("", "floor_metres", "")
    scores = [row["scores"][0] for row in json.loads(render([one], "json"))["studies"][0]["runs"]]
    assert scores[0]["protocol"] == {"mask": "garg", "flip": True, "input": [192, 672]}
    assert scores[1]["protocol"] == {"mask": "garg", "labels": "floor_metres"}


def test_left_out_images_are_said():
    text = render([study(run("a-aaaaaaaa", replace(score(), skipped=2)))], "md")
    assert "a-aaaaaaaa: 2 images without a valid pixel left out" in text


def test_seeds_have_a_column_when_there_are_several():
    text = render([study(run("a-aaaaaaaa", score(), seed=0), run("b-bbbbbbbb", score(), seed=1))], "md")
    assert next(row[2] for row in table_rows(text)[:4]) == "Seed"


def test_nothing_evaluated_yet():
    text = render([study(run(status=State.QUEUED, selected_epoch=None, last_epoch=None))], "md")
    assert "Nothing has been evaluated yet" in text and len(table_rows(text)) == 3
    assert render([study()], "md").count("#") and render([], "md") == ""


nasty = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["a|b", "\\|", "\\\\|", "`|`", "<script>alert(1)</script>", "[x](javascript:1)", "![](http://x)",
     "=cmd|'/C calc'!A0", "a\r\nb",
     "| a | b |\n|---|---|", "\u2028", "\x85", "&lt;", "$x$", "\u202e", "\x1b[31m", " ", ""]
)  # fmt: skip


@given(name=nasty, value=nasty, axis=nasty, message=nasty, title=nasty, resolution=nasty)
def test_hostile_names_never_break_a_table(name, value, axis, message, title, resolution):
    mean = score(resolution=resolution, split=value, **{"note" + axis: value})
    bad = run(name, mean, settings={axis: value}, message=message,
              status=State.FAILED, reason="crash")  # fmt: skip
    good = run("ok-aaaaaaaa", score(resolution=resolution))
    text = render([study(bad, good, name=title, axes=(axis,))], "md")
    rows = table_rows(text)
    # run, axis, state, epoch, the entry of the protocol, metrics, and the split
    assert {len(row) for row in rows[: len(rows) // 2]} == {4 + 1 + 9 + (value != "test")}
    assert len(rows) % 4 == 0
    assert "<" not in text.replace("&lt;", "") and not re.search(r"(?<!\\)[`\[\]]", text)
    assert len([line for line in text.splitlines() if line.startswith("#")]) <= 5
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", text)


@given(nasty)
def test_escape_keeps_plain_text_and_one_line(text):
    escaped = escape(text)
    assert "\n" not in escaped
    if re.fullmatch(r"[\w.=, :/-]*", text, flags=re.ASCII):
        assert escaped == text.strip()


@given(
    name=nasty,
    value=st.floats(allow_nan=False),
    axis=nasty.filter(lambda axis: axis not in (*IDENTITY_COLUMNS, *KEYS)),
    text=nasty,
)
def test_csv_round_trip(name, value, axis, text):
    original = run(name, score(value=value), settings={axis: text})
    (row,) = csv.DictReader(io.StringIO(render([study(original, axes=(axis,))], "csv"), newline=""))
    assert unsafe(row["run"]) == name
    assert unsafe(row[safe(axis)]) == text
    assert all(float(row[key]) == value for key in KEYS)
    for column in ("run", safe(axis)):
        assert not row[column].startswith(("=", "+", "-", "@", "\t", "\r"))


def unsafe(cell):
    """What a reader undoes: the quote before a formula."""
    return cell[1:] if re.match(r"'[=+\-@\t\r]", cell) else cell


def test_csv_has_stable_columns_and_a_line_for_every_run():
    text = render([study(run("a-aaaaaaaa", score(), score("last", 5)), run("b-bbbbbbbb", status=State.QUEUED))], "csv")
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == [
        "study", "run_id", "run", "seed", "status", "reason", "checkpoint", "epoch", "last_epoch", "split",
        "resolution", "images", "skipped", "loss", "data", "external", "tags", "protocol.mask", *KEYS, "train.lr",
    ]  # fmt: skip
    assert {len(row) for row in rows} == {len(rows[0])}
    assert [(row[2], row[6]) for row in rows[1:]] == [
        ("a-aaaaaaaa", "selected"),
        ("a-aaaaaaaa", "last"),
        ("b-bbbbbbbb", ""),
    ]


def test_json_holds_everything():
    value = json.loads(render([study(run("a-aaaaaaaa", score(value=1 / 3)))], "json"))
    (only,) = value["studies"]
    assert only["study"] == "compressed" and only["select"]["metric"] == "abs_rel"
    assert [metric["key"] for metric in only["metrics"]] == list(KEYS)
    assert only["runs"][0]["status"] == "complete"
    assert only["runs"][0]["scores"][0]["metrics"]["rmse"] == 1 / 3


def test_unknown_format():
    with pytest.raises(UsageError, match="expected one of md, latex, csv, json"):
        render([], "xls")
    assert set(FORMATS) == {"md", "latex", "csv", "json"}


def row(epoch, value, split="val", resolution="reduced", loss=None):
    return EvaluationRow("a", epoch, split, resolution, {"abs_rel": value, "d1": value}, loss, 1, 0, {})


def test_best_epoch():
    rows = [row(1, 0.3), row(2, 0.1), row(3, 0.1), row(4, None), row(5, 0.0, "test"), row(5, 0.0, resolution="full")]
    assert best_epoch(rows, SELECT, METRICS) == 2  # of equals the earliest
    assert best_epoch(rows, SelectSettings(metric="d1", resolution="reduced"), METRICS) == 1  # higher is better
    assert best_epoch([row(4, None)], SELECT, METRICS) is None
    by_loss = SelectSettings(metric="loss", resolution="reduced")
    assert best_epoch([row(1, 0.1, loss=2.0), row(2, 0.9, loss=1.0)], by_loss, METRICS) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "1e-5"), (0.1, "0.1"), (1e-10, "1e-10"), (1e20, "1e+20"), (3, "3"), (True, "true"), (None, "–"),
     ([192, 640], "192x640"), ("garg", "garg"), ([], "[]"), ({"a": 1}, '{"a": 1}'), ([True], "[true]")],
)  # fmt: skip
def test_show(value, text):
    assert show(value) == text


def test_short_names_stay_unambiguous():
    assert short_names(["train.lr", "model.lr", "model.attention"]) == {
        "train.lr": "train.lr", "model.lr": "model.lr", "model.attention": "attention"
    }  # fmt: skip


def test_state_says_how_far():
    assert state(run(status=State.RUNNING, last_epoch=3, planned_epochs=20)) == "running 3/20"
    assert state(run(status=State.PAUSED, reason="signal", last_epoch=None)) == "paused (signal) 0/5"


def test_tables_order():
    (first, second, third) = tables(
        study(run("a", score(resolution="zoom"), score(resolution="reduced"), score())), "selected"
    )
    assert [first.resolution, second.resolution, third.resolution] == ["full", "reduced", "zoom"]
