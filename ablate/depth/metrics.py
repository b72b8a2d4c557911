"""The nine depth metrics, as Eigen et al. (2014) and the KITTI benchmark define them and BTS and DPT print them.

A package adds one through the entry point group `ablate.metrics`. The entry point's name is the metric's key, and its
value is a `DepthMetric`: an instance, not a class, of anything that has

    key: str            the entry point's name: lower-case letters, digits and "_", starting with a letter
    header: str         the column of the tables, such as "RMSE"
    better: "max" or "min"
    __call__(gt, prediction) -> float

gt and prediction are the scored pixels of one image (N, float64, metres, N >= 1): inside the crop, the mask and the
cap, the prediction aligned and clamped to the cap. The number must be finite. Its mean over images stands beside the nine in
every evaluation, in `ablate score` and in reports, and `eval.select.metric` may name it. For example:

    @dataclass(frozen=True)
    class MeanError:
        key: str = "mae"
        header: str = "MAE"
        better: Literal["max", "min"] = "min"

        def __call__(self, gt, prediction):
            return float(np.abs(gt - prediction).mean())

    mae = MeanError()          # pyproject.toml: [project.entry-points."ablate.metrics"] mae = "package.module:mae"

A run id does not depend on which metrics are installed. Importing this module imports no plug-in and no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint
from typing import Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate import plugins
from ablate.errors import TrainingError, UsageError
from ablate.task import Direction, Metric

GROUP = "ablate.metrics"

METRICS = (
    Metric("d1", "d1", "max"),
    Metric("d2", "d2", "max"),
    Metric("d3", "d3", "max"),
    Metric("abs_rel", "AbsRel", "min"),
    Metric("sq_rel", "SqRel", "min"),
    Metric("rmse", "RMSE", "min"),
    Metric("rmse_log", "RMSElog", "min"),
    Metric("silog", "SILog", "min"),
    Metric("log10", "log10", "min"),
)
"""The nine, in the order of the progress log's tables."""

KEYS = tuple(metric.key for metric in METRICS)

_RESERVED = {*KEYS, "loss", "file", "image"}


class DepthMetric(Protocol):
    """What the value of an `ablate.metrics` entry point is; see the module's text."""

    @property
    def key(self) -> str: ...

    @property
    def header(self) -> str: ...

    @property
    def better(self) -> Direction: ...

    def __call__(self, gt: NDArray[np.float64], prediction: NDArray[np.float64]) -> float: ...


class AllMetrics(Sequence[Metric]):
    """The nine, then those of installed packages and `--plugins` folders by name; imported when first looked at."""

    @overload
    def __getitem__(self, index: int) -> Metric: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Metric]: ...

    def __getitem__(self, index: int | slice) -> Metric | Sequence[Metric]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._all())

    def _all(self) -> tuple[Metric, ...]:
        return *METRICS, *(Metric(one.key, one.header, one.better) for one in plugin_metrics())


def names() -> tuple[str, ...]:
    """The keys of all metrics, those of other packages last. Imports none of them."""
    return tuple(dict.fromkeys([*KEYS, *sorted(plugins.entries(GROUP))]))


def plugin_metrics() -> tuple[DepthMetric, ...]:
    """The metrics of other packages, by name. Raises UsageError, naming the entry point, for one that is no metric."""
    points = plugins.entries(GROUP)
    return tuple(_loaded(points[name]) for name in sorted(points))


@lru_cache(maxsize=64)
def _loaded(point: EntryPoint) -> DepthMetric:
    place = f"{point.group} {point.name!r} ({point.value})"
    if point.name in _RESERVED or not re.fullmatch(r"[a-z][a-z0-9_]*", point.name):
        raise UsageError(
            f"{place}: not a name for a metric; choose lower-case letters, digits and _, "
            f"and none of {', '.join(sorted(_RESERVED))}"
        )
    try:
        metric = point.load()
    except Exception as error:  # a foreign module can raise anything while it is imported
        raise UsageError(f"{place}: cannot be imported: {type(error).__name__}: {error}") from error
    if problem := _problem(metric, point.name):
        raise UsageError(f"{place}: {problem}; see ablate/depth/metrics.py for what a metric has")
    loaded: DepthMetric = metric
    return loaded


def _problem(metric: object, name: str) -> str | None:
    if isinstance(metric, type) or not callable(metric):
        return "not an object that can be called with (gt, prediction)"
    if getattr(metric, "key", None) != name:
        return f"its key is {getattr(metric, 'key', None)!r}, but the entry point is called {name!r}"
    header = getattr(metric, "header", None)
    if not isinstance(header, str) or not header.strip():
        return "its header is not a text"
    if getattr(metric, "better", None) not in ("max", "min"):
        return f"its `better` is {getattr(metric, 'better', None)!r}, not 'max' or 'min'"
    return None


def depth_metrics(gt: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """Nine metrics of one image from its valid pixels.

    gt, prediction: metres, finite and positive, same shape, at least one pixel. Computed in float64.
    d1..d3 are shares (0-1); sq_rel and rmse are in metres; rmse_log is in natural-log units; silog is x 100.
    Raises ValueError if the shapes differ or there is no pixel.
    """
    y, p = _pair(gt, prediction)
    worse = np.maximum(y / p, p / y)
    error = y - p
    log_error = np.log(p) - np.log(y)
    mean_square_log = float(np.mean(log_error**2))
    # A constant ratio gives a variance of 0, which rounding may turn into a tiny negative number.
    variance_log = max(0.0, mean_square_log - float(np.mean(log_error)) ** 2)
    return {
        "d1": float(np.mean(worse < 1.25)),
        "d2": float(np.mean(worse < 1.25**2)),
        "d3": float(np.mean(worse < 1.25**3)),
        "abs_rel": float(np.mean(np.abs(error) / y)),
        "sq_rel": float(np.mean(error**2 / y)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_log": float(np.sqrt(mean_square_log)),
        "silog": float(100 * np.sqrt(variance_log)),
        "log10": float(np.mean(np.abs(log_error)) / np.log(10)),
    }


def all_metrics(gt: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """`depth_metrics`, then those of other packages, by `names()`.

    Raises ValueError as `depth_metrics`, and TrainingError, naming the metric, if one of another package fails or
    gives no finite number.
    """
    y, p = _pair(gt, prediction)
    return depth_metrics(y, p) | {metric.key: _measured(metric, y.copy(), p.copy()) for metric in plugin_metrics()}


def _measured(metric: DepthMetric, y: NDArray[np.float64], p: NDArray[np.float64]) -> float:
    try:
        value = float(metric(y, p))
    except Exception as error:  # foreign code
        raise TrainingError(f"the metric {metric.key!r} failed: {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise TrainingError(f"the metric {metric.key!r} gave {value}, not a finite number, for {y.size} pixels")
    return value


def mean_metrics(images: Iterable[Mapping[str, float] | None]) -> dict[str, float | None]:
    """The mean over images of each metric: every image counts the same, however many valid pixels it has.

    None stands for an image without a valid pixel and is left out; if no image is left, every mean is None.
    """
    scored = [metrics for metrics in images if metrics is not None]
    if not scored:
        return dict.fromkeys(names())
    return {key: float(np.mean([metrics[key] for metrics in scored])) for key in scored[0]}


def _pair(gt: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, p = np.asarray(gt, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if y.shape != p.shape:
        raise ValueError(f"ground truth {y.shape} and prediction {p.shape} differ in shape")
    if not y.size:
        raise ValueError("no pixel to score")
    return y, p
