"""wandb's offline files, as wandb itself writes them, and what becomes of damaged ones."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.depth import logged
from ablate.depth.metrics import METRICS
from ablate.depth.task import DepthTask
from ablate.engine.again import failed_runs
from ablate.errors import DataError
from ablate.external import names, store
from ablate.external.from_wandb import read_folder
from ablate.external.names import Meaning
from ablate.external.store import Found
from ablate.external.wandb_file import finite, flat, fragments, read_session
from ablate.results.open import open_results
from ablate.runs import notes
from ablate.runs.paths import RunsDir

pytestmark = pytest.mark.slow

TASK = DepthTask()


def file_of(folder: Path, run_id: str) -> Path:
    return next(iter(sorted(folder.rglob(f"run-{run_id}.wandb"))))


def found_in(folder: Path) -> dict[str, Found]:
    return {item.origin.file: item for item in read_folder(folder, TASK, logged)[0]}


def bodies(found: Found, kind: str) -> list[tuple[int, dict[str, Any]]]:
    return [(entry.epoch, entry.body) for entry in found.entries if entry.type == kind]


def test_what_maps_goes_under_our_names_and_the_rest_is_kept(offline: Path) -> None:
    run = found_in(offline)["aaaaaaaa"]
    assert run.stated == {"train.lr": 1e-4, "train.batch_size": 2, "model.attention": "performer"}
    assert "model.compression" not in run.origin.unknown and "train.epochs" in run.origin.unknown
    assert run.origin.facts["config"]["mine"] == [1, 2]
    assert run.origin.facts["summary"]["best_epoch"] == 2
    assert (run.origin.title, run.origin.facts["project"], run.origin.facts["group"]) == ("mem-com", "DPT", "g")
    assert [(epoch, body["train_loss"]) for epoch, body in bodies(run, "epoch")] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    evaluations = {
        (epoch, body["split"], body["resolution"]): body["metrics"] for epoch, body in bodies(run, "evaluation")
    }
    assert len(evaluations) == 3 * 4
    assert evaluations[2, "val", "full"] == {"abs_rel": 0.2}
    assert evaluations[2, "val", "reduced"] == {"silog": 7.0}
    assert evaluations[2, "val", "unknown"] == {"rmse": 3.0}
    assert evaluations[2, "test", "full"] == {"d1": None}  # NaN is no number
    rest = [body["values"] for _, body in bodies(run, "event") if body["name"] == "wandb"]
    assert {"other": "text"} in rest and {"step_loss": 0.5} in rest
    assert ("event", 2, "selected") in [(entry.type, entry.epoch, entry.body.get("name")) for entry in run.entries]
    assert ([note.text for note in run.kept.notes], run.kept.tags) == (["went well"], ("thesis", "a b"))


def without_its_end(folder: Path, run_id: str) -> None:
    """As a run that was killed leaves it: the newest file ends in the middle of its last records."""
    path = sorted(folder.rglob(f"run-{run_id}.wandb"))[-1]
    content = path.read_bytes()
    with path.open("rb") as file:
        ends = [end for end, _ in fragments(file)]
    path.write_bytes(content[: ends[-4] - 3])


def test_how_a_run_ended(offline: Path, tmp_path: Path) -> None:
    shutil.copytree(offline, tmp_path / "copy", symlinks=True)
    without_its_end(tmp_path / "copy", "cccccccc")
    found = found_in(tmp_path / "copy")
    assert {key: (str(item.outcome.state), item.outcome.reason) for key, item in found.items()} == {
        "aaaaaaaa": ("complete", None),
        "bbbbbbbb": ("failed", "crash"),
        "cccccccc": ("paused", "killed"),
    }
    assert "exit code 3" in str(found["bbbbbbbb"].outcome.message)


def test_epochs_that_nobody_states_are_counted_and_said(offline: Path) -> None:
    found, remarks = read_folder(offline, TASK, logged)
    run = next(item for item in found if item.origin.file == "bbbbbbbb")
    assert [(epoch, body["metrics"]) for epoch, body in bodies(run, "evaluation")] == [
        (1, {"abs_rel": 0.4}),
        (2, {"abs_rel": 0.2}),
    ]
    assert run.origin.facts["epochs"] == "counted"
    assert any("no row says its epoch" in remark for remark in remarks)


def test_sessions_of_one_run_are_one_run(offline: Path, tmp_path: Path) -> None:
    run = found_in(offline)["cccccccc"]
    shutil.copytree(offline, tmp_path / "copy")  # which makes a folder of the link `latest-run`
    assert len(list((tmp_path / "copy").rglob("run-cccccccc.wandb"))) == 3
    assert found_in(tmp_path / "copy")["cccccccc"].content == run.content
    assert run.origin.facts["sessions"] == 2
    assert [epoch for epoch, _ in bodies(run, "evaluation")] == [1, 2, 3, 4]
    assert run.stated == {"train.epochs": 4}
    assert run.origin.title.isprintable() and "two sessions" in run.origin.title


def test_they_become_runs_once_and_a_run_that_went_on_replaces_itself(offline: Path, tmp_path: Path) -> None:
    runs = RunsDir(tmp_path / "runs")
    first = store.take_in(list(found_in(offline).values()), runs, "DPT", TASK)
    assert len(first.new) == 3
    assert len(store.take_in(list(found_in(offline).values()), runs, "DPT", TASK).unchanged) == 3
    with open_results(tmp_path / "results.duckdb", runs.root) as results:
        rows = {row.name.rpartition("-")[0]: row for row in results.runs()}
        assert str(rows["wandb-steps"].status) == "failed"
        assert rows["wandb-mem-com"].tags == ("thesis", "a b")
        assert rows["wandb-mem-com"].external is not None
        assert rows["wandb-mem-com"].selected_epoch == 2
        shown = results.rows("SELECT epoch, abs_rel FROM evaluations WHERE abs_rel IS NOT NULL AND split = 'unknown'")[
            1
        ]
        assert sorted(shown) == [(1, 0.4), (2, 0.2)]
        assert not results.unreadable
    assert failed_runs(runs.runs(), []) == failed_runs(runs.runs(), ["crash", "killed"]) == []
    shorter = tmp_path / "shorter"
    shutil.copytree(offline, shorter, symlinks=True)
    sorted(shorter.rglob("run-cccccccc.wandb"))[-1].unlink()
    taken = store.take_in([found_in(shorter)["cccccccc"]], runs, "DPT", TASK)
    assert [before for before, _ in taken.changed] == [name for name in first.new if "two-sessions" in name]
    assert notes.read_notes(runs.run(taken.changed[0][1])) == notes.NONE


def test_a_file_that_was_cut_off_is_read_as_far_as_it_goes(offline: Path, tmp_path: Path) -> None:
    content = file_of(offline, "aaaaaaaa").read_bytes()
    whole = read_session(file_of(offline, "aaaaaaaa"))
    path = tmp_path / "run-x.wandb"
    lengths = []
    for end in (*range(7, 400, 13), len(content) - 1):
        path.write_bytes(content[:end])
        session = read_session(path)
        assert session.damage is None or "cut off at byte" in session.damage
        assert session.history == whole.history[: len(session.history)]
        lengths.append(len(session.history))
    assert lengths[-1] == len(whole.history) and lengths[0] == 0
    path.write_bytes(content[:6])
    with pytest.raises(DataError, match=r"run-x\.wandb: not a file of wandb"):
        read_session(path)


def test_damage_is_found_wherever_a_bit_flips(offline: Path, tmp_path: Path) -> None:
    content = file_of(offline, "bbbbbbbb").read_bytes()
    whole = read_session(file_of(offline, "bbbbbbbb"))
    path = tmp_path / "run-x.wandb"
    for place in range(7, len(content), 17):
        broken = bytearray(content)
        broken[place] ^= 1
        path.write_bytes(broken)
        session = read_session(path)
        assert session.damage
        assert session.history == whole.history[: len(session.history)]


def test_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "none", TASK, logged)
    with pytest.raises(DataError, match="holds no run"):
        read_folder(tmp_path, TASK, logged)
    (tmp_path / "run-x.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    with pytest.raises(DataError, match="does not say which run"):
        read_folder(tmp_path, TASK, logged)


@given(st.lists(st.binary(max_size=40_000), max_size=4))
def test_fragments_give_back_what_was_put_in(records: list[bytes]) -> None:
    """Against a writer made from LevelDB's description, with records across blocks."""
    file = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        left, first = memoryview(record), True
        while True:
            room = 32768 - len(file) % 32768
            if room < 7:
                file += bytes(room)
                continue
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if first else 4) if not left else 2 if first else 3
            data = bytes(part)
            file += struct.pack("<IHB", zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data
            first = False
            if not left:
                break
    assert [data for _, data in fragments(io.BytesIO(bytes(file)))] == records


@given(st.binary(max_size=300))
def test_any_bytes_behind_the_header(data: bytes) -> None:
    try:
        assert all(end > 7 for end, _ in fragments(io.BytesIO(b":W&B\xe1\xbe\x00" + data)))
    except ValueError as error:
        assert "at byte" in str(error)


def test_names_of_numbers() -> None:
    meanings = {
        "val/full/abs_rel": Meaning("abs_rel", "val", "full"),
        "val_abs_rel": Meaning("abs_rel", "val", "unknown"),
        "AbsRel/val": Meaning("abs_rel", "val", "unknown"),
        "metrics/a1": Meaning("d1", "unknown", "unknown"),
        "Test RMSElog": Meaning("rmse_log", "test", "unknown"),
        "rmse_log": Meaning("rmse_log", "unknown", "unknown"),
        "validation.loss": Meaning("loss", "val", "unknown"),
        "loss": None, "train/loss": None, "mine/abs_rel": None, "best_abs_rel": None, "": None, "val": None, "//": None,
    }  # fmt: skip
    for name, meaning in meanings.items():
        assert names.of_evaluation(name, METRICS) == meaning, name
    assert [names.of_epoch(name) for name in ("train_loss", "loss/train", "lr", "loss")] == [
        "train_loss", "train_loss", "lr", None,
    ]  # fmt: skip


@given(st.text())
def test_any_name_of_a_number(name: str) -> None:
    found = names.of_evaluation(name, METRICS)
    assert found is None or found.key in {"loss", *(metric.key for metric in METRICS)}
    names.of_epoch(name)


def test_values() -> None:
    assert finite({"a": [1.0, float("inf"), {"b": float("nan")}]}) == {"a": [1.0, None, {"b": None}]}
    assert dict(flat({"val": {"rmse": 3, "image": {"_type": "image"}}, "e": {}})) == {
        "val/rmse": 3,
        "val/image": {"_type": "image"},
        "e": {},
    }
