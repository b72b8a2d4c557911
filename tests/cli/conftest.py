from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ablate.cli import main

Ablate = Callable[..., "subprocess.CompletedProcess[str]"]

TOY_STUDY = """\
study: toys
task: toy
base:
  train: {epochs: 2}
grid:
  model.width: [2, 3]
  train.lr: [1e-1, 1e-2]
baseline: {model.width: 2}
"""


@pytest.fixture
def ablate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ablate:
    """Runs the real command in an empty folder, as a user would."""
    monkeypatch.chdir(tmp_path)

    def run(
        *arguments: str, timeout: float = 120, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from ablate.cli import main; main()", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | (env or {}),
        )

    return run


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """As `ablate`, within this process: loading torch for each command would take seconds. Not for what trains."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLATE_RUNS_DIR", "runs")  # commands set it to an absolute path, which is undone afterwards

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["ablate", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    path = tmp_path / "toys.yaml"
    path.write_text(TOY_STUDY)
    return path
