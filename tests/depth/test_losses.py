from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ablate.depth.losses import (
    Alignment,
    Loss,
    count_images,
    disparity,
    gradient_matching,
    mean_alignment,
    robust_scale_shift,
    silog,
    silog_sqrt,
    ssi_trimmed,
    trainable,
)
from ablate.depth.objectives import OBJECTIVES
from ablate.errors import DataError, UsageError

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


# The other losses: float64, so that the slow loops can be met exactly.

Example = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
PER_IMAGE: dict[str, Callable[..., torch.Tensor]] = {
    "silog": silog,
    "silog_sqrt": silog_sqrt,
    "silog_sqrt_adabins": partial(silog_sqrt, form="adabins"),
    "ssi_trimmed": ssi_trimmed,
    "gradient_matching": gradient_matching,
}
every_loss = pytest.mark.parametrize("name", PER_IMAGE)
exact = st.integers(1, 64 * 300).map(lambda n: n / 64)
"""Metres or inverse depth whose differences are 0 or at least 1/64."""


@st.composite
def precise(draw: st.DrawFn) -> Example:
    shape = (draw(st.integers(1, 3)), 1, draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    prediction, truth = (torch.from_numpy(draw(arrays(np.float64, shape, elements=exact))) for _ in range(2))
    return prediction, truth, torch.from_numpy(draw(arrays(np.bool_, shape)))


def mean_over_counted(batch: Example, of_image: Callable[..., float]) -> float:
    arrays_of = (x.numpy()[:, 0] for x in batch)
    losses = [of_image(*image) for image in zip(*arrays_of, strict=True) if image[2].any()]
    return sum(losses) / len(losses) if losses else 0.0


def root_by_hand(p: np.ndarray, y: np.ndarray, v: np.ndarray, focus: float, form: str) -> float:
    alpha = 1e-7 if form == "adabins" else 0.0
    g = [
        math.log(a + alpha) - math.log(b + alpha) for a, b, k in zip(p.ravel(), y.ravel(), v.ravel(), strict=True) if k
    ]
    mean = sum(g) / len(g)
    if form == "bts":
        error = max(0.0, sum(x * x for x in g) / len(g) - focus * mean * mean)
    else:
        error = sum((x - mean) ** 2 for x in g) / max(1, len(g) - 1) + (1 - focus) * mean * mean
    return 10 * (math.sqrt(error) if error > 1e-8 else error / 1e-4)


def normalised_by_hand(x: np.ndarray, v: np.ndarray) -> dict[tuple[int, int], float]:
    """Equations 5 and 6, pixel by pixel."""
    places = [(i, j) for i in range(x.shape[0]) for j in range(x.shape[1]) if v[i, j]]
    values = sorted(float(x[place]) for place in places)
    n = len(values)
    median = (values[(n - 1) // 2] + values[n // 2]) / 2
    deviation = sum(abs(value - median) for value in values) / n
    return {place: (float(x[place]) - median) / max(deviation, 1e-6) for place in places}


def trimmed_by_hand(p: np.ndarray, y: np.ndarray, v: np.ndarray) -> float:
    """Equation 7."""
    one, other = normalised_by_hand(p, v), normalised_by_hand(y, v)
    residuals = sorted(abs(one[place] - other[place]) for place in one)
    return sum(residuals[: len(residuals) * 8 // 10]) / (2 * len(residuals))


def edges_by_hand(p: np.ndarray, y: np.ndarray, v: np.ndarray) -> float:
    """Equation 11."""
    one, other = normalised_by_hand(p, v), normalised_by_hand(y, v)
    difference = {place: one[place] - other[place] for place in one}
    total = 0.0
    for step in (1, 2, 4, 8):
        for i in range(0, v.shape[0], step):
            for j in range(0, v.shape[1], step):
                for near in ((i, j + step), (i + step, j)):
                    if (i, j) in difference and near in difference:
                        total += abs(difference[near] - difference[i, j])
    return total / len(difference)


def test_worked_examples_of_the_root() -> None:
    """g = (ln 2, 0): mean(g^2) = ln(2)^2 / 2, mean(g)^2 = ln(2)^2 / 4, variance over n - 1 = ln(2)^2 / 2."""
    prediction = torch.tensor([[[[20.0, 5.0, 999.0]]]])
    truth = torch.tensor([[[[10.0, 5.0, 0.0]]]])
    valid = trainable(truth)
    assert float(silog_sqrt(prediction, truth, valid)) == pytest.approx(3.7165845, rel=1e-6)
    assert float(silog_sqrt(prediction, truth, valid, form="adabins")) == pytest.approx(5.0817685, rel=1e-5)
    assert float(silog_sqrt(prediction, truth, valid, weight=1, variance_focus=0)) == pytest.approx(
        math.log(2) / math.sqrt(2)
    )


def test_worked_example_of_the_trimmed_loss() -> None:
    """Truth: median 3, deviation 2.2; prediction: 2 and 1.2. Differences 25, 12.5, 0, 12.5 and, trimmed, 50 / 33."""
    truth = torch.tensor([[[[1.0, 2.0, 3.0, 4.0, 10.0, -5.0]]]])
    prediction = torch.tensor([[[[0.0, 1.0, 2.0, 3.0, 4.0, 1000.0]]]])
    valid = truth > 0
    assert float(ssi_trimmed(prediction, truth, valid)) == pytest.approx(5 / 33)
    assert float(ssi_trimmed(prediction, truth, valid, trim=0)) == pytest.approx(10 / 33)


def test_worked_example_of_gradient_matching() -> None:
    """Truth / 1, prediction / 2 about 2.5: R = [[.75, .25], [-.25, 1.25]], edges .5 + 1.5 + 1 + 1, four pixels."""
    truth, prediction = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([[[[1.0, 2.0], [3.0, 8.0]]]])
    assert float(gradient_matching(prediction, truth, truth > 0)) == pytest.approx(1.0)


@pytest.mark.parametrize("apart, scale", [(1, 1), (2, 2), (4, 3), (8, 4)])
def test_gradient_matching_reaches_over_one_two_four_and_eight_pixels(apart: int, scale: int) -> None:
    """The example above in a row, other pixels not valid: edges .5 + .5 + 1.5 at the first scale that keeps two."""
    truth, prediction = torch.zeros(1, 1, 3, 32), torch.full((1, 1, 3, 32), 7.0)
    for place, (y, x) in enumerate(((1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 8.0))):
        truth[..., 0, place * apart], prediction[..., 0, place * apart] = y, x
    once = gradient_matching(prediction, truth, truth > 0, scales=scale)
    assert float(once) == pytest.approx(2.5 / 4)
    assert scale == 1 or float(gradient_matching(prediction, truth, truth > 0, scales=scale - 1)) == 0
    # the next scale keeps the first and the third, .75 and -.25; the one after that the first alone
    expected = 2.5 / 4 if scale == 4 else (2.5 + 1.0) / 4
    assert float(gradient_matching(prediction, truth, truth > 0)) == pytest.approx(expected)


@settings(max_examples=80, deadline=None)
@given(batch=precise(), focus=st.sampled_from([0.0, 0.5, 0.85, 1.0]))
def test_losses_equal_slow_loops(batch: Example, focus: float) -> None:
    near = partial(pytest.approx, rel=1e-7, abs=1e-6)
    for form in ("bts", "adabins"):
        expected = mean_over_counted(batch, partial(root_by_hand, focus=focus, form=form))
        assert float(silog_sqrt(*batch, variance_focus=focus, form=form)) == near(expected)
    assert float(ssi_trimmed(*batch)) == near(mean_over_counted(batch, trimmed_by_hand))
    assert float(gradient_matching(*batch)) == near(mean_over_counted(batch, edges_by_hand))


@every_loss
@settings(max_examples=25, deadline=None)
@given(batch=precise(), rubbish=st.sampled_from([0.0, -1.0, math.nan, math.inf, -math.inf]))
def test_never_negative_and_blind_to_what_is_not_valid(name: str, batch: Example, rubbish: float) -> None:
    prediction, truth, valid = batch
    results = []
    for p, y in ((prediction, truth), (prediction.where(valid, rubbish), truth.where(valid, rubbish))):
        p = p.clone().requires_grad_()
        loss = PER_IMAGE[name](p, y, valid)
        loss.backward()
        assert p.grad is not None and p.grad.isfinite().all() and p.grad[~valid].eq(0).all()
        assert float(loss.detach()) >= 0 and (valid.any() or float(loss.detach()) == 0)
        results.append((loss.detach(), p.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


@every_loss
@settings(max_examples=15, deadline=None)
@given(batch=precise(), data=st.data())
def test_parts_of_a_batch_add_up_to_it(name: str, batch: Example, data: st.DataObject) -> None:
    """What gradient accumulation rests on: the sum over micro-batches is the loss and the gradient of the batch."""
    loss = PER_IMAGE[name]
    whole = batch[0].clone().requires_grad_()
    value = loss(whole, batch[1], batch[2])
    value.backward()
    cut = data.draw(st.integers(0, len(batch[0])))
    images = int(count_images(batch[2]))
    parted, total = batch[0].clone().requires_grad_(), 0.0
    for part in (slice(0, cut), slice(cut, None)):
        if len(parted[part]):
            share = loss(parted[part], batch[1][part], batch[2][part], images=images)
            share.backward()
            total += float(share.detach())
    assert total == pytest.approx(float(value.detach()), rel=1e-12, abs=1e-15)
    assert whole.grad is not None and parted.grad is not None
    assert torch.allclose(whole.grad, parted.grad, rtol=1e-10, atol=1e-14)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@settings(max_examples=15, deadline=None)
@given(batch=precise(), autocast=st.booleans())
def test_sixteen_bits_cost_nothing_but_the_rounding_of_the_input(
    name: str, dtype: torch.dtype, batch: Example, autocast: bool
) -> None:
    prediction, truth, valid = batch[0].to(dtype).requires_grad_(), batch[1].to(dtype), batch[2]
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        loss = PER_IMAGE[name](prediction, truth, valid)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.equal(loss.detach(), PER_IMAGE[name](prediction.detach().float(), truth.float(), valid))
    assert prediction.grad is not None and prediction.grad.dtype == dtype and prediction.grad.isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-3])
def test_a_flat_or_perfect_prediction_has_a_finite_gradient(name: str, dtype: torch.dtype, spread: float) -> None:
    noise = spread * torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    for truth in (torch.full((2, 1, 3, 4), 0.01), torch.rand(2, 1, 3, 4)):
        for prediction in (truth + noise, torch.full_like(truth, 0.01) + noise):
            p = prediction.to(dtype).requires_grad_()
            loss = PER_IMAGE[name](p, truth.to(dtype), torch.ones_like(truth, dtype=torch.bool))
            loss.backward()
            assert p.grad is not None and p.grad.isfinite().all() and loss.isfinite()


@every_loss
def test_a_perfect_prediction_costs_nothing(name: str) -> None:
    truth = torch.rand(2, 1, 5, 7) + 0.1
    assert float(PER_IMAGE[name](truth.clone(), truth, truth > 0.4)) == 0


@every_loss
def test_gradients_are_those_of_the_loss(name: str) -> None:
    """Against finite differences, away from ties."""
    generator = torch.Generator().manual_seed(3)
    prediction, truth, chance = (torch.rand(2, 1, 4, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    p = (prediction + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: PER_IMAGE[name](x, truth + 0.1, chance > 0.3), (p,))


@settings(max_examples=40, deadline=None)
@given(batch=precise(), scale=st.floats(0.125, 8), shift=st.floats(-50, 50), focus=st.sampled_from([0.0, 0.5, 0.85, 1]))
def test_invariances_of_the_new_losses(batch: Example, scale: float, shift: float, focus: float) -> None:
    prediction, truth, valid = batch
    near = partial(pytest.approx, rel=1e-6, abs=1e-6)
    for loss in (ssi_trimmed, gradient_matching):  # a prediction in any unit, truth in any other
        value = near(float(loss(*batch)))
        assert float(loss(scale * prediction + shift, truth, valid)) == value
        assert float(loss(prediction, scale * truth + shift, valid)) == value
        assert float(loss(scale * truth + shift, truth, valid)) == near(0)
        assert float(loss(*(x.flip(0) for x in batch))) == value
    for form, loss in (("bts", silog_sqrt), ("adabins", silog_sqrt)):
        value = float(loss(scale * truth, truth, valid, form=form, variance_focus=focus))
        expected = 10 * math.sqrt(1 - focus) * abs(math.log(scale)) if valid.any() else 0
        assert value == pytest.approx(expected, rel=1e-3, abs=1e-3)
    value = float(silog(scale * truth, truth, valid, variance_focus=focus))
    assert value == near((1 - focus) * math.log(scale) ** 2 if valid.any() else 0)


def test_trimming_is_per_image() -> None:
    """An outlier costs nothing, even where the other image of the batch has worse residuals."""
    truth = torch.arange(1.0, 11.0).reshape(1, 1, 2, 5)
    worse = truth.flip(-1)
    alone = float(ssi_trimmed(truth, truth, truth > 0)), float(ssi_trimmed(worse, truth, truth > 0))
    both = float(ssi_trimmed(torch.cat([truth, worse]), torch.cat([truth, truth]), torch.cat([truth, truth]) > 0))
    assert alone[0] == 0 < alone[1] and both == pytest.approx(sum(alone) / 2)


@pytest.mark.parametrize("pixels, kept", [(1, 0), (4, 3), (5, 4), (9, 7), (10, 8), (35, 28), (100, 80), (1005, 804)])
def test_four_fifths_of_the_residuals_count(pixels: int, kept: int) -> None:
    prediction = torch.rand(1, 1, 1, pixels, dtype=torch.float64, requires_grad=True)
    truth = torch.rand(1, 1, 1, pixels, dtype=torch.float64)
    residuals = np.sort(np.abs(_normal(prediction.detach()) - _normal(truth)))
    expected = residuals[:kept].sum() / (2 * pixels)
    assert float(ssi_trimmed(prediction, truth, truth >= 0).detach()) == pytest.approx(expected)


def _normal(x: torch.Tensor) -> np.ndarray:
    flat = x.numpy().ravel()
    return (flat - np.median(flat)) / max(np.abs(flat - np.median(flat)).mean(), 1e-6)


@settings(max_examples=60, deadline=None)
@given(batch=precise(), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_robust_alignment_finds_scale_and_shift(batch: Example, scale: float, shift: float) -> None:
    prediction, truth, valid = batch
    found = robust_scale_shift(prediction, scale * prediction + shift, valid)
    for b in range(len(prediction)):
        if len(prediction[b][valid[b]].unique()) > 1:
            assert float(found[0][b]) == pytest.approx(scale, rel=1e-9)
            assert float(found[1][b]) == pytest.approx(shift, rel=1e-6, abs=1e-6)
        else:
            assert math.isnan(found[0][b]) and math.isnan(found[1][b])
    scales, shifts = robust_scale_shift(prediction, truth, valid)
    assert not (scales <= 0).any()
    aligned = scales[:, None, None, None] * prediction + shifts[:, None, None, None]
    for b in torch.nonzero(scales.isfinite()).ravel().tolist():
        one, other = aligned[b][valid[b]].numpy(), truth[b][valid[b]].numpy()
        assert np.median(one) == pytest.approx(np.median(other), abs=1e-6)
        assert np.abs(one - np.median(one)).mean() == pytest.approx(np.abs(other - np.median(other)).mean(), rel=1e-6)


def test_the_mean_alignment_leaves_out_what_decides_nothing() -> None:
    x = torch.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    prediction, truth = torch.cat([x, x, x]), torch.cat([2 * x + 1, torch.ones_like(x), 4 * x + 5])
    batches = [robust_scale_shift(prediction[:1], truth[:1], truth[:1] > 0)]
    batches.append(robust_scale_shift(prediction[1:], truth[1:], truth[1:] > 0))
    assert mean_alignment(batches) == mean_alignment(reversed(batches)) == Alignment(3.0, 3.0, 2, 1)
    with pytest.raises(DataError, match="none of the 3 images has depth at different distances"):
        mean_alignment([robust_scale_shift(prediction, truth, truth < 0)])


def test_robust_alignment_shrugs_off_a_tenth_of_rubbish() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = 3000 * torch.rand(1, 1, 40, 50, generator=generator)
    truth = 0.00006016 * prediction + 0.00579
    truth[torch.rand(truth.shape, generator=generator) < 0.1] *= 1.5
    scale, shift = robust_scale_shift(prediction, truth, truth > 0)
    assert float(scale) == pytest.approx(0.00006016, rel=0.12)
    assert float(1 / (scale * 1500 + shift)) == pytest.approx(1 / (0.00006016 * 1500 + 0.00579), rel=0.06)


def test_disparity_of_metres() -> None:
    truth = torch.tensor([[[[2.0, 0.0, 50.0, 90.0]]]])
    assert torch.equal(disparity(truth, trainable(truth)), torch.tensor([[[[0.5, 0, 0.02, 0]]]]))


def test_a_combination_is_the_weighted_sum() -> None:
    metres, inverse = torch.rand(3, 1, 6, 8) * 50 + 1, torch.rand(3, 1, 6, 8) * 1000
    truth = torch.rand(3, 1, 6, 8) * 60 + 1
    valid = torch.rand(3, 1, 6, 8) > 0.5
    views = {"log_depth": (metres, truth), "disparity": (inverse, disparity(truth, valid))}
    loss = Loss({"ssi_trimmed": 1, "gradient_matching": 0.5, "silog_sqrt": 0.1}, {"silog_sqrt": {"form": "adabins"}})
    expected = {
        "ssi_trimmed": ssi_trimmed(*views["disparity"], valid),
        "gradient_matching": gradient_matching(*views["disparity"], valid),
        "silog_sqrt": silog_sqrt(*views["log_depth"], valid, form="adabins"),
    }
    assert loss.spaces == {"log_depth", "disparity"}
    assert loss.terms(views, valid) == expected
    total = expected["ssi_trimmed"] + 0.5 * expected["gradient_matching"] + 0.1 * expected["silog_sqrt"]
    assert float(loss(views, valid)) == pytest.approx(float(total), rel=1e-6)
    assert torch.equal(Loss("silog")(views, valid), silog(*views["log_depth"], valid))
    assert Loss("silog").spaces == {"log_depth"}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_defaults_of_the_table_are_those_of_the_functions(name: str) -> None:
    signature = inspect.signature({**PER_IMAGE}[name])
    defaults = {key: p.default for key, p in signature.parameters.items() if p.default is not p.empty}
    assert {**OBJECTIVES[name].options, "images": None} == defaults


@pytest.mark.parametrize(
    "weights, options, says",
    [
        ({}, {}, "names no loss; expected one or more of silog, silog_sqrt, ssi_trimmed"),
        ({"l1": 1}, {}, "no loss is called 'l1'; expected one or more of silog"),
        ({"silog": 0}, {}, "silog has the weight 0; expected a number > 0"),
        ({"silog": math.nan}, {}, "silog has the weight nan"),
        ({"silog": 1}, {"ssi_trimmed": {}}, "options are given for ssi_trimmed, which train.loss does not use"),
        ({"silog": 1}, {"silog": {"trim": 0.1}}, "silog has no option 'trim'; it has variance_focus"),
    ],
)
def test_unusable_combinations_are_refused(weights: dict, options: dict, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        Loss(weights, options)


@pytest.mark.parametrize(
    "call",
    [
        partial(silog, variance_focus=1.1),
        partial(silog_sqrt, variance_focus=-0.1),
        partial(silog_sqrt, form="zoe"),
        partial(silog_sqrt, weight=-1),
        partial(ssi_trimmed, trim=1),
        partial(gradient_matching, scales=0),
    ],
)
def test_arguments_that_would_break_a_promise_are_refused(call: Callable[..., torch.Tensor]) -> None:
    ones = torch.ones(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"must be|one of"):
        call(ones, ones, ones > 0)
