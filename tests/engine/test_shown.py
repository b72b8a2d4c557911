"""Panels and breakdowns of runs in real processes: of the epochs that were asked for, and the same after a resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ablate.engine.extend import extend
from ablate.runs import journal
from ablate.runs.panels import decode, read_panels
from ablate.runs.paths import RunPaths, RunsDir


def start(paths: RunPaths) -> subprocess.Popen[bytes]:
    with paths.log.open("ab") as log:
        command = [sys.executable, "-m", "ablate.engine.worker", str(paths.root)]
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def train(paths: RunPaths) -> None:
    assert start(paths).wait(timeout=60) == 0, paths.log.read_text()


def content(paths: RunPaths) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths.panels.iterdir()} if paths.panels.is_dir() else {}


def kept(paths: RunPaths) -> set[tuple[int, str]]:
    return {(one.epoch, one.split) for one in read_panels(paths.panels)}


def events(paths: RunPaths, name: str) -> list[Any]:
    return [line.record for line in journal.read(paths.journal) if line.record.body.get("name") == name]


def test_panels_are_of_the_selected_and_the_last_epoch_and_the_journal_has_none(make_run: Any) -> None:
    paths = make_run(train={"epochs": 4}, eval={"panels": {"images": 2}})
    train(paths)
    best = events(paths, "selected")[-1].body["epoch"]
    assert kept(paths) == {(epoch, split) for epoch in (best, 4) for split in ("val", "test")}
    for stored in read_panels(paths.panels):
        assert [one.image for one in stored.images] == [f"{stored.split}/1", f"{stored.split}/3"]
        for one in stored.images:
            assert [decode(paths.panels, layer).shape[:2] for layer in one.layers] == [(4, 6)] * 3
    for line in journal.read(paths.journal):
        if line.record.type == "evaluation":
            assert not {"panels", "breakdown"} & line.record.body.keys()
    of = {(record.epoch, record.body["split"], record.body["resolution"]) for record in events(paths, "breakdown")}
    assert {(epoch, split, "full") for epoch in (best, 4) for split in ("val", "test")} <= of


@pytest.mark.parametrize(
    ("epochs", "expected"), [("every", {1, 2, 3, 4, 5}), ([2], {2, "best", 5}), ("selected", {"best", 5})]
)
def test_panels_are_of_the_epochs_that_were_asked_for(make_run: Any, epochs: object, expected: set[Any]) -> None:
    paths = make_run(train={"epochs": 5}, eval={"panels": {"images": 1, "epochs": epochs}})
    train(paths)
    best = events(paths, "selected")[-1].body["epoch"]
    assert {epoch for epoch, split in kept(paths) if split == "val"} == {best if e == "best" else e for e in expected}


def test_without_images_there_is_no_folder(make_run: Any) -> None:
    paths = make_run(train={"epochs": 2}, eval={"panels": {"images": 0, "epochs": "every"}})
    train(paths)
    assert not paths.panels.exists()


@pytest.mark.slow
@pytest.mark.parametrize("epochs", ["selected", "every"])
def test_a_run_that_is_killed_again_and_again_has_the_same_panels(make_run: Any, epochs: str) -> None:
    settings = {"train": {"epochs": 4}, "eval": {"panels": {"images": 3, "epochs": epochs}}}
    calm = make_run("toy-bbbbbbbb", **settings)
    train(calm)
    paths = make_run(sleep=0.02, **settings)
    kills = 0
    for wait in (0.15, 0.3, 0.45, 0.2, 0.6, 0.35):
        seen = len(events(paths, "opened"))
        process = start(paths)
        while process.poll() is None and len(events(paths, "opened")) == seen:
            time.sleep(0.01)
        time.sleep(wait)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait(timeout=10)
        for stored in read_panels(paths.panels):  # whatever is named is there and whole
            for one in stored.images:
                for layer in one.layers:
                    decode(paths.panels, layer)
    assert kills >= 3
    train(paths)
    assert content(paths) == content(calm)


def test_a_run_trained_from_scratch_forgets_the_panels_of_before(make_run: Any) -> None:
    paths = make_run(train={"epochs": 4}, eval={"panels": {"images": 1, "epochs": "every"}})
    train(paths)
    before = content(paths)
    config = json.loads(paths.config.read_text())
    config["config"]["train"]["epochs"] = 2
    paths.config.write_text(json.dumps(config))
    with paths.log.open("ab") as log:
        command = [sys.executable, "-m", "ablate.engine.worker", str(paths.root), "--from-scratch"]
        assert subprocess.run(command, stdout=log, stderr=log, check=False).returncode == 0
    assert {epoch for epoch, split in kept(paths) if split == "val"} == {1, 2}
    assert before["000001.val.json"] == content(paths)["000001.val.json"]


def test_an_extended_run_has_the_panels_that_it_would_have_had(make_run: Any, tmp_path: Path) -> None:
    settings = {"images": 2, "epochs": [1]}
    short = make_run("toy-3-lr0.1-aaaaaaaa", train={"epochs": 2}, eval={"panels": settings})
    train(short)
    longer = extend(short, 4, RunsDir(tmp_path / "runs"), ["ablate", "resume"], lambda text: None)
    assert all(split == "val" for _, split in kept(longer))
    train(longer)
    whole = make_run("toy-3-lr0.1-bbbbbbbb", runs="other", train={"epochs": 4}, eval={"panels": settings})
    train(whole)
    assert content(longer) == content(whole)

    def of(paths: RunPaths) -> list[tuple[int, object]]:
        return [(record.epoch, record.body) for record in events(paths, "breakdown")]

    assert sorted(of(longer), key=str) == sorted(of(whole), key=str)
