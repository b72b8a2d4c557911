"""Every command as a user types it, on toy studies: what is printed where, what is written, which exit code."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from ablate.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_running(runs: int = 1) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if len(list(Path("runs").glob("*/progress.json"))) >= runs:
            return
        time.sleep(0.02)
    raise AssertionError("no run has started")


def query(sql: str) -> list[tuple]:
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'results.duckdb' AS r (TYPE duckdb, READ_ONLY)")
        connection.execute("USE r")
        return connection.execute(sql).fetchall()


def test_plan_run_and_report(ablate, toys) -> None:
    planned = ablate("plan", "toys.yaml")
    assert planned.returncode == 0
    assert planned.stdout.count(" new") == 4
    assert "4 cells: 4 new" in planned.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["toys.yaml"], "a plan writes nothing"

    done = ablate("run", "toys.yaml")
    assert done.returncode == 0
    assert done.stdout == ""
    assert len(re.findall(r"^complete +toy-", done.stderr, re.MULTILINE)) == 4

    again = ablate("run", "toys.yaml")
    assert again.returncode == 0
    assert "nothing left to do, all 4 runs are complete" in again.stderr

    report = ablate("report", "--format", "md")
    assert report.returncode == 0
    assert "## toys" in report.stdout
    for name in ("toy-2-lr0.1", "toy-3-lr0.01"):
        assert len(re.findall(rf"^\| {re.escape(name)}-\w{{8}} ", report.stdout, re.MULTILINE)) == 2
    assert "AbsRel ↓" in report.stdout
    assert "up to date" in report.stderr
    assert query("SELECT count(*) FROM evaluations WHERE split = 'val'") == [(4 * 2 * 2,)]
    assert query("SELECT DISTINCT status FROM runs WHERE study = 'toys'") == [("complete",)]


def test_formats_of_a_report(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    rows = list(csv.DictReader(io.StringIO(ablate("report", "toys.yaml", "--format", "csv").stdout)))
    assert {row["run_id"] for row in rows} and all(len(row["run_id"]) == 8 for row in rows)
    data = json.loads(ablate("report", "toys", "--format", "json").stdout)
    assert data
    written = ablate("report", "-o", "table.md")
    assert written.stdout == ""
    assert Path("table.md").read_text().startswith("## toys")
    wrong = ablate("report", "--format", "pdf")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "expected one of md, latex, csv, json, html" in wrong.stderr
    unknown = ablate("report", "tois")
    assert unknown.returncode == 2
    assert "toys" in unknown.stderr


def test_only_trains_some_and_leaves_the_study_whole(ablate, toys) -> None:
    assert ablate("run", "toys.yaml", "--only", "model.width=3", "--only", "train.lr=1e-2").returncode == 0
    states = dict(query("SELECT status, count(*) FROM runs WHERE study = 'toys' GROUP BY ALL"))
    assert states == {"complete": 1, "queued": 3}
    wrong = ablate("run", "toys.yaml", "--only", "model.widht=3")
    assert wrong.returncode == 2
    assert "model.width" in wrong.stderr


def test_a_shortened_run_is_another_run(ablate, toys) -> None:
    full = {row["run_id"] for row in json.loads(ablate("plan", "toys.yaml", "--json").stdout)}
    short = {row["run_id"] for row in json.loads(ablate("plan", "toys.yaml", "--max-steps", "3", "--json").stdout)}
    pinned = json.loads(ablate("plan", "toys.yaml", "--set", "train.lr=1e-1", "--json").stdout)
    assert not full & short
    assert len(pinned) == 2
    assert {row["run_id"] for row in pinned} < full


def test_a_bad_study_is_one_clear_error_and_nothing_is_written(ablate, tmp_path) -> None:
    Path("bad.yaml").write_text("study: bad\ntask: toy\ngrid:\n  train.lrr: [1e-1]\n")
    for command in ("plan", "run"):
        done = ablate(command, "bad.yaml")
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert "bad.yaml:4:3: " in done.stderr
        assert "train.lr" in done.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["bad.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "missing.yaml"),
        ("run", "."),
        ("resume", "nothing"),
        ("show", "nothing"),
        ("report", "missing.yaml"),
        ("run", "toys.yaml", "--set", "train.lr"),
        ("run", "toys.yaml", "--set", "train.lr=fast"),
        ("run", "toys.yaml", "--workers", "0"),
        ("run", "toys.yaml", "--max-cells", "3"),
        ("db", "rebuild"),
        ("frobnicate",),
    ],
)
def test_wrong_usage_is_exit_code_2_without_a_traceback(ablate, toys, arguments) -> None:
    done = ablate(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert sorted(path.name for path in Path().iterdir()) == ["toys.yaml"]


def test_a_run_is_named_by_the_start_of_its_id(ablate, toys) -> None:
    ablate("run", "toys.yaml")
    runs = json.loads(ablate("ls", "--json").stdout)
    assert len(runs) == 4
    one = runs[2]
    for name in (one["run_id"], one["run_id"][:5], one["name"], one["directory"]):
        shown = ablate("show", name)
        assert shown.returncode == 0, shown.stderr
        assert one["name"] in shown.stdout
    assert "train.lr: 0.1" in shown.stdout
    assert "made by      ablate run toys.yaml" in shown.stdout
    assert "journal.jsonl" in shown.stdout
    ambiguous = ablate("show", "toy")
    assert ambiguous.returncode == 2
    assert "names 4 runs" in ambiguous.stderr
    details = json.loads(ablate("show", one["run_id"], "--json").stdout)
    assert [epoch["epoch"] for epoch in details["epochs"]] == [1, 2]


def test_one_failure_does_not_stop_the_others(ablate, tmp_path) -> None:
    Path("mixed.yaml").write_text(
        "study: mixed\ntask: toy\nbase: {train: {epochs: 1}}\nablate:\n"
        "  - {trouble.kind: crash, model.width: 4}\n  - {trouble.kind: nan, model.width: 5}\n  - {model.width: 6}\n"
    )
    done = ablate("run", "mixed.yaml")
    assert done.returncode == 1
    assert "2 of 4 runs did not complete" in done.stderr
    assert "RuntimeError: the toy broke" in done.stderr
    reasons = dict(query("SELECT reason, count(*) FROM runs WHERE status = 'failed' GROUP BY ALL"))
    assert reasons == {"crash": 1, "diverged": 1}
    planned = {
        row["settings"].get("model.width"): row for row in json.loads(ablate("plan", "mixed.yaml", "--json").stdout)
    }
    assert [planned[width]["action"] for width in (4, 5, 6)] == ["retry", "failed", "done"]
    report = ablate("report").stdout
    assert "diverged" in report
    assert "crash" in report
    again = ablate("run", "mixed.yaml")
    assert again.returncode == 1
    assert "diverged" in again.stderr
    log = next(Path("runs").glob("toy-4-*/log.txt")).read_text()
    assert "Traceback" in log


def test_resume_trains_a_failed_run_to_its_end(ablate, tmp_path) -> None:
    Path("once.yaml").write_text(
        f"study: once\ntask: toy\nbase: {{train: {{epochs: 2}}, trouble: {{kind: crash, step: 6, once: {tmp_path}/flag}}}}\n"
    )
    assert ablate("run", "once.yaml", "--retries", "0").returncode == 1
    name = next(Path("runs").glob("toy-*")).name
    done = ablate("resume", name[-8:])
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stderr
    again = ablate("resume", name[-8:])
    assert again.returncode == 0
    assert "nothing left to do" in again.stderr


def test_resume_takes_settings_that_decide_nothing(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2", "--only", "train.lr=1e-1")
    name = next(Path("runs").glob("toy-*")).name
    refused = ablate("resume", name, "--from-scratch", "--set", "train.lr=3")
    assert refused.returncode == 2
    assert "train.lr would make it another run" in refused.stderr
    assert ablate("resume", name, "--from-scratch", "--set", "sleep=0.001").returncode == 0


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--runs-dir", "calm", "--db", "calm.duckdb")
    process = start("run", "toys.yaml", "--set", "sleep=0.1", "--workers", "2")
    wait_until_running(2)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "To go on: ablate run toys.yaml --set sleep=0.1 --workers 2" in output
    assert output.count("paused") >= 2
    status = json.loads(ablate("status", "--json").stdout)
    assert (status[0]["paused"], status[0]["running"]) == (2, 0)
    assert ablate("run", "toys.yaml").returncode == 0
    interrupted = query("SELECT * FROM evaluations ORDER BY ALL")
    Path("calm.duckdb").replace("results.duckdb")
    assert interrupted == query("SELECT * FROM evaluations ORDER BY ALL")


@pytest.mark.slow
def test_a_terminated_coordinator_saves_and_asks_to_be_requeued(ablate, toys) -> None:
    process = start("run", "toys.yaml", "--set", "sleep=0.2")
    wait_until_running()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75


@pytest.mark.slow
def test_a_killed_coordinator_leaves_no_worker_behind(ablate, toys) -> None:
    process = start("run", "toys.yaml", "--set", "sleep=0.2", "--workers", "2")
    wait_until_running(2)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and json.loads(ablate("status", "--json").stdout)[0]["running"]:
        time.sleep(0.2)
    status = json.loads(ablate("status", "--json").stdout)[0]
    assert (status["running"], status["paused"]) == (0, 2)
    assert ablate("run", "toys.yaml", timeout=60).returncode == 0


@pytest.mark.slow
def test_two_at_once_the_second_is_told_who_is_at_it(ablate, toys) -> None:
    process = start("run", "toys.yaml", "--set", "sleep=0.2")
    wait_until_running()
    second = ablate("run", "toys.yaml")
    assert second.returncode == 75
    assert f"study toys is held by process {process.pid} on" in second.stderr
    name = next(Path("runs").glob("*/progress.json")).parent.name
    resumed = ablate("resume", name)
    assert resumed.returncode == 75
    assert "is held by process" in resumed.stderr
    assert "running" in ablate("status").stdout
    assert ablate("report").returncode == 0, "a report works while a run writes"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


@pytest.mark.slow
def test_a_run_that_another_study_trains_is_left_alone_and_the_rest_is_done(ablate, toys) -> None:
    Path("other.yaml").write_text(toys.read_text().replace("study: toys", "study: other"))
    process = start("run", "toys.yaml", "--set", "sleep=0.5")
    wait_until_running()
    held = next(Path("runs").glob("*/progress.json")).parent.name
    done = ablate("run", "other.yaml")
    assert done.returncode == 75
    assert f"held      {held}: held by process" in done.stderr
    assert done.stderr.count("complete  ") == 3
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert ablate("run", "other.yaml").returncode == 0
    assert "all 4 runs are complete" in ablate("run", "toys.yaml").stderr


def test_the_database_is_made_again_from_the_runs(ablate, toys) -> None:
    ablate("run", "toys.yaml")
    views = ("studies", "cells", "runs", "epochs", "evaluations", "image_metrics", "events")
    before = {view: query(f"SELECT * FROM {view} ORDER BY ALL") for view in views}
    Path("results.duckdb").unlink()
    assert ablate("db", "rebuild").returncode == 0
    assert {view: query(f"SELECT * FROM {view} ORDER BY ALL") for view in views} == before
    assert all(before.values())


def test_a_study_in_the_way_of_the_database_does_not_stop_training(ablate, toys) -> None:
    Path("notes.txt").write_text("not a database, and mine")
    done = ablate("run", "toys.yaml", "--db", "notes.txt")
    assert done.returncode == 0
    assert done.stderr.count("notes.txt") == 1
    assert Path("notes.txt").read_text() == "not a database, and mine"


def test_the_schema_is_for_the_shipped_studies(ablate) -> None:
    import jsonschema
    from ruamel.yaml import YAML

    root = Path(__file__).parent.parent.parent
    schema = json.loads(ablate("schema", env={"PYTHONPATH": str(root)}).stdout)  # without the toy task
    studies = sorted((root / "studies").glob("*.yaml"))
    assert studies
    for study in studies:
        assert study.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
        jsonschema.validate(YAML(typ="safe").load(study), schema)
    assert schema == json.loads((studies[0].parent / "schema.json").read_text()), "make it anew with `ablate schema`"


def test_no_colour_and_no_escape_codes_in_pipes(ablate, toys) -> None:
    for env in ({}, {"NO_COLOR": "1"}, {"CI": "true"}):
        done = ablate("run", "toys.yaml", env=env)
        assert "\x1b" not in done.stderr + done.stdout


def test_every_command_is_in_the_document_with_help_and_an_example(ablate) -> None:
    from typer.main import get_command

    from ablate.cli.app import app

    text = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text()
    commands = dict(get_command(app).commands)
    for group in ("data", "db", "wandb"):
        commands |= {f"{group} {name}": command for name, command in commands.pop(group).commands.items()}
    for name, command in commands.items():
        assert f"| `ablate {name}" in text
        assert f"Example: ablate {name}" in (command.help or "")
    documented = set(re.findall(r"^\| `ablate ([a-z ]+[a-z])", text, re.MULTILINE))
    assert documented == set(commands)
