"""studies/explosion.yaml: both answers to its question are results, so the test lets it come out either way."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ablate.depth.task import DepthTask
from ablate.study import expand, load_study

STUDY = Path(__file__).parent.parent / "studies" / "explosion.yaml"


def test_it_crosses_softmax_sharing_and_learning_rate() -> None:
    cells = expand(load_study(STUDY, {"depth": DepthTask()}), DepthTask())
    configs: list[Any] = [cell.config for cell in cells]
    crossed = [(c.model.attention, c.model.share_attention, c.train.lr) for c in configs]
    arms = ("memory_compressed", "memory_compressed_0_0_3")
    assert sorted(crossed) == sorted(itertools.product(arms, (False, True), (1e-4, 1e-3, 1e-2)))
    assert {(c.model.name, c.train.batch_size) for c in configs} == {("dpt_tiny", 1)}


def run(folder: Path, *options: str) -> tuple[int, list[tuple[Any, ...]]]:
    """Runs the study in `folder`; its exit code, and what the database holds of every run."""
    command = [
        sys.executable,
        "-c",
        "from ablate.cli import main; main()",
        "run",
        str(STUDY),
        "--threads",
        "1",
        *options,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{folder}/results.duckdb' AS r (TYPE duckdb, READ_ONLY)")
        connection.execute("USE r")
        sql = (
            "SELECT r.configuration->'model'->>'attention', r.status, r.reason, (SELECT count(*) FROM evaluations e WHERE e.run_id = r.run_id) "
            "FROM runs r WHERE r.status <> 'queued' ORDER BY ALL"
        )
        rows = connection.execute(sql).fetchall()
    assert rows, done.stderr
    return done.returncode, rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from ablate.depth.data.street import make_street

    make_street(tmp_path / "data" / "sample", frames={"train": 3, "val": 1, "test": 1}, seed=0, say=lambda text: None)
    return tmp_path


@pytest.mark.slow
def test_a_short_cell_of_each_arm_ends_in_one_of_two_results(folder: Path) -> None:
    """Three steps at the study's highest rate: a finite loss is scored, one that is not is stored with its reason."""
    code, rows = run(folder, "--only", "train.lr=1e-2", "--only", "model.share_attention=true", "--max-steps", "3")
    assert [row[0] for row in rows] == ["memory_compressed", "memory_compressed_0_0_3"]
    for _, status, reason, evaluations in rows:
        assert (status, reason) in {("complete", None), ("failed", "diverged")}
        assert status == "failed" or evaluations > 0
    assert code == (0 if all(row[1] == "complete" for row in rows) else 1)


@pytest.mark.slow
def test_a_cell_that_explodes_is_kept_as_diverged(folder: Path) -> None:
    """Provoked by a rate at which no network can learn, so that the other result is seen in each arm as well."""
    code, rows = run(folder, "--set", "train.lr=1e38", "--only", "model.share_attention=true", "--max-steps", "3")
    assert [row[:3] for row in rows] == [
        ("memory_compressed", "failed", "diverged"),
        ("memory_compressed_0_0_3", "failed", "diverged"),
    ]
    assert code == 1
