"""`ablate eval`: a checkpoint becomes a row like any other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from ablate.depth.config import ModelSettings
from ablate.depth.data.street import make_street
from ablate.depth.model.dpt import build

SMALL = ("--resolution", "32x96")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("street")
    make_street(root, frames={"train": 2, "val": 1, "test": 2}, seed=0, say=lambda text: None)
    return root


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(build(ModelSettings(name="dpt_tiny")).state_dict(), "tiny-kitti.pt")
    return Path("tiny-kitti.pt")


def numbers(text: str) -> list[str]:
    """The rows of metrics in a report or in what `ablate eval` prints."""
    return [" ".join(row.split()) for row in re.findall(r"(?:\| *[0-9]+\.[0-9]{3} *){9}", text)]


@pytest.mark.slow
def test_the_authors_model_is_a_row_like_any_other(ablate, here, street, weights) -> None:
    done = ablate("eval", str(weights), "--data", str(street), *SMALL, "--name", "The authors'")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## the-authors-")
    assert "#### Output (Reduced size)" in done.stdout and "test split, 2 images" in done.stdout
    assert "| AbsRel ↓ |" in re.sub(r" +", " ", done.stdout)
    [row] = numbers(done.stdout)

    again = here("eval", str(weights), "--data", str(street), *SMALL, "--name", "another name")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "evaluated already" in again.stderr

    [run] = json.loads(here("ls", "--json").stdout)
    assert (run["status"], run["study"], run["attempts"]) == ("complete", "evaluations", 1)
    shown = json.loads(here("show", run["run_id"], "--json").stdout)
    assert shown["configuration"]["train"]["epochs"] == 0
    assert shown["configuration"]["model"]["name"] == "dpt_tiny", "recognised by its tensors"

    torch.save({"state_dict": torch.load(weights, weights_only=True)}, "same.pt")
    other = ablate("eval", "same.pt", "--data", str(street), *SMALL, "--mask", "none")
    assert other.returncode == 0, other.stderr
    report = here("report", "evaluations", "--style", "table").stdout
    assert "tiny-kitti.pt" in report and "same.pt" in report, "the second does not push the first out"
    assert row in numbers(report) and len(numbers(report)) == 2
    assert "protocol differs in mask" in report


@pytest.mark.slow
def test_a_run_is_evaluated_as_it_was_and_joins_a_study(ablate, here, street) -> None:
    Path("s.yaml").write_text(
        "study: short\nbase:\n  model: {name: dpt_tiny, attention: performer, features: 8}\n"
        f"  data: {{root: {street}, resolution: [32, 96]}}\n  train: {{epochs: 1, lr: 1e-3}}\n"
        "  eval: {resolutions: [reduced]}\n"
    )
    assert ablate("run", "s.yaml").returncode == 0
    [trained] = numbers(here("report", "short", "--style", "table").stdout)
    done = ablate("eval", "performer", "--study", "short")
    assert done.returncode == 0, done.stderr
    assert numbers(done.stdout) == [trained], "the same weights, data and protocol"
    again = here("run", "s.yaml")  # nothing is left to train
    assert again.returncode == 0 and "differs from what was run" not in again.stderr
    rows = numbers(here("report", "short", "--style", "table").stdout)
    assert rows == [trained, trained], "running the study again does not drop what was added"


@pytest.mark.slow
def test_relative_weights_are_aligned_or_refused(ablate, here, street, weights) -> None:
    weights.rename("tiny-midas.pt")
    command = ("eval", "tiny-midas.pt", "--data", str(street), *SMALL)
    refused = here(*command)
    assert refused.returncode == 2
    assert "never read as metres" in refused.stderr and "--align scale_shift" in refused.stderr
    assert not Path("runs").exists()
    done = ablate(*command, "--align", "scale_shift")
    assert done.returncode == 0, done.stderr
    assert "alignment" in done.stdout and "none" not in done.stdout.partition("alignment")[2].partition(",")[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tiny-kitti.pt",), "--data ROOT is missing"),
        (("tiny-kitti.pt", "--data", "nowhere"), "nowhere"),
        (("tiny-kiti.pt", "--data", "STREET"), "did you mean tiny-kitti.pt?"),
        (("tiny-kitti.pt", "--data", "STREET", "--network", "dpt_hybrid"), "does not fit"),
        (("tiny-kitti.pt", "--data", "STREET", "--split", "none"), "none"),
        (("tiny-kitti.pt", "--data", "STREET", "--study", "a/b"), "--study a/b"),
        (("tiny-kitti.pt", "--data", "STREET", "--set", "eval.mask=grag"), "did you mean garg?"),
        (("tiny-kitti.pt", "--data", "STREET", "--resolution", "33x96"), "multiples of 32"),
    ],
)
def test_a_mistake_is_one_clear_error_and_no_run_is_made(here, street, weights, arguments, said) -> None:
    done = here("eval", *(str(street) if text == "STREET" else text for text in arguments))
    assert done.returncode == 2, done.stderr
    assert not list(Path().glob("runs/*/run.json"))
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_the_test_set_alone_is_enough(here, street, weights, tmp_path: Path) -> None:
    """Whoever checks a published model has fetched what it is scored on, and nothing to train with."""
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "test_files.txt").write_text((street / "test_files.txt").read_text())
    alone = here("eval", str(weights), "--data", str(street), "--split", str(lists), *SMALL)
    assert alone.returncode == 0, alone.stderr
    whole = here("eval", str(weights), "--data", str(street), *SMALL, "--study", "whole")
    assert whole.returncode == 0, whole.stderr
    assert numbers(alone.stdout) == numbers(whole.stdout)
