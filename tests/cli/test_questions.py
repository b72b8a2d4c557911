"""`ablate diff` and `ablate top`, over real run directories and a real database."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def work(tmp_path: Path) -> Any:
    """The run writer of tests/results."""
    path = Path(__file__).parents[1] / "results" / "conftest.py"
    spec = importlib.util.spec_from_file_location("results_conftest", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_conftest"] = module
    spec.loader.exec_module(module)
    return module.Workplace(tmp_path)


def scored(work: Any, name: str, value: float, run_id: str, **config: Any) -> Any:
    """A complete run whose AbsRel on val is `value`, and on test the other way round."""
    run = work.run(name, run_id, **config)
    run.attempt()
    run.epoch(1)
    for resolution in ("full", "reduced"):
        for split, number in (("val", value), ("test", 1 - value)):
            run.evaluation(1, 0, split, resolution, marks={"d1": number, "abs_rel": number})
    run.event("selected", 1, epoch=1, value=value)
    run.outcome("complete")
    return run


@pytest.fixture
def ranked(work: Any) -> Any:
    """Four complete runs, two of them equal, a failed one, one that trains on, and one without a number."""
    runs = [scored(work, name, value, name * 8) for name, value in (("b", 0.2), ("a", 0.1), ("c", 0.2), ("d", 0.4))]
    failed, paused, none = work.run("f", "ffffffff"), work.run("p", "pppppppp"), work.run("n", "nnnnnnnn")
    failed.train(1, complete=False)
    failed.outcome("failed", "diverged", "loss is nan")
    paused.train(1, complete=False)
    none.attempt()
    none.outcome("complete")
    work.study("one", [*runs, failed, paused, none])
    work.study("two", runs[:1])
    return work


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_best_come_first_and_failures_are_said(here, ranked) -> None:
    done = here("top", "--format", "csv")
    assert done.returncode == 0, done.stderr
    found = rows(done.stdout)
    assert [(row["place"], row["run"][0], row["status"]) for row in found] == [
        ("1", "a", "complete"), ("2", "b", "complete"), ("2", "c", "complete"), ("4", "d", "complete"),
        ("", "f", "failed (diverged)"),
    ]  # fmt: skip
    assert {row["split"] for row in found} == {"val"} and {row["resolution"] for row in found} == {"reduced"}
    assert found[1]["study"] == "one, two" and found[0]["abs_rel"] == "0.1"
    assert "AbsRel (lower is better) on val at reduced input" in done.stderr
    assert "1 paused" in done.stderr and "1 without this number" in done.stderr and "warning" not in done.stderr


def test_the_direction_the_count_and_the_selectors(here, ranked) -> None:
    assert [row["run"][0] for row in rows(here("top", "--metric", "d1", "-n", "1", "--format", "csv").stdout)] == [
        "d",
        "f",
    ]
    assert "3 more; -n 0 shows all" in here("top", "--metric", "d1", "-n", "1").stderr
    assert [row["run"][0] for row in rows(here("top", "two", "--format", "csv").stdout)] == ["b"]
    assert [row["run"][0] for row in rows(here("top", "run=[ac]*", "-n", "0", "--format", "csv").stdout)] == ["a", "c"]
    data = json.loads(here("top", "--resolution", "full", "--format", "json").stdout)
    assert (data[0]["place"], data[0]["abs_rel"], data[0]["resolution"]) == (1, 0.1, "full")
    header, _, first, *_ = here("top", "--format", "md").stdout.splitlines()
    assert header.startswith("| place | run | study | abs") and first.startswith("| 1 | a-aaaaaaaa | one | 0.1 | val |")


def test_test_is_never_chosen_silently(here, ranked) -> None:
    done = here("top", "--split", "test", "--format", "csv")
    assert [row["run"][0] for row in rows(done.stdout)] == ["d", "b", "c", "a", "f"]
    assert "the best of 4 runs on test is too good by chance" in done.stderr


def test_what_was_evaluated_otherwise_is_said(here, ranked, work) -> None:
    odd = scored(work, "z", 0.05, "zzzzzzzz")
    odd.attempt()
    odd.evaluation(1, 0, marks={"abs_rel": 0.05}, images=5, protocol={"crop": "kb", "mask": "none"})
    done = here("top")
    assert "the runs differ in mask of the protocol" in done.stderr
    assert "the runs differ in the number of images" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metric", "abs_rle"], "did you mean abs_rel?"),
        (["--metric", "zzz"], "known: d1"),
        (["--split", "tset"], "no run was evaluated on tset at reduced; there is: test full"),
        (["--resolution", "tiny"], "there is: test full"),
        (["nobody"], "no run or study called 'nobody'"),
    ],
)
def test_questions_that_cannot_be_answered(here, ranked, arguments, said) -> None:
    done = here("top", *arguments)
    assert (done.returncode, done.stdout) == (2, "") and said in done.stderr


def test_runs_that_select_at_different_resolutions(here, ranked, work) -> None:
    scored(work, "y", 0.3, "yyyyyyyy", eval={"select": {"resolution": "full"}})
    assert "give one: --resolution full|reduced" in here("top").stderr
    assert here("top", "--resolution", "full").returncode == 0


def test_nothing_to_rank(here, work) -> None:
    done = here("top")
    assert done.returncode == 0 and done.stdout.split()[:2] == ["place", "run"]


def test_diff_says_what_differs(here, work) -> None:
    one = scored(work, "one", 0.2, "aaaa1111", model={"attention": "standard", "name": None})
    two = scored(work, "two", 0.3, "bbbb2222", model={"attention": "performer"})
    two.attempt(host="there", versions={"torch": "2.1", "timm": "1"}, git={"commit": "abc", "dirty": True})
    two.event("checked", facts={"fingerprint": "f" * 64, "contents": "c"})
    done = here("diff", "aaaa", "bbbb", "--format", "json")
    assert done.returncode == 1, done.stderr
    found = {(row["section"], row["key"]): (row["first"], row["second"]) for row in json.loads(done.stdout)}
    assert found["configuration", "model.attention"] == ("standard", "performer")
    assert found["environment", "versions.torch"] == ("2", "2.1")
    assert found["environment", "git.dirty"] == (None, True)
    assert found["data", "fingerprint"] == (None, "f" * 64)
    assert found["metrics", "val/full/abs_rel"] == (0.2, 0.3)
    assert ("configuration", "train.lr") not in found and ("environment", "device") not in found
    change = next(row["change"] for row in json.loads(done.stdout) if row["key"] == "val/full/abs_rel")
    assert change == pytest.approx(0.1)
    text = here("diff", one.paths.name, two.paths.name).stdout
    assert text.splitlines()[0].split() == ["section", "key", "one-aaaa1111", "two-bbbb2222", "change"]
    assert "model.attention" in text
    assert here("diff", "aaaa", "bbbb", "--format", "md").stdout.startswith("| section | key |")


def test_diff_of_a_run_with_itself_is_empty(here, work) -> None:
    run = work.run("a", "aaaa1111")
    run.train(3, best=2)
    done = here("diff", "aaaa", "aaaa", "--format", "csv")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1) and "no differences" in done.stderr
    epochs = here("diff", "aaaa", "aaaa@3", "--format", "json")
    assert epochs.returncode == 1
    found = json.loads(epochs.stdout)
    assert {row["section"] for row in found} == {"run", "metrics"}
    assert next(row for row in found if row["key"] == "test/full/d1")["second"] == pytest.approx(0.6)
    missing = here("diff", "aaaa", "aaaa@9")
    assert missing.returncode == 2 and "has no epoch 9" in missing.stderr


@pytest.mark.parametrize("arguments", [["aaaa", "none"], ["aaaa"], ["one", "aaaa"], ["aaaa@x", "aaaa"]])
def test_diff_of_what_is_not_one_run(here, work, arguments) -> None:
    runs = [work.run("a", "aaaa1111"), work.run("b", "bbbb2222")]
    work.study("one", runs)
    done = here("diff", *arguments)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.strip()


def test_what_a_source_does_not_state_differs_from_everything(here, work) -> None:
    log = Path(__file__).parents[1] / "data" / "progress.md"
    assert here("import", str(log)).returncode == 0
    first, second, *_ = sorted(path.name for path in Path("runs").glob("*-*") if path.is_dir())
    found = json.loads(here("diff", first, second, "--format", "json").stdout)
    unknown = [row for row in found if row["first"] == row["second"] == "unknown"]
    assert "seed" in {row["key"] for row in unknown}


def test_rows_of_a_log_are_marked_and_claim_no_epoch(here, work) -> None:
    assert here("import", str(Path(__file__).parents[1] / "data" / "progress.md")).returncode == 0
    found = rows(here("top", "--split", "test", "--resolution", "full", "--format", "csv").stdout)
    assert found and {row["status"] for row in found} == {"complete, external"}
    stored = json.loads(here("sql", "SELECT name, epoch, external FROM leaderboard", "--format", "json").stdout)
    assert {row["external"] for row in stored} == {"progress.md"}
    assert "" in {row["epoch"] for row in found} and None in {row["epoch"] for row in stored}
