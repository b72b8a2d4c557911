"""A finished run goes on with real networks and processes, and every kept epoch of a run has a name."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.depth.data.street import make_street
from ablate.runs import directory, journal, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.directory import RunConfig, RunIdentity
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Outcome, State

Command = Callable[..., Any]

STUDY = """\
study: {name}
base:
  model: {{name: dpt_tiny}}
  data: {{root: street, resolution: [32, 96]}}
  train: {{epochs: {epochs}, batch_size: 2, lr: 1e-3, checkpoint: {{every: 1 steps, keep_every: 1}}}}
  eval: {{resolutions: [reduced]}}
"""


def trained(ablate: Command, name: str, epochs: int) -> RunPaths:
    Path(f"{name}.yaml").write_text(STUDY.format(name=name, epochs=epochs))
    before = {paths.name for paths in RunsDir(Path("runs")).runs()}
    done = ablate("run", f"{name}.yaml")
    assert done.returncode == 0, done.stderr
    return newest(before)


def newest(before: set[str]) -> RunPaths:
    (paths,) = [paths for paths in RunsDir(Path("runs")).runs() if paths.name not in before]
    return paths


def found(paths: RunPaths) -> tuple[dict[Any, Any], list[str]]:
    """Every result by epoch, and the digests of the weights and of all that a resume needs."""
    results: dict[Any, Any] = {}
    for line in journal.read(paths.journal):
        record = line.record
        if record.type == "epoch":
            results["epoch", record.epoch] = {key: record.body[key] for key in ("train_loss", "images", "order")}
        if record.type == "evaluation":
            results[record.epoch, record.body["split"], record.body["resolution"]] = dict(record.body)
    manifest = Manifest.read(Checkpoints(paths.checkpoints).manifests()[0])
    return results, [stored.sha256 for stored in manifest.stored()]


def killed_in_its_second_epoch(run: RunPaths) -> RunPaths:
    """`ablate extend`, killed with all its processes as soon as it has stored a step of its own."""
    before = {paths.name for paths in RunsDir(Path("runs")).runs()}
    command = [sys.executable, "-c", "from ablate.cli import main; main()", "extend", run.name, "--epochs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 100
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
            new = [paths for paths in RunsDir(Path("runs")).runs() if paths.name not in before]
            manifests = Checkpoints(new[0].checkpoints).manifests() if new else []
            if manifests and Manifest.read(manifests[0]).position.step:
                break
        process.send_signal(signal.SIGKILL)  # its worker ends with it
    longer = newest(before)
    while states.status(longer).state is State.RUNNING:
        time.sleep(0.05)
    position = Manifest.read(Checkpoints(longer.checkpoints).manifests()[0]).position
    assert position.epoch == 2 and position.step > 0, "killed within its second epoch"
    return longer


@pytest.mark.slow
def test_one_epoch_extended_twice_is_three(ablate: Command, here: Command) -> None:
    """The first extension is killed half way, and goes on when it is asked for again."""
    make_street(Path("street"), frames={"train": 6, "val": 2, "test": 1}, seed=0, say=lambda text: None)
    whole = trained(ablate, "whole", 3)
    one = trained(ablate, "one", 1)
    two = killed_in_its_second_epoch(one)
    again = ablate("extend", one.name, "--epochs", "2")
    assert again.returncode == 0 and "has been begun already" in again.stderr, again.stderr
    shown = here("show", two.name)
    assert f"goes on from epoch 1 of {one.name} (`ablate extend`)" in " ".join(shown.stdout.split())
    check_that_it_is_the_whole_run(ablate, whole, two)
    check_the_names_of_epochs(ablate, here, whole)


def check_that_it_is_the_whole_run(ablate: Command, whole: RunPaths, two: RunPaths) -> None:
    """Three epochs from the start have the same settings, so the same name; it is put aside to be made again."""
    expected = found(whole)
    whole.root.rename("elsewhere")
    done = ablate("extend", two.name, "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert "differs" not in whole.log.read_text()
    assert found(whole) == expected, "bit for bit"


def check_the_names_of_epochs(ablate: Command, here: Command, run: RunPaths) -> None:
    """`RUN@1` wherever a run is named; errors name the epochs that are kept."""
    shown = json.loads(here("show", f"{run.name}@2", "--json").stdout)
    assert {row["epoch"] for row in (*shown["epochs"], *shown["evaluations"])} == {2}
    assert shown["kept_epochs"] == [1, 2, 3]
    missing = here("show", f"{run.name}@9")
    assert missing.returncode == 2 and "has no epoch 9; it has 1 to 3" in " ".join(missing.stderr.split())
    for number in (1, 3):
        assert (
            here("export", f"{run.name}@{number}", "--layout", "safetensors", "-o", f"{number}.safetensors").returncode
            == 0
        )
    assert Path("1.safetensors").read_bytes() != Path("3.safetensors").read_bytes()
    lost = here("export", f"{run.name}@7", "--layout", "safetensors", "-o", "7.safetensors")
    assert lost.returncode != 0 and "no weights of epoch 7; kept: 1, 2, 3" in " ".join(lost.stderr.split())
    told = json.loads(here("align", f"runs/{run.name}@1", "--images", "2", "--json").stdout)
    assert told["weights"] == f"{run.name}@1" and told["estimated"]["images"] == 2 and told["listed"] == 6
    assert told["published"] == {"scale": 0.00006016, "shift": 0.00579}
    assert "scale (1/m)" in here("align", "1.safetensors", "--data", "street", "--resolution", "32x96").stdout
    evaluated = ablate("eval", f"{run.name}@1")
    assert evaluated.returncode == 0, evaluated.stderr
    stored = [paths for paths in RunsDir(Path("runs")).runs() if "eval" in paths.name]
    assert found(stored[0])[0][0, "val", "reduced"]["metrics"] == found(run)[0][1, "val", "reduced"]["metrics"]
    check_training_from_an_epoch(here, run)


def check_training_from_an_epoch(here: Command, run: RunPaths) -> None:
    text = STUDY.format(name="from", epochs=1).replace("dpt_tiny}", f"dpt_tiny, weights: {run.name}@1}}")
    Path("from.yaml").write_text(text)
    assert here("plan", "from.yaml").returncode == 0
    wrong = here("plan", "from.yaml", "--set", f"model.weights={run.name}@8")
    assert wrong.returncode == 2 and "no weights of epoch 8; kept: 1, 2, 3" in " ".join(wrong.stderr.split())


def complete_run(tmp_path: Path, **config: Any) -> RunPaths:
    identity = RunIdentity("aaaaaaaa", "a" * 64, "depth-aaaaaaaa", "depth", 1, {}, {}, 0.0)
    paths = directory.ensure_run(RunsDir(tmp_path / "runs"), identity, RunConfig(config, "ablate run x.yaml", {}))
    states.write_outcome(paths, Outcome(State.COMPLETE, None, None, None, 1))
    return paths


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "poly"])
def test_a_schedule_that_ended_is_not_extended(here: Command, tmp_path: Path, schedule: str) -> None:
    complete_run(tmp_path, train={"epochs": 2, "schedule": {"name": schedule}})
    refused = here("extend", "aaaa", "--epochs", "4")
    said = " ".join(refused.stderr.split())
    assert refused.returncode == 2 and f"followed the schedule {schedule!r} to its end, which more epochs move" in said
    assert "train the 4 epochs as a run of their own" in said
    assert len(RunsDir(tmp_path / "runs").runs()) == 1, "nothing was written"


def test_slips_of_the_pen(here: Command, tmp_path: Path) -> None:
    complete_run(tmp_path, train={"epochs": 2})
    typo = here("extend", "depht-aaaaaaaa", "--epochs", "4")
    assert typo.returncode == 2 and "did you mean depth-aaaaaaaa" in " ".join(typo.stderr.split())
    assert "has 2 epochs already" in " ".join(here("extend", "aaaa", "--epochs", "2").stderr.split())
    assert here("extend", "aaaa", "--epochs", "0").returncode == 2
    assert here("extend", "aaaa").returncode == 2
    epoch = here("extend", "aaaa@1", "--epochs", "4")
    assert epoch.returncode == 2 and "the whole run is meant here" in " ".join(epoch.stderr.split())
    for wrong in ("aaaa@", "aaaa@0", "aaaa@six", "@3"):
        said = here("show", wrong)
        assert said.returncode == 2 and "after the @ comes an epoch, such as" in " ".join(said.stderr.split())
