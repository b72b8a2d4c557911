"""studies/trouble.yaml: runs that diverge are results, and the report says what became of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.depth.data.street import make_street
from ablate.runs import journal
from ablate.runs.paths import RunsDir

STUDY = Path(__file__).parent.parent / "studies" / "trouble.yaml"


def ablate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ablate.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, env=os.environ)


def events(folder: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    """By run."""
    return {
        paths.name: [
            dict(line.record.body) for line in journal.read(paths.journal) if line.record.body.get("name") == name
        ]
        for paths in RunsDir(folder / "runs").runs()
    }


@pytest.mark.slow
def test_a_rate_of_one_diverges_or_is_rolled_back(tmp_path: Path) -> None:
    """Without its warm-up, so that twenty steps are enough. How often it goes back may depend on the machine."""
    make_street(tmp_path / "street", frames={"train": 40, "val": 1, "test": 1}, seed=0, say=lambda text: None)
    changed = [
        text
        for key in ("data.root=street", "train.schedule.warmup_steps=0", "train.epochs=2")
        for text in ("--set", key)
    ]
    done = ablate(tmp_path, "run", str(STUDY), "--only", "train.lr=1.0", *changed)
    assert done.returncode == 1, done.stderr
    diverged, rolled = events(tmp_path, "diverged"), events(tmp_path, "rollback")
    (may_not,) = [name for name, found in rolled.items() if not found]
    (may,) = [name for name, found in rolled.items() if found]
    (event,) = diverged[may_not]
    assert len(event["images"]) == 4 and event["last_good_loss"] > 0
    no_gradient = "training loss is" in event["why"]  # a loss that is not finite has none
    assert {"decoder", "head", "attention", "mlp"} <= event["gradient_norms"].keys()
    assert event["gradient_norms_of"] == ("the step before" if no_gradient else "this step")
    report = ablate(tmp_path, "report", "trouble").stdout
    assert "failed (diverged)" in report and f"{may_not} is failed (diverged)" in report
    assert f"{may}: diverged and went back to the start of epoch" in report
    assert "from there at 0.1 times the learning rate of the study" in report
    shown = " ".join(ablate(tmp_path, "show", may_not).stdout.split())
    assert (
        "diverged: the" in shown
        and "last good loss" in shown
        and f"gradient norms of {event['gradient_norms_of']}: " in shown
    )
    assert "rolled back to the start of epoch" in " ".join(ablate(tmp_path, "show", may).stdout.split())
