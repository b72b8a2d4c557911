"""Imported runs on the disk: the same again changes nothing, a source that changed says what did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.depth import logged
from ablate.depth.task import DepthTask
from ablate.errors import DataError, HeldError, UsageError
from ablate.external import store
from ablate.external.from_log import read_log
from ablate.external.store import Taken
from ablate.results.open import open_results
from ablate.runs import directory, journal, notes, states
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths, RunsDir
from ablate.study.record import StudyRecord
from ablate.study.remarks import is_unknown
from ablate.study.settings import catalogue

TASK = DepthTask()
Import = Callable[..., Taken]


@pytest.fixture
def runs(tmp_path: Path) -> RunsDir:
    return RunsDir(tmp_path / "runs")


@pytest.fixture
def log(tmp_path: Path, progress: Path) -> Path:
    path = tmp_path / "progress.md"
    path.write_bytes(progress.read_bytes())
    return path


@pytest.fixture
def take_in(runs: RunsDir) -> Import:
    def run(path: Path, study: str = "progress") -> Taken:
        found, _ = read_log(path, TASK, logged)
        return store.take_in(found, runs, study, TASK)

    return run


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file's time and content."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def cells(runs: RunsDir, study: str = "progress") -> dict[str, Any]:
    path = runs.study(study)
    return {cell.name: cell for cell in StudyRecord.from_json(path.read_bytes(), str(path)).cells}


def test_a_row_becomes_a_run_that_is_complete_and_holds_what_the_log_says(
    runs: RunsDir, log: Path, take_in: Import
) -> None:
    assert len(take_in(log).new) == 7
    paths = directory.find_run(runs, "log-5")
    identity, stored = directory.read_identity(paths), directory.read_config(paths)
    origin = identity.external
    assert origin is not None
    assert (identity.task, origin.kind, origin.file, origin.row) == ("depth", "progress log", "progress.md", 5)
    assert origin.title.startswith("Modelo base DPT-Hybrid con Performer Attention")
    assert stored.config["train"] == {"epochs": 13, "lr": 1e-4}
    assert origin.facts["hours"] == 20.0 and origin.facts["checkpoint"] == 6
    assert states.status(paths).state is states.State.COMPLETE
    evaluations = [line.record for line in journal.read(paths.journal) if line.record.type == "evaluation"]
    assert [(record.epoch, record.body["resolution"]) for record in evaluations] == [(6, "full"), (6, "reduced")]
    assert evaluations[0].body["images"] is None and evaluations[0].body["protocol"]["mask"] == "unknown"
    assert str(log.parent) not in paths.identity.read_text()


def test_what_a_log_does_not_state_is_unknown(runs: RunsDir, log: Path, take_in: Import) -> None:
    """Every setting of the configuration is stated, does not apply, or is unknown: none is left to a default."""
    take_in(log)
    for paths in runs.runs():
        origin = directory.read_identity(paths).external
        assert origin is not None
        stated = set(directory.read_identity(paths).settings)
        excluded = logged.excluded(directory.read_identity(paths).settings)
        for key in catalogue(TASK.Config).settings:
            assert is_unknown(key, origin.unknown) == (key not in stated and key not in excluded), key
    four, five = (directory.read_identity(directory.find_run(runs, f"log-{row}")) for row in (4, 5))
    assert four.external and five.external
    assert is_unknown("train.lr", four.external.unknown) and not is_unknown("train.lr", five.external.unknown)
    assert not is_unknown("model.compression", four.external.unknown)


def test_the_same_again_changes_nothing(runs: RunsDir, log: Path, take_in: Import) -> None:
    take_in(log)
    before = state_of(runs.root)
    taken = take_in(log)
    assert (len(taken.unchanged), taken.new, taken.changed, taken.gone) == (7, [], [], [])
    after = state_of(runs.root)
    locks = {path for path in before if path.endswith(".lock")}
    assert {path: before[path] for path in before.keys() - locks} == {
        path: after[path] for path in after.keys() - locks
    }


def test_a_row_that_changed_is_another_run_in_its_place(runs: RunsDir, log: Path, take_in: Import) -> None:
    first = take_in(log)
    old = next(name for name in first.new if name.startswith("log-4"))
    notes.add_note(runs.run(old), "remember")
    notes.add_tags(runs.run(old), ["thesis"])
    log.write_text(log.read_text().replace("0.159", "0.158"))
    taken = take_in(log)
    assert len(taken.unchanged) == 6 and not taken.new and not taken.gone
    [(before, now)] = taken.changed
    assert before == old and now != old
    held = cells(runs)
    assert not held[old].current and held[now].current
    assert held[now].position == held[old].position
    kept = notes.read_notes(runs.run(now))
    assert ([note.text for note in kept.notes], kept.tags) == (["remember"], ("thesis",))
    assert directory.read_identity(runs.run(old)).run_id  # stays where it was
    log.write_text(log.read_text().replace("0.158", "0.159"))
    assert take_in(log).changed == [(now, old)]
    assert cells(runs)[old].current and not cells(runs)[now].current


def test_a_row_that_was_taken_out_leaves_the_study(runs: RunsDir, log: Path, take_in: Import) -> None:
    take_in(log)
    text = log.read_text()
    log.write_text(text[: text.index("## 7.")])
    taken = take_in(log)
    assert [name.split("-")[1] for name in taken.gone] == ["7"]
    assert not cells(runs)[taken.gone[0]].current
    assert runs.run(taken.gone[0]).identity.exists()


def test_rows_stand_beside_those_of_a_study_and_stay_when_it_is_declared_again(
    runs: RunsDir, log: Path, take_in: Import, tmp_path: Path
) -> None:
    from ablate.study.record import CellRecord, merge

    runs.studies.mkdir(parents=True)
    own = CellRecord("aaaaaaaa", "own-aaaaaaaa", 0, {"model.attention": "performer"}, 0)
    record = StudyRecord(
        "mine", "depth", "mine.yaml", "study: mine\n", (), {"metric": "abs_rel", "split": "val", "resolution": "reduced"},
        1.0, ("model.attention",), {}, (own,),
    )  # fmt: skip
    runs.study("mine").write_text(record.to_json())
    take_in(log, "mine")
    found = StudyRecord.from_json(runs.study("mine").read_bytes(), "")
    assert (found.file, found.text, found.select) == (record.file, record.text, record.select)
    assert found.cells[0] == own
    assert [cell.position for cell in found.cells] == list(range(8))
    assert found.axes[0] == "model.attention" and "train.epochs" in found.axes
    again = merge(found, record)
    assert [cell.current for cell in again.cells] == [True] * 8


def test_removed_rows_leave_their_studies_and_come_back(runs: RunsDir, log: Path, take_in: Import) -> None:
    taken = take_in(log)
    gone = runs.run(taken.new[0])
    store.forget(runs, [gone.name[-8:]])
    assert not cells(runs)[gone.name].current
    assert len(take_in(log).new) == 1
    assert cells(runs)[gone.name].current


def test_a_study_that_is_busy_or_of_another_task_is_refused(runs: RunsDir, log: Path, take_in: Import) -> None:
    runs.studies.mkdir(parents=True)
    with (
        Lease.acquire(runs.study_lease("progress"), "study progress"),
        pytest.raises(HeldError, match="study progress"),
    ):
        take_in(log)
    assert runs.runs() == []
    record = StudyRecord("toys", "toy", "toys.yaml", "", (), {}, 1.0, (), {}, ())
    runs.study("toys").write_text(record.to_json())
    with pytest.raises(UsageError, match="task 'toy'"):
        take_in(log, "toys")
    assert runs.runs() == []


def test_the_same_log_under_two_names_is_one_set_of_runs(
    runs: RunsDir, log: Path, take_in: Import, tmp_path: Path
) -> None:
    take_in(log)
    other = tmp_path / "copy.md"
    other.write_bytes(log.read_bytes())
    taken = take_in(other, "copy")
    assert len(taken.new) == 7 and len(runs.runs()) == 7  # new to the study, not to the folder
    with open_results(tmp_path / "results.duckdb", runs.root) as results:
        assert len(results.runs()) == 14


def test_hostile_files_are_refused_whole(runs: RunsDir, tmp_path: Path, take_in: Import) -> None:
    path = tmp_path / "x.md"
    for content, words in (
        (b"", "holds no run"),
        (b"## 1. a\n\xff\n", "line 2: not UTF-8"),
        (b"#" * (16 * 2**20 + 1), "more than 16 MiB"),
        (b"## 1. a\n##### Output (Full size)\n", "line 2: no table"),
        (b"## 1. a\n##### Output (Full size)\n" * 100, "and 80 more"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            take_in(path)
    with pytest.raises(DataError, match="no such file"):
        take_in(tmp_path / "none.md")
    with pytest.raises(DataError, match="import wandb"):
        take_in(tmp_path)
    assert not runs.root.exists()


def test_twins_are_taken_once_and_said(runs: RunsDir, log: Path, take_in: Import) -> None:
    text = log.read_text()
    row = text[text.index("## 7.") :]
    log.write_text(text + row)
    found, remarks = read_log(log, TASK, logged)
    assert len(found) == 7
    assert any("word for word" in remark for remark in remarks)
    assert any("heading 7 stands" in remark for remark in remarks)


@pytest.mark.parametrize(
    ("text", "name"), [("progreso (1)", "progreso -1"), ("..x..", "x"), ("a/../b", "a-.-b"), ("é" * 3 + "z", "z")]
)
def test_names_of_studies(text: str, name: str) -> None:
    assert store.study_name(text) == name
    assert store.checked_name(name) == name


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "ééé", "x" * 65])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="--study"):
        store.checked_name(name)


def test_a_damaged_origin_is_named(runs: RunsDir, log: Path, take_in: Import) -> None:
    from ablate.errors import RecordError

    take_in(log)
    paths: RunPaths = runs.runs()[0]
    whole = json.loads(paths.identity.read_text())
    for broken in ([], {}, {**whole["external"], "row": "4"}, {**whole["external"], "more": 1}, "x", 7):
        paths.identity.write_text(json.dumps({**whole, "external": broken}))
        with pytest.raises(RecordError, match=r"run\.json"):
            directory.read_identity(paths)
