"""studies/base-training.yaml in small, by real processes: both stages of both cells, from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.depth.data.room import make_room
from ablate.depth.data.unitless import make_unitless

STUDY = Path(__file__).parent.parent / "studies" / "base-training.yaml"


def quiet(text: str) -> None:
    return


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small set of each layout, and a manifest of the rooms that are trained on."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("redweb", "hrwsi", "blendedmvs"):
        make_unitless(folder / name, name, frames={"train": 3, "val": 1}, seed=0, say=quiet)
    make_room(folder / "nyu", frames={"train": 3, "val": 2, "test": 1}, seed=0, say=quiet)
    images = sorted((folder / "nyu" / "sync" / "room_0001").glob("*.jpg"))
    rows = [
        f"sync/room_0001/{image.name},sync/room_0001/sync_depth_{image.stem[4:]}.png,metric,0.001" for image in images
    ]
    (folder / "nyu" / "train.csv").write_text("\n".join(["image,depth,kind,scale", *rows]) + "\n")
    return folder


def ablate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ablate.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done


def small(data: Path) -> list[str]:
    mix = [{"name": name, "root": str(data / name)} for name in ("redweb", "hrwsi", "blendedmvs")]
    mix.append({"name": "pairs", "root": str(data / "nyu"), "label": "more"})
    settings = {
        "model.name": "dpt_tiny",
        "model.weights": "null",
        "model.decoder_init": "pretrained",
        "data.root": str(data / "nyu"),
        "data.holdout": "none",
        "data.workers": "0",
        "data.resolution": "[64, 64]",
        "data.mix": json.dumps(mix),
        "train.stages": "[{sets: [redweb, hrwsi, blendedmvs], epochs: 1}, {sets: all, epochs: 2, lr: 1e-4}]",
        "train.steps_per_epoch": "2",
        "train.batch_size": "5",
        "eval.resolutions": "[reduced]",
    }
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_both_stages_run_from_end_to_end(tmp_path: Path, data: Path) -> None:
    planned = ablate(tmp_path, "plan", str(STUDY), *small(data))
    assert (
        "redweb (3 images), hrwsi (3 images), blendedmvs (3 images), more (3 images)" in planned.stdout + planned.stderr
    )
    ablate(tmp_path, "run", str(STUDY), "--threads", "1", *small(data))
    runs = json.loads(ablate(tmp_path, "ls", "--json").stdout)
    assert [run["status"] for run in runs] == ["complete", "complete"]
    for journal in sorted(tmp_path.glob("runs/*/journal.jsonl")):
        records = [json.loads(line.partition(" ")[2]) for line in journal.read_text().splitlines()]
        epochs = [record for record in records if record.get("type") == "epoch"]
        assert [record["body"]["images"] for record in epochs] == [10, 10, 10]
        assert [record["body"]["lr"] for record in epochs] == [1e-5, 1e-4, 1e-4]
    shown = ablate(tmp_path, "report", "--format", "md").stdout
    assert "scale_shift" in shown and "mgda" in shown
