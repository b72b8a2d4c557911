"""A page that is written again while a study trains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ablate.cli import pages
from ablate.errors import UsageError

STUDY = """\
study: toys
task: toy
base:
  train: {epochs: 3}
  sleep: 0.25
grid:
  model.width: [2, 3]
  train.lr: [0.1, 0.01]
baseline: {model.width: 2}
"""


def ablate(folder, *arguments):
    code = "from ablate.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # shells ignore it in the background
    )  # fmt: skip


@pytest.fixture
def training(tmp_path):
    """A study that trains in a process of its own, once it has begun."""
    (tmp_path / "toys.yaml").write_text(STUDY)
    process = ablate(tmp_path, "run", "toys.yaml")
    for line in process.stdout:
        if line.startswith("start"):
            break
    yield tmp_path
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


@pytest.mark.slow
def test_the_page_follows_the_training_and_keeps_what_somebody_chose(look, training):
    path = training / "page.html"
    watcher = ablate(training, "report", "toys", "--format", "html", "-o", "page.html", "--watch", "--every", "0.5")
    assert "follows the training" in watcher.stdout.readline()
    opened = look(path)
    tab = opened.tab
    first = tab.locator("html").get_attribute("data-written")
    tab.get_by_label("Search").fill("toy")
    tab.locator("#s0-runs-f0").select_option("3")
    opened.header("abs_rel0").get_by_role("button").click()
    tab.wait_for_function("(first) => document.documentElement.dataset.written !== first", arg=first)
    tab.wait_for_selector("html[data-ready]", state="attached")
    assert tab.get_by_label("Search").input_value() == "toy"
    assert tab.locator("#s0-runs-f0").input_value() == "3"
    assert opened.header("abs_rel0").get_attribute("aria-sort") == "ascending"
    output, _ = watcher.communicate(timeout=120)
    assert watcher.returncode == 0 and "nothing trains any more" in output
    tab.wait_for_selector("html[data-ready]:not([data-refresh])", state="attached")
    assert "4 complete" in tab.locator(".counts").inner_text()
    assert opened.header("abs_rel0").get_attribute("aria-sort") == "ascending"
    assert not tab.locator("#pause").is_visible()


@pytest.mark.slow
def test_ctrl_c_leaves_a_page_at_rest(training):
    watcher = ablate(training, "report", "--format", "html", "-o", "page.html", "--watch", "--every", "30")
    assert "follows the training" in watcher.stdout.readline()
    text = (training / "page.html").read_text(encoding="utf-8")
    assert 'data-refresh="30.0"' in text and "Training now" in text
    watcher.send_signal(signal.SIGINT)
    output, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 130 and "no longer watched" in output
    assert "data-refresh" not in (training / "page.html").read_text(encoding="utf-8").partition(">")[0]


def test_where_nothing_trains_the_page_is_written_once(tmp_path):
    said = []
    source = pages.Source(tmp_path / "results.duckdb", tmp_path / "runs", lambda results: [])
    pages.watch(source, tmp_path / "page.html", said.append, 5.0)
    assert said == [f"nothing trains: written to {tmp_path / 'page.html'}"]
    assert "Nothing has been run here yet" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("page")] == ["page.html"]


@pytest.mark.parametrize("every", [0.0, -1.0, float("nan")])
def test_a_period_is_above_zero(tmp_path, every):
    source = pages.Source(tmp_path / "results.duckdb", tmp_path / "runs", lambda results: [])
    with pytest.raises(UsageError, match="above 0"):
        pages.watch(source, tmp_path / "page.html", print, every)


def test_watching_needs_a_file(tmp_path):
    for form, output in (("md", tmp_path / "x.md"), ("html", None)):
        with pytest.raises(UsageError, match="--watch needs --format html and a file"):
            pages.print_page([], form, output, 5.0, tmp_path / "results.duckdb", tmp_path / "runs")
