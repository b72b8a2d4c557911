"""The file without a browser: what stands in it, and what can never stand in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.report.comparability import Discrepancy
from ablate.report.judgement import Arm, Judgement, Pair
from ablate.report.page import judged
from ablate.report.page.data import Cell
from ablate.report.page.render import asset, embedded, render_page
from ablate.report.page.sheets import mark
from ablate.report.page.words import clean
from ablate.report.stats.seeds import Rate, SeedSummary
from ablate.task import Metric

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(VALUES)
def test_json_in_a_script_is_the_same_value_and_can_end_nothing(value):
    text = str(embedded(value))
    assert json.loads(text) == value
    assert not set("<>&") & set(text) and text.isascii()


def test_what_is_no_number_in_json_is_nothing():
    assert embedded([float("nan"), float("inf"), 1.5]) == "[null,null,1.5]"


class Texts(HTMLParser):
    """The tags of a document, and the text outside scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, sorted(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf")), min_size=1).filter(str.strip))
def test_no_text_changes_the_structure(made, text):
    tame, wild = Texts(), Texts()
    words = {"runs": 2, "values": ["a"]}
    tame.feed(render_page(made(**words, note="x", tag="x", name="x", message="x", study="x", axis="x").page()))
    wild.feed(render_page(made(**words, note=text, tag=text, name=text, message=text, study=text, axis="x").page()))
    assert wild.tags == tame.tags


def test_controls_and_directions_of_writing_are_gone():
    assert clean("a\x00b\u202ec\ud800d\te") == "a\ufffdb\ufffdc\ufffdd\te"


def test_a_page_without_charts_does_not_carry_their_library(made):
    with_curves = render_page(made(runs=2).page())
    page = made(runs=2).page()
    study = page.studies[0]
    without = replace(page, studies=(replace(study, pages=tuple(replace(run, curve=()) for run in study.pages)),))
    assert len(with_curves) > 800_000 and len(render_page(without)) < 100_000


def test_the_policy_is_strict(made):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', render_page(made(runs=1).page()))
    policy = unescape(policy)
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'" and parts["img-src"] == "data:"
    assert "unsafe" not in policy and "http" not in policy
    assert all(word.startswith("'sha256-") for word in parts["script-src"].split() + parts["style-src"].split())


@pytest.mark.parametrize("name", ["page.html.j2", "page.css", "theme.js", "live.js"])
def test_assets_come_with_the_package_and_name_no_place_on_the_network(name):
    assert asset(name) and "http://" not in asset(name) and "https://" not in asset(name)


def test_marks_follow_what_is_shown():
    cells = [Cell("0.100", 0.1001), Cell("0.100", 0.0999), Cell("0.200", 0.2), Cell("0.050", 0.05), Cell("–")]
    marked = mark(cells, [True, True, True, False, True], highest=False)
    assert [cell.mark for cell in marked] == ["best", "best", "", "", ""]
    assert [cell.mark for cell in mark(cells, [True] * 5, highest=False)] == ["second", "second", "", "best", ""]
    assert {cell.mark for cell in mark(cells[:2], [True, True], highest=True)} == {""}


METRIC = Metric("abs_rel", "AbsRel", "min")


def arm(name, mean, baseline=None, n=5):
    scores = {"abs_rel": SeedSummary(mean, 0.004, n, 5)}
    return Arm(name, {"model.attention": name}, ("a",), scores, Rate(5 - n, 5, None, None, None), {}, baseline)


def test_arms_show_means_and_missing_seeds():
    pair = Pair("performer", "standard", ("model.attention",), (Discrepancy("train.lr", 1e-4, 1e-5),))
    arms = (arm("standard", 0.159), arm("performer", 0.171, "standard", 4))
    judgement = Judgement(METRIC, "test", "full", "matched", arms, (pair,), (), {}, (), (), None, (), ("a note",))
    sheet = judged.arm_sheet(judgement, ("model.attention",), (METRIC,))
    shown = [dict(zip([column.header for column in sheet.columns], row.cells, strict=True)) for row in sheet.rows]
    assert [row["AbsRel ↓"].text for row in shown] == ["0.159 ± 0.004", "0.171 ± 0.004 (4/5)"]
    assert [row["Seeds"].text for row in shown] == ["5", "4/5"] and shown[1]["Failed"].text == "1/5"
    assert sheet.rows[0].badge == "baseline" and sheet.views[0].notes == ("a note",)


def test_without_a_judgement_it_says_that_there_is_no_verdict(made):
    (study,) = made(runs=3).page().studies
    assert not study.judged and study.headline[0].startswith("No verdict") and "3 of 3 runs" in study.headline[1]


def test_the_same_page_has_the_same_bytes(made):
    assert render_page(made().page()) == render_page(made().page())
