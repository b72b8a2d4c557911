"""The estimate against what the allocator hands out, against counting by hand, and against itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ablate.depth import budget, cost
from ablate.depth.budget import Operations, Step
from ablate.depth.config import DepthConfig, ModelSettings
from ablate.depth.losses import Loss, trainable
from ablate.depth.model.dpt import build, inverse_to_depth
from ablate.depth.recipe import Average, Recipe
from ablate.depth.task import DepthTask
from ablate.depth.train_settings import TrainSettings

TINY = ModelSettings(name="dpt_tiny")


def allocated(settings: ModelSettings, train: TrainSettings, size: tuple[int, int]) -> int:
    """Bytes that torch's allocator has handed out at the most in two real steps, from building the network on."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model = build(settings)
        model.recompute = train.gradient_checkpointing
        average = Average(model, train.ema) if train.ema else None
        recipe = Recipe(model, train, torch.device("cpu"), 2)
        for step in range(2):
            count = train.images_per_step
            image, truth = torch.rand(count, 3, *size) * 2 - 1, torch.rand(count, 1, *size) * 50 + 1
            valid = trainable(truth)

            def loss_of(
                part: slice, image: Tensor = image, truth: Tensor = truth, valid: Tensor = valid, count: int = count
            ) -> Tensor:
                with recipe.autocast():
                    output = model(image[part])
                return Loss("silog")({"log_depth": (inverse_to_depth(output), truth[part])}, valid[part], count)

            if train.objective == "mgda":
                halves = [range(count // 2), range(count // 2, count)]
                recipe.step_tasks(
                    halves,
                    train.batch_size,
                    lambda task, part, loss_of=loss_of: loss_of(slice(part[0], part[-1] + 1)),
                    step,
                )
            else:
                recipe.step(count, train.batch_size, loss_of, step)
            if average:
                average.update(step)
            del image, truth, valid, loss_of
    results = profiler.profiler.kineto_results if profiler.profiler else None
    assert results is not None
    now = most = 0
    for event in sorted(results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.slow
@pytest.mark.parametrize(
    "train",
    [
        {"batch_size": 4},
        {"batch_size": 2, "accumulate": 3, "optimizer": "adamw", "gradient_checkpointing": True, "ema": 0.99},
        {"batch_size": 4, "precision": "bf16"},
        {"batch_size": 2, "accumulate": 2, "objective": "mgda"},
    ],
    ids=str,
)
def test_the_estimate_is_what_a_step_allocates(train: dict[str, Any]) -> None:
    settings = TrainSettings.model_validate(train)
    mix = [{"name": "nyu", "root": f"data/{name}", "label": name} for name in ("one", "other")]
    data = {"resolution": (96, 320)} | ({"mix": mix} if "objective" in train else {})
    config = DepthConfig.model_validate({"model": {"name": "dpt_tiny"}, "data": data, "train": train})
    estimate = cost.peak_memory(TINY, budget.step_of(config))
    assert estimate == pytest.approx(allocated(TINY, settings, (96, 320)), rel=0.15)


@pytest.fixture(scope="module")
def plain() -> int:
    return cost.peak_memory(TINY, Step(size=(64, 96)))


@pytest.mark.slow
def test_what_costs_memory_and_what_saves_it(plain: int) -> None:
    weights = 4 * sum(parameter.numel() for parameter in build(TINY).parameters())
    four = cost.peak_memory(TINY, Step(size=(64, 96), batch_size=4))
    assert four > plain > 4 * weights, "weights, gradients and Adam's two moments"
    assert cost.peak_memory(TINY, Step(size=(64, 96), batch_size=4, recompute=True)) < 0.8 * four
    assert cost.peak_memory(TINY, Step(size=(64, 96), average=True)) - plain == pytest.approx(weights, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "dpt_tiny", "attention": "memory_compressed", "share_attention": True, "decoder_norm": "batch"},
        {"name": "dpt_dinov3_small", "attention": "performer", "taps": [0, 1, 2, 3]},
    ],
    ids=str,
)
def test_every_kind_of_network_can_be_counted(settings: dict[str, Any]) -> None:
    """Those with random features, shared modules, running statistics, and buffers that no file holds."""
    model = ModelSettings.model_validate(settings)
    losses = ("gradient_matching", "silog_sqrt", "ssi_trimmed")
    peak = cost.peak_memory(model, Step(size=(64, 64), recompute=True, losses=losses))
    with torch.device("meta"):
        network = build(model)
    held = 4 * sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert peak > 3 * held


def test_memory_of_stages_is_that_of_the_stage_with_most_sets() -> None:
    names = ("redweb", "hrwsi", "blendedmvs", "nyu")
    mix = [{"name": name, "root": f"data/{name}"} for name in names]
    train = {"objective": "mgda", "batch_size": 16, "loss": "ssi_trimmed"}

    def tasks(*stages: Any, **changes: Any) -> int:
        several = [{"sets": sets, "epochs": 1} for sets in stages]
        config = {
            "data": {"mix": mix, "name": "nyu"},
            "eval": {"align": "scale_shift"},
            "train": {**train, "stages": several, **changes},
        }
        return budget.step_of(DepthConfig.model_validate(config)).tasks

    assert tasks() == tasks(list(names[:3]), "all") == tasks("all", list(names[:3])) == 4
    assert tasks(list(names[:3]), list(names[1:])) == 3
    assert tasks("all", batch_size=2) == 2, "a batch of two holds two sets at most"
    assert tasks("all", objective="sum") == 1


def test_operations_are_those_counted_by_hand() -> None:
    """Attention of dpt_tiny: 4 blocks x two products of N x N x 64 multiply-adds, N tokens of a class and patches."""
    found = cost.operations(TINY, (64, 96))
    tokens = 1 + (64 // 16) * (96 // 16)
    assert found.attention == 4 * 2 * 2 * tokens * tokens * 64
    assert found.forward > found.attention
    assert 2.5 * found.forward < found.step < 3.1 * found.forward
    assert Operations(forward=100, step=300, attention=20).ceiling == pytest.approx(1.25)


@pytest.mark.slow
def test_operations_of_the_hybrid_are_published_ones_less_what_the_order_of_the_decoder_saves() -> None:
    """The audit of the progress log counted 808 GFLOP, with the published order: resize, then the 1x1 convolution.

    Ours convolves first: each of the four fusion blocks saves three quarters of a 1x1 convolution of 256 channels.
    """
    found = cost.operations(ModelSettings(name="dpt_hybrid"), (352, 1216))
    finest = (352 // 2) * (1216 // 2)
    saved = sum(2 * 256 * 256 * (finest // 4**level - finest // 4 ** (level + 1)) for level in range(4))
    assert (found.forward + saved) / 1e9 == pytest.approx(808.1, abs=0.05)
    assert found.forward / 1e9 == pytest.approx(794.1, abs=0.05)
    assert found.attention / found.forward == pytest.approx(0.130, abs=0.0005)


def of_tiny(street: Path, **changes: Any) -> DepthConfig:
    value = {"model": {"name": "dpt_tiny"}, "data": {"root": street, "resolution": (32, 96)}, **changes}
    return DepthConfig.model_validate(value)


def test_an_estimate_is_made_once_and_kept_by_what_decides_it(
    tmp_path: Path, street: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Step] = []

    def count(model: ModelSettings, step: Step) -> int:
        made.append(step)
        return 10**9 * len(made)

    monkeypatch.setattr(cost, "peak_memory", count)
    monkeypatch.setattr(cost, "operations", lambda model, size: Operations(100, 300, 25))
    task, config = DepthTask(), of_tiny(street)
    assert task.cost(config, tmp_path, compute=False) is None
    first = task.cost(config, tmp_path, compute=True)
    assert first is not None
    assert first.peak_bytes == 10**9
    assert (first.shares[0].part, first.shares[0].ceiling) == (0.25, pytest.approx(4 / 3))
    same = of_tiny(street, train={"lr": 3e-4, "epochs": 2, "flip": 0.0}, seed=3)
    assert task.shape(same) == task.shape(config)
    assert task.cost(same, tmp_path, compute=False) == first
    for change in (
        {"train": {"batch_size": 2}},
        {"train": {"precision": "bf16"}},
        {"train": {"ema": 0.9}},
        {"train": {"accumulate": 2}},
        {"train": {"gradient_checkpointing": True}},
        {"model": {"name": "dpt_tiny", "attention": "performer"}},
    ):
        other = of_tiny(street, **change)
        assert task.shape(other) != task.shape(config)
        assert task.cost(other, tmp_path, compute=False) is None
    assert len(made) == 1
    (tmp_path / "cost").rename(tmp_path / "gone")
    assert task.cost(config, tmp_path, compute=True) is not None
    for damaged in (tmp_path / "cost").iterdir():
        damaged.write_text("{")
    assert task.cost(config, tmp_path, compute=True) is not None
    assert len(made) == 3


def test_what_is_only_evaluated_has_no_training_cost(tmp_path: Path, street: Path) -> None:
    assert DepthTask().cost(of_tiny(street, train={"epochs": 0}), tmp_path, compute=True) is None
