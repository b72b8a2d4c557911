"""Faults 35-40, 42, 43: files and names that somebody else wrote, through the real command."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ablate.runs import states
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State

BOMB = "study: b\nbase:\n  a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"  {new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

STUDIES = {
    "35 tag": ("study: s\ntask: toy\nbase: {seed: !!python/object/apply:os.system [touch executed]}\n", "tags"),
    "36 bomb": (BOMB, "aliases expanded"),
    "36 deep": ("study: s\nbase: " + "[" * 3000 + "\n", "deep"),
    "37 duplicate": ("study: s\ntask: toy\nbase: {train.epochs: 1}\nbase: {}\n", "twice"),
    "37 number": ("study: s\ntask: toy\nbase: {train.lr: fast}\n", "train.lr"),
    "38 slash": ("study: ../../escaped\ntask: toy\n", "cannot name a study"),
    "38 nul": ('study: "a\\0b"\ntask: toy\n', "U+0000"),
    "38 long": (f"study: {'x' * 300}\ntask: toy\n", "cannot name a study"),
    "41 key": ("study: s\ntask: toy\nwandb: {api_key: abc}\n", "wandb.api_key"),
    "43 grid": (
        "study: s\ntask: toy\ngrid:\n" + "".join(
            f"  {key}: {list(range(1, 1001))}\n" for key in ("model.width", "data.n", "train.batch_size")
        ),
        "1,000,000,000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_fault_35_36_37_38_41_43_studies_that_are_refused(work: Any, name: str) -> None:
    """One clear line, in bounded time, and nothing is written or executed."""
    text, words = STUDIES[name]
    study = work.study(text)
    began = time.monotonic()
    done = work.ablate("run", study)
    assert time.monotonic() - began < 30
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 2000
    assert [path.name for path in work.root.iterdir()] == [study]
    assert not (work.root.parent / "escaped.json").exists()


def test_fault_37_numbers_are_numbers_and_no_is_no_boolean(work: Any) -> None:
    study = work.study("study: no\ntask: toy\nbase: {train.lr: 1e-4}\n")
    [row] = json.loads(work.ablate("plan", study, "--json").stdout)
    assert row["name"].startswith("toy-3-lr0.0001-")
    assert "no: 1 cell" in work.ablate("plan", study).stderr


def secret(folder: Path) -> Path:
    """Something outside that must be neither read, written nor removed."""
    folder.mkdir()
    path = folder / "precious"
    path.write_text("mine\n")
    return path


FILES = ["journal.jsonl", "outcome.json", "lease.lock", "run.json", "config.json", "checkpoints/000002.json"]


@pytest.mark.parametrize("name", FILES)
def test_fault_39_a_symbolic_link_in_a_run_directory(work: Any, name: str) -> None:
    """Even one that leads to the very file that was there: where it leads tomorrow nobody knows."""
    paths = work.run(train={"epochs": 3}, trouble={"kind": "crash", "step": 10, "once": str(work.root / "once")})
    assert work.train(paths) == 1
    link = paths.root / name
    outside = secret(work.root / "outside")
    link.rename(outside)
    link.symlink_to(outside)
    before = outside.read_bytes()
    code = work.train(paths)
    assert outside.read_bytes() == before
    if name.startswith("checkpoints/"):
        assert code == 0 and "is a symbolic link" in paths.log.read_text()  # the checkpoint before it was taken
    else:
        assert code == 1
    listed = work.ablate("ls", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "Traceback" not in listed.stderr


def test_fault_39_a_checkpoints_folder_that_is_a_link(work: Any) -> None:
    """Sweeping it would remove somebody's files."""
    outside = secret(work.root / "outside")
    paths = work.run()
    paths.checkpoints.symlink_to(outside.parent)
    code = work.train(paths)
    assert outside.exists(), "a file outside of the run directory was removed"
    assert [path.name for path in outside.parent.iterdir()] == ["precious"]
    assert code == 1
    assert "symbolic link" in paths.log.read_text()


def test_fault_39_a_log_that_is_a_link(work: Any) -> None:
    study = work.study("study: s\ntask: toy\nbase: {train: {epochs: 1}}\n")
    assert work.ablate("run", study).returncode == 0
    [root] = (work.root / "runs").glob("toy-*")
    outside = secret(work.root / "outside")
    (root / "log.txt").unlink()
    (root / "log.txt").symlink_to(outside)
    done = work.ablate("resume", root.name, "--from-scratch", "--set", "sleep=0.001")
    assert outside.read_text() == "mine\n", "somebody's file was written to"
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_fault_39_a_run_directory_that_is_a_link(work: Any) -> None:
    paths = work.run()
    elsewhere = work.root / "elsewhere"
    shutil.move(paths.root, elsewhere)
    paths.root.symlink_to(elsewhere)
    assert RunsDir(paths.root.parent).runs() == []
    assert work.ablate("resume", paths.name).returncode == 2


def test_fault_38_a_study_record_that_names_a_run_elsewhere(work: Any) -> None:
    """`runs/` came from somebody; its record of a study must not make a command work outside of it."""
    study = work.study("study: s\ntask: toy\nbase: {train: {epochs: 1}, trouble: {kind: crash}}\n")
    assert work.ablate("run", study, "--retries", "0").returncode == 1
    [root] = (work.root / "runs").glob("toy-*")
    victim = work.root / "victim"
    shutil.copytree(root, victim)
    record = work.root / "runs/studies/s.json"
    record.write_text(record.read_text().replace(f'"{root.name}"', '"../victim"'))
    before = {path: path.stat().st_mtime_ns for path in victim.rglob("*")}
    done = work.ablate("retry", "s", "--failed")
    assert {path: path.stat().st_mtime_ns for path in victim.rglob("*")} == before
    assert "Traceback" not in done.stderr
    assert work.ablate("report").returncode == 0


def test_fault_40_hostile_messages_in_a_report(work: Any) -> None:
    study = work.study("study: s\ntask: toy\nbase: {train: {epochs: 1}}\n")
    assert work.ablate("run", study).returncode == 0
    [root] = (work.root / "runs").glob("toy-*")
    paths = RunPaths(root)
    nasty = "=cmd|'/C calc'!A0 <script>alert(1)</script>\r\n| a | b |\x1b[31m"
    states.write_outcome(paths, states.Outcome(State.FAILED, states.Reason.CRASH, nasty, attempt=1))
    for form in ("md", "csv"):
        text = work.ablate("report", "--format", form).stdout
        assert "<script>" not in text or form == "csv"
        assert "\x1b" not in text
        assert not re.search(r"^[=|]\s*(cmd|a \|)", text, re.MULTILINE)


def test_fault_40_hostile_messages_on_a_terminal(work: Any) -> None:
    """An escape sequence in a message could rewrite what a person sees."""
    paths = work.run()
    nasty = "all is well\x1b[2J\x1b]0;owned\x07"
    states.write_outcome(paths, states.Outcome(State.FAILED, states.Reason.CRASH, nasty, attempt=1))
    for command in (["show", paths.name], ["ls"], ["retry", "--failed"]):
        done = work.ablate(*command)
        assert "\x1b" not in done.stdout + done.stderr, command


@pytest.mark.slow
def test_fault_42_ten_thousand_runs(work: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A study of as many cells: what a report costs first, and when nothing has changed."""
    study = work.study("study: many\ntask: toy\nbase: {train: {epochs: 1}}\n")
    assert work.ablate("run", study).returncode == 0
    [root] = (work.root / "runs").glob("toy-*")
    contents = {
        name: (root / name).read_text() for name in ("run.json", "config.json", "journal.jsonl", "outcome.json")
    }
    record = json.loads((work.root / "runs/studies/many.json").read_text())
    [cell] = record["cells"]
    record["cells"] = []
    for number in range(10_000):
        run_id = f"{number:08d}"
        name = f"toy-3-lr0.1-{run_id}"
        folder = work.root / "runs" / name
        folder.mkdir()
        for file, text in contents.items():
            text = text.replace(cell["name"], name).replace(cell["run_id"], run_id) if file == "run.json" else text
            (folder / file).write_text(text)
        record["cells"].append(cell | {"run_id": run_id, "name": name, "position": number})
    shutil.rmtree(root)
    (work.root / "runs/studies/many.json").write_text(json.dumps(record))
    seconds = {}
    for which, form in (("first", "csv"), ("csv", "csv"), ("md", "md")):
        began = time.monotonic()
        done = work.ablate("report", "--format", form, "--style", "table", timeout=240)
        seconds[which] = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) >= 10_000
    with capsys.disabled():
        print(f"\n  report of 10,000 runs: {', '.join(f'{name} {value:.1f} s' for name, value in seconds.items())}")
    assert max(seconds["csv"], seconds["md"]) < 30, "what was measured is in docs/reliability.md"
