"""The views of migration 4: what they show, also of a database that an earlier version made."""

import json

import pytest

from ablate.results import database, migrations
from ablate.results.ingest import ingest
from ablate.results.open import open_results


def rows(work, sql):
    with open_results(work.db, work.runs_dir) as results:
        columns, found = results.rows(sql)
    return [dict(zip(columns, row, strict=True)) for row in found]


@pytest.fixture
def pair(work):
    """A baseline and a run of a study, both tested."""
    base, other = work.run("base", eval={"select": {"resolution": "full"}}), work.run("other")
    base.train(3, best=2)
    other.train(4, best=3)
    work.study("one", [base, other])
    return base, other


def test_the_leaderboard_shows_one_row_per_run_from_one_evaluation(work, pair):
    base, other = rows(work, "SELECT * FROM leaderboard ORDER BY epoch")
    assert (base["epoch"], base["last_epoch"], base["selected"], base["split"]) == (2, 3, True, "test")
    assert (base["resolution"], other["resolution"]) == ("full", "reduced"), "the run's own, then the study's"
    assert base["d1"] == pytest.approx(0.4) and other["abs_rel"] == pytest.approx(0.63)
    assert json.loads(other["axes"]) == {"train.lr": 0.1}
    assert json.loads(base["metrics"])["rmse"] == base["rmse"]
    assert json.loads(base["protocol"]) == {"crop": "kb", "mask": "garg"}
    assert (base["images"], base["skipped"], base["baseline"], other["baseline"]) == (3, 0, None, pair[0].run_id)
    assert base["hours"] == pytest.approx(3 * 2.0 / 3600) and base["images_per_second"] == pytest.approx(3.0)
    assert (base["seed"], base["status"], base["parameters"], json.loads(base["tags"])) == (0, "complete", None, [])


def test_runs_without_numbers_are_rows_too(work, pair):
    failed, selected_none, queued = work.run("failed"), work.run("none"), work.run("queued")
    failed.attempt()
    failed.event("opened", facts={"parameters": 123_456})
    failed.outcome("failed", "diverged", "loss is nan")
    selected_none.attempt()
    for epoch in (1, 2):
        selected_none.epoch(epoch)
        selected_none.evaluation(epoch, epoch / 10)
    work.study("one", [*pair, failed, selected_none, queued])
    found = {row["name"].split("-")[0]: row for row in rows(work, "SELECT * FROM leaderboard")}
    assert len(found) == 5
    assert (found["failed"]["reason"], found["failed"]["epoch"], found["failed"]["parameters"]) == (
        "diverged", None, 123_456
    )  # fmt: skip
    assert (found["none"]["selected"], found["none"]["epoch"], found["none"]["split"]) == (False, 2, "val")
    assert (found["queued"]["status"], found["queued"]["abs_rel"]) == ("queued", None)


def test_cells_of_earlier_versions_are_left_out_and_other_studies_count_for_themselves(work, pair):
    work.study("one", pair, gone=[pair[1]])
    work.study("two", pair)
    found = rows(work, "SELECT study, run_id FROM leaderboard ORDER BY ALL")
    assert [(row["study"], row["run_id"]) for row in found] == sorted(
        [("one", pair[0].run_id), ("two", pair[0].run_id), ("two", pair[1].run_id)]
    )


def test_a_strange_fact_spoils_no_other_row(work, pair):
    pair[0].attempt()
    pair[0].event("opened", facts={"parameters": "many"})
    pair[1].attempt()
    pair[1].event("opened", facts={"parameters": 7})
    found = rows(work, "SELECT parameters FROM leaderboard ORDER BY ALL")
    assert [row["parameters"] for row in found] == [7, None]


def test_best_epochs_hold_every_evaluation_of_the_epoch(work, pair):
    found = rows(work, f"SELECT * FROM best_epochs WHERE run_id = '{pair[1].run_id}'")
    assert {(row["epoch"], row["split"], row["resolution"]) for row in found} == {
        (3, split, resolution) for split in ("val", "test") for resolution in ("full", "reduced")
    }
    assert {row["value"] for row in found} == {0.1}


def test_an_epoch_that_was_evaluated_again_is_there_once(work, pair):
    pair[0].attempt()
    pair[0].evaluation(2, 0.7, "test", "full", images=3)
    (row,) = rows(work, f"SELECT d1 FROM leaderboard WHERE run_id = '{pair[0].run_id}'")
    assert row["d1"] == pytest.approx(0.7)
    found = rows(work, "SELECT * FROM paired WHERE split = 'test' AND resolution = 'full'")
    assert [row["d1"] for row in found] == pytest.approx([0.6 - 0.7] * 3)


def test_pairs_are_of_the_same_image(work, pair):
    found = rows(work, "SELECT * FROM paired")
    assert {(row["run_id"], row["baseline"]) for row in found} == {(pair[1].run_id, pair[0].run_id)}
    assert {(row["epoch"], row["baseline_epoch"]) for row in found} == {(3, 2)}
    assert len(found) == 2 * (2 + 3), "two resolutions, two images of val and three of test"
    tested = [row["rmse"] for row in found if row["split"] == "test"]
    assert tested == pytest.approx([0.2] * 6)


def test_a_database_of_the_version_before_shows_the_views(work, pair, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:3])
        ingest(work.db, work.runs_dir)
        connection = database.attach(work.db)
        assert migrations.stored_version(connection) == 3
        assert "protocol" not in [row[0] for row in connection.execute("DESCRIBE evaluations").fetchall()]
        connection.close()
    assert len(rows(work, "SELECT * FROM leaderboard")) == 2
    assert len(rows(work, "SELECT * FROM paired")) == 10
    assert {row["skipped"] for row in rows(work, "SELECT skipped, protocol FROM evaluations")} == {0}
    fresh = database.empty()
    upgraded = database.attach(work.db, read_only=True)
    views = "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    assert len(fresh.execute(views).fetchall()) == len(upgraded.execute(views).fetchall())
    upgraded.close()
