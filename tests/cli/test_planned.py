"""`ablate plan --memory` and the time left, of the toy task: a gigabyte per weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablate.cli.needs import duration


def rows(done: Any) -> dict[str, dict[str, Any]]:
    return {row["name"].rpartition("-")[0]: row for row in json.loads(done.stdout)}


def test_cells_that_do_not_fit_are_marked(here: Any, toys: Path) -> None:
    done = here("plan", "toys.yaml", "--memory", "2.5GB")
    assert done.returncode == 0
    assert done.stdout.count("does not fit: 3.0 of 2.5 GB") == 2
    assert done.stdout.count(" 2.0 GB") == 2
    assert "2 cells do not fit into 2.5 GB" in done.stderr
    assert done.stderr.count("estimating") == 2, "once for each shape, not for each cell"
    assert "the width is 50 % of the" in done.stderr
    assert "at most 2.00x faster" in done.stderr
    assert here("plan", "toys.yaml", "--memory", "3GB").stdout.count("does not fit") == 0
    fits = rows(here("plan", "toys.yaml", "--memory", "2999MB", "--json"))
    assert [row["fits"] for row in fits.values()] == [True, True, False, False]
    assert fits["toy-3-lr0.1"]["peak_bytes"] == 3 * 10**9


def test_without_a_memory_nothing_is_estimated_but_what_is_known_is_shown(here: Any, toys: Path) -> None:
    before = here("plan", "toys.yaml")
    assert "GB" not in before.stdout
    assert "estimating" not in before.stderr
    assert not Path("runs").exists()
    here("plan", "toys.yaml", "--memory", "8GB")
    after = here("plan", "toys.yaml")
    assert after.stdout.count(" GB") == 4
    assert "does not fit" not in after.stdout
    assert {row["fits"] for row in rows(here("plan", "toys.yaml", "--json")).values()} == {None}


def test_an_amount_that_is_none_is_a_usage_error(here: Any, toys: Path) -> None:
    done = here("plan", "toys.yaml", "--memory", "much")
    assert done.returncode == 2
    assert "--memory much: expected an amount of memory, such as '6GB'" in done.stderr


@pytest.mark.slow
def test_the_time_left_follows_from_runs_of_the_same_shape(ablate: Any, toys: Path) -> None:
    """Two epochs of 8 images in pairs, 0.05 s a step: 0.4 s of training, and evaluations between."""
    slow = ("--set", "sleep=0.05")
    assert ablate("run", "toys.yaml", *slow, "--only", "model.width=2", "--only", "train.lr=0.1").returncode == 0
    done = ablate("plan", "toys.yaml", *slow)
    assert "time left" in done.stdout
    assert "as measured on cpu; 2 of 3 cells have a shape that none has trained yet" in done.stderr
    left = {name: row["seconds_left"] for name, row in rows(ablate("plan", "toys.yaml", *slow, "--json")).items()}
    assert left["toy-2-lr0.1"] == 0, "it is done"
    assert 0.4 <= left["toy-2-lr0.01"] < 20
    assert left["toy-3-lr0.1"] is left["toy-3-lr0.01"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.2, "<1 s"), (42, "42 s"), (1020, "17 min"), (35.5 * 3600, "35.5 h"), (30 * 86400, "30 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
