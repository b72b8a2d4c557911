"""Weights from one run to the next, and out of `ablate`, as a user moves them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from ablate.cli.app import app
from ablate.cli.parts import part_rows, percent, pretrained
from ablate.depth.data.street import make_street
from ablate.errors import DataError, UsageError
from ablate.task import Part

STUDY = """\
study: {name}
base:
  model: {{name: dpt_tiny{more}}}
  data: {{root: street, resolution: [32, 96]}}
  train: {{epochs: 1, max_steps: 2, lr: 1e-3}}
  eval: {{resolutions: [reduced]}}
"""


def study(name: str, more: str = "") -> str:
    Path(f"{name}.yaml").write_text(STUDY.format(name=name, more=more))
    return f"{name}.yaml"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command in this process, which has torch already, and gives what it prints."""
    monkeypatch.setenv("ABLATE_RUNS_DIR", "runs")  # put back afterwards: `--runs-dir` sets it

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--runs-dir", "kept"])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return run


@pytest.mark.slow
def test_a_run_is_weights_for_others_and_can_be_taken_elsewhere(ablate, here) -> None:
    make_street(Path("street"), frames={"train": 3, "val": 1, "test": 1}, seed=0, say=lambda text: None)
    first = ablate("run", study("first"), "--runs-dir", "kept")
    assert first.returncode == 0, first.stderr
    (run,) = [path for path in Path("kept").iterdir() if (path / "run.json").exists()]
    run_id = run.name.rpartition("-")[2]

    # the next study starts from it, by its id
    second = study("second", f", weights: {run_id}, attention: memory_compressed")
    (cell,) = json.loads(here("plan", second, "--json"))
    shares = {part["name"]: part["pretrained"] for part in cell["parts"]}
    assert shares["mlp"] == shares["decoder"] == 1.0
    assert 0.5 < shares["attention"] < 1.0
    assert sum(part["parameters"] for part in cell["parts"]) == cell["parameters"]
    table = here("plan", second)
    assert re.search(r"attention +mlp", table) and "100%" in table and percent(shares["attention"]) in table

    assert ablate("run", second, "--runs-dir", "kept").returncode == 0
    shown = here("show", cell["run_id"])
    assert re.search(r"^mlp +\d+ +100%$", shown, re.MULTILINE)
    assert re.search(r"missing +8\n +\S+blocks\.\{0-3\}\.attn\.compress\.weight", shown)
    weights = json.loads(here("show", cell["run_id"], "--json"))["weights"]
    assert weights["counts"] == {"loaded": len(weights["loaded"]), "reshaped": 0, "missing": 8, "unexpected": 0}
    log = Path("kept", cell["name"], "log.txt").read_text()
    assert "weights " in log and "the attention's own, which the file has none of" in log

    # a study whose weights do not fit ends before anything is trained, and says what to do
    third = study("third", f", weights: {run_id}, attention: performer, head_dim: 24")
    with pytest.raises(DataError, match=r"performer.*model\.attention_init: scratch"):
        here("plan", third)

    # and out of here
    done = ablate("export", run_id, "--layout", "safetensors", "-o", "w.safetensors", "--runs-dir", "kept")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "w.safetensors: dpt_tiny with the weights of standard-lr1e-3" in done.stderr
    here("export", "w.safetensors", "--layout", "scriptable", "-o", "w.pt", "--network", "dpt_tiny")
    ours, published = load_file("w.safetensors"), torch.load("w.pt", weights_only=True)
    assert "pretrained.readout_oper3.0.project.0.weight" in published
    assert torch.equal(ours["pretrained.act_postprocess4.4.weight"], published["pretrained.act_postprocess4.1.weight"])
    with pytest.raises(UsageError, match="--force"):
        here("export", run_id, "--layout", "main", "-o", "w.pt")
    refused = ablate("export", cell["run_id"], "--layout", "hf", "-o", "hf", "--runs-dir", "kept")
    assert refused.returncode == 2
    assert "memory_compressed" in refused.stderr and "--layout safetensors" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not Path("hf").exists()


def test_percentages_are_exact_at_both_ends() -> None:
    assert [percent(share) for share in (0.0, 1e-6, 0.5, 0.99999, 1.0, None)] == [
        "0%", "0.1%", "50.0%", "99.9%", "100%", "",
    ]  # fmt: skip
    parts = (Part("a", 100, (), 1.0), Part("b", 300, (), 0.0), Part("a.x", 50, ("b.x",)))
    assert pretrained(parts) == 0.25
    assert list(part_rows(parts)) == [("a", "100", "100%"), ("b", "300", "0%"), ("all", "400", "25.0%")]
    assert pretrained((Part("a", 100),)) is None
    assert pretrained(()) is None
