"""A real worker in an address space that is too small for its batch: the ladder must climb, and the run must end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.depth.config import DepthConfig
from ablate.depth.task import DepthTask
from ablate.engine import plan as planning
from ablate.engine.plan import Action, Planned
from ablate.runs import journal, states
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Reason, State
from ablate.study import Cell, identify

LIMITED = """
import re, resource, sys
import ablate.depth.cost, ablate.depth.session  # what importing maps is not what training allocates
from ablate.engine import worker
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
if int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
code = worker.main(sys.argv[2:])
peak = int(re.search(r'VmPeak:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) * 1024
print('needed', peak - used, flush=True)
sys.exit(code)
"""


def made(street: Path, folder: Path, on_oom: str, batch_size: int = 7) -> RunPaths:
    config = DepthConfig.model_validate(
        {
            "model": {"name": "dpt_tiny"},
            "data": {"root": street, "resolution": (352, 1216), "cache_mb": 0},
            "train": {"epochs": 1, "max_steps": 1, "batch_size": batch_size, "on_oom": on_oom},
            "eval": {"resolutions": ("reduced",)},
        }
    )
    task, runs = DepthTask(), RunsDir(folder)
    cell = Cell(position=0, config=config, settings={}, seed=0)
    identity = identify(task, config)
    planned = Planned(cell, identity, runs.run(identity.name), Action.NEW, "")
    return planning.create(planned, runs, task, planning.run_config(config, ["ablate"], {}))


@pytest.fixture(scope="module")
def room(street: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Bytes of address space, as measured here, that two images of 352x1216 can be trained in, and seven cannot."""
    found = []
    for count in (2, 7):
        paths = made(street, tmp_path_factory.mktemp("measured"), "fail", count)
        assert train(paths, 0) == 0, paths.log.read_text()
        found.append(int(paths.log.read_text().split("needed")[1].split()[0]))
    assert found[1] > 1.5 * found[0], "batches that need about the same cannot be told apart by a limit"
    return sum(found) // 2


def train(paths: RunPaths, room: int) -> int:
    with paths.log.open("wb") as log:
        command = [sys.executable, "-c", LIMITED, str(room), str(paths.root)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        return subprocess.run(command, stdout=log, stderr=log, env=environment, timeout=300).returncode


def ladder(paths: RunPaths) -> list[dict[str, Any]]:
    records = (line.record for line in journal.read(paths.journal))
    return [dict(record.body) for record in records if record.body.get("name") == "ladder"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and other systems do not keep to RLIMIT_AS")
@pytest.mark.parametrize("on_oom", ["ladder", "fail"])
def test_too_little_address_space_is_out_of_memory(tmp_path: Path, street: Path, room: int, on_oom: str) -> None:
    paths = made(street, tmp_path / "runs", on_oom)
    code = train(paths, room)
    outcome = states.read_outcome(paths)
    assert outcome is not None, paths.log.read_text()
    if on_oom == "fail":
        assert (code, outcome.state, outcome.reason) == (1, State.FAILED, Reason.OOM)
        assert "batches of 7 at 352x1216" in (outcome.message or "")
        assert not ladder(paths)
    else:
        assert (code, outcome.state) == (0, State.COMPLETE), paths.log.read_text()
        rungs = ladder(paths)
        assert [event["rung"] for event in rungs] == list(range(1, len(rungs) + 1))
        assert rungs
        assert "of each batch of 7, their gradients added up" in rungs[0]["did"]
