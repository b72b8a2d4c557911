"""`ablate report --format html`, through the real command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_rows_of_a_log_are_external_on_the_page_and_say_what_they_differ_in(
    shared: Path, tmp_path: Path, here: Callable[..., Any]
) -> None:
    assert here("import", str(shared / "progress-log.md")).returncode == 0
    assert here("report", "--format", "html", "-o", "log.html").returncode == 0
    html = (tmp_path / "log.html").read_text(encoding="utf-8")
    arms = html.partition("<h2>Arms</h2>")[2].partition("<h2>")[0]
    assert arms.count("external") >= 7 and "baseline</span>" not in arms
    pairs = html.partition("<h2>Pairs with imported runs</h2>")[2].partition("<h2>")[0]
    assert "train.lr (1e-05 against 0.0001)" in pairs and "model.compression (3 against 2)" in pairs


@pytest.mark.parametrize("option", [("--lang", "es"), ("--sort", "abs_rel"), ("--metric", "rmse"), ("--style", "table"),
                                    ("--columns", "run"), ("--group-by", "lr")])  # fmt: skip
def test_a_page_refuses_the_options_that_it_would_ignore(option: tuple[str, str], here: Callable[..., Any]) -> None:
    done = here("report", "--format", "html", *option)
    assert done.returncode == 2 and f"{option[0]}: not with --format html" in " ".join(done.stderr.split())
