"""What may be concluded, in Markdown and on the page, from studies that were written as the engine writes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from ablate.report.options import Options, resolve
from ablate.report.page.build import About, build
from ablate.report.page.render import render_page
from ablate.report.render import FORMATS, render
from ablate.results.open import open_results

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>|`[a](javascript:b)\\input{/etc/passwd}$"


def page_of(lab: Any, summary: Any) -> Any:
    with open_results(lab.work.db, lab.work.runs_dir) as results:
        return build(results, [summary], About(time.time()))


@pytest.fixture
def study(lab: Any, make_arm: Callable[..., Any]) -> Any:
    arms = [make_arm({"model.attention": name}, error=error, seeds=4, failed=failed)
            for name, error, failed in (("standard", 0.10, 0), ("performer", 0.14, 1), ("linear", 0.10, 0))]  # fmt: skip
    runs = lab.study(arms)
    runs[1][0].attempt(host="there", resumed_from={"epoch": 1, "step": 3})
    return lab.summary()


def test_other_metrics_are_a_row_per_comparison(study: Any, rows: Callable[[str], list[list[str]]]) -> None:
    text = render([study], "md")
    section = text.partition("#### Other metrics, described without a claim")[2].partition("####")[0]
    table = rows(section)
    assert table[0] == ["comparison", "d1 ↑", "RMSE ↓"]
    assert [row[0] for row in table[2:]] == ["performer against standard", "linear against standard"]
    found = study.judgement.others["rmse"][0].difference
    assert table[2][2] == f"{found.estimate:+.3g} ({found.low:+.3g} to {found.high:+.3g})"


def test_a_failed_seed_is_counted_and_never_averaged(study: Any) -> None:
    arm = next(arm for arm in study.judgement.arms if arm.name == "performer")
    values = [value for value in arm.values["abs_rel"] if value is not None]
    assert len(values) == 3 and arm.scores["abs_rel"].mean == pytest.approx(sum(values) / 3)
    text = render([study], "md")
    assert f"{sum(values) / 3:.3f}" in text and "(3/4)" in text and "1/4 (" in text


def test_speeds_of_several_machines_are_said_to_be(study: Any, lab: Any, make_arm: Callable[..., Any]) -> None:
    assert study.judgement.front is None or study.judgement.front.notes
    assert "not measured on one machine (cpu of here, cpu of there)" in render([study], "md")
    lab.study([make_arm({"train.lr": lr}) for lr in (0.1, 0.2)], name="alike")
    assert "measured on one machine" not in render([lab.summary("alike")], "md")


def test_spanish_reaches_the_conclusions(study: Any) -> None:
    english, spanish = (render([study], "md", Options(lang=lang)) for lang in ("en", "es"))
    headings = [line for line in english.splitlines() if line.startswith(("### What", "####")) and "Output" not in line]
    assert len(headings) >= 5
    assert not [line for line in headings if line in spanish.splitlines()]
    assert "Los veredictos son sobre AbsRel ↓ (partición test, tamaño reducido" in spanish


def test_the_page_marks_the_baseline_alone_and_has_the_other_metrics(study: Any, lab: Any) -> None:
    (shown,) = page_of(lab, study).studies
    badges = {row.cells[0].text: row.badge for row in shown.arms.rows}
    assert "baseline" in badges["standard"] and not any("baseline" in badges[name] for name in ("performer", "linear"))
    assert shown.described.headers == ("Comparison", "d1 ↑", "RMSE ↓") and len(shown.described.rows) == 2
    assert shown.imported is None
    assert all(not finding.details for finding in shown.findings), "a verdict has its numbers in its sentence"


def test_images_of_one_drive_are_not_said_to_be_of_many(lab: Any, make_arm: Callable[..., Any]) -> None:
    lab.drives = 1
    lab.study([make_arm({"train.lr": lr}) for lr in (0.1, 0.2)])
    (verdict,) = lab.summary().judgement.verdicts
    assert "24 images)" in verdict.sentence and "drives" not in verdict.sentence


def test_pictures_that_are_kept_make_no_pair_incomparable(lab: Any, make_arm: Callable[..., Any]) -> None:
    shown = {"eval": {"panels": {"images": 9}}}
    lab.study([make_arm({"train.lr": 0.1}), make_arm({"train.lr": 0.2}, config=shown)])
    assert not lab.summary().judgement.pairs[0].discrepancies


def test_nothing_hostile_gets_through_any_format(lab: Any, make_arm: Callable[..., Any]) -> None:
    arms = [make_arm({"model.attention": value}, error=error) for value, error in (("standard", 0.1), (EVIL, 0.2))]
    lab.study(arms, text=EVIL, file=EVIL)
    summary = lab.summary()
    for form in FORMATS:
        options = resolve([summary], Options(style="progress" if form == "md" else "table"))
        text = render([summary], form, options)
        if form in ("md", "latex"):
            assert "<script" not in text and "<img" not in text, form
        if form == "md":
            widths = {line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("| ")}
            assert "[a](javascript" not in text and len(widths) < 12
        if form == "latex":
            assert r"\input{" not in text
    html = render_page(page_of(lab, summary))
    assert "<script>alert" not in html and "<img src=x" not in html and "alert(1)" in html
