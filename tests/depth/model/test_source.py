from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ablate.depth.model import source
from ablate.errors import DataError, UnknownRunError
from ablate.runs import files, states
from ablate.runs.checkpoint import Checkpoints
from ablate.runs.directory import RunConfig, RunIdentity, ensure_run
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import Outcome, State
from ablate.task import Position


class Bytes:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def save(self, file: object) -> None:
        file.write(self.content)  # type: ignore[attr-defined]


def make_run(runs: Path, name: str = "tiny-abcdefgh", state: State | None = State.COMPLETE) -> RunPaths:
    """A run with two checkpoints, the first of which is the best."""
    identity = RunIdentity(name.rpartition("-")[2], "0" * 64, name, "depth", 1, {}, {}, 0.0)
    paths = ensure_run(RunsDir(runs), identity, RunConfig({}, "ablate run", {}))
    checkpoints = Checkpoints(paths.checkpoints)
    first = checkpoints.save(Position(0, 1, 1), {}, 0, {"weights": Bytes(b"best")}, "this")  # type: ignore[dict-item]
    checkpoints.save(Position(0, 2, 1), {}, 0, {"weights": Bytes(b"last")}, first.best)  # type: ignore[dict-item]
    if state is not None:
        states.write_outcome(paths, Outcome(state))
    return paths


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(source.RUNS_VARIABLE, raising=False)


def test_a_run_stands_for_its_best_weights(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    file = source.weights_file(run.root)
    assert file.read_bytes() == b"best"
    assert source.digest(run.root) == hashlib.sha256(b"best").hexdigest() == source.digest(file)


def test_a_run_is_found_by_its_id_its_name_and_the_start_of_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "runs")
    for name in ("abcdefgh", "abc", "tiny-abcdefgh", "tiny"):
        assert source.located(tmp_path, Path(name)) == run.root
    assert source.located(tmp_path, Path("runs/tiny-abcdefgh")) == run.root
    assert source.located(Path("/elsewhere"), run.root) == run.root
    elsewhere = make_run(tmp_path / "others", "big-zzzzzzzz")
    monkeypatch.setenv(source.RUNS_VARIABLE, str(tmp_path / "others"))
    assert source.located(tmp_path, Path("zzz")) == elsewhere.root


def test_a_file_wins_over_a_run_of_its_name(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    (tmp_path / "abcdefgh").write_bytes(b"file")
    assert source.located(tmp_path, Path("abcdefgh")) == tmp_path / "abcdefgh"


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors", "some/where", "~/w.pt"])
def test_paths_are_paths_even_if_nothing_is_there(tmp_path: Path, name: str) -> None:
    assert source.located(tmp_path, Path(name)) == tmp_path / Path(name).expanduser()


def test_neither_file_nor_run_is_said_with_what_is_close(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    with pytest.raises(UnknownRunError, match=r"model\.weights.*no file.*abcdefgx.*did you mean abcdefgh"):
        source.located(tmp_path, Path("abcdefgx"))
    make_run(tmp_path / "runs", "tiny-abcdzzzz")
    with pytest.raises(UnknownRunError, match="names 2 runs"):
        source.located(tmp_path, Path("abcd"))


@pytest.mark.parametrize("state", [None, State.PAUSED, State.FAILED])
def test_a_run_that_is_not_complete_has_no_digest(tmp_path: Path, state: State | None) -> None:
    """Its best weights may change, and whoever started from them would then be another run."""
    run = make_run(tmp_path / "runs", state=state)
    with pytest.raises(
        DataError, match=r"tiny-abcdefgh: the run is (queued|paused|failed).*ablate resume tiny-abcdefgh"
    ):
        source.digest(run.root)


def test_a_run_without_weights_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    for path in Checkpoints(run.checkpoints).manifests():
        path.unlink()
    with pytest.raises(DataError, match="no weights yet"):
        source.digest(run.root)


def test_damaged_manifests_and_lost_files_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    source.weights_file(run.root).unlink()
    with pytest.raises(DataError, match=r"000001\.weights\.pt: no such file"):
        source.digest(run.root)
    newest = Checkpoints(run.checkpoints).manifests()[0]
    newest.write_text(newest.read_text().replace("000001.weights.pt", "../../../secret.p"))
    with pytest.raises(DataError, match="SHA-256"):
        source.digest(run.root)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither a run nor a Hugging Face model.*model\.weights"):
        source.digest(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"hf")
    assert source.weights_file(tmp_path) == tmp_path / "model.safetensors"
    assert source.digest(tmp_path) == hashlib.sha256(b"hf").hexdigest()


def test_a_new_version_of_a_file_is_looked_at_anew(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"1")
    seen: list[bytes] = []

    def look(path: Path) -> bytes:
        seen.append(path.read_bytes())
        return seen[-1]

    assert source.by_version(path, look) == source.by_version(path, look) == b"1"
    files.write_atomic(path, b"2")
    os.utime(path, (1, 1))
    assert source.by_version(path, look) == b"2"
    assert seen == [b"1", b"2"]


def make_epochs(runs: Path, state: State | None = State.COMPLETE) -> RunPaths:
    """A run of four epochs that kept the second; the third is the best."""
    run = make_run(runs, state=state)
    checkpoints = Checkpoints(run.checkpoints)
    checkpoints.discard()
    best = None
    for epoch in (1, 2, 3, 4):
        component = {"weights": Bytes(b"of %d" % epoch)}
        loop = {"best_epoch": min(epoch, 3)}
        position = Position(0, epoch + 1, 0)
        improved = "this" if epoch < 4 else best
        best = checkpoints.save(position, loop, 0, component, improved, keep=epoch == 2).best  # type: ignore[arg-type]
    checkpoints.finish()
    return run


@pytest.mark.parametrize("state", [State.COMPLETE, State.PAUSED])
def test_an_epoch_of_a_run_is_named_behind_an_at(tmp_path: Path, state: State) -> None:
    """Also of a run that is not complete: the weights of an epoch do not change."""
    run = make_epochs(tmp_path / "runs", state)
    for epoch in (2, 3, 4):
        located = source.located(tmp_path, Path(f"abc@{epoch}"))
        assert located == Path(f"{run.root}@{epoch}")
        assert source.weights_file(located).read_bytes() == b"of %d" % epoch
        assert source.digest(located) == hashlib.sha256(b"of %d" % epoch).hexdigest()
    assert source.weights_file(run.root).read_bytes() == b"of 3", "the best"


def test_epochs_that_are_not_there_are_named_with_those_that_are(tmp_path: Path) -> None:
    make_epochs(tmp_path / "runs")
    for epoch in (1, 9):
        with pytest.raises(DataError, match=rf"no weights of epoch {epoch}; kept: 2, 3, 4\..*keep_every"):
            source.digest(source.located(tmp_path, Path(f"abc@{epoch}")))
    for wrong in ("abc@", "abc@0", "abc@-1", "abc@six", "abc@٣"):
        with pytest.raises(UnknownRunError, match="after the @ comes an epoch, such as abc@6"):
            source.located(tmp_path, Path(wrong))
    with pytest.raises(UnknownRunError, match="did you mean abcdefgh"):
        source.located(tmp_path, Path("abcdefgx@2"))


def test_a_file_with_an_at_in_its_name_is_a_file(tmp_path: Path) -> None:
    run = make_epochs(tmp_path / "runs")
    (tmp_path / "abc@2").write_bytes(b"file")
    assert source.digest(source.located(tmp_path, Path("abc@2"))) == hashlib.sha256(b"file").hexdigest()
    assert source.run_and_epoch(Path(f"{run.root}@2")) == (run.root, 2)
    assert source.run_and_epoch(tmp_path / "nothing@2") is None
    assert source.run_and_epoch(Path(f"{run.root}@x")) is None
