"""A worker that is killed around the border of two stages goes on as if it had not been: real processes, SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.depth.config import DepthConfig
from ablate.depth.data.room import make_room
from ablate.depth.data.unitless import make_unitless
from ablate.depth.task import DepthTask
from ablate.engine import plan as planning
from ablate.engine.plan import Action, Planned
from ablate.runs import journal, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State
from ablate.study import Cell, identify

POINTS = ("the last step of a stage", "entering", "the border is stored", "the first step of a stage")

KILLED = """
import os, signal, sys
from ablate.depth.session import DepthSession
from ablate.engine import worker
from ablate.engine.loop import Loop

point = sys.argv[1]
after_step, enter, save = Loop._after_step, DepthSession.enter, Loop.save

def die(where):
    if where == point:
        os.kill(os.getpid(), signal.SIGKILL)

def stepped(self, *arguments):
    after_step(self, *arguments)
    place = (self.position.epoch, self.position.step)
    die({(1, 2): "the last step of a stage", (2, 1): "the first step of a stage"}.get(place))

def entered(self, stage):
    enter(self, stage)
    die("entering" if stage == 1 else None)

def saved(self, **named):
    save(self, **named)
    place = (self.position.stage, self.position.epoch, self.position.step)
    die("the border is stored" if place == (1, 2, 0) else None)

Loop._after_step, DepthSession.enter, Loop.save = stepped, entered, saved
sys.exit(worker.main(sys.argv[2:]))
"""


def quiet(text: str) -> None:
    return


def made(folder: Path, runs: str) -> RunPaths:
    """Two stages of one epoch of two steps, with all that a stage has of its own: sets, rate, schedule, optimiser."""
    mix = [{"name": name, "root": folder / name} for name in ("redweb", "blendedmvs")]
    config = DepthConfig.model_validate(
        {
            "model": {"name": "dpt_tiny"},
            "data": {"name": "nyu", "root": folder / "nyu", "resolution": (32, 32), "mix": mix},
            "train": {
                "stages": [{"sets": ["redweb"], "epochs": 1}, {"sets": "all", "epochs": 1, "lr": 3e-3}],
                "steps_per_epoch": 2,
                "batch_size": 4,
                "lr": 1e-3,
                "objective": "mgda",
                "loss": {"ssi_trimmed": 1, "gradient_matching": 0.5},
                "schedule": {"name": "cosine"},
                "ema": 0.9,
                "checkpoint": {"every": "1 steps"},
            },
            "eval": {"resolutions": ("reduced",), "align": "scale_shift"},
        }
    )
    task, runs_dir = DepthTask(), RunsDir(folder / runs)
    identity = identify(task, config)
    planned = Planned(
        Cell(position=0, config=config, settings={}, seed=0), identity, runs_dir.run(identity.name), Action.NEW, ""
    )
    return planning.create(planned, runs_dir, task, planning.run_config(config, ["ablate"], {}))


def train(paths: RunPaths, point: str) -> int:
    with paths.log.open("ab") as log:
        command = [sys.executable, "-c", KILLED, point, str(paths.root)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(command, stdout=log, stderr=log, env=environment, timeout=300).returncode


def results(paths: RunPaths) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for line in journal.read(paths.journal):
        record, keys = line.record, ("train_loss", "images", "order", "lr")
        if record.type == "epoch":
            found["epoch", record.epoch] = {key: record.body[key] for key in keys}
        if record.type == "evaluation":
            found[record.epoch, record.body["split"]] = dict(record.body)
    return found


def digests(paths: RunPaths) -> list[str]:
    manifest = Manifest.read(Checkpoints(paths.checkpoints).manifests()[0])
    return sorted(stored.sha256 for stored in manifest.stored())


@pytest.mark.slow
def test_kills_around_the_border_of_stages_change_nothing(tmp_path: Path) -> None:
    for name in ("redweb", "blendedmvs"):
        make_unitless(tmp_path / name, name, frames={"train": 3, "val": 1}, seed=0, say=quiet)
    make_room(tmp_path / "nyu", frames={"train": 1, "val": 1, "test": 1}, seed=0, say=quiet)
    calm, killed = made(tmp_path, "calm"), made(tmp_path, "killed")
    assert train(calm, "nowhere") == 0, calm.log.read_text()
    assert {key[1] for key in results(calm) if key[0] == "epoch"} == {1, 2}
    for point in POINTS:
        assert train(killed, point) == -signal.SIGKILL, (point, killed.log.read_text())
    assert train(killed, "nowhere") == 0, killed.log.read_text()
    outcome = states.read_outcome(killed)
    assert outcome is not None and outcome.state is State.COMPLETE
    assert results(killed) == results(calm)
    assert digests(killed) == digests(calm)
    assert "differs" not in killed.journal.read_text()
