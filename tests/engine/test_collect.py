"""Which checkpoints a policy keeps."""

from __future__ import annotations

from typing import Any, BinaryIO

import pytest

from ablate.engine.collect import Policy, sweep, sweep_of
from ablate.errors import HeldError, RecordError, UsageError
from ablate.runs import checkpoint, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.lease import Lease
from ablate.runs.paths import RunPaths
from ablate.runs.states import Outcome, State
from ablate.task import Position


class Part:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def save(self, file: BinaryIO) -> None:
        file.write(self.data)

    def load(self, file: BinaryIO) -> None:
        self.data = file.read()


@pytest.fixture
def six(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """A complete run of six epochs, all stored; the second was the best."""
    monkeypatch.setattr(checkpoint, "KEPT", 99)
    paths = make_run()
    store, best = Checkpoints(paths.checkpoints), None
    for epoch in range(1, 7):
        parts = {"weights": Part(b"w%d" % epoch), "optimizer": Part(b"o%d" % epoch)}
        manifest = store.save(Position(0, epoch + 1, 0), {}, epoch, parts, best="this" if epoch == 2 else best)
        best = manifest.best
    states.write_outcome(paths, Outcome(State.COMPLETE))
    return paths


def left(paths: RunPaths) -> set[str]:
    return {path.name for path in paths.checkpoints.glob("*.pt")}


@pytest.mark.parametrize(
    ("keep", "every", "kept"),
    [
        ("best,last", None, {2, 6}),
        ("best", None, {2}),
        ("last", None, {6}),
        ("best,last", 2, {2, 4, 6}),
        ("last", 3, {3, 6}),
        ("best", 5, {2, 5}),
    ],
)
def test_policies(six: RunPaths, keep: str, every: int | None, kept: set[int]) -> None:
    policy = Policy.parse(keep, every)
    found = sweep_of(six, policy)
    assert found is not None
    freed = sum(path.stat().st_size for path, _ in found.drop)
    assert len(left(six)) == 12, "a preview removes nothing"
    assert sweep(six, policy) == freed == found.bytes
    assert left(six) == {f"{epoch:06d}.weights.pt" for epoch in kept}
    store = Checkpoints(six.checkpoints)
    for path in store.manifests():
        store.verify(Manifest.read(path))
    assert sweep_of(six, policy) is None, "once is enough"
    store.finish()
    weights = Part(b"")
    newest = store.latest(print)
    assert newest is not None
    if "best" in keep:
        store.load_best(newest, weights)
        assert weights.data == b"w2"
    else:
        store.load(newest, {"weights": weights})
        assert weights.data == b"w6"


def test_an_unfinished_run_keeps_everything(six: RunPaths) -> None:
    states.write_outcome(six, Outcome(State.FAILED, states.Reason.CRASH))
    assert sweep_of(six, Policy.parse("best", None)) is None
    (six.checkpoints / "000007.weights.pt").write_bytes(b"no manifest names me")
    assert sweep(six, Policy.parse("best", None)) == 20
    assert len(left(six)) == 12


def test_a_run_that_is_trained_or_damaged_is_left_alone(six: RunPaths) -> None:
    policy = Policy.parse("best", None)
    with Lease.acquire(six.lease, "the run"):
        assert sweep_of(six, policy) is None
        with pytest.raises(HeldError):
            sweep(six, policy)
    (six.checkpoints / "000003.json").write_text("{")
    with pytest.raises(RecordError, match=r"000003\.json"):
        sweep(six, policy)
    assert len(left(six)) == 12


def test_policies_that_keep_nothing_are_refused() -> None:
    for keep in ("", ",", "worst", "best,worst"):
        with pytest.raises(UsageError, match="expected best, last or best,last"):
            Policy.parse(keep, None)
