"""What is recorded of the machine and the code, without touching either."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ablate.engine.environment import default_threads, environment, git_state


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, whose index is out of date so that `git status` would like to write it."""
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True, env=os.environ | identity
        )

    git("init", "-q")
    (tmp_path / "code.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    os.utime(tmp_path / "code.py", (1, 1))
    return tmp_path


def index(repository: Path) -> Any:
    status = (repository / ".git" / "index").stat()
    return status.st_mtime_ns, status.st_ino


def test_commit_and_edits_are_told_and_the_repository_is_not_written(repository: Path) -> None:
    before = index(repository)
    state = git_state(repository)
    assert state is not None
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    assert index(repository) == before, "a kill in the middle of a write would leave index.lock behind"
    (repository / "code.py").write_text("x = 2\n")
    changed = git_state(repository)
    assert changed is not None
    assert changed["dirty"] is True


def test_no_repository_is_no_error(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


def test_versions_are_told_without_importing_anything() -> None:
    found = environment()
    assert {"python", "ablate", "torch"} <= set(found["versions"])
    assert found["pid"] == os.getpid()
    assert found["processor"]


def test_threads_share_the_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert default_threads(1) == cores
    assert default_threads(10 * cores) == 1
