"""Training losses. Shapes: B images, H x W pixels, P = H * W.

Every loss is a mean over images of a loss per image, so that the gradient of a batch is the sum of those of its parts
(see `images` below). What is not valid is never read: neither its value nor its gradient counts, NaN included. Images
without a valid pixel are left out of the mean; a batch of such images gives 0 with gradient 0. No loss is ever
negative. 16-bit inputs are computed in float32, inside and outside of autocast.

Common arguments:
    prediction_B1HW, truth_B1HW: metres > 0 for `silog` and `silog_sqrt`; inverse depth in any unit, up to any scale
        > 0 and shift each, for `ssi_trimmed` and `gradient_matching`.
    valid_B1HW: bool.
    images: the mean's denominator: images with a valid pixel in the whole batch, of which these may be a part. Those
        in this call if None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ablate.depth.objectives import OBJECTIVES, Option, Space
from ablate.depth.protocol import KITTI, DepthProtocol
from ablate.errors import DataError, UsageError

VARIANCE_FOCUS = 0.5
"""Eigen, Puhrsch & Fergus 2014, equation 4."""

NEAR_ZERO = 1e-8
"""Below this squared log error, `silog_sqrt` is linear: the slope of the root at 0 is infinite."""

ADABINS_ALPHA = 1e-7
"""What AdaBins and ZoeDepth add to both depths (metres) before the logarithm."""

FLAT = 1e-6
"""Floor of the mean absolute deviation that `ssi_trimmed` divides by, in the input's unit."""


class PerImage(Protocol):
    """A loss before the mean: B losses >= 0, exactly 0 for an image without a valid pixel."""

    def __call__(self, prediction_B1HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor, /) -> Tensor: ...


def trainable(truth: Tensor, protocol: DepthProtocol = KITTI) -> Tensor:
    """Where ground truth (metres, 0 = none) can be trained on: within the protocol's cap."""
    return (truth > protocol.min_depth) & (truth < protocol.max_depth)


def disparity(truth_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """Metres -> 1/m where valid, 0 elsewhere."""
    return torch.where(valid_B1HW, 1 / truth_B1HW, 0.0)


def count_images(valid_B1HW: Tensor) -> Tensor:
    """How many images have a valid pixel: int64, no dimension."""
    return valid_B1HW.flatten(1).any(dim=1).sum()


def mean_over_images(loss_B: Tensor, valid_B1HW: Tensor, images: Tensor | int | None = None) -> Tensor:
    """The mean of a loss per image over those that have a valid pixel; see `images` above."""
    if isinstance(images, int):
        return loss_B.sum() / max(1, images)
    return loss_B.sum() / (count_images(valid_B1HW) if images is None else images).clamp(min=1)


def silog(
    prediction_B1HW: Tensor,
    truth_B1HW: Tensor,
    valid_B1HW: Tensor,
    *,
    variance_focus: float = VARIANCE_FOCUS,
    images: Tensor | int | None = None,
) -> Tensor:
    """Scale-invariant log error: mean(g^2) - lambda * mean(g)^2, g = ln prediction - ln truth (Eigen et al. 2014).

    Computed as var(g) + (1 - lambda) * mean(g)^2, which rounding cannot make negative. A prediction in another scale
    c costs (1 - lambda) * ln(c)^2. Raises ValueError unless lambda, `variance_focus`, is in 0..1.
    """
    loss_B = _silog_per_image(prediction_B1HW, truth_B1HW, valid_B1HW, variance_focus=variance_focus)
    return mean_over_images(loss_B, valid_B1HW, images)


def silog_sqrt(
    prediction_B1HW: Tensor,
    truth_B1HW: Tensor,
    valid_B1HW: Tensor,
    *,
    variance_focus: float = 0.85,
    weight: float = 10.0,
    form: Literal["bts", "adabins"] = "bts",
    images: Tensor | int | None = None,
) -> Tensor:
    """weight * sqrt(var(g) + (1 - lambda) * mean(g)^2), per image (published code pools the pixels of a batch).

    `bts` (Lee et al. 2019) has the variance over n; `adabins` (Bhat et al. 2021, also ZoeDepth) over n - 1, and adds
    1e-7 m to both depths. Below a squared log error of 1e-8 the root is continued by a line through 0.
    Raises ValueError unless `variance_focus` is in 0..1, `weight` >= 0 and `form` is known.
    """
    loss_B = _silog_sqrt_per_image(
        prediction_B1HW, truth_B1HW, valid_B1HW, variance_focus=variance_focus, weight=weight, form=form
    )
    return mean_over_images(loss_B, valid_B1HW, images)


def ssi_trimmed(
    prediction_B1HW: Tensor,
    truth_B1HW: Tensor,
    valid_B1HW: Tensor,
    *,
    trim: float = 0.2,
    images: Tensor | int | None = None,
) -> Tensor:
    """Scale- and shift-invariant trimmed error of inverse depth: MiDaS (arXiv 1907.01341), equations 5 to 7.

    Prediction and truth are each brought to median 0 and mean absolute deviation 1 over the image's M valid pixels;
    the loss is the sum of the floor((1 - trim) * M) smallest absolute differences, over 2 M. Medians and trimming are
    per image and over valid pixels alone; the authors' code pools residuals over the batch and lets masked zeros into
    the median. The median of an even number is the mean of the middle two. Raises ValueError unless 0 <= trim < 1.
    """
    return mean_over_images(
        _ssi_trimmed_per_image(prediction_B1HW, truth_B1HW, valid_B1HW, trim=trim), valid_B1HW, images
    )


def gradient_matching(
    prediction_B1HW: Tensor,
    truth_B1HW: Tensor,
    valid_B1HW: Tensor,
    *,
    scales: int = 4,
    images: Tensor | int | None = None,
) -> Tensor:
    """Edges of the aligned difference R at several scales: MiDaS (arXiv 1907.01341), equation 11.

    sum over k of sum(|R_x| + |R_y|) / M: forward differences of R between pixels that are both valid; scale k keeps
    every 2^k-th row and column; M counts the valid pixels of the whole image (equation 11; the authors' code divides
    each scale by its own count). Alignment is that of `ssi_trimmed`. Raises ValueError if `scales` < 1.
    """
    loss_B = _gradient_matching_per_image(prediction_B1HW, truth_B1HW, valid_B1HW, scales=scales)
    return mean_over_images(loss_B, valid_B1HW, images)


class Loss:
    """A weighted sum of losses by name, such as `{"ssi_trimmed": 1, "gradient_matching": 0.5}`.

    options: keyword arguments per loss; those that are left out have the defaults of `objectives.OBJECTIVES`.
    Raises UsageError for an unknown name or option, a weight that is not > 0, or no loss at all.
    """

    def __init__(
        self, weights: str | Mapping[str, float], options: Mapping[str, Mapping[str, Option]] | None = None
    ) -> None:
        self.weights: dict[str, float] = {weights: 1.0} if isinstance(weights, str) else dict(weights)
        _refuse_unusable(self.weights, options or {})
        self._per_image: dict[str, PerImage] = {
            name: partial(_PER_IMAGE[name], **{**OBJECTIVES[name].options, **(options or {}).get(name, {})})
            for name in self.weights
        }
        self.spaces: frozenset[Space] = frozenset(OBJECTIVES[name].space for name in self.weights)

    def terms(
        self, views: Mapping[Space, tuple[Tensor, Tensor]], valid_B1HW: Tensor, images: Tensor | int | None = None
    ) -> dict[str, Tensor]:
        """Each loss without its weight, by name.

        views: (prediction, truth), B1HW each, for every one of `spaces`: metres for `log_depth`, inverse depth for
        `disparity`.
        """
        return {
            name: mean_over_images(loss(*views[OBJECTIVES[name].space], valid_B1HW), valid_B1HW, images)
            for name, loss in self._per_image.items()
        }

    def __call__(
        self, views: Mapping[Space, tuple[Tensor, Tensor]], valid_B1HW: Tensor, images: Tensor | int | None = None
    ) -> Tensor:
        """The weighted sum of `terms`; a single loss of weight 1 gives exactly what its own function gives."""
        terms = self.terms(views, valid_B1HW, images)
        return torch.stack([terms[name] * weight for name, weight in self.weights.items()]).sum()


def robust_scale_shift(prediction_B1HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """(scale_B, shift_B), float64: scale * prediction + shift has the median and mean absolute deviation of the truth.

    Both inputs are inverse depth: the prediction in the network's own unit, the truth in 1/m, say; then scale and
    shift are in 1/m (MiDaS, equations 5 and 6; DPT averages them over KITTI before fine-tuning). Both are NaN for an
    image that decides nothing: no valid pixel, or one of the two is constant over them.
    """
    valid_BP = valid_B1HW.flatten(1)
    median_p_B1, deviation_p_B1 = _median_and_deviation(_kept(prediction_B1HW.detach().double(), valid_B1HW), valid_BP)
    median_t_B1, deviation_t_B1 = _median_and_deviation(_kept(truth_B1HW.detach().double(), valid_B1HW), valid_BP)
    decided_B1 = (deviation_p_B1 > 0) & (deviation_t_B1 > 0)
    scale_B1 = torch.where(decided_B1, deviation_t_B1 / deviation_p_B1, torch.nan)
    return scale_B1[:, 0], (median_t_B1 - scale_B1 * median_p_B1)[:, 0]


@dataclass(frozen=True)
class Alignment:
    """depth = 1 / (scale * x + shift) of network output x, found over `images`; `undecided` were left out."""

    scale: float
    shift: float
    images: int
    undecided: int


def mean_alignment(found: Iterable[tuple[Tensor, Tensor]]) -> Alignment:
    """The means of the scales and of the shifts that `robust_scale_shift` found, batch by batch, in any order.

    Raises DataError if no image decides anything.
    """
    pairs = [pair for scale_B, shift_B in found for pair in zip(scale_B.tolist(), shift_B.tolist(), strict=True)]
    decided = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if not decided:
        raise DataError(
            f"none of the {len(pairs)} images has depth at different distances and a prediction that varies over "
            "them; check data.root, and that the weights are those of this network"
        )
    scale, shift = (math.fsum(values) / len(decided) for values in zip(*decided, strict=True))
    return Alignment(scale, shift, len(decided), len(pairs) - len(decided))


def _silog_per_image(
    prediction_B1HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor, *, variance_focus: float
) -> Tensor:
    _refuse_focus(variance_focus)
    squares_B, mean_B, count_B = _log_moments(_wide(prediction_B1HW), _wide(truth_B1HW), valid_B1HW)
    return squares_B / count_B.clamp(min=1) + (1 - variance_focus) * mean_B.square()


def _silog_sqrt_per_image(
    prediction_B1HW: Tensor,
    truth_B1HW: Tensor,
    valid_B1HW: Tensor,
    *,
    variance_focus: float,
    weight: float,
    form: str,
) -> Tensor:
    _refuse_focus(variance_focus)
    if weight < 0 or form not in ("bts", "adabins"):
        raise ValueError(f"weight {weight} must be >= 0 and form {form!r} one of 'bts', 'adabins'")
    adabins = form == "adabins"
    alpha = ADABINS_ALPHA if adabins else 0.0
    squares_B, mean_B, count_B = _log_moments(_wide(prediction_B1HW) + alpha, _wide(truth_B1HW) + alpha, valid_B1HW)
    error_B = squares_B / (count_B - int(adabins)).clamp(min=1) + (1 - variance_focus) * mean_B.square()
    root_B = error_B.clamp(min=NEAR_ZERO).sqrt()
    return weight * torch.where(error_B > NEAR_ZERO, root_B, error_B / NEAR_ZERO**0.5)


def _log_moments(prediction_B1HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(sum of squares about the mean, mean, number of pixels) of g = ln(prediction / truth); B each."""
    # 1 in place of what is not valid: log(0) would send NaN through `where` into the gradient
    ratio = torch.where(valid_B1HW, prediction_B1HW, 1.0) / torch.where(valid_B1HW, truth_B1HW, 1.0)
    g_BP = ratio.log().flatten(1)
    valid_BP = valid_B1HW.flatten(1)
    count_B1 = valid_BP.sum(dim=1, keepdim=True)
    mean_B1 = g_BP.sum(dim=1, keepdim=True) / count_B1.clamp(min=1)
    spread_BP = torch.where(valid_BP, g_BP - mean_B1, 0.0)
    return spread_BP.square().sum(dim=1), mean_B1[:, 0], count_B1[:, 0]


def _ssi_trimmed_per_image(prediction_B1HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor, *, trim: float) -> Tensor:
    if not 0 <= trim < 1:
        raise ValueError(f"trim {trim} must be in 0..1, 1 excluded")
    residual_BP = _aligned_difference(prediction_B1HW, truth_B1HW, valid_B1HW).abs()
    valid_BP = valid_B1HW.flatten(1)
    count_B1 = valid_BP.sum(dim=1, keepdim=True)
    keep = 1 - Fraction(trim).limit_denominator(10_000)  # whole numbers: 0.8 * M must not fall below itself
    kept_B1 = count_B1 * keep.numerator // keep.denominator
    order_BP = torch.where(valid_BP, residual_BP.detach(), torch.inf).argsort(dim=1, stable=True)
    smallest_BP = torch.arange(order_BP.shape[1], device=order_BP.device) < kept_B1
    chosen_BP = torch.zeros_like(valid_BP).scatter(1, order_BP, smallest_BP)
    return torch.where(chosen_BP, residual_BP, 0.0).sum(dim=1) / (2 * count_B1[:, 0].clamp(min=1))


def _gradient_matching_per_image(
    prediction_B1HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor, *, scales: int
) -> Tensor:
    if scales < 1:
        raise ValueError(f"scales {scales} must be >= 1")
    difference_B1HW = _aligned_difference(prediction_B1HW, truth_B1HW, valid_B1HW).reshape(valid_B1HW.shape)
    total_B = sum(
        _edges(difference_B1HW[..., :: 2**k, :: 2**k], valid_B1HW[..., :: 2**k, :: 2**k]) for k in range(scales)
    )
    return total_B / valid_B1HW.flatten(1).sum(dim=1).clamp(min=1)


def _edges(difference_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """Sum over an image of the absolute forward differences between pixels that are both valid: B."""
    across = torch.where(
        valid_B1HW[..., 1:] & valid_B1HW[..., :-1], difference_B1HW[..., 1:] - difference_B1HW[..., :-1], 0.0
    )
    down = torch.where(
        valid_B1HW[..., 1:, :] & valid_B1HW[..., :-1, :],
        difference_B1HW[..., 1:, :] - difference_B1HW[..., :-1, :],
        0.0,
    )
    return across.abs().flatten(1).sum(dim=1) + down.abs().flatten(1).sum(dim=1)


def _aligned_difference(prediction_B1HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """Prediction minus truth, each at median 0 and mean absolute deviation 1: BP, 0 where not valid."""
    return _normalised(prediction_B1HW, valid_B1HW) - _normalised(truth_B1HW, valid_B1HW)


def _normalised(x_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """BP; 0 where not valid."""
    # 1 / deviation is a factor of the gradient, which must fit into 16 bits again
    floor = max(FLAT, torch.finfo(x_B1HW.dtype).tiny)
    x_BP, valid_BP = _kept(_wide(x_B1HW), valid_B1HW), valid_B1HW.flatten(1)
    median_B1, deviation_B1 = _median_and_deviation(x_BP, valid_BP)
    return torch.where(valid_BP, (x_BP - median_B1) / deviation_B1.clamp(min=floor), 0.0)


def _median_and_deviation(x_BP: Tensor, valid_BP: Tensor) -> tuple[Tensor, Tensor]:
    """Median and mean absolute deviation from it over valid pixels: B1 each, 0 if there is none."""
    count_B1 = valid_BP.sum(dim=1, keepdim=True)
    order_BP = torch.where(valid_BP, x_BP.detach(), torch.inf).argsort(dim=1, stable=True)
    middle_B2 = torch.cat([(count_B1 - 1).clamp(min=0) // 2, count_B1 // 2], dim=1)
    middle_B2 = middle_B2.clamp(max=x_BP.shape[1] - 1)
    median_B1 = x_BP.gather(1, order_BP.gather(1, middle_B2)).mean(dim=1, keepdim=True)
    deviation_BP = torch.where(valid_BP, (x_BP - median_B1).abs(), 0.0)
    return median_B1, deviation_BP.sum(dim=1, keepdim=True) / count_B1.clamp(min=1)


def _kept(x_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """BP; 0 where not valid, so that nothing there can reach a result or a gradient."""
    return torch.where(valid_B1HW, x_B1HW, 0.0).flatten(1)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _refuse_focus(variance_focus: float) -> None:
    if not 0 <= variance_focus <= 1:
        raise ValueError(f"variance_focus {variance_focus} must be in 0..1: above 1 the loss could be negative")


def _refuse_unusable(weights: Mapping[str, float], options: Mapping[str, Mapping[str, Option]]) -> None:
    known = ", ".join(OBJECTIVES)
    if not weights:
        raise UsageError(f"train.loss names no loss; expected one or more of {known}")
    for name, weight in weights.items():
        if name not in OBJECTIVES:
            raise UsageError(f"train.loss: no loss is called {name!r}; expected one or more of {known}")
        if not 0 < weight < float("inf"):
            raise UsageError(f"train.loss: {name} has the weight {weight}; expected a number > 0, or leave it out")
    for name, given in options.items():
        if name not in weights:
            raise UsageError(f"options are given for {name}, which train.loss does not use")
        for key in given:
            if key not in OBJECTIVES[name].options:
                raise UsageError(f"{name} has no option {key!r}; it has {', '.join(OBJECTIVES[name].options)}")


_PER_IMAGE: Mapping[str, Any] = {
    "silog": _silog_per_image,
    "silog_sqrt": _silog_sqrt_per_image,
    "ssi_trimmed": _ssi_trimmed_per_image,
    "gradient_matching": _gradient_matching_per_image,
}
