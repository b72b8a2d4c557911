"""Faults 22, 24-28, 34: memory, numbers, images and weights, with the depth task in real workers."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from ablate.runs import states
from ablate.runs.checkpoint import Checkpoints
from ablate.runs.states import Reason, State
from ablate.task import Position

pytestmark = pytest.mark.slow


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    """A depth run that trains in a blink."""
    config: dict[str, Any] = {
        "model": {"name": "dpt_tiny"},
        "data": {"root": str(root), "resolution": [32, 96]},
        "train": {"epochs": 1, "batch_size": 2, "lr": 1e-3},
        "eval": {"resolutions": ["reduced"]},
    }
    for section, values in changes.items():
        config[section] |= values
    return config


def depth_run(work: Any, root: Path, **changes: Any) -> Any:
    from ablate.depth.config import DepthConfig
    from ablate.depth.task import DepthTask

    config = settings(root, **changes)
    digests = DepthTask().digests(DepthConfig.model_validate(config))
    return work.run("dpt-aaaaaaaa", task="depth", digests=dict(digests), **config)


@pytest.fixture
def own_street(street: Path, tmp_path: Path) -> Path:
    """A street to be damaged."""
    return Path(shutil.copytree(street, tmp_path / "street"))


LITTLE_MEMORY = """
import resource, torch, ablate.depth.session
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 60 * 2**20, resource.RLIM_INFINITY))
"""


def test_fault_22_no_memory_left(work: Any, look: Any, street: Path) -> None:
    """A limit on the address space makes the allocator fail for real, as a full GPU does."""
    paths = depth_run(work, street, data={"resolution": [512, 1536]}, train={"batch_size": 4})
    assert work.train(paths, inject=LITTLE_MEMORY) == 1
    outcome = look(paths).outcome()
    assert (outcome.state, outcome.reason) == (State.FAILED, Reason.OOM), outcome.message
    assert "lower train.batch_size or data.resolution" in (outcome.message or "")


@pytest.mark.parametrize("cause", ["lr", "poison"])
def test_fault_24_a_loss_that_is_not_finite(work: Any, look: Any, street: Path, cause: str) -> None:
    """The batch is named, no weights of it are stored, and an equal run is not tried again."""
    poison = """
import torch
from ablate.depth import session
step = session.DepthSession.step
def poisoned(self, batch, position):
    if position.epoch == 2:
        batch.image[0, 0, 0, 0] = float("nan")
    return step(self, batch, position)
session.DepthSession.step = poisoned
"""
    train = {"epochs": 3} | ({"lr": 1e30} if cause == "lr" else {})
    paths = depth_run(work, street, train=train)
    assert work.train(paths, inject=poison if cause == "poison" else "") == 1
    outcome = look(paths).outcome()
    assert (outcome.state, outcome.reason) == (State.FAILED, Reason.DIVERGED)
    assert "images: 20" in (outcome.message or "") and " l" in (outcome.message or "")
    manifests = Checkpoints(paths.checkpoints).manifests()
    assert len(manifests) == (1 if cause == "poison" else 0), "only the epoch before it"
    assert all(np.isfinite(record.body["train_loss"]) for record in look(paths).records("epoch"))
    from ablate.engine.plan import Action, decide

    assert decide(paths)[0] is Action.FAILED


def test_fault_25_27_images_that_are_damaged_or_missing(work: Any, own_street: Path) -> None:
    """All are named before anything is trained or written."""
    study = work.study(
        f"study: s\nbase:\n  model: {{name: dpt_tiny}}\n  data: {{root: {own_street}, resolution: [32, 96]}}\n"
        "  train: {epochs: 1}\n"
    )
    images = sorted((own_street / "raw").rglob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:-40])
    images[1].unlink()
    done = work.ablate("run", study)
    assert done.returncode == 2
    assert str(images[0]) in done.stderr and str(images[1]) in done.stderr
    assert not list((work.root / "runs").glob("dpt*"))
    shutil.rmtree(own_street)
    gone = work.ablate("run", study)
    assert gone.returncode == 2
    assert "ablate data sample" in gone.stderr


def test_fault_26_27_images_without_depth_and_data_that_changed(work: Any, look: Any, own_street: Path) -> None:
    """An empty depth map is skipped and counted, its means are over the others; a changed list is refused."""
    name = (own_street / "val_files.txt").read_text().split()
    [empty] = [
        path
        for path in (own_street / "data_depth_annotated").rglob("*.png")
        if path.stem == f"{int(name[1]):010d}" and path.parts[-5] == Path(name[0]).name
    ]
    Image.fromarray(np.zeros(np.asarray(Image.open(empty)).shape, np.uint16)).save(empty)
    paths = depth_run(work, own_street)
    assert work.train(paths) == 0, paths.log.read_text()
    evaluations = look(paths).records("evaluation")
    assert [(record.body["images"], record.body["skipped"]) for record in evaluations] == [(1, 1)]
    assert all(value > 0 for value in (evaluations[0].body["metrics"][key] for key in ("abs_rel", "rmse", "silog")))
    lines = (own_street / "train_files.txt").read_text().splitlines(keepends=True)
    (own_street / "train_files.txt").write_text("".join(lines[1:]))
    paths.outcome.unlink()
    assert work.train(paths) == 1
    assert look(paths).outcome().reason is Reason.DATA
    assert "changed since the run began" in (look(paths).outcome().message or "")


SLOW_LOADER = """
import time
from ablate.depth.data import loader
resized = loader.TrainingData._resized
def slow(self, index):
    time.sleep(0.5)
    return resized(self, index)
loader.TrainingData._resized = slow
"""


def test_fault_28_a_loader_process_that_is_killed(work: Any, look: Any, street: Path, until: Any) -> None:
    paths = depth_run(work, street, data={"workers": 1}, train={"epochs": 9, "batch_size": 1})
    process = work.start(paths, inject=SLOW_LOADER)
    until(lambda: look(paths).steps() > 0)
    [loader] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(loader), signal.SIGKILL)
    assert process.wait(timeout=60) == 1
    outcome = look(paths).outcome()
    assert outcome.reason is Reason.CRASH
    assert "a loader process died or hangs" in (outcome.message or "")


class _Payload:
    """What a pickle can hold: a call of anything."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


class _Evil:
    """A component whose file is a trap: as a bare pickle, or inside torch's own format."""

    def __init__(self, marker: Path, form: str) -> None:
        self.marker, self.form = marker, form

    def save(self, file: BinaryIO) -> None:
        import torch

        payload = _Payload(f"touch {self.marker}")
        if self.form == "bare":
            file.write(pickle.dumps(payload))
        else:
            torch.save({"weight": payload}, file, _use_new_zipfile_serialization=self.form == "zip")


@pytest.mark.parametrize("form", ["bare", "zip", "legacy"])
def test_fault_34_a_malicious_pickle_as_a_checkpoint(work: Any, look: Any, street: Path, form: str) -> None:
    """Its manifest vouches for it, as whoever made the run directory can arrange; it is not executed all the same."""
    import torch

    marker = work.root / "executed"
    evil = _Evil(marker, form)
    trap = work.root / "trap"
    with trap.open("wb") as file:
        evil.save(file)
    if form == "zip":  # the trap is a real one
        torch.load(trap, weights_only=False)
        assert marker.exists()
        marker.unlink()
    if form != "bare":
        assert_refused_in_process(trap, marker)
        return
    paths = depth_run(work, street)
    Checkpoints(paths.checkpoints).save(Position(0, 1, 1), {"total_steps": 1}, 0, {"weights": evil, "optimizer": evil})
    assert work.train(paths) == 1
    outcome = look(paths).outcome()
    assert "cannot be read" in (outcome.message or "")
    assert outcome.state is State.FAILED
    assert not marker.exists()
    assert states.status(paths).state is State.FAILED


def assert_refused_in_process(trap: Path, marker: Path) -> None:
    """By everything that reads tensors: a checkpoint's two components, and `model.weights`."""
    import torch

    from ablate.depth.model.weights import load_weights
    from ablate.depth.state import OptimizerState, WeightsState
    from ablate.errors import AblateError

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    readers = (WeightsState(model).load, OptimizerState(optimizer).load)
    for read in readers:
        with trap.open("rb") as file, pytest.raises(AblateError):
            read(file)
    for name in ("w.pt", "w.safetensors"):
        with pytest.raises(AblateError):
            load_weights(model, trap.rename(trap.with_name(name)))  # type: ignore[arg-type]
        trap.with_name(name).rename(trap)
    assert not marker.exists()
