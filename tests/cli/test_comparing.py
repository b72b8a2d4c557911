"""`ablate compare` and what `ablate plan` says of seeds, through the real commands."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STUDY = """\
study: toys
task: toy
base: {train: {epochs: 2}}
grid: {train.lr: [1e-1, 1e-2]}
seeds: [0, 1, 2]
baseline: {train.lr: 1e-1}
"""


def table(path: Path, error: float, seeds: int = 3, images: int = 40, extra: str = "") -> Path:
    lines = ["image,seed,abs_rel,rmse"]
    for seed in range(seeds):
        draw = random.Random(f"{error}{seed}")
        offset = draw.gauss(0, 0.001)
        for image in range(images):
            value = error + offset + random.Random(image).gauss(0, 0.01) + draw.gauss(0, 0.001)
            lines.append(f"drive-{image % 8}/{image}.png,{seed},{value},{20 * value}")
    path.write_text("\n".join(lines) + "\n" + extra)
    return path


def test_two_files_of_anybodys_code(tmp_path: Path, here: Callable[..., Any]) -> None:
    one, other = table(tmp_path / "ours.csv", 0.1), table(tmp_path / "theirs.csv", 0.12)
    done = here("compare", str(one), str(other))
    assert done.returncode == 0 and "ours.csv is better than theirs.csv in AbsRel" in done.stdout
    assert "what else differs between two files is not known" in done.stdout
    found = json.loads(here("compare", str(other), str(one), "--metric", "rmse", "--json").stdout)
    assert found["verdict"]["outcome"] == "worse" and found["metric"]["key"] == "rmse"
    assert found["verdict"]["difference"]["drives"]["drives"] == 8


def test_one_seed_in_a_file_gives_no_verdict(tmp_path: Path, here: Callable[..., Any]) -> None:
    done = here("compare", str(table(tmp_path / "a.csv", 0.1, 1)), str(table(tmp_path / "b.csv", 0.2, 1)))
    assert "no verdict" in done.stdout and "one seed" in done.stdout


@pytest.mark.parametrize(("text", "line", "said"), [
    ("name,abs_rel\nx,1\n", 1, "no column is called `image`"),
    ("image;abs_rel\nx;1\n", 1, "separate columns by commas"),
    ("image,seed\nx,1\n", 1, "add one such as abs_rel"),
    ("image,abs_rel,abs_rel\nx,1,2\n", 1, "is there twice"),
    ("image,abs_rel\n", 2, "there is no image"),
    ("image,abs_rel\nx,1\ny\n", 3, "1 cells where the header has 2"),
    ("image,abs_rel\nx,high\n", 2, "'high' is no number"),
    ("image,seed,abs_rel\nx,one,1\n", 2, "seed 'one' is no whole number"),
    ("image,abs_rel\nx,1\nx,2\n", 3, "is there twice; remove one line"),
    ("image,drive,seed,abs_rel\nx,a,0,1\nx,b,1,2\n", 3, "is of drive a above"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line(
    text: str, line: int, said: str, tmp_path: Path, here: Callable[..., Any]
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(text)
    done = here("compare", str(bad), str(table(tmp_path / "good.csv", 0.1)))
    words = " ".join(done.stderr.split())
    assert done.returncode == 2 and said in words and f"line {line}:" in words


def test_numbers_that_would_mislead_are_refused(tmp_path: Path, here: Callable[..., Any]) -> None:
    """Infinity left out would flatter who failed there; files without numbers or common metrics are said to be so."""
    files = {
        name: f"image,seed,{metric}\na.png,0,{value}\na.png,1,{value}\nb.png,0,1\nb.png,1,1\n"
        for name, metric, value in (("inf", "abs_rel", "inf"), ("good", "abs_rel", "0.1"), ("other", "mine", "0.1"))
    }
    files["none"] = "image,seed,abs_rel\na.png,0,nan\nb.png,0,\n"
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
    said = {name: " ".join(here("compare", f"{name}.csv", "good.csv").stderr.split()) for name in files}
    assert "inf.csv: line 2: abs_rel 'inf' is not finite" in said["inf"]
    assert "no metric in common" in said["other"]
    assert "none.csv has no number on any image" in said["none"]


def test_a_metric_that_both_lack_is_refused(tmp_path: Path, here: Callable[..., Any]) -> None:
    one, other = table(tmp_path / "a.csv", 0.1), table(tmp_path / "b.csv", 0.12)
    done = here("compare", str(one), str(other), "--metric", "ssim")
    assert done.returncode == 2 and "both sides have: abs_rel, rmse" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_runs_of_a_study_and_what_its_plan_says(ablate: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "toys.yaml").write_text(STUDY)
    before = ablate("plan", "toys.yaml")
    assert "is known once two arms have two seeds each" in " ".join(before.stderr.split())
    assert not (tmp_path / "results.duckdb").exists()
    assert ablate("run", "toys.yaml").returncode == 0
    plan = " ".join(ablate("plan", "toys.yaml").stderr.split())
    assert "smallest difference in AbsRel" in plan and "with 3 seeds" in plan and "with 10 seeds" in plan

    report = json.loads(ablate("report", "--format", "json").stdout)["studies"][0]["judgement"]
    (verdict,) = report["verdicts"]
    pair = ("lr=0.01", "lr=0.1", "--study", "toys")
    found = json.loads(ablate("compare", *pair, "--json").stdout)
    assert found["verdict"]["difference"]["estimate"] == pytest.approx(verdict["difference"]["estimate"])
    assert found["verdict"]["outcome"] == verdict["outcome"] and found["factor"] == ["train.lr"]

    for first, second in (("toys lr=0.01", "lr=0.1"), ("study=toys,lr=0.01", "toys.yaml train.lr=0.1,seed=0,1,2")):
        same = json.loads(ablate("compare", first, second, "--json").stdout)
        assert same["verdict"]["difference"]["estimate"] == pytest.approx(verdict["difference"]["estimate"])
    for words, hint in (("lr=0.5", "it is 0.1, 0.01"), ("status=failed", "no run fits"), (" ", "names no run")):
        bad = ablate("compare", words, "lr=0.1")
        assert bad.returncode == 2 and hint in " ".join(bad.stderr.split())

    runs = {(row["settings"]["train.lr"], row["seed"]): row["run_id"] for row in
            json.loads(ablate("plan", "toys.yaml", "--json").stdout)}  # fmt: skip
    single = ablate("compare", runs[0.01, 0], runs[0.1, 0])
    assert "no verdict" in single.stdout and "one seed" in single.stdout
    twice = ablate("compare", f"{runs[0.01, 0]},{runs[0.1, 0]}", runs[0.1, 1])
    assert twice.returncode == 2 and "have the same seed 0" in " ".join(twice.stderr.split())
    same = ablate("compare", runs[0.01, 0], runs[0.01, 0])
    assert same.returncode == 2 and "on both sides" in same.stderr


def test_the_confounds_of_rows_4_to_7_of_an_imported_log_are_found(here: Callable[..., Any], shared: Path) -> None:
    assert here("import", str(shared / "progress-log.md"), "--study", "log").returncode == 0
    (study,) = json.loads(here("report", "log", "--format", "json").stdout)["studies"]
    pairs = {
        tuple(sorted(int(pair[side].split("-")[1]) for side in ("arm", "baseline"))): {
            one["key"]: one["text"] for one in pair["discrepancies"]
        }
        for pair in study["judgement"]["pairs"]
    }
    assert len(pairs) == 21, "all pairs of seven rows"
    never = {"model.share_attention", "model.attention_init", "model.heads", "train.batch_size", "data.labels",
             "pretrained %", "shared modules", "code", "data files", "protocol.network_input"}  # fmt: skip
    for first, second in ((4, 5), (4, 6), (4, 7), (5, 6), (5, 7), (6, 7)):
        assert never <= pairs[first, second].keys()
        assert "unknown in both" in pairs[first, second]["pretrained %"]
    assert pairs[4, 6]["train.epochs"] == "train.epochs (20 against 10)"
    assert pairs[4, 6]["train.lr"] == "train.lr (1e-05 against unknown)"
    assert pairs[5, 6]["train.lr"] == "train.lr (1e-05 against 0.0001)"
    assert pairs[4, 5]["model.attention"] == "model.attention (performer against standard)"
    assert pairs[6, 7]["model.compression"] == "model.compression (3 against 2)"
    known = {"train.epochs", "train.lr", "model.attention"}
    assert not known & pairs[6, 7].keys(), "what the log says of both, and says alike"
    assert not study["judgement"]["verdicts"]
