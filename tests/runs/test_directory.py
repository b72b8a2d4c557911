from __future__ import annotations

from pathlib import Path

import pytest

from ablate.errors import RecordError, UnknownRunError
from ablate.runs import directory, states
from ablate.runs.directory import RunConfig, RunIdentity, ensure_run, find_run
from ablate.runs.journal import Journal
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Outcome, Reason, State, Status

CONFIG = RunConfig({"train": {"lr": 0.1}}, "ablate run x.yaml", {})


def identity(name: str = "performer-lr1e-4-k3v9q2xa", digest: str = "0" * 64) -> RunIdentity:
    return RunIdentity(name[-8:], digest, name, "toy", 1, {"train.lr": 0.1}, {"train": "f" * 64}, 12.5)


@pytest.fixture
def runs(tmp_path: Path) -> RunsDir:
    return RunsDir(tmp_path / "deep" / "runs")


def test_a_run_is_made_once_and_keeps_its_identity(runs: RunsDir) -> None:
    paths = ensure_run(runs, identity(), CONFIG)
    assert directory.read_identity(paths) == identity()
    assert directory.read_config(paths) == CONFIG
    again = RunConfig({"train": {"lr": 0.1}}, "ablate resume k3v9", {})
    ensure_run(runs, identity(), again)
    assert directory.read_config(paths) == again
    assert [found.name for found in runs.runs()] == [identity().name]


def test_two_runs_with_one_short_id_are_told_apart(runs: RunsDir) -> None:
    ensure_run(runs, identity(), CONFIG)
    with pytest.raises(RecordError, match="another run with the same short id"):
        ensure_run(runs, identity(digest="1" * 64), CONFIG)


def test_a_run_is_found_by_the_start_of_its_name_or_id(runs: RunsDir) -> None:
    ensure_run(runs, identity(), CONFIG)
    ensure_run(runs, identity("performer-lr1e-5-k3aaaaaa"), CONFIG)
    for text in ("performer-lr1e-4", "k3v", "k3v9q2xa", identity().name, str(runs.root / identity().name)):
        assert find_run(runs, text).name == identity().name
    with pytest.raises(UnknownRunError, match="names 2 runs: performer-lr1e-4-k3v9q2xa, performer-lr1e-5-k3aaaaaa"):
        find_run(runs, "k3")
    with pytest.raises(UnknownRunError, match="did you mean k3v9q2xa"):
        find_run(runs, "k3v9q2xb")
    with pytest.raises(UnknownRunError):
        find_run(runs, "")


def test_other_folders_are_no_runs(runs: RunsDir) -> None:
    ensure_run(runs, identity(), CONFIG)
    (runs.root / "studies").mkdir()
    (runs.root / ".half.tmp").mkdir()
    (runs.root / "link-aaaaaaaa").symlink_to(runs.root / identity().name)
    assert len(runs.runs()) == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run_id": 1', "\x00", "[" * 100_000])
def test_a_damaged_identity_is_named(runs: RunsDir, content: str) -> None:
    paths = ensure_run(runs, identity(), CONFIG)
    paths.identity.write_text(content)
    with pytest.raises(RecordError, match=r"run\.json"):
        directory.read_identity(paths)


def journal_of(paths: RunPaths) -> None:
    with Journal(paths.journal) as writer:
        writer.attempt = 1
        writer.append("attempt", 0, 0, {"threads": 1})


def test_the_state_follows_from_the_files(runs: RunsDir) -> None:
    paths = ensure_run(runs, identity(), CONFIG)
    assert states.status(paths) == Status(State.QUEUED)
    with Lease.acquire(paths.lease, "x"):
        assert states.status(paths) == Status(State.RUNNING)
    journal_of(paths)
    assert states.status(paths).state is State.PAUSED
    assert states.status(paths).reason is Reason.KILLED
    states.write_outcome(paths, Outcome(State.FAILED, Reason.OOM, "9 GiB"))
    assert states.status(paths) == Status(State.FAILED, Reason.OOM, "9 GiB")
    states.clear_outcome(paths)
    states.write_outcome(paths, Outcome(State.COMPLETE, attempt=2))
    assert states.status(paths).state is State.COMPLETE
    assert states.read_outcome(paths) is not None


@pytest.mark.parametrize("content", ["{}", '{"state": "done"}', "no"])
def test_a_damaged_outcome_is_named(runs: RunsDir, content: str) -> None:
    paths = ensure_run(runs, identity(), CONFIG)
    paths.outcome.write_text(content)
    with pytest.raises(RecordError, match=r"outcome\.json"):
        states.status(paths)
