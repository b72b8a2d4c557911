from __future__ import annotations

import hashlib
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ablate.depth.state import OptimizerState, WeightsState
from ablate.errors import CheckpointError


def network(seed: int = 0, width: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 3, 8, 8))
    return model


def optimizer(model: nn.Module, kind: str = "Adam") -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = getattr(torch.optim, kind)(model.parameters(), lr=1e-2, fused=True)
    return made


def train(model: nn.Module, steps: int, opt: torch.optim.Optimizer, first: int = 0) -> None:
    for step in range(first, first + steps):
        image = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        opt.zero_grad()
        model(image).square().mean().backward()
        opt.step()


def saved(component: WeightsState | OptimizerState) -> bytes:
    file = io.BytesIO()
    component.save(file)
    return file.getvalue()


def digest(model: nn.Module) -> str:
    return hashlib.sha256(saved(WeightsState(model))).hexdigest()


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_interrupted_training_ends_with_the_same_bytes(kind: str) -> None:
    straight = network()
    train(straight, 8, optimizer(straight, kind))

    first = network()
    opt = optimizer(first, kind)
    train(first, 5, opt)
    weights, state = saved(WeightsState(first)), saved(OptimizerState(opt))
    second = network(seed=9)
    opt = optimizer(second, kind)
    WeightsState(second).load(io.BytesIO(weights))
    OptimizerState(opt).load(io.BytesIO(state))
    assert saved(WeightsState(second)) == weights
    assert saved(OptimizerState(opt)) == state
    train(second, 3, opt, first=5)
    assert digest(second) == digest(straight)


def test_equal_weights_give_equal_bytes_whatever_their_memory_looks_like() -> None:
    model = network()
    expected = digest(model)
    assert digest(network().to(memory_format=torch.channels_last)) == expected
    shared = network()
    flat = torch.cat([parameter.detach().flatten() for parameter in shared.parameters()])
    for parameter, piece in zip(shared.parameters(), flat.split([p.numel() for p in shared.parameters()]), strict=True):
        parameter.data = piece.view_as(parameter)
    assert digest(shared) == expected
    train(model, 1, optimizer(model))
    assert digest(model) != expected


def test_saving_changes_nothing() -> None:
    model = network()
    opt = optimizer(model)
    train(model, 2, opt)
    before = digest(model)
    saved(OptimizerState(opt))
    assert digest(model) == before


def test_what_belongs_to_another_network_is_refused_and_changes_nothing() -> None:
    model, other = network(), network(width=7)
    opt, other_opt = optimizer(model), optimizer(other)
    train(model, 1, opt)
    train(other, 1, other_opt)
    before = digest(model), saved(OptimizerState(opt))
    with pytest.raises(CheckpointError, match="another network"):
        WeightsState(model).load(io.BytesIO(saved(WeightsState(other))))
    with pytest.raises(CheckpointError, match="another network"):
        WeightsState(model).load(io.BytesIO(saved(OptimizerState(opt))))
    for wrong in (saved(OptimizerState(other_opt)), saved(WeightsState(model))):
        with pytest.raises(CheckpointError, match="another network"):
            OptimizerState(opt).load(io.BytesIO(wrong))
    fewer = torch.optim.Adam(list(model.parameters())[:2])
    with pytest.raises(CheckpointError, match="another network"):
        OptimizerState(opt).load(io.BytesIO(saved(OptimizerState(fewer))))
    assert (digest(model), saved(OptimizerState(opt))) == before


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_or_harmless(data: st.DataObject) -> None:
    """Cut or overwritten bytes: CheckpointError or a load, never another exception. (The manifest has the SHA-256.)"""
    model = network()
    opt = optimizer(model)
    train(model, 1, opt)
    for component in (WeightsState(model), OptimizerState(opt)):
        content = bytearray(saved(component))
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        else:
            start = data.draw(st.integers(0, len(content) - 1))
            noise = data.draw(st.binary(min_size=1, max_size=64))
            content[start : start + len(noise)] = noise
        try:
            component.load(io.BytesIO(bytes(content)))
        except CheckpointError as error:
            assert "checkpoint" in str(error)


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"garbage" * 50])
def test_garbage_is_refused(content: bytes) -> None:
    model = network()
    for component in (WeightsState(model), OptimizerState(optimizer(model))):
        with pytest.raises(CheckpointError, match="cannot be read"):
            component.load(io.BytesIO(content))


@pytest.mark.parametrize(
    "content", [[], {"state": {}}, {"param_groups": 3, "state": {}}, {"param_groups": [1], "state": {}}, 7]
)
def test_an_optimiser_file_that_holds_something_else(content: object) -> None:
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    with pytest.raises(CheckpointError):
        OptimizerState(optimizer(network())).load(file)


def test_moments_lie_in_memory_as_their_parameters_do() -> None:
    """The fused kernels pair a parameter's elements with those of its moments by their place in memory."""
    straight = network().to(memory_format=torch.channels_last)
    train(straight, 8, optimizer(straight))
    first = network().to(memory_format=torch.channels_last)
    opt = optimizer(first)
    train(first, 5, opt)
    weights, state = saved(WeightsState(first)), saved(OptimizerState(opt))
    second = network(seed=9).to(memory_format=torch.channels_last)
    opt = optimizer(second)
    WeightsState(second).load(io.BytesIO(weights))
    OptimizerState(opt).load(io.BytesIO(state))
    assert saved(OptimizerState(opt)) == state
    train(second, 3, opt, first=5)
    assert digest(second) == digest(straight)
