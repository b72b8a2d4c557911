from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ablate.depth.losses import silog, trainable

metres = st.floats(0.015625, 300, width=32)
shapes = st.tuples(st.integers(1, 4), st.just(1), st.integers(1, 5), st.integers(1, 6))


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = draw(shapes)
    prediction = draw(arrays(np.float32, shape, elements=metres))
    truth = draw(arrays(np.float32, shape, elements=metres))
    valid = draw(arrays(np.bool_, shape))
    return torch.from_numpy(prediction), torch.from_numpy(truth), torch.from_numpy(valid)


def by_hand(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> float:
    """Eigen's equation 4 with lambda 0.5, in float64, pixel by pixel."""
    losses = []
    for p_image, y_image, v_image in zip(prediction, truth, valid, strict=True):
        pairs = zip(p_image.ravel(), y_image.ravel(), v_image.ravel(), strict=True)
        g = [math.log(float(p)) - math.log(float(y)) for p, y, v in pairs if v]
        if g:
            losses.append(sum(x * x for x in g) / len(g) - 0.5 * (sum(g) / len(g)) ** 2)
    return sum(losses) / len(losses) if losses else 0.0


def test_worked_example() -> None:
    """g = (ln 2, 0): mean(g^2) = ln(2)^2 / 2, mean(g)^2 / 2 = ln(2)^2 / 8."""
    prediction = torch.tensor([[[[20.0, 5.0, 999.0]]]])
    truth = torch.tensor([[[[10.0, 5.0, 0.0]]]])
    assert float(silog(prediction, truth, trainable(truth))) == pytest.approx(3 / 8 * math.log(2) ** 2)


def test_images_count_the_same_however_many_pixels_they_have() -> None:
    truth = torch.full((2, 1, 1, 4), 10.0)
    truth[1, ..., 1:] = 0
    prediction = torch.full((2, 1, 1, 4), 20.0)
    prediction[1] = 40
    expected = (0.5 * math.log(2) ** 2 + 0.5 * math.log(4) ** 2) / 2
    assert float(silog(prediction, truth, trainable(truth))) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(batch=batches())
def test_equals_the_equation(batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    loss = float(silog(*batch))
    assert loss >= 0
    assert loss == pytest.approx(by_hand(*(x.numpy() for x in batch)), rel=1e-4, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(batch=batches(), data=st.data())
def test_what_is_not_valid_changes_neither_loss_nor_gradient(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], data: st.DataObject
) -> None:
    prediction, truth, valid = batch
    rubbish = torch.tensor(data.draw(st.sampled_from([0.0, -1.0, float("nan"), float("inf")])))
    results = []
    for p, y in ((prediction, truth), (prediction.where(valid, rubbish), truth.where(valid, rubbish))):
        p = p.clone().requires_grad_()
        loss = silog(p, y, valid)
        loss.backward()
        assert p.grad is not None
        assert p.grad.isfinite().all()
        assert p.grad[~valid].eq(0).all()
        results.append((loss, p.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@settings(max_examples=40, deadline=None)
@given(batch=batches(), factor=st.floats(0.25, 4))
def test_invariances(batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], factor: float) -> None:
    prediction, truth, valid = batch
    loss = float(silog(prediction, truth, valid))
    # order of the images, and exchange of prediction and truth
    assert float(silog(prediction.flip(0), truth.flip(0), valid.flip(0))) == pytest.approx(loss, rel=1e-4, abs=1e-5)
    assert float(silog(truth, prediction, valid)) == pytest.approx(loss, rel=1e-4, abs=1e-5)
    # one unit for both
    assert float(silog(factor * prediction, factor * truth, valid)) == pytest.approx(loss, rel=1e-4, abs=1e-5)
    # a perfect prediction in another scale keeps half of its squared log error
    scaled = float(silog(factor * truth, truth, valid))
    expected = 0.5 * math.log(factor) ** 2 if valid.any() else 0.0
    assert scaled == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_batch_without_truth_gives_zero_and_zero_gradients() -> None:
    weight = torch.ones(1, requires_grad=True)
    truth = torch.zeros(2, 1, 3, 3)
    loss = silog(weight * torch.rand(2, 1, 3, 3), truth, trainable(truth))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(weight.grad, torch.zeros(1))  # type: ignore[arg-type]


def test_the_range_that_is_trained_on_is_open() -> None:
    truth = torch.tensor([0.0, 1e-3, 0.002, 79.99, 80.0, 85.0])
    assert trainable(truth).tolist() == [False, False, True, True, False, False]
