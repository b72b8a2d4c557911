"""`ablate report`, through the real command: a log printed back, what is asked for, and what a terminal shows."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LOG = Path(__file__).parents[1] / "data" / "progress.md"

pytestmark = pytest.mark.slow


def sections(text: str) -> dict[int, list[str]]:
    """The lines of each `## N. …`, with cells for rows of a table; without what cannot be seen once it is rendered."""
    found: dict[int, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if re.match(r"#{1,2} ", line):
            heading = re.match(r"## (\d+)\. ", line)
            lines = found.setdefault(int(heading[1]), []) if heading else []
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            line = " | ".join("rule" if re.fullmatch(":-+:", cell) else cell for cell in cells)
        if line.strip() and line.strip() != "---":
            lines.append(" ".join(line.split()))
    return found


def printed_back(ablate: Callable[..., Any], log: Path) -> None:
    assert ablate("import", str(log)).returncode == 0
    report = ablate("report", "--lang", "es", "--style", "progress")
    assert report.returncode == 0, report.stderr
    theirs, ours = sections(log.read_text(encoding="utf-8")), sections(report.stdout)
    assert sorted(theirs) == [1, 2, 3, 4, 5, 6, 7]
    for row, lines in theirs.items():
        assert ours[row] == lines, row
    assert ours.keys() == theirs.keys()


def test_a_log_is_printed_back_as_it_was(ablate: Any) -> None:
    printed_back(ablate, LOG)


def test_the_authors_own_log_is_printed_back_as_it_was(ablate: Any, shared: Path) -> None:
    printed_back(ablate, shared / "progress-log.md")


def test_the_database_may_be_lost(ablate: Any, tmp_path: Path) -> None:
    ablate("import", str(LOG))
    before = ablate("report", "--lang", "es").stdout
    (tmp_path / "results.duckdb").unlink()
    assert ablate("db", "rebuild").returncode == 0
    assert ablate("report", "--lang", "es").stdout == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two seeds and an imported log."""
    folder = tmp_path_factory.mktemp("trained")
    study = {
        "study": "toys", "task": "toy", "base": {"train": {"epochs": 2}},
        "grid": {"model.width": [2, 3], "train.lr": [0.1, 0.01]}, "seeds": [0, 1],
        "notes": [{"match": {"model.width": 3}, "text": "wide | <b>"}],
    }  # fmt: skip
    (folder / "toys.yaml").write_text(json.dumps(study))
    run(folder, "run", "toys.yaml", "--workers", "2")
    run(folder, "import", str(LOG), "--study", "log")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ablate.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


@pytest.fixture
def there(trained: Path, here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A command in that folder, within this process."""
    monkeypatch.chdir(trained)
    return here


def test_sections_of_measured_runs_give_the_command_that_makes_each(trained: Path, there: Any) -> None:
    text = there("report", "toys").stdout
    found = sections(text)
    assert sorted(found) == list(range(1, 9))
    assert re.fullmatch(r"## 1\. width 2, lr 0\.1, seed 0 \(2 epochs, 8 images per epoch\) ~\d+\w+", found[1][0])
    commands = [line for lines in found.values() for line in lines if line.startswith("ablate run ")]
    assert commands[-1] == "ablate run toys.yaml --only model.width=3 --only train.lr=0.01 --only seed=1"
    for command in commands[:2]:
        planned = there("plan", *shlex.split(command)[2:], "--json")
        assert [cell["action"] for cell in json.loads(planned.stdout)] == ["done"], planned.stderr
    weights = [line for lines in found.values() for line in lines if line.startswith("- **Weights**: ")]
    for line in weights:
        assert (trained / line.removeprefix("- **Weights**: ")).is_dir()
    assert text.count("wide \\| &lt;b&gt;") == 8  # below the table, and in the section


def test_studies_and_filters(trained: Path, there: Any) -> None:
    """Several studies at once; a study of which some runs are chosen says nothing of the others."""
    everything = there("report", "--style", "table").stdout
    assert re.findall(r"^## (.*)$", everything, re.M) == ["log", "toys"]
    both = there("report", "toys", "log", "--only", "width=3", "--format", "csv", "--columns", "run").stdout
    assert {line[:6] for line in both.split()[1:]} == {"toy-3-"}
    rows = json.loads(there("report", "toys", "lr=0.1", "seed=1", "--format", "json").stdout)["studies"]
    assert [run["settings"]["model.width"] for run in rows[0]["runs"]] == [2, 3]
    assert "no run fits" in there("report", "toys", "status=failed").stderr
    one = there("report", "log-5", "--format", "csv", "--columns", "run,d1").stdout.splitlines()
    assert len(one) == 3 and one[1].endswith(",0.516")
    unknown = there("report", "tois")
    assert unknown.returncode == 2 and "did you mean toys?" in unknown.stderr
    wrong = there("report", "--only", "width")
    assert wrong.returncode == 2 and "--only 'width': expected axis=value" in wrong.stderr


def test_errors_name_what_there_is(trained: Path, there: Any) -> None:
    for option, value, close in (
        ("--sort", "rmze", "rmse"), ("--group-by", "widht", "model.width"), ("--metric", "absrell", "abs_rel"),
        ("--columns", "run,statsu", "status"),
    ):  # fmt: skip
        done = there("report", "toys", option, value)
        assert done.returncode == 2 and f"did you mean {close}?" in done.stderr and "known: " in done.stderr
        assert not done.stdout
    assert "expected one of md, latex, csv, json" in there("report", "--format", "pdf").stderr


def test_output_goes_to_a_file_or_to_stdout(trained: Path, there: Any) -> None:
    done = there("report", "toys", "--format", "latex", "--sort", "-abs_rel", "-o", "table.tex")
    assert not done.stdout and "written to table.tex" in done.stderr
    assert r"\begin{tabular}" in (trained / "table.tex").read_text(encoding="utf-8")
    assert there("report", "toys", "-o", "-").stdout == there("report", "toys").stdout


def on_a_terminal(folder: Path, columns: int, *arguments: str) -> str:
    """What a person sees on a terminal of this width, without colours."""
    leader, follower = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color", "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from ablate.cli import main; main()", *arguments]
    done = subprocess.Popen(command, cwd=folder, stdout=follower, stderr=subprocess.DEVNULL, env=environment)
    os.close(follower)
    seen, until = b"", time.monotonic() + 120
    while time.monotonic() < until:
        if select.select([leader], [], [], 1)[0]:
            try:
                seen += os.read(leader, 65536)
            except OSError:  # all read, and the other end is closed
                break
    os.close(leader)
    assert done.wait(60) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode()).replace("\r\n", "\n")


def test_a_terminal_gets_tables_that_fit(trained: Path, there: Any) -> None:
    text = on_a_terminal(trained, 100, "report", "log", "--metric", "d1,abs_rel,rmse,silog")
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "|" not in text.replace("│", "") and "**" not in text and "##" not in text
    assert not re.search(r"^\d\. Modelo base", text, re.M)
    for number in ("0.723", "6.607", "22.173", "0.914", "10.739"):
        assert f" {number} " in text
    raw = on_a_terminal(trained, 100, "report", "log", "-o", "-")
    assert raw == there("report", "log").stdout
    with_sections = on_a_terminal(trained, 100, "report", "log", "--style", "progress", "--lang", "es")
    assert "5. Modelo base DPT-Hybrid con Performer Attention" in with_sections
    assert "Pesos: weight/cuatro.pt" in with_sections
