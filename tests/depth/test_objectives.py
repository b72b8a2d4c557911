from __future__ import annotations

import subprocess
import sys

import pytest

from ablate.depth.objectives import OBJECTIVES, names, refusal, spaces

MIDAS = ("ssi_trimmed", "gradient_matching")


def test_the_table_loads_no_torch() -> None:
    code = "import sys, ablate.depth.objectives; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_spaces_of_a_combination() -> None:
    assert spaces(["silog"]) == spaces(["silog_sqrt", "silog"]) == {"log_depth"}
    assert spaces(MIDAS) == {"disparity"}
    assert spaces(names()) == {"log_depth", "disparity"}
    with pytest.raises(KeyError):
        spaces(["l1"])


def test_gradient_matching_on_sparse_truth_is_refused_unless_forced() -> None:
    text = refusal(MIDAS, data="kitti", dense=False, metric=True)
    assert text is not None and "gradient_matching" in text and "kitti is sparse" in text and "or force it" in text
    assert refusal(MIDAS, data="kitti", dense=False, metric=True, forced=True) is None
    assert refusal(MIDAS, data="redweb", dense=True, metric=False) is None
    assert refusal([name for name in OBJECTIVES if name != MIDAS[1]], data="kitti", dense=False, metric=True) is None


@pytest.mark.parametrize("name", ["silog", "silog_sqrt"])
def test_metres_cannot_be_learnt_from_truth_without_a_unit(name: str) -> None:
    text = refusal([name], data="redweb", dense=True, metric=False, forced=True)
    assert text is not None and text.startswith(f"{name} compares metres, but redweb has inverse depth")
    assert text.endswith("use ssi_trimmed, gradient_matching")
