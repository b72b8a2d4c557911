"""The shortest vector in the convex hull of gradients: against closed forms, a dense grid and the optimality conditions."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ablate.depth.mgda import combine, gram_matrix, min_norm_weights

numbers = st.integers(-50, 50).map(lambda n: n / 10)


@st.composite
def vectors(draw: st.DrawFn, fewest: int = 1, most: int = 6) -> np.ndarray:
    shape = draw(st.integers(fewest, most)), draw(st.integers(1, 5))
    return draw(arrays(np.float64, shape, elements=numbers))


def shortest(gradients: np.ndarray) -> np.ndarray:
    return min_norm_weights(gradients @ gradients.T) @ gradients


@pytest.mark.parametrize(
    "one, other, weights",
    [
        ([1, 0], [0, 1], [0.5, 0.5]),
        ([2, 0], [0, 1], [0.2, 0.8]),  # a = b.(b - a) / |a - b|^2 = 1 / 5
        ([1, 0], [3, 1], [1, 0]),  # the shorter one already helps both
        ([3, 1], [1, 0], [0, 1]),
        ([1, 0], [-1, 0], [0.5, 0.5]),
        ([1, 0], [-3, 0], [0.75, 0.25]),
        ([1, 2], [1, 2], [0.5, 0.5]),
        ([0, 0], [1, 2], [1, 0]),
        ([0, 0], [0, 0], [0.5, 0.5]),
    ],
)
def test_two_tasks(one: list[float], other: list[float], weights: list[float]) -> None:
    gradients = np.array([one, other], dtype=float)
    assert min_norm_weights(gradients @ gradients.T) == pytest.approx(weights)


def test_worked_example_of_three() -> None:
    """(1,0,0), (0,2,0), (0,0,2): weights as 1/|g|^2 = 1 : 1/4 : 1/4."""
    assert min_norm_weights(np.diag([1.0, 4.0, 4.0])) == pytest.approx([2 / 3, 1 / 6, 1 / 6], abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(vectors())
def test_nothing_in_the_hull_is_shorter(gradients: np.ndarray) -> None:
    """The optimality conditions: d . g >= |d|^2 for every task, with equality where the weight is not 0."""
    weights = min_norm_weights(gradients @ gradients.T)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1, abs=1e-12)
    d = weights @ gradients
    slack = gradients @ d - d @ d
    tolerance = 1e-8 * max(1.0, float((gradients**2).sum(axis=1).max()))
    assert (slack >= -tolerance).all()
    assert weights @ np.abs(slack) <= 2 * tolerance


@settings(max_examples=25, deadline=None)
@given(vectors(3, 3))
def test_three_tasks_against_a_dense_grid(gradients: np.ndarray) -> None:
    steps = 60
    grid = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    best = float(((grid @ gradients) ** 2).sum(axis=1).min())
    found = float((shortest(gradients) ** 2).sum())
    longest = float((gradients**2).sum(axis=1).max())
    assert best - longest * 12 / steps <= found <= best + 1e-9 * max(1.0, longest)


@settings(max_examples=25, deadline=None)
@given(vectors(3, 5))
def test_the_best_face_is_found(gradients: np.ndarray) -> None:
    """Against the exact solution by linear equations on every subset of the tasks."""
    gram, best = gradients @ gradients.T, np.inf
    for size in range(1, len(gram) + 1):
        for face in map(list, itertools.combinations(range(len(gram)), size)):
            system = np.block([[gram[np.ix_(face, face)], -np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            weights = np.linalg.lstsq(system, np.eye(size + 1)[-1], rcond=None)[0][:-1]
            if (weights >= -1e-12).all() and abs(weights.sum() - 1) < 1e-9:
                best = min(best, float(((weights @ gradients[face]) ** 2).sum()))
    assert float((shortest(gradients) ** 2).sum()) == pytest.approx(best, rel=1e-6, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(vectors(), st.randoms(use_true_random=False), st.floats(1e-6, 1e6))
def test_neither_order_nor_unit_matters(gradients: np.ndarray, random, factor: float) -> None:
    order = list(range(len(gradients)))
    random.shuffle(order)
    longest = max(1.0, float(np.abs(gradients).max()))
    assert shortest(gradients[order]) == pytest.approx(shortest(gradients), abs=2e-4 * longest)
    assert shortest(factor * gradients) == pytest.approx(factor * shortest(gradients), abs=2e-4 * factor * longest)


@given(arrays(np.float64, (4,), elements=numbers), st.integers(1, 7))
def test_equal_gradients_have_equal_weights(gradient: np.ndarray, tasks: int) -> None:
    gradients = np.tile(gradient, (tasks, 1))
    assert min_norm_weights(gradients @ gradients.T) == pytest.approx([1 / tasks] * tasks)


def test_a_gradient_of_zero_takes_all_the_weight() -> None:
    gradients = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]])
    assert shortest(gradients) == pytest.approx([0, 0], abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**31))
def test_networks_many_parameters_are_solved_fast(tasks: int, seed: int) -> None:
    """Gradients of very unequal length, as those of losses in different units."""
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((tasks, 300)) * 10 ** rng.uniform(-3, 3, (tasks, 1))
    gram = gradients @ gradients.T
    weights = min_norm_weights(gram, max_steps=500)
    assert weights.tobytes() == min_norm_weights(gram, max_steps=500).tobytes()
    d = weights @ gradients
    assert (gradients @ d - d @ d >= -1e-8 * gram.diagonal().max()).all()


@pytest.mark.parametrize(
    "gram, says",
    [
        (np.zeros((0, 0)), "expected a square matrix"),
        (np.zeros((2, 3)), "expected a square matrix"),
        ([[1, np.nan], [np.nan, 1]], "not finite"),
        ([[1, 2], [3, 1]], "not symmetric"),
        ([[1, 0], [0, -1]], "diagonal element is negative"),
    ],
)
def test_what_is_no_gram_matrix_is_refused(gram: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        min_norm_weights(gram)  # type: ignore[arg-type]


def test_gradients_of_a_network() -> None:
    """Two tasks on a shared layer; one parameter is used by one task alone, one by neither."""
    shared, own, unused = (torch.randn(3, 4, requires_grad=True) for _ in range(3))
    losses = [(shared * torch.randn(3, 4)).sum(), (shared**2).sum() + own.sum()]
    gradients = [torch.autograd.grad(loss, [shared, own, unused], allow_unused=True) for loss in losses]
    gram = gram_matrix(gradients)
    flat = np.stack(
        [np.concatenate([g.numpy().ravel() if g is not None else np.zeros(12) for g in t]) for t in gradients]
    )
    assert gram == pytest.approx(flat.astype(float) @ flat.T.astype(float), rel=1e-5)
    weights = min_norm_weights(gram)
    combined = combine(gradients, weights.tolist())
    assert combined[2] is None and combined[1] is not None and combined[0] is not None
    assert np.concatenate([combined[0].numpy().ravel(), combined[1].numpy().ravel()]) == pytest.approx(
        (weights @ flat)[:24], rel=1e-4, abs=1e-6
    )
    for row in flat:  # a step against it lowers both losses
        assert row @ (weights @ flat) > 0


def test_sums_over_many_small_numbers_keep_their_digits() -> None:
    gradient = torch.full((3_000_000,), 1e-4)
    assert gram_matrix([[gradient]])[0, 0] == pytest.approx(float(np.float32(1e-4)) ** 2 * 3e6, rel=1e-6)


def test_uneven_lists_of_gradients_are_refused() -> None:
    ones = torch.ones(2)
    for gradients in ([[ones], [ones, ones]], []):
        with pytest.raises(ValueError, match="tasks have gradients of"):
            gram_matrix(gradients)


def test_the_core_loads_no_torch() -> None:
    code = "import sys; from ablate.depth.mgda import min_norm_weights as m; m([[1, 0], [0, 1]]); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
