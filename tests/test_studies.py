"""The shipped studies: the log as cells, what is said of them, and that every one of them trains."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ablate.depth.task import DepthTask
from ablate.study import Cell, expand, load_study

STUDIES = Path(__file__).parent.parent / "studies"
LOG = STUDIES / "progress-log.yaml"


def cells(path: Path, *overrides: str) -> tuple[Cell, ...]:
    return expand(load_study(path, {"depth": DepthTask()}, overrides), DepthTask())


@pytest.fixture(scope="module")
def log() -> tuple[Cell, ...]:
    return cells(LOG)


def logged(log: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in log if cell.config.model_dump()["data"]["labels"] == "floor_metres"]


def row(cell: Cell) -> int:
    (number,) = {int(found) for note in cell.notes for found in re.findall(r"^Row (\d)", note)}
    return number


def test_the_seven_rows_are_there_as_logged_and_matched(log: tuple[Cell, ...]) -> None:
    as_logged = logged(log)
    matched = [cell for cell in log if cell not in as_logged]
    assert [row(cell) for cell in as_logged] == [3, 4, 5, 6, 7]
    assert sorted(row(cell) for cell in matched) == [1, 2, 3, 4, 5, 6, 7]
    evaluated = {row(cell) for cell in log if cell.config.train.epochs == 0}
    assert evaluated == {1, 2}, "rows 1 and 2 train nothing and are the same in both arms"


def test_as_logged_is_what_the_log_and_the_code_of_its_day_tell(log: tuple[Cell, ...]) -> None:
    known = {row(cell): cell.config.model_dump() for cell in logged(log)}
    for settings in known.values():
        assert settings["train"]["batch_size"] == 1
        assert settings["train"]["flip"] == 0
        assert settings["train"]["optimizer"] == "adam"
    assert {number: settings["train"]["epochs"] for number, settings in known.items()} == {
        3: 5,
        4: 10,
        5: 13,
        6: 20,
        7: 20,
    }
    assert {number: settings["train"]["lr"] for number, settings in known.items() if number > 3} == {
        4: 1e-4,
        5: 1e-4,
        6: 1e-5,
        7: 1e-5,
    }
    for number in (5, 6, 7):
        model = known[number]["model"]
        assert (model["share_attention"], model["attention_init"], model["heads"]) == (True, "scratch", 8)
    assert known[5]["model"]["head_dim"] == 64
    assert known[3]["data"]["subset"] == {"n": 1000, "seed": 0, "redraw": True}


def test_the_shared_module_has_the_size_of_the_log(log: tuple[Cell, ...]) -> None:
    """96.4 M, 97.3 M and 97.4 M parameters: what the log's rows 5, 6 and 7 really had, not 123.1 M."""
    import torch

    from ablate.depth.config import DepthConfig
    from ablate.depth.model import audit
    from ablate.depth.model.dpt import build

    found = {}
    for cell in logged(log):
        assert isinstance(cell.config, DepthConfig)
        with torch.device("meta"):  # shapes without memory
            found[row(cell)] = round(audit.count(build(cell.config.model)) / 1e6, 1)
    assert {number: found[number] for number in (4, 5, 6, 7)} == {4: 123.1, 5: 96.4, 6: 97.3, 7: 97.4}


def test_matched_differs_in_nothing_but_the_factor(log: tuple[Cell, ...]) -> None:
    matched = {row(cell): cell for cell in log if cell not in logged(log) and cell.config.train.epochs}
    standard = matched[4].config.model_dump()
    for number, cell in matched.items():
        settings = cell.config.model_dump()
        assert settings["train"] == standard["train"]
        assert settings["eval"] == standard["eval"]
        differing = {key for key, value in settings["model"].items() if value != standard["model"][key]}
        assert differing <= {"attention", "compression"}, number
        assert cell.baseline == (cell.position if number == 3 else matched[4].position)


def test_what_the_log_does_not_state_is_unknown_and_not_invented(log: tuple[Cell, ...]) -> None:
    unknown = {row(cell): cell.unknown for cell in logged(log)}
    assert all("seed" in keys for keys in unknown.values())
    assert "train.lr" in unknown[3]
    assert not any(cell.unknown for cell in log if cell not in logged(log))


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_study_opens_with_what_a_reader_asks_first(path: Path) -> None:
    first, *lines = path.read_text(encoding="utf-8").split("\n\nstudy:")[0].splitlines()
    assert first == "# yaml-language-server: $schema=schema.json"
    assert all(line.startswith("#") for line in lines)
    said = dict(re.findall(r"^# ([A-Z][a-z]+) +(\S.*)$", "\n".join(lines), re.MULTILINE))
    assert {"Question", "Command", "Cost", "Expected"} <= said.keys()
    assert f"studies/{path.name}" in said["Command"]


TINY = ["--set", "model.name=dpt_tiny", "--max-steps", "2"]
TINY += [
    "--set",
    "data.resolution=[32, 96]",
    "--set",
    "eval.resolutions=[reduced]",
    "--set",
    "eval.select.resolution=reduced",
]
WEIGHTS = ["--set", "model.weights=null", "--set", "data.split=null"]
CELLS = {
    "compressed": [*WEIGHTS, "--set", "train.lr=1e-4", "--set", "seed=0", "--only", "model.compression=3"],
    "performer": [*WEIGHTS, "--set", "model.attention_blocks=all", "--only", "model.heads=8"],
    "heads-and-taps": [
        *WEIGHTS,
        "--set",
        "model.taps=null",
        "--set",
        "model.heads=2",
        "--only",
        "model.attention=performer",
    ],
    "resolution": [*WEIGHTS, "--only", "model.attention=memory_compressed_2d"],
    "progress-log": [*WEIGHTS, "--only", "model.attention=memory_compressed_0_0_3", "--only", "model.compression=3"],
}


TRAINED_ELSEWHERE = {"base-training", "explosion", "quickstart", "trouble"}
"""By tests of their own."""


def ablate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ablate.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ablate.depth.data.street import make_street

    root = tmp_path_factory.mktemp("street")
    make_street(root, frames={"train": 4, "val": 1, "test": 1}, seed=0, say=lambda text: None)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({path.stem for path in STUDIES.glob("*.yaml")} - TRAINED_ELSEWHERE))
def test_one_cell_of_each_trains_two_steps(name: str, tmp_path: Path, street: Path) -> None:
    study = str(STUDIES / f"{name}.yaml")
    ablate(tmp_path, "run", study, "--threads", "1", *TINY, "--set", f"data.root={street}", *CELLS[name])
    runs = json.loads(ablate(tmp_path, "ls", "--json").stdout)
    assert [run["status"] for run in runs if run["attempts"]] == ["complete"]


@pytest.mark.slow
def test_plan_show_and_report_say_what_is_not_stated(tmp_path: Path, street: Path) -> None:
    options = [*TINY, *WEIGHTS, "--set", f"data.root={street}", "--set", "data.subset.n=4", "--only", "train.epochs=5"]
    planned = ablate(tmp_path, "plan", str(LOG), *options)
    line = next(line for line in planned.stdout.splitlines() if "floor_metres" in line)
    assert "unknown" in line
    assert "0.0001" not in line, "the value that is used is no value of the log's"
    assert "Row 3, AbsRel 0.416 at full size." in planned.stderr
    assert "not stated: seed, eval.select, train.lr, " in planned.stderr
    ablate(tmp_path, "run", str(LOG), "--threads", "1", *options)
    name = line.split()[0]
    shown = ablate(tmp_path, "show", name).stdout
    assert "train.lr: unknown: its source does not state it; trained with 0.0001" in shown
    assert "Row 3, AbsRel 0.416 at full size." in shown
    report = ablate(tmp_path, "report", "progress-log", "--style", "table").stdout
    table = report[report.index("| Run") :]  # above it arms are listed, which have the names of their runs here
    cells = next(line for line in table.splitlines() if line.startswith(f"| {name}")).split("|")
    header = table.splitlines()[0].split("|")
    values = dict(zip((text.strip() for text in header), (text.strip() for text in cells), strict=True))
    assert (values["lr"], values["epochs"]) == ("unknown", "5")
    assert f"- {name}: Row 3, AbsRel 0.416 at full size." in report
    csv = ablate(tmp_path, "report", "progress-log", "--format", "csv").stdout
    assert any(line.count("unknown") == 1 and name in line for line in csv.splitlines())
