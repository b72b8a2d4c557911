from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.depth.metrics import METRICS
from ablate.task import Metric


@pytest.fixture(scope="session")
def progress() -> Path:
    """A log of seven rows: the figures of the one in `shared`, in words of our own."""
    return Path(__file__).parents[1] / "data" / "progress.md"


@pytest.fixture(scope="session")
def nine() -> tuple[Metric, ...]:
    return METRICS


SESSIONS = """
import sys, time
import wandb

settings = dict(silent=True, console="off", disable_git=True, x_disable_stats=True)

def init(**more):
    return wandb.init(project="DPT", dir=sys.argv[1], mode="offline", settings=wandb.Settings(**settings), **more)

run = init(id="aaaaaaaa", name="mem-com", group="g", notes="went well", tags=["thesis", "a,b"],
           config={"lr": 1e-4, "batch_size": 2, "model": {"attention": "performer"}, "mine": [1, 2]})
for epoch in (1, 2, 3):
    run.log({"epoch": epoch, "train/loss": 1 / epoch, "val/full/abs_rel": 0.1 * epoch, "val_rmse": 3.0,
             "val": {"reduced": {"silog": 7.0}}, "test/full/a1": float("nan"), "other": "text"})
    run.log({"epoch": epoch, "step_loss": 0.5})
run.summary["best_epoch"] = 2
run.finish()

run = init(id="bbbbbbbb", name="steps")
for step in range(4):
    run.log({"loss": 1.0 / (1 + step), "abs_rel": 0.5 - step / 10} if step % 2 else {"loss": 2.0})
run.finish(exit_code=3)

for session in (1, 2):
    run = init(id="cccccccc", name="\\x1b[2Jtwo sessions", resume="allow", config={"epochs": 4})
    for epoch in (2 * session - 1, 2 * session):
        run.log({"epoch": epoch, "val/abs_rel": epoch / 10}, step=epoch)
    run.finish()
    time.sleep(1.2)  # wandb names folders by the second
"""


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wandb's own files, made by wandb without a network: a run that ended well, one that failed, one of two sessions."""
    folder = tmp_path_factory.mktemp("wandb")
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    command = [sys.executable, "-c", SESSIONS, str(folder)]
    done = subprocess.run(command, env=env, timeout=120, capture_output=True, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder
