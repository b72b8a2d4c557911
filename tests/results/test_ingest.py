import json
import shutil

import pytest

from ablate.results import ingest as room
from ablate.results.ingest import ingest
from ablate.results.open import open_results
from ablate.runs.journal import Journal
from ablate.runs.lease import Lease


def count(results, view):
    return results.rows(f"SELECT count(*) FROM {view}")[1][0][0]


def test_everything_once_then_nothing(work):
    work.run("std").train(3, best=2)
    work.run("perf").train(2, complete=False)
    first = ingest(work.db, work.runs_dir)
    assert (first.runs, first.changed, first.problems) == (2, 2, [])
    again = ingest(work.db, work.runs_dir)
    assert (again.runs, again.changed, again.records) == (2, 0, 0)
    with open_results(work.db, work.runs_dir) as results:
        assert count(results, "epochs") == 5
        assert count(results, "evaluations") == 2 * 5 + 2 * 2


def test_ingest_is_the_same_in_any_portions(work, make_workplace, dump):
    """Record by record or all at once: the same views."""
    other = make_workplace("other")
    a, b = work.run("x", "aaaaaaaa"), other.run("x", "aaaaaaaa")
    b.train(3, best=2)
    whole = b.paths.journal.read_bytes()
    for line in whole.splitlines(keepends=True):
        with a.paths.journal.open("ab") as file:
            file.write(line[: len(line) // 2])
        ingest(work.db, work.runs_dir)
        with a.paths.journal.open("ab") as file:
            file.write(line[len(line) // 2 :])
        ingest(work.db, work.runs_dir)
    a.outcome("complete")
    with open_results(work.db, work.runs_dir) as one, open_results(other.db, other.runs_dir) as two:
        assert dump(one) == dump(two)
        assert count(one, "image_metrics") > 0


def test_small_batches_lose_nothing(work, make_workplace, dump, monkeypatch):
    work.run("x").train(3)
    with open_results(work.db, work.runs_dir) as results:
        expected = dump(results)
    work.db.unlink()
    monkeypatch.setattr(room, "_BATCH_BYTES", 300)
    with open_results(work.db, work.runs_dir) as results:
        assert dump(results) == expected


def test_the_newest_attempt_wins(work):
    run = work.run()
    run.attempt()
    run.epoch(1, loss=0.9)
    run.evaluation(1, 0.9)
    run.attempt()
    run.epoch(1, loss=0.3)
    run.evaluation(1, 0.3)
    with open_results(work.db, work.runs_dir) as results:
        assert [row.train_loss for row in results.epochs(run.run_id)] == [0.3]
        assert [row.metrics["d1"] for row in results.evaluations(run.run_id)] == [0.3]
        assert [row.metrics["d1"] for row in results.kept_evaluations([run.run_id])] == [0.3]
        assert results.rows("SELECT DISTINCT d1 FROM image_metrics")[1] == [(0.3,)]
        assert [row.attempt for row in results.attempts(run.run_id)] == [1, 2]


def test_image_metrics_only_of_best_and_last(work):
    run = work.run()
    run.train(5, best=2)
    with open_results(work.db, work.runs_dir) as results:
        assert results.rows("SELECT DISTINCT epoch FROM image_metrics ORDER BY 1")[1] == [(2,), (5,)]


def test_missing_numbers_stay_missing(work):
    run = work.run()
    run.attempt()
    run.evaluation(1, 0.0, marks={"d1": None, "abs_rel": 0.5})
    with open_results(work.db, work.runs_dir) as results:
        assert results.rows("SELECT d1, d2, abs_rel FROM evaluations")[1] == [(None, None, 0.5)]
        assert results.evaluations(run.run_id)[0].metrics == {"d1": None, "abs_rel": 0.5}


def test_numbers_are_stored_bit_for_bit(work):
    values = {"d1": 0.1 + 0.2, "d2": 5e-324, "d3": 1.7976931348623157e308, "rmse": 1 / 3, "silog": -0.0}
    run = work.run()
    run.attempt()
    run.evaluation(1, 0.0, marks=values)
    with open_results(work.db, work.runs_dir) as results:
        assert {key: value.hex() for key, value in results.evaluations(run.run_id)[0].metrics.items()} == {
            key: value.hex() for key, value in values.items()
        }


def test_states_follow_the_files(work):
    run = work.run()

    def status():
        with open_results(work.db, work.runs_dir) as results:
            row = results.runs()[0]
            return str(row.status), row.reason and str(row.reason), row.message

    assert status() == ("queued", None, None)
    with Lease.acquire(run.paths.lease, "run"):
        run.attempt()
        assert status() == ("running", None, None)
    assert status()[:2] == ("paused", "killed")
    run.outcome("failed", "oom", "no memory | left\n")
    assert status() == ("failed", "oom", "no memory | left\n")
    run.outcome("complete")
    assert status() == ("complete", None, None)


def test_state_is_stored_only_when_it_changes(work):
    work.run().attempt()
    for _ in range(3):
        ingest(work.db, work.runs_dir)
    with open_results(work.db, work.runs_dir) as results:
        assert count(results, "base.states") == 1


def test_removed_runs_are_no_longer_shown(work):
    kept, gone = work.run("kept"), work.run("gone")
    kept.train(1)
    gone.train(1)
    ingest(work.db, work.runs_dir)
    shutil.rmtree(gone.paths.root)
    with open_results(work.db, work.runs_dir) as results:
        assert [row.run_id for row in results.runs()] == [kept.run_id]
        for view in ("epochs", "evaluations", "image_metrics", "events"):
            assert results.rows(f"SELECT DISTINCT run_id FROM {view}")[1] == [(kept.run_id,)]


def test_a_missing_folder_of_runs_is_no_reason_to_forget(work):
    work.run().train(1)
    ingest(work.db, work.runs_dir)
    work.runs_dir.rename(work.root / "elsewhere")
    assert ingest(work.db, work.runs_dir).runs == 0
    with open_results(work.db, work.runs_dir) as results:
        assert len(results.runs()) == 1
        assert "does not exist" in results.freshness


def test_a_run_made_anew_replaces_the_old_one(work):
    run = work.run("x", "aaaaaaaa")
    run.train(3)
    ingest(work.db, work.runs_dir)
    shutil.rmtree(run.paths.root)
    run = work.run("x", "aaaaaaaa")
    run.attempt()
    run.epoch(1, loss=0.125)
    with open_results(work.db, work.runs_dir) as results:
        assert [(row.epoch, row.train_loss) for row in results.epochs("aaaaaaaa")] == [(1, 0.125)]
        assert results.evaluations("aaaaaaaa") == ()


def test_a_run_made_anew_with_a_longer_journal_is_noticed(work):
    """A place in the old journal means nothing in the new one, though the new one is longer."""
    run = work.run("x", "aaaaaaaa")
    run.train(1, complete=False)
    ingest(work.db, work.runs_dir)
    run.paths.journal.unlink()
    run.train(4, complete=False)
    with open_results(work.db, work.runs_dir) as results:
        assert [row.epoch for row in results.epochs("aaaaaaaa")] == [1, 2, 3, 4]
        assert len(results.attempts("aaaaaaaa")) == 1


@pytest.mark.parametrize("keep", [0, 1, 4, 7])
def test_a_journal_restored_from_a_backup_is_taken_in_again(work, keep):
    run = work.run("x", "aaaaaaaa")
    run.train(3, complete=False)
    whole = run.paths.journal.read_bytes().splitlines(keepends=True)
    ingest(work.db, work.runs_dir)
    run.paths.journal.write_bytes(b"".join(whole[:keep]))
    with Journal(run.paths.journal) as journal:
        journal.append("epoch", 9, 0, {"train_loss": 0.0625})
    with open_results(work.db, work.runs_dir) as results:
        kept = [json.loads(line[9:]) for line in whole[:keep]]
        epochs = [record["epoch"] for record in kept if record["type"] == "epoch"]
        assert [row.epoch for row in results.epochs("aaaaaaaa")] == [*epochs, 9]


def test_a_damaged_line_stops_there_and_is_reported(work):
    run, other = work.run("bad"), work.run("good")
    run.train(3, complete=False)
    other.train(1)
    lines = run.paths.journal.read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b'"epoch"', b'"epocH"', 1)
    run.paths.journal.write_bytes(b"".join(lines))
    for _ in range(2):  # the second time nothing has changed, and it is still said
        with open_results(work.db, work.runs_dir) as results:
            assert [row.epoch for row in results.epochs(run.run_id)] == [1]
            assert [row.epoch for row in results.epochs(other.run_id)] == [1]
            (problem,) = results.unreadable
            assert f"{run.paths.journal}: damaged at byte {len(b''.join(lines[:5]))}" in problem


def test_a_torn_tail_is_not_damage(work):
    run = work.run()
    run.train(1, complete=False)
    with run.paths.journal.open("ab") as file:
        file.write(b"0000")
    assert ingest(work.db, work.runs_dir).problems == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"run_id": 3}', b"\xff\xfe", b"[" * 5000])
def test_a_damaged_directory_does_not_hide_the_others(work, text):
    bad, good = work.run("bad"), work.run("good")
    good.train(1)
    bad.paths.identity.write_bytes(text)
    done = ingest(work.db, work.runs_dir)
    assert len(done.problems) == 1 and str(bad.paths.identity) in done.problems[0]
    with open_results(work.db, work.runs_dir) as results:
        assert [row.run_id for row in results.runs()] == [good.run_id]


def test_damaged_outcome_and_configuration_are_said(work):
    run = work.run()
    run.train(1)
    run.paths.outcome.write_text("{")
    run.paths.config.write_text("{")
    with open_results(work.db, work.runs_dir) as results:
        assert str(results.runs()[0].status) == "failed"
        assert any("outcome.json" in problem or "config.json" in problem for problem in results.unreadable)
        assert len(results.epochs(run.run_id)) == 1


def test_a_record_that_cannot_be_stored_hides_only_its_own_run(work):
    bad, good = work.run("bad"), work.run("good")
    bad.attempt()
    bad.evaluation(1, 0.1, marks={"d1": "high"})  # type: ignore[dict-item]
    bad.event("note", text="\ud800 \x00 é")
    with Journal(bad.paths.journal) as journal:
        journal.append("epoch", 2**40, 0, {})
    good.train(1)
    done = ingest(work.db, work.runs_dir)
    assert len(done.problems) == 1 and bad.paths.name in done.problems[0]
    with open_results(work.db, work.runs_dir) as results:
        assert len(results.epochs(good.run_id)) == 1
        assert results.problems() == tuple(done.problems)


def test_the_same_run_in_two_directories_is_shown_once(work):
    run = work.run("x", "aaaaaaaa")
    run.train(1)
    shutil.copytree(run.paths.root, work.runs_dir / "copy-of-it")
    done = ingest(work.db, work.runs_dir)
    assert "the same run as" in done.problems[0]
    with open_results(work.db, work.runs_dir) as results:
        assert len(results.runs()) == 1 and len(results.epochs("aaaaaaaa")) == 1


def test_two_folders_of_runs_share_a_database(work, make_workplace):
    other = make_workplace("work's place/more")
    a, b = work.run("x", "aaaaaaaa"), other.run("y", "bbbbbbbb")
    a.train(1)
    b.train(2)
    for folder in (work.runs_dir, other.runs_dir, work.runs_dir):
        ingest(work.db, folder)
    with open_results(work.db, other.runs_dir) as results:
        assert {row.run_id for row in results.runs()} == {"aaaaaaaa", "bbbbbbbb"}
        assert {row.directory for row in results.runs()} == {a.paths.root, b.paths.root}


def test_moving_the_workplace_changes_nothing(work, make_workplace):
    work.run().train(1)
    ingest(work.db, work.runs_dir)
    moved = work.root.with_name("moved")
    shutil.copytree(work.root, moved)
    with open_results(moved / "results.duckdb", moved / "runs") as results:
        assert len(results.runs()) == 1
        assert results.runs()[0].directory.parent == moved / "runs"
        assert count(results, "base.attempts") == 1


def test_studies_follow_their_files(work):
    a, b = work.run("a"), work.run("b")
    work.study("one", [a, b])
    work.study("two", [b])
    with open_results(work.db, work.runs_dir) as results:
        assert [(row.study, row.cells) for row in results.studies()] == [("one", 2), ("two", 1)]
        assert {(row.run_id, row.study) for row in results.runs()} == {
            (a.run_id, "one"), (b.run_id, "one"), (b.run_id, "two")
        }  # fmt: skip
        assert results.cells("one")[1].baseline == a.run_id
    work.study("one", [a], declared=2000.0)
    (work.runs_dir / "studies" / "two.json").unlink()
    with open_results(work.db, work.runs_dir) as results:
        assert [(row.study, row.cells) for row in results.studies()] == [("one", 1)]
        assert {(row.run_id, row.study) for row in results.runs()} == {(a.run_id, "one"), (b.run_id, None)}


def test_a_cell_that_never_started_is_queued(work):
    a, b = work.run("a"), work.run("b")
    work.study("one", [a, b])
    shutil.rmtree(b.paths.root)
    with open_results(work.db, work.runs_dir) as results:
        row = results.runs("one")[1]
        assert (row.run_id, str(row.status), row.directory, row.name) == (b.run_id, "queued", None, b.paths.name)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"study": "one", "cells": 3}'])
def test_a_damaged_study_is_said_and_hides_nothing(work, text):
    work.study("good", [work.run()])
    (work.runs_dir / "studies" / "bad.json").write_text(text)
    done = ingest(work.db, work.runs_dir)
    assert len(done.problems) == 1 and "bad.json" in done.problems[0]
    with open_results(work.db, work.runs_dir) as results:
        assert [row.study for row in results.studies()] == ["good"]


def test_configuration_is_that_of_the_newest_attempt(work):
    run = work.run()
    ingest(work.db, work.runs_dir)
    value = json.loads(run.paths.config.read_text())
    value["command"], value["config"]["train"]["epochs"] = "ablate resume", 99
    run.paths.config.write_text(json.dumps(value))
    with open_results(work.db, work.runs_dir) as results:
        (row,) = results.runs()
        assert (row.command, row.configuration["train"]["epochs"]) == ("ablate resume", 99)
