from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate.depth.config import DepthConfig
from ablate.depth.data.kitti import read_split
from ablate.depth.data.loader import Batch
from ablate.depth.model import audit
from ablate.depth.model.specs import SPECS
from ablate.depth.session import DepthSession
from ablate.depth.task import DepthTask
from ablate.errors import DataError, DivergedError, OutOfMemoryError
from ablate.task import Evaluation, Placement, Position, StepReport


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def configured(settings: dict[str, Any], **changes: dict[str, Any]) -> DepthConfig:
    merged = {**settings, **{part: {**settings.get(part, {}), **change} for part, change in changes.items()}}
    return DepthConfig.model_validate(merged)


def opened(config: DepthConfig) -> DepthSession:
    return DepthSession(config, Placement())


def train(session: DepthSession, epoch: int, first: int = 0, last: int | None = None) -> list[StepReport]:
    reports = []
    for step, batch in enumerate(session.batches(epoch, first), start=first):
        if step == last:
            break
        reports.append(session.step(batch, Position(0, epoch, step)))
    return reports


def saved(session: DepthSession) -> dict[str, bytes]:
    files = {}
    for name, component in session.components.items():
        file = io.BytesIO()
        component.save(file)
        files[name] = file.getvalue()
    return files


def restore(session: DepthSession, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        session.components[name].load(io.BytesIO(content))


def digest(session: DepthSession) -> str:
    return hashlib.sha256(saved(session)["weights"]).hexdigest()


def evaluated(session: DepthSession, split: str = "val") -> list[Evaluation]:
    return list(session.evaluate(split, lambda: None))


def test_an_epoch_sees_every_image_once_and_learns(config: DepthConfig) -> None:
    session = opened(config)
    assert session.splits == ("train", "val", "test")
    assert session.facts["images"] == {"train": 7, "val": 3, "test": 2}
    assert session.facts["shared_modules"] == []
    assert session.steps(1) == 4
    reports = train(session, 1)
    assert [report.images for report in reports] == [2, 2, 2, 1]
    names = [name for report in reports for name in report.samples]
    assert sorted(names) == sorted(frame.name for frame in read_split(config.data.root, None, "train").frames)
    assert all(report.lr == 1e-3 for report in reports)
    second = train(session, 2)
    assert [name for report in second for name in report.samples] != names
    later = [train(session, epoch) for epoch in range(3, 9)][-1]
    assert sum(r.loss for r in later) < 0.7 * sum(r.loss for r in reports)
    session.close()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model": {"attention": "performer"}, "train": {"optimizer": "adamw"}},
        {"model": {"attention": "memory_compressed"}, "data": {"subset": {"n": 5, "redraw": True}}},
    ],
    ids=str,
)
def test_an_interrupted_run_ends_with_the_same_weights_and_metrics(
    settings: dict[str, Any], change: dict[str, Any]
) -> None:
    config = configured(settings, **change)
    straight = opened(config)
    losses = [report.loss for epoch in (1, 2) for report in train(straight, epoch)]

    first = opened(config)
    before = [report.loss for report in train(first, 1)] + [report.loss for report in train(first, 2, last=1)]
    evaluated(first)  # changes nothing
    torch.rand(5)  # nor do random numbers that something else draws
    files = saved(first)
    second = opened(config.model_copy(update={"data": config.data.model_copy(update={"cache_mb": 0})}))
    restore(second, files)
    assert saved(second) == files
    after = [report.loss for report in train(second, 2, first=1)]
    assert before + after == losses
    assert digest(second) == digest(straight)
    assert evaluated(second) == evaluated(straight)


def test_loader_processes_change_nothing(config: DepthConfig) -> None:
    with_workers = config.model_copy(update={"data": config.data.model_copy(update={"workers": 2})})
    digests = []
    for one in (config, with_workers):
        session = opened(one)
        train(session, 1)
        digests.append(digest(session))
    assert digests[0] == digests[1]


def test_seeds_differ(settings: dict[str, Any]) -> None:
    assert digest(opened(configured(settings))) == digest(opened(configured(settings)))
    assert digest(opened(configured(settings))) != digest(opened(configured({**settings, "seed": 1})))


def test_evaluation_of_every_resolution(settings: dict[str, Any]) -> None:
    session = opened(configured(settings, eval={"resolutions": ("full", "reduced")}))
    before = saved(session)
    full, reduced = evaluated(session, "test")
    assert saved(session) == before
    assert (full.resolution, reduced.resolution) == ("full", "reduced")
    assert full.protocol["network_input"] == "352x1216"
    assert reduced.protocol["network_input"] == "32x96"
    assert full.images == reduced.images == 2
    assert all(value is not None and np.isfinite(value) for value in full.metrics.values())
    assert full.metrics != reduced.metrics


def test_starts_from_a_file_of_weights(tmp_path: Path, settings: dict[str, Any]) -> None:
    first = opened(configured(settings))
    train(first, 1)
    path = tmp_path / "w.pt"
    path.write_bytes(saved(first)["weights"])
    second = opened(configured(settings, model={"weights": path}))
    assert saved(second)["weights"] == path.read_bytes()
    assert evaluated(second) == evaluated(first)
    third = opened(configured(settings, model={"weights": path, "attention": "memory_compressed", "compression": 1}))
    assert third.facts["weights"]["counts"]["missing"] == 2 * SPECS["dpt_tiny"].blocks
    assert {part["name"]: part["pretrained"] for part in third.facts["parts"]}["mlp"] == 1.0
    assert first.facts["weights"] is None
    assert {part["pretrained"] for part in first.facts["parts"]} == {None}
    for a, b in zip(evaluated(third), evaluated(first), strict=True):
        assert a.metrics == pytest.approx(b.metrics, rel=1e-4)


def poisoned(batch: Batch, value: float) -> Batch:
    return replace(batch, image=torch.full_like(batch.image, value))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_divergence_is_named_and_leaves_the_weights_as_they_were(config: DepthConfig, value: float) -> None:
    session = opened(config)
    train(session, 1)
    before, norms = saved(session), session.gradient_norms()
    batch = next(session.batches(2, 3))
    with pytest.raises(DivergedError) as caught:
        session.step(poisoned(batch, value), Position(0, 2, 3))
    assert "epoch 2, step 4" in str(caught.value)
    assert batch.names[0] in str(caught.value)
    assert saved(session) == before
    assert caught.value.norms is None
    assert session.gradient_norms() == norms
    assert np.isfinite(session.step(batch, Position(0, 2, 3)).loss)


def test_gradient_norms_are_those_of_the_parts(config: DepthConfig) -> None:
    session = opened(config)
    train(session, 1, last=1)
    norms, squares = session.gradient_norms(), {}
    for key, parameter in session._model.named_parameters():
        if parameter.grad is not None:
            part = audit.part_of(key, session._model.spec)
            squares[part] = squares.get(part, 0.0) + float(parameter.grad.double().square().sum())
    assert norms == pytest.approx({part: square**0.5 for part, square in squares.items()}, rel=1e-5)
    assert {"decoder", "head", "attention", "mlp"} <= norms.keys()


def test_a_gradient_that_is_not_finite_is_divergence_with_its_own_norms(config: DepthConfig) -> None:
    session = opened(config)
    train(session, 1)
    before = saved(session)
    last = session._model.scratch.output_conv[4].weight
    hook = last.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(DivergedError, match="gradient of the training loss is") as caught:
        train(session, 2, last=1)
    hook.remove()
    assert saved(session) == before
    assert caught.value.norms is not None
    assert not np.isfinite(caught.value.norms["head"])
    assert np.isfinite(caught.value.norms["decoder"])


def test_a_lightened_session_needs_less(settings: dict[str, Any]) -> None:
    session = opened(configured(settings, data={"resolution": (96, 320)}))
    plain = session.needs()
    assert session.lighten(1) is not None
    halved = session.needs()
    assert session.lighten(2) is not None
    assert session.needs() < halved < plain


def test_a_batch_without_depth_is_a_step_that_moves_nothing(config: DepthConfig) -> None:
    session = opened(config)
    batch = next(session.batches(1, 0))
    before = digest(session)
    report = session.step(replace(batch, depth=torch.zeros_like(batch.depth)), Position(0, 1, 0))
    assert report.loss == 0
    assert digest(session) == before


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_lack_of_memory_says_what_to_lower(
    config: DepthConfig, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    session = opened(config)

    def fail(image: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(session._model, "forward", fail)
    with pytest.raises(OutOfMemoryError, match=r"batches of 2 at 32x96; lower train\.batch_size"):
        train(session, 1)
    with pytest.raises(OutOfMemoryError):
        evaluated(session)


def test_real_lack_of_memory(config: DepthConfig) -> None:
    session = opened(config)
    batch = next(session.batches(1, 0))
    huge = replace(batch, image=torch.zeros(1, 1, 1, 1).expand(2, 3, 2**18, 2**18))
    with pytest.raises(OutOfMemoryError, match="no memory left"):
        session.step(huge, Position(0, 1, 0))


def test_other_errors_are_not_taken_for_lack_of_memory(config: DepthConfig) -> None:
    session = opened(config)
    batch = next(session.batches(1, 0))
    with pytest.raises((ValueError, RuntimeError)) as caught:
        session.step(replace(batch, image=batch.image[:, :2]), Position(0, 1, 0))
    assert not isinstance(caught.value, OutOfMemoryError)


def test_peak_memory_is_that_of_this_process(config: DepthConfig) -> None:
    peak = opened(config).peak_memory_mb()
    assert peak is not None
    assert 50 < peak < 100_000


def test_missing_data_is_an_error_with_a_remedy(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="ablate data sample"):
        opened(configured(settings, data={"root": tmp_path / "none"}))


@pytest.mark.slow
def test_a_hybrid_trains_two_steps_and_evaluates_an_image(tmp_path: Path, street: Path) -> None:
    """The network of the progress log, at its resolution."""
    for part in ("raw", "data_depth_annotated"):
        (tmp_path / part).symlink_to(street / part)
    for name, count in (("train", 2), ("val", 1)):
        lines = (street / f"{name}_files.txt").read_text().splitlines()[:count]
        (tmp_path / f"{name}_files.txt").write_text("\n".join(lines) + "\n")
    config = DepthConfig.model_validate(
        {"data": {"root": tmp_path}, "model": {"attention": "memory_compressed"}, "eval": {"resolutions": ["reduced"]}}
    )
    session = DepthSession(config, Placement(threads=2))
    assert session.splits == ("train", "val")
    before = digest(session)
    reports = train(session, 1)
    assert [report.images for report in reports] == [1, 1]
    assert digest(session) != before
    (result,) = evaluated(session)
    assert result.protocol["network_input"] == "192x672"
    assert all(value is not None and np.isfinite(value) for value in result.metrics.values())


def test_the_task_opens_a_session(config: DepthConfig) -> None:
    assert DepthTask().open(config, Placement()).steps(1) == 4
