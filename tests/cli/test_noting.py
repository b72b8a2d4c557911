"""`ablate note` and `ablate tag`, through the real command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def name(ablate: Any, tmp_path: Path) -> str:
    """A complete toy run."""
    (tmp_path / "one.yaml").write_text("study: one\ntask: toy\nbase: {train: {epochs: 1}}\n")
    assert ablate("run", "one.yaml").returncode == 0
    [root] = (tmp_path / "runs").glob("toy-*")
    return root.name


def test_notes_are_written_listed_shown_and_removed(ablate: Any, name: str) -> None:
    assert "note 1" in ablate("note", name[-8:], "the power went out").stderr
    assert ablate("note", name, "a | b <i>x</i>\nand more").returncode == 0
    listed = ablate("note", name, "--list")
    assert re.fullmatch(
        r" +1  \d{4}-\d\d-\d\d \d\d:\d\d  the power went out\n +2  .{16}  a \| b <i>x</i> and more\n", listed.stdout
    )
    shown = ablate("show", name).stdout
    assert re.search(r"^note 1 +\d{4}.*: the power went out$", shown, re.M)
    assert "\n             and more\n" in shown
    assert json.loads(ablate("show", name, "--json").stdout)["remarks"][1]["text"] == "a | b <i>x</i>\nand more"
    report = ablate("report", "one").stdout
    assert f"- {name}: note 1: the power went out" in report
    assert "note 2: a \\| b &lt;i&gt;x&lt;/i&gt; and more" in report
    assert "removed note 1: the power went out" in ablate("note", name, "--remove", "1").stderr
    assert "note 1" not in ablate("report", "one").stdout
    gone = ablate("note", name, "--remove", "1")
    assert gone.returncode == 2 and "has no note 1; it has: 2" in gone.stderr


def test_tags_are_given_shown_and_taken_away(ablate: Any, name: str) -> None:
    assert ablate("tag", name, "thesis", "figure 3").returncode == 0
    assert ablate("tag", name).stdout == "thesis\nfigure 3\n"
    assert json.loads(ablate("ls", "--json").stdout)[0]["tags"] == ["thesis", "figure 3"]
    assert "tags         thesis, figure 3" in ablate("show", name).stdout
    assert "tags: thesis, figure 3" in ablate("report", "one").stdout
    assert '"thesis, figure 3"' in ablate("report", "one", "--format", "csv").stdout
    assert json.loads(ablate("report", "one", "--format", "json").stdout)["studies"][0]["runs"][0]["tags"] == [
        "thesis",
        "figure 3",
    ]
    assert ablate("tag", name, "thesis", "--remove").returncode == 0
    assert ablate("tag", name).stdout == "figure 3\n"
    refused = ablate("tag", name, "thesis", "--remove")
    assert refused.returncode == 2 and "has no tag 'thesis'; it has: figure 3" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [["note"], ["note", "--list", "x"], ["note", "--list", "--remove", "1"], ["note", "\x1b[2J"], ["tag", "--remove"],
     ["tag", "a,b"], ["note", " "]],
    ids=str,
)  # fmt: skip
def test_what_is_no_note_is_refused(ablate: Any, tmp_path: Path, arguments: list[str]) -> None:
    from ablate.runs.directory import RunConfig, RunIdentity, ensure_run
    from ablate.runs.paths import RunsDir

    identity = RunIdentity("aaaaaaaa", "a" * 64, "toy-aaaaaaaa", "toy", 1, {}, {}, 0.0)
    paths = ensure_run(RunsDir(tmp_path / "runs"), identity, RunConfig({}, "", {}))
    done = ablate(arguments[0], "toy-aaaaaaaa", *arguments[1:])
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "\x1b" not in done.stderr
    assert not paths.notes.exists()
    assert not (tmp_path / "results.duckdb").exists()
    assert ablate("note", "nobody", "x").returncode == 2
