"""Multi-objective training: the weights of several tasks whose gradients compete (Sener & Koltun 2018, arXiv 1810.04650).

The update is the shortest vector in the convex hull of the tasks' gradients on the shared parameters. Its negative
lowers every task's loss, or it is 0, and then no direction does (Pareto-stationary). MiDaS trains with it, one task per
data set. The weights depend on the inner products of the gradients alone, so the core needs no torch. T tasks.

A task whose gradient is 0 makes the shortest vector 0: leave tasks out that have no image in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

GAP = 1e-10
"""Stop when no task could shorten the vector by more than this share of the longest gradient's square."""

MAX_STEPS = 10_000


def min_norm_weights(gram_TT: ArrayLike, *, gap: float = GAP, max_steps: int = MAX_STEPS) -> NDArray[np.float64]:
    """The weights (T, >= 0, sum 1) of the shortest convex combination of T vectors with inner products `gram_TT`.

    Two tasks: in closed form. More: Frank-Wolfe from equal weights with the exact step length on each line; every step
    moves weight from the worst task that has some to the best (pairwise steps, Lacoste-Julien & Jaggi 2015), which
    converges linearly where the published algorithm's steps to the best alone zigzag. No randomness; ties go to the
    earlier task. Raises ValueError unless `gram_TT` is a finite, symmetric matrix with no negative diagonal.
    """
    gram = _checked(gram_TT)
    scale = float(gram.diagonal().max())
    if scale == 0:
        return np.full(len(gram), 1 / len(gram))
    gram = gram / scale
    if len(gram) == 2:
        return _of_two(gram)
    weights = np.full(len(gram), 1 / len(gram))
    for _ in range(max_steps):
        slope = gram @ weights
        best = int(np.argmin(slope))
        if weights @ slope - slope[best] <= gap:
            break
        worst = int(np.argmax(np.where(weights > 0, slope, -np.inf)))
        _shift(weights, gram, slope, worst, best)
    total: float = weights.sum()
    return np.asarray(weights / total)


def gram_matrix(gradients: Sequence[Sequence[Tensor | None]]) -> NDArray[np.float64]:
    """Inner products (TT) of the gradients of T tasks, each a list over the same parameters; None counts as 0.

    Sums run in float64 on the tensors' device, from which only the result is fetched. Raises ValueError if the lists
    differ in length or no gradient is given.
    """
    import torch

    size = len(gradients)
    if not size or len({len(task) for task in gradients}) != 1:
        raise ValueError(f"{size} tasks have gradients of {[len(task) for task in gradients]} parameters")
    pairs = [(i, j) for i in range(size) for j in range(i, size)]
    products = [_products(gradients[i], gradients[j]) for i, j in pairs]
    gram = np.zeros((size, size))
    for (i, j), terms in zip(pairs, products, strict=True):
        gram[i, j] = gram[j, i] = float(torch.stack(terms).sum()) if terms else 0.0
    return gram


def combine(gradients: Sequence[Sequence[Tensor | None]], weights_T: Sequence[float]) -> list[Tensor | None]:
    """The weighted sum of the tasks' gradients per parameter; None where no task has one."""
    combined: list[Tensor | None] = []
    for of_parameter in zip(*gradients, strict=True):
        terms = [g * float(w) for g, w in zip(of_parameter, weights_T, strict=True) if g is not None]
        combined.append(sum(terms[1:], start=terms[0]) if terms else None)
    return combined


def _products(one: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> list[Tensor]:

    return [
        (a.detach().double() * b.detach().double()).sum()
        for a, b in zip(one, other, strict=True)
        if a is not None and b is not None
    ]


def _checked(gram_TT: ArrayLike) -> NDArray[np.float64]:
    gram = np.array(gram_TT, dtype=np.float64)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not gram.size:
        raise ValueError(f"inner products of shape {gram.shape}, expected a square matrix")
    if not np.isfinite(gram).all():
        raise ValueError("the gradients of the tasks are not finite")
    if not np.allclose(gram, gram.T) or (gram.diagonal() < 0).any():
        raise ValueError("not a matrix of inner products: it is not symmetric, or a diagonal element is negative")
    return gram


def _of_two(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equation 4 of the paper: the point of a segment that is nearest to the origin."""
    (aa, ab), (_, bb) = gram
    length = aa + bb - 2 * ab
    first = 0.5 if length <= 0 else float(np.clip((bb - ab) / length, 0.0, 1.0))
    return np.array([first, 1 - first])


def _shift(
    weights: NDArray[np.float64], gram: NDArray[np.float64], slope: NDArray[np.float64], worst: int, best: int
) -> None:
    """Moves as much weight from `worst` to `best` as shortens the vector most."""
    curvature = gram[worst, worst] + gram[best, best] - 2 * gram[worst, best]
    gain = slope[worst] - slope[best]
    step = weights[worst] if curvature <= 0 else min(weights[worst], gain / curvature)
    weights[best] += step
    weights[worst] = 0.0 if step == weights[worst] else weights[worst] - step
