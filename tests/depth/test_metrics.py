"""Against the published formulas, written out as slow loops, and against properties that they must have."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ablate import plugins
from ablate.depth.config import DepthConfig
from ablate.depth.metrics import KEYS, all_metrics, depth_metrics, mean_metrics, names, plugin_metrics
from ablate.depth.protocol import score
from ablate.depth.task import DepthTask
from ablate.errors import TrainingError, UsageError

METRES = st.floats(1e-3, 80, allow_nan=False)
PAIRS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(hnp.arrays(np.float64, n, elements=METRES), hnp.arrays(np.float64, n, elements=METRES))
)


def by_hand(gt: list[float], prediction: list[float]) -> dict[str, float]:
    n = len(gt)
    pairs = list(zip(gt, prediction, strict=True))
    logs = [math.log(p) - math.log(y) for y, p in pairs]
    return {
        **{f"d{k}": sum(max(y / p, p / y) < 1.25**k for y, p in pairs) / n for k in (1, 2, 3)},
        "abs_rel": sum(abs(y - p) / y for y, p in pairs) / n,
        "sq_rel": sum((y - p) ** 2 / y for y, p in pairs) / n,
        "rmse": math.sqrt(sum((y - p) ** 2 for y, p in pairs) / n),
        "rmse_log": math.sqrt(sum(e * e for e in logs) / n),
        "silog": 100 * math.sqrt(max(0.0, sum(e * e for e in logs) / n - (sum(logs) / n) ** 2)),
        "log10": sum(abs(math.log10(y) - math.log10(p)) for y, p in pairs) / n,
    }


def test_keys_are_in_the_order_of_the_logs_tables() -> None:
    assert KEYS == ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10")
    assert tuple(depth_metrics([1.0], [2.0])) == KEYS


def test_figures_worked_out_on_paper() -> None:
    metrics = depth_metrics([10.0, 20.0], [11.0, 30.0])
    assert metrics["abs_rel"] == pytest.approx((0.1 + 0.5) / 2)
    assert metrics["sq_rel"] == pytest.approx((0.1 + 5) / 2)
    assert metrics["rmse"] == pytest.approx(math.sqrt((1 + 100) / 2))
    assert (metrics["d1"], metrics["d2"], metrics["d3"]) == (0.5, 1.0, 1.0)


@given(PAIRS)
def test_equals_the_formulas_written_as_loops(pair: tuple[np.ndarray, np.ndarray]) -> None:
    gt, prediction = pair
    expected = by_hand(gt.tolist(), prediction.tolist())
    assert depth_metrics(gt, prediction) == pytest.approx(expected, rel=1e-6, abs=1e-4)


@given(hnp.arrays(np.float32, 12, elements=st.floats(0.5, 79, width=32)), st.floats(0.5, 2))
def test_silog_ignores_scale_and_is_never_nan(gt: np.ndarray, scale: float) -> None:
    assert depth_metrics(gt, gt * scale)["silog"] == pytest.approx(0, abs=1e-3)
    assert depth_metrics(gt, gt)["abs_rel"] == 0


def test_a_threshold_is_strict() -> None:
    assert depth_metrics([4.0], [5.0])["d1"] == 0  # 1.25 exactly


def test_refuses_what_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        depth_metrics([], [])
    with pytest.raises(ValueError, match="shape"):
        depth_metrics([1.0, 2.0], [1.0])


def test_the_mean_counts_images_not_pixels() -> None:
    one, other = depth_metrics([10.0], [11.0]), depth_metrics([10.0, 10.0, 10.0], [20.0, 20.0, 20.0])
    mean = mean_metrics([one, None, other])
    assert mean["abs_rel"] == pytest.approx((0.1 + 1.0) / 2)
    assert mean["rmse"] == pytest.approx((1 + 10) / 2)  # a mean of roots
    assert tuple(mean) == KEYS


def test_no_image_gives_no_number() -> None:
    assert mean_metrics([None, None]) == dict.fromkeys(KEYS)
    assert mean_metrics([]) == dict.fromkeys(KEYS)


MODULE = """
import numpy as np

class Metric:
    def __init__(self, key="mae", header="MAE", better="min"):
        self.key, self.header, self.better = key, header, better

    def __call__(self, gt, prediction):
        assert gt.dtype == prediction.dtype == np.float64 and gt.ndim == 1
        gt -= prediction  # what a metric does with its arrays is its own affair
        return np.abs(gt).mean()

mae = Metric()
other = Metric("other")
nan = Metric("nan")
nan.__class__ = type("Nan", (Metric,), {"__call__": lambda self, gt, prediction: float("nan")})
fails = Metric("fails")
fails.__class__ = type("Fails", (Metric,), {"__call__": lambda self, gt, prediction: 1 / 0})
sideways = Metric("sideways", better="left")
nameless = Metric("nameless", header=" ")
number = 7
"""
COUNT = itertools.count()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A folder as `--plugins` takes it, with the module above and entry points name -> object in it."""

    def write(**points: str) -> None:
        module = f"measures_{next(COUNT)}"
        folder = tmp_path / module
        folder.mkdir()
        (folder / f"{module}.py").write_text(MODULE)
        lines = [f'{name} = "{module}:{value}"' for name, value in points.items()]
        (folder / "pyproject.toml").write_text("\n".join(['[project.entry-points."ablate.metrics"]', *lines]))
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setenv(plugins.VARIABLE, str(folder))

    return write


def test_a_metric_of_another_package_stands_after_the_nine_everywhere(install: Callable[..., None]) -> None:
    install(mae="mae", another="other")
    assert names() == (*KEYS, "another", "mae")
    with pytest.raises(UsageError, match="its key is 'other', but the entry point is called 'another'"):
        plugin_metrics()
    install(mae="mae")
    task = DepthTask()
    assert [metric.key for metric in task.metrics] == [*KEYS, "mae"]
    assert (len(task.metrics), task.metrics[-1].header, task.metrics[9].better) == (10, "MAE", "min")
    assert all_metrics([10.0, 20.0], [11.0, 23.0])["mae"] == pytest.approx(2)
    gt = np.full((375, 1242), 10.0)
    assert list(score(gt + 1, gt, "garg") or {}) == [*KEYS, "mae"]
    assert mean_metrics([None]) == dict.fromkeys([*KEYS, "mae"])
    chosen = DepthConfig.model_validate({"eval": {"select": {"metric": "mae"}}})
    assert chosen.select.metric == "mae"


def test_without_plug_ins_there_are_the_nine() -> None:
    assert names() == KEYS
    with pytest.raises(ValueError, match=r"expected one of d1, .*log10, loss"):
        DepthConfig.model_validate({"eval": {"select": {"metric": "mae"}}})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("rmse", "mae", "not a name for a metric"),
        ("loss", "mae", "not a name for a metric"),
        ("Mae", "mae", "not a name for a metric"),
        ("mae", "missing", "cannot be imported: AttributeError"),
        ("mae", "number", "not an object that can be called"),
        ("mae", "Metric", "not an object that can be called"),
        ("sideways", "sideways", "its `better` is 'left', not 'max' or 'min'"),
        ("nameless", "nameless", "its header is not a text"),
    ],
)
def test_what_is_no_metric_is_named(install: Callable[..., None], name: str, value: str, words: str) -> None:
    install(**{name: value})
    with pytest.raises(UsageError, match=rf"ablate\.metrics '{name}' \(measures_\d+:{value}\): .*{words}"):
        list(DepthTask().metrics)


@pytest.mark.parametrize(("name", "words"), [("nan", "gave nan, not a finite number"), ("fails", "ZeroDivisionError")])
def test_a_metric_that_gives_no_number_stops_the_run(install: Callable[..., None], name: str, words: str) -> None:
    install(**{name: name})
    with pytest.raises(TrainingError, match=rf"the metric '{name}' .*{words}"):
        all_metrics([1.0], [2.0])


def test_a_configuration_knows_the_names_without_importing_anything(install: Callable[..., None]) -> None:
    install(mae="mae")
    code = (
        "import sys; from ablate.depth.config import DepthConfig;"
        "DepthConfig.model_validate({'eval': {'select': {'metric': 'mae'}}});"
        "print(any(name.startswith('measures_') for name in sys.modules), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False False"
