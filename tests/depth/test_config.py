"""Two spellings of one run are one run, and what cannot be is refused with the remedy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from ablate.depth import attention
from ablate.depth.config import DepthConfig
from ablate.study import identity_settings
from ablate.study.settings import catalogue


def config(**sections: Any) -> DepthConfig:
    return DepthConfig.model_validate(sections)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"train": {"weight_decay": 0}}, {}),
        ({"train": {"optimizer": "adamw"}}, {"train": {"optimizer": "adamw", "weight_decay": 0.01}}),
        ({"model": {"attention": "standard", "compression": 3}}, {}),
        (
            {"model": {"attention": "memory_compressed"}},
            {"model": {"attention": "memory_compressed", "compression": 2}},
        ),
        ({"data": {"root": "/a", "workers": 3, "cache_mb": 1}}, {}),
        ({"train": {"checkpoint": {"every": "5 steps"}}}, {}),
    ],
)
def test_spellings_of_one_run(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert identity_settings(config(**one)) == identity_settings(config(**other))


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"optimizer": "adamw", "weight_decay": 0}},
        {"model": {"attention": "memory_compressed", "compression": 3}},
        {"train": {"max_steps": 2}},
        {"eval": {"select": {"metric": "d1"}}},
        {"seed": 1},
    ],
)
def test_what_decides_a_result_is_part_of_the_identity(change: dict[str, Any]) -> None:
    assert identity_settings(config(**change)) != identity_settings(config())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"data": {"resolution": [190, 640]}}, r"the closest size is \[192, 640\]"),
        ({"data": {"resolution": [0, 640]}}, "multiples of 32"),
        ({"model": {"attention": "performr"}}, "expected one of standard"),
        ({"train": {"checkpoint": {"every": "often"}}}, "such as '10min'"),
        ({"train": {"checkpoint": {"every": "1.5 steps"}}}, "whole number"),
        ({"train": {"lr": 0}}, "greater than 0"),
        ({"train": {"loss": {"silog": 0}}}, "a weight greater than 0 for silog, found 0"),
        ({"train": {"loss": {"silog": True}}}, "a weight greater than 0 for silog, found True"),
        ({"train": {"early_stopping": {"patience": 2, "metric": "abs_rell"}}}, "would never stop a run"),
        ({"train": {"lr": float("nan")}}, "finite"),
        ({"eval": {"resolutions": ["full"]}}, "select.resolution 'reduced' is not among"),
        ({"eval": {"resolutions": ["full", "full", "reduced"]}}, "named twice"),
        ({"modle": {}}, "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(**wrong)


def test_attentions_are_files_and_are_listed_without_torch() -> None:
    assert attention.names()[:1] == ("standard",)
    assert set(attention.names()) >= {"standard", "performer", "memory_compressed"}
    code = "import sys; from ablate.depth import attention; attention.options('memory_compressed'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_stage_that_lacks_its_epochs_is_told_so() -> None:
    (complaint,) = catalogue(DepthConfig).check("train.stages", [{"sets": "all"}])
    assert complaint.problem == "{'sets': 'all'} lacks epochs"
