"""`model.redraw_every` in training: new features each n steps of the whole run, the same ones after a resume."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ablate.depth.attention.performer import PerformerAttention
from ablate.depth.config import DepthConfig
from ablate.depth.session import DepthSession
from ablate.task import Placement, Position

STEPS = 4
"""Of an epoch of the street that `settings` trains on."""


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def opened(settings: dict[str, Any], seed: int = 0, **model: Any) -> DepthSession:
    model = {**settings["model"], "attention": "performer", **model}
    return DepthSession(DepthConfig.model_validate({**settings, "model": model, "seed": seed}), Placement())


def features(session: DepthSession) -> list[torch.Tensor]:
    return [m.features.clone() for m in session._model.modules() if isinstance(m, PerformerAttention)]


def train(session: DepthSession, start: int, stop: int) -> list[list[torch.Tensor]]:
    """Steps `start` to `stop` - 1 of the run; the features that each of them used."""
    used = []
    for done in range(start, stop):
        epoch, step = 1 + done // STEPS, done % STEPS
        session.step(next(session.batches(epoch, step)), Position(0, epoch, step))
        used.append(features(session))
    return used


def weights(session: DepthSession) -> bytes:
    file = io.BytesIO()
    session.components["weights"].save(file)
    return file.getvalue()


@pytest.mark.slow
def test_features_change_every_n_steps_across_epochs(settings: dict[str, Any]) -> None:
    session = opened(settings, redraw_every=3)
    assert session.steps(1) == session.steps(2) == STEPS
    first = features(session)
    used = train(session, 0, 8)
    groups = [0, 0, 0, 1, 1, 1, 2, 2]  # the second group goes on into the second epoch
    for one, two in zip(range(7), range(1, 8), strict=True):
        same = all(torch.equal(a, b) for a, b in zip(used[one], used[two], strict=True))
        assert same == (groups[one] == groups[two]), two
    assert all(torch.equal(a, b) for a, b in zip(first, used[0], strict=True))
    assert len({tuple(block.flatten().tolist()) for block in used[3]}) == len(used[3]), "two blocks have the same"


@pytest.mark.slow
@pytest.mark.parametrize("cut", [2, 3, 4, 5])
def test_an_interrupted_run_draws_the_same(settings: dict[str, Any], cut: int) -> None:
    """Before a redraw, at one, at the end of an epoch, and in the next one."""
    through = opened(settings, redraw_every=3)
    train(through, 0, 7)
    before, after = opened(settings, redraw_every=3), opened(settings, redraw_every=3)
    train(before, 0, cut)
    for name, component in before.components.items():
        file = io.BytesIO()
        component.save(file)
        file.seek(0)
        after.components[name].load(file)
    train(after, cut, 7)
    assert weights(after) == weights(through)


@pytest.mark.slow
def test_seeds_draw_differently_and_without_the_setting_nothing_is_drawn(settings: dict[str, Any]) -> None:
    one, other, fixed = (
        train(opened(settings, seed=seed, redraw_every=every), 0, 2)[1] for seed, every in ((0, 1), (1, 1), (0, None))
    )
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[0], fixed[0])
    assert torch.equal(fixed[0], features(opened(settings))[0])


@pytest.mark.slow
def test_one_shared_module_draws_once_a_step(settings: dict[str, Any]) -> None:
    session = opened(settings, redraw_every=1, share_attention=True)
    assert len(features(session)) == 1
    (names,) = session.facts["shared_modules"]
    assert len(names) > 1
    assert all(".attn" in name for name in names)
    first, second = train(session, 0, 2)
    assert not torch.equal(first[0], second[0])
