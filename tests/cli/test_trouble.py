"""What breaks around a command, as a user meets it: damaged runs, places in the way, Ctrl-C, strange terminals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ABLATE = [sys.executable, "-c", "from ablate.cli import main; main()"]


def wait_until_running() -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if list(Path("runs").glob("*/progress.json")):
            return
        time.sleep(0.02)
    raise AssertionError("no run has started")


def freeze_the_worker() -> None:
    """Its step takes for ever."""
    [lease] = Path("runs").glob("toy-2-lr0.1-*/lease.lock")
    os.kill(json.loads(lease.read_text())["pid"], signal.SIGSTOP)


@pytest.mark.parametrize("file", ["outcome.json", "run.json"])
def test_one_damaged_run_is_named_and_the_others_are_trained(ablate, toys, file) -> None:
    assert ablate("run", str(toys), "--only", "model.width=2", "--only", "train.lr=1e-1").returncode == 0
    [damaged] = Path("runs").glob(f"toy-2-lr0.1-*/{file}")
    damaged.write_text("{garbage")
    planned = ablate("plan", str(toys))
    assert planned.returncode == 0
    assert "3 new" in planned.stderr and "1 failed" in planned.stderr
    done = ablate("run", str(toys))
    assert done.returncode == 1
    assert f"{damaged}: not readable" in done.stderr and f"remove {damaged.parent}" in done.stderr
    assert done.stderr.count("complete  ") == 3
    for command in (["ls"], ["status"], ["show", damaged.parent.name]):
        assert str(damaged) in ablate(*command).stderr


def test_a_complete_run_whose_inputs_were_edited_stays_complete(ablate, tmp_path) -> None:
    Path("list.txt").write_text("one")
    Path("edited.yaml").write_text(
        f"study: edited\ntask: toy\nbase: {{train: {{epochs: 1}}, data: {{root: {tmp_path}/list.txt}}}}\n"
    )
    assert ablate("run", "edited.yaml").returncode == 0
    Path("list.txt").write_text("one, two")
    refused = ablate("resume", "toy", "--from-scratch")
    assert refused.returncode == 2
    assert "root changed since the run began" in refused.stderr
    assert json.loads(ablate("ls", "--json").stdout)[0]["status"] == "complete"


@pytest.mark.parametrize("arguments", [["run", "toys.yaml"], ["data", "sample", "/proc/nowhere"]])
def test_a_place_that_cannot_be_written_is_named_without_a_traceback(ablate, toys, arguments) -> None:
    Path("runs").write_text("in the way")
    done = ablate(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: runs" if arguments[0] == "run" else "error: /proc/nowhere: no such file")
    assert "Traceback" not in done.stderr and "──" not in done.stderr


def test_an_interrupted_sample_says_how_to_go_on(tmp_path) -> None:
    command = [*ABLATE, "data", "sample", "made", "--train", "500"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "made/street.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        output = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert "To go on: ablate data sample made --train 500" in output
    assert process.returncode == 130
    assert not list(tmp_path.glob("made/*_files.txt"))


@pytest.mark.slow
def test_ctrl_c_is_acknowledged_and_a_second_one_says_what_was_lost(ablate, toys) -> None:
    command = [*ABLATE, "run", "toys.yaml", "--set", "sleep=0.2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until_running()
    freeze_the_worker()
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=30)
    assert process.returncode == 130
    acknowledged, last = output.splitlines()[-2:]
    assert acknowledged.startswith("stopping: every run finishes its step and saves")
    assert last == "ended at once, without saving: the same command goes on from the last checkpoints"


@pytest.mark.slow
def test_a_dumb_terminal_gets_plain_lines_and_ctrl_c_gives_the_cursor_back(ablate, toys) -> None:
    def on_a_terminal(kind: str, *signals: int) -> str:
        here, there = pty.openpty()
        command = [*ABLATE, "run", "toys.yaml", "--set", "sleep=0.1"]
        process = subprocess.Popen(command, stdout=there, stderr=there, env=os.environ | {"TERM": kind})
        os.close(there)
        wait_until_running()
        if len(signals) > 1:
            freeze_the_worker()
        for number in signals:
            time.sleep(0.5)
            process.send_signal(number)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end was closed
            while piece := os.read(here, 4096):
                shown += piece
        process.wait(timeout=30)
        os.close(here)
        shutil.rmtree("runs")
        return shown.decode()

    assert "start     toy-2-lr0.1" in on_a_terminal("dumb", signal.SIGINT)
    shown = on_a_terminal("xterm", signal.SIGINT, signal.SIGINT)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
