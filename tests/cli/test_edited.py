"""A study that was edited since it was run: what `plan` and `run` say of it."""

from __future__ import annotations

import json
from pathlib import Path


def edit(study: Path, *pairs: tuple[str, str]) -> None:
    text = study.read_text()
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    study.write_text(text)


def lines(text: str, start: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith(f"  {start}")]


def test_a_study_that_is_as_it_was_says_nothing(ablate, toys) -> None:
    assert "differs from what was run" not in ablate("run", "toys.yaml", "--only", "model.width=2").stderr
    toys.write_text("# a comment decides nothing\n" + toys.read_text())
    for command in ("plan", "run"):
        assert "differs" not in ablate(command, "toys.yaml").stderr
    data = json.loads(ablate("plan", "toys.yaml", "--json").stdout)
    assert [row["change"] for row in data] == ["unchanged"] * 4


def test_values_that_were_added_and_removed(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    edit(toys, ("train.lr: [1e-1, 1e-2]", "train.lr: [1e-1, 1e-3]"))
    done = ablate("plan", "toys.yaml")
    assert "toys differs from what was run at 20" in done.stderr
    assert "  train.lr: 0.001 added, 0.01 removed\n" in done.stderr
    assert "  cells: 2 new, 2 stale, 2 unchanged\n" in done.stderr
    new, stale = lines(done.stderr, "new"), lines(done.stderr, "stale")
    assert [line.partition(": ")[2] for line in new] == ["train.lr=0.001 is new; new: never started"] * 2
    assert [line.partition(": ")[2] for line in stale] == [
        "train.lr=0.01 was removed; complete; what it has stays",
        "train.lr=0.01 was removed; never trained",
    ]
    data = json.loads(ablate("plan", "toys.yaml", "--json").stdout)
    assert [row["change"] for row in data] == ["unchanged", "new", "unchanged", "new"]

    trained = ablate("run", "toys.yaml", "--only", "model.width=3")
    assert "train.lr: 0.001 added, 0.01 removed" in trained.stderr
    assert "differs" not in ablate("plan", "toys.yaml").stderr, "the new version is the known one now"
    edit(toys, ("1e-3", "1e-2"))
    assert "is new, as in an earlier version of the study; done: complete" in ablate("plan", "toys.yaml").stderr


def test_a_setting_of_all_cells(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    edit(toys, ("epochs: 2", "epochs: 3"))
    done = ablate("plan", "toys.yaml")
    assert "  train.epochs 2 → 3\n" in done.stderr
    assert "  cells: 4 new, 4 stale\n" in done.stderr
    assert all("train.epochs 2 → 3; new: never started" in line for line in lines(done.stderr, "new"))
    short = ablate("plan", "toys.yaml", "--max-steps", "3")
    assert "  train.max_steps default → 3\n" in short.stderr


def test_axes_seeds_and_selection(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    edit(toys, ("  train.lr: [1e-1, 1e-2]\n", "  data.n: [8, 10]\n"))
    edit(toys, ("base:\n", "seeds: [0, 1]\nbase:\n  eval.select: {metric: rmse, split: val, resolution: full}\n"))
    done = ablate("plan", "toys.yaml")
    assert "  data.n: varies now, 8, 10\n" in done.stderr
    assert "  train.lr: varies no longer, was 0.1, 0.01\n" in done.stderr
    assert "  seeds: 1 added\n" in done.stderr
    assert "  best epoch by metric abs_rel → rmse\n" in done.stderr


def test_a_record_that_cannot_be_read_does_not_stop_a_plan(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    Path("runs/studies/toys.json").write_text("{")
    done = ablate("plan", "toys.yaml")
    assert done.returncode == 0
    assert "warning: runs/studies/toys.json: damaged" in done.stderr


def test_what_is_concluded_is_said_and_trains_nothing(ablate, toys) -> None:
    assert ablate("run", "toys.yaml").returncode == 0
    toys.write_text(toys.read_text() + "\nmetric: rmse\ncompare: {tuned: {over: train.lr, trials: 2}}\n")
    done = ablate("plan", "toys.yaml")
    assert (
        "  metric that of eval.select → rmse\n" in done.stderr
        and "  compare matched → tuned over train.lr, 2 trials each" in done.stderr
    ), done.stderr
    assert "4 unchanged" in done.stderr
    assert "nothing left to do" in ablate("run", "toys.yaml").stderr
    assert "differs" not in ablate("plan", "toys.yaml").stderr
    assert "Verdicts are about RMSE" in ablate("report", "--style", "table").stdout
