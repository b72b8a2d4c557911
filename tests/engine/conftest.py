from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.runs.directory import RunConfig, RunIdentity, ensure_run
from ablate.runs.paths import RunPaths, RunsDir

MakeRun = Callable[..., RunPaths]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes the directory of a toy run; keywords are its configuration."""

    def make(
        name: str = "toy-aaaaaaaa", runs: str = "runs", digests: dict[str, str] | None = None, **config: Any
    ) -> RunPaths:
        identity = RunIdentity(name[-8:], name[-8:] * 8, name, "toy", 1, {}, digests or {}, 0.0)
        return ensure_run(RunsDir(tmp_path / runs), identity, RunConfig(config, "ablate run toy.yaml", {}))

    return make
