"""`ablate import`, through the real command: the rows of a log come back from reports as they were written."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LOG = Path(__file__).parents[1] / "data" / "progress.md"
KEYS = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10")

Figures = dict[tuple[int, str], list[str]]
"""(row, resolution) -> nine numbers as they are written."""


def figures(log: Path) -> Figures:
    """Read without our parser: the numbers below each heading, in their order."""
    found: Figures = {}
    row = size = ""
    for line in log.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## (\d+)\. ", line):
            row = heading[1]
        elif output := re.match(r"##### Output \((\w+) size\)", line):
            size = output[1].lower()
        elif re.match(r"\| *[0-9]", line):
            found[int(row), size] = re.findall(r"[\d.]+", line)
    return found


def row_of(run: str) -> int:
    found = re.match(r"log-(\d+)-", run)
    assert found
    return int(found[1])


def in_csv(text: str) -> Figures:
    rows = csv.DictReader(io.StringIO(text))
    return {
        (row_of(row["run"]), row["resolution"]): [f"{float(row[key]):.3f}" for key in KEYS]
        for row in rows
        if row["split"]
    }


def in_json(text: str) -> Figures:
    runs = [run for study in json.loads(text)["studies"] for run in study["runs"]]
    return {
        (row_of(run["name"]), score["resolution"]): [f"{score['metrics'][key]:.3f}" for key in KEYS]
        for run in runs
        for score in run["scores"]
    }


def in_markdown(text: str) -> Figures:
    found: Figures = {}
    size = ""
    for line in text.splitlines():
        if output := re.match(r"#### Output \((\w+) size\)", line):
            size = output[1].lower()
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("log-") and cells[-1] != "–":
            found[row_of(cells[0]), size] = cells[-9:]
    return found


def check_report(ablate: Callable[..., Any], log: Path) -> None:
    expected = figures(log)
    assert len(expected) == 3 + 4 * 2 and all(len(numbers) == 9 for numbers in expected.values())
    done = ablate("import", str(log))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("new  ") == 7
    for form, read in (("csv", in_csv), ("json", in_json), ("md", in_markdown)):
        report = ablate("report", "--format", form)
        assert report.returncode == 0, report.stderr
        assert read(report.stdout) == expected, form
    written = json.loads(report_json := ablate("report", "--format", "json").stdout)["studies"][0]["runs"]
    for run in written:
        for resolution, texts in run["external"]["facts"]["written"].items():
            assert list(texts.values()) == expected[row_of(run["name"]), resolution]
    assert str(log.parent) not in report_json


@pytest.mark.slow
def test_the_seven_rows_come_back_to_the_digit(ablate: Any) -> None:
    check_report(ablate, LOG)


@pytest.mark.slow
def test_the_authors_own_rows_come_back_to_the_digit(ablate: Any, shared: Path) -> None:
    check_report(ablate, shared / "progress-log.md")


@pytest.mark.slow
def test_external_rows_are_marked_and_refuse_what_needs_weights(ablate: Any, tmp_path: Path) -> None:
    shutil.copy(LOG, tmp_path / "progress.md")
    assert ablate("import", "progress.md").returncode == 0
    report = ablate("report").stdout
    assert "### As reported" in report and "### Last epoch" not in report
    assert len(re.findall(r"^\| log-\d-\S+ \(external\) ", report, re.M)) == 14
    five = next(line for line in report.splitlines() if line.startswith("| log-5-"))
    assert "6/13" in five and "performer" in five and "0.0001" in five
    four = next(line for line in report.splitlines() if line.startswith("| log-4-"))
    assert "unknown/10" in four and "| unknown |" in re.sub(" +", " ", four)
    assert "not measured here (progress.md, row 4, SHA-256 " in report and "about 17 h" in report
    assert "log-4-standard" in report and "not stated: seed, " in report
    rows = json.loads(ablate("ls", "--json").stdout)
    assert {row["external"]["file"] for row in rows} == {"progress.md"}
    assert ablate("ls").stdout.count(" external ") == 7
    shown = ablate("show", "log-5").stdout
    assert "external     progress.md, row 5, not measured here" in shown
    assert "Hubo un corte de luz." in shown and "hours        20.0" in shown
    for command in (
        ("resume", "log-4"), ("resume", "log-4", "--from-scratch"), ("extend", "log-4", "--epochs", "40"),
        ("verify", "log-4"), ("export", "log-4", "--layout", "main", "-o", "x.pt"),
    ):  # fmt: skip
        done = ablate(*command)
        assert done.returncode == 2, command
        assert "was imported (progress.md, row 4), so there is nothing to" in done.stderr, done.stderr
    assert not (tmp_path / "x.pt").exists()
    assert ablate("db", "verify").returncode == 0


@pytest.mark.slow
def test_twice_changes_nothing_and_an_edit_is_said(ablate: Any, tmp_path: Path) -> None:
    log = tmp_path / "mine.md"
    shutil.copy(LOG, log)
    assert ablate("import", "mine.md", "--study", "logged").returncode == 0
    before = ablate("report", "logged", "--format", "csv").stdout
    again = ablate("import", "mine.md", "--study", "logged")
    assert again.stdout.count("unchanged") == 7 and "7 unchanged" in again.stderr
    assert ablate("report", "logged", "--format", "csv").stdout == before
    log.write_text(log.read_text().replace("0.917", "0.918"))
    edited = ablate("import", "mine.md", "--study", "logged")
    assert re.search(r"^changed +log-4-\S+ takes the place of log-4-\S+, which stays", edited.stdout, re.M)
    assert "1 changed, 6 unchanged" in edited.stderr
    report = ablate("report", "logged").stdout
    assert "0.918" in report and "0.917" not in report
    assert "1 run of earlier versions of this study not shown" in report
    four = next(row["run_id"] for row in csv.DictReader(io.StringIO(before)) if row["run"].startswith("log-4-"))
    assert ablate("show", four).returncode == 0
    gone = ablate("rm", "log-7", "--yes")
    assert "`ablate import` takes it in again" in gone.stderr
    assert "log-7" not in ablate("report", "logged").stdout


@pytest.mark.slow
def test_hostile_logs_are_refused_with_their_lines_and_write_nothing(ablate: Any, tmp_path: Path) -> None:
    text = LOG.read_text()
    cases = {
        "few.md": (text.replace("| 0.590 ", "", 1), "line 21: 8 cells below 9 headers"),
        "comma.md": (text.replace("0.590", "0,590", 1), "line 21: both decimal points and commas"),
        "table.md": (re.sub(r"(?m)^\|.*\n", "", text), "no table below this heading of run 1"),
        "empty.md": ("", "holds no run"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_text(content)
        done = ablate("import", name)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and not done.stdout
    for arguments in (["none.md"], ["wandb"], ["wandb", "none"], ["few.md", "x"], ["few.md", "--study", "../x"]):
        done = ablate("import", *arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(cases)


@pytest.mark.slow
def test_text_of_a_log_neither_rewrites_the_screen_nor_breaks_a_table(ablate: Any, tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;x\x07 <script>alert(1)</script> | a | [bold red]x[/] `b` \u202e"
    text = (
        LOG.read_text()
        .replace("Hubo un corte de luz.", evil)
        .replace("Modelo base DPT-Hybrid con Perf", f"{evil} Perf")
    )
    (tmp_path / "evil\x1b[2J.md").write_text(text)
    assert ablate("import", "evil\x1b[2J.md", "--study", "evil").returncode == 0
    for command in (
        ("show", "log-5"),
        ("report",),
        ("report", "--format", "csv"),
        ("ls", "--json"),
        ("ls",),
        ("status",),
    ):
        done = ablate(*command)
        assert done.returncode == 0, done.stderr
        printed = done.stdout + done.stderr
        assert "\x1b" not in printed and "\x07" not in printed
        if command == ("report",):
            assert "<script>" not in printed and "\u202e" not in printed
            rows = [line for line in printed.splitlines() if line.startswith("| ")]
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows[:8]}) == 1
    assert "alert(1)" in ablate("show", "log-5").stdout


@pytest.mark.slow
def test_external_rows_beside_measured_ones(ablate: Any, tmp_path: Path) -> None:
    """In one study: settings that only the log's rows vary come from the measured runs' configuration."""
    from ablate.results.open import open_results
    from ablate.runs.paths import RunsDir
    from ablate.study.record import CellRecord, StudyRecord

    shutil.copy(LOG, tmp_path / "progress.md")
    runs = RunsDir(tmp_path / "runs")
    measured(runs)
    own = CellRecord("aaaaaaaa", "own-aaaaaaaa", 0, {"model.attention": "performer"}, 0)
    select = {"metric": "abs_rel", "split": "val", "resolution": "reduced"}
    record = StudyRecord("mine", "depth", "m.yaml", "study: mine\n", (), select, 1.0, ("model.attention",), {}, (own,))
    runs.studies.mkdir(parents=True)
    runs.study("mine").write_text(record.to_json())
    assert ablate("import", "progress.md", "--study", "mine").returncode == 0
    with open_results(tmp_path / "results.duckdb", runs.root) as results:
        assert len(results.runs("mine")) == 8
    rows = list(csv.DictReader(io.StringIO(ablate("report", "mine", "--format", "csv").stdout)))
    ours = next(row for row in rows if row["run"] == "own-aaaaaaaa")
    assert (ours["external"], ours["train.epochs"], ours["train.lr"], ours["images"]) == ("", "4", "1e-05", "652")
    assert next(row for row in rows if row["run"].startswith("log-6"))["external"] == "progress.md, row 6"
    report = ablate("report", "mine").stdout
    assert "scored on different numbers of images: 652 (own-aaaaaaaa), unknown (log-" in report
    assert "### Last epoch" in report


def measured(runs: Any) -> None:
    """A run that was trained here, as the engine writes it."""
    from ablate.runs import directory, states
    from ablate.runs.journal import Journal

    identity = directory.RunIdentity("aaaaaaaa", "a" * 64, "own-aaaaaaaa", "depth", 1, {}, {}, 1.0)
    config = {"train": {"epochs": 4, "lr": 1e-5}, "model": {"attention": "performer"}}
    paths = directory.ensure_run(runs, identity, directory.RunConfig(config, "ablate run m.yaml", {}))
    with Journal(paths.journal) as journal:
        for epoch in (3, 4):
            for resolution in ("full", "reduced"):
                journal.append("evaluation", epoch, 0, {
                    "split": "test", "resolution": resolution, "metrics": dict.fromkeys(KEYS, 0.5), "loss": None,
                    "images": 652, "skipped": 0, "protocol": {"mask": "garg"}, "scores": [],
                })  # fmt: skip
        journal.append("event", 3, 0, {"name": "selected", "epoch": 3, "value": 0.5})
    states.write_outcome(paths, states.Outcome(states.State.COMPLETE))
