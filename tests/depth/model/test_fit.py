"""Settings that a network cannot have are refused with the remedy; its own, spelled out, are the same run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ablate.depth.config import DepthConfig, ModelSettings
from ablate.depth.model.fit import size_problem
from ablate.depth.model.specs import SPECS
from ablate.study import identity_settings


def config(model: dict[str, Any], resolution: tuple[int, int] = (192, 640)) -> DepthConfig:
    return DepthConfig.model_validate({"model": model, "data": {"resolution": resolution}})


def refusals(model: dict[str, Any], resolution: tuple[int, int] = (192, 640)) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        config(model, resolution)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ({"heads": 12}, {}),
        ({"taps": [8, 11]}, {}),
        ({"taps": (8, 11), "readout": "project", "heads": 12}, {}),
        ({"name": "dpt_tiny", "heads": 4, "taps": [1, 3]}, {"name": "dpt_tiny"}),
        ({"name": "dpt_large", "taps": [5, 11, 17, 23]}, {"name": "dpt_large"}),
        ({"attention_blocks": [0, 3]}, {}),
        ({"attention": "performer", "attention_blocks": list(range(12))}, {"attention": "performer"}),
        (
            {"attention": "performer", "taps": [1, 2], "attention_blocks": [0, 1, 2]},
            {"attention": "performer", "taps": [1, 2]},
        ),
    ],
    ids=str,
)
def test_spellings_of_one_run(spelled: dict[str, Any], plain: dict[str, Any]) -> None:
    assert identity_settings(config(spelled)) == identity_settings(config(plain))


@pytest.mark.parametrize(
    "model",
    [
        {"heads": 1},
        {"taps": [2, 5]},
        {"readout": "ignore"},
        {"decoder_norm": "batch"},
        {"name": "dpt_tiny", "heads": 8},
        {"attention": "performer", "attention_blocks": [0, 3]},
        {"share_attention": True, "attention_blocks": [0, 3]},
        {"attention": "performer", "taps": [1, 2], "attention_blocks": [0, 1]},
    ],
    ids=str,
)
def test_axes_are_part_of_the_identity(model: dict[str, Any]) -> None:
    found = identity_settings(config(model))
    assert found == {f"model.{key}": value for key, value in model.items()} | _options(model)


def _options(model: dict[str, Any]) -> dict[str, Any]:
    """What an attention adds by itself."""
    alone = {key: value for key, value in model.items() if key in ("name", "attention")}
    return dict(identity_settings(config(alone)))


def test_a_configuration_reads_back_as_it_was_written() -> None:
    for model in ({"heads": 24, "taps": [2, 5]}, {"attention": "performer", "attention_blocks": [1, 2]}, {}):
        written = config(model)
        assert DepthConfig.model_validate(written.model_dump(mode="json")) == written


@pytest.mark.parametrize(
    ("model", "key", "words"),
    [
        ({"heads": 5}, "model.heads", "5 heads cannot share 768 channels evenly; dpt_hybrid can have 1, 2, 3, 4, 6,"),
        ({"name": "dpt_dinov3_large", "heads": 512}, "model.heads", "2 channels wide each"),
        ({"taps": [3]}, "model.taps", "1 taps, and the decoder takes 2"),
        ({"taps": []}, "model.taps", "0 taps"),
        ({"taps": [1, 2, 3, 4]}, "model.taps", "dpt_hybrid's own are [8, 11]"),
        ({"taps": [11, 8]}, "model.taps", "ascending order"),
        ({"taps": [8, 12]}, "model.taps", "tap 12 is none of the blocks 0 to 11"),
        ({"taps": [8, 10**12]}, "model.taps", "is none of the blocks 0 to 11"),
        ({"name": "dpt_large", "taps": [8, 11]}, "model.taps", "2 taps, and the decoder takes 4; dpt_large's own"),
        ({"attention": "performer", "attention_blocks": [12]}, "model.attention_blocks", "block 12 is not built"),
        (
            {"attention": "performer", "attention_blocks": [6], "taps": [2, 5]},
            "model.attention_blocks",
            "block 6 is not built: dpt_hybrid has blocks 0 to 5, its last tap",
        ),
        ({"attention": "performer", "attention_blocks": [2, 1]}, "model.attention_blocks", "ascending order"),
        ({"attention": "performer", "attention_blocks": []}, "model.attention_blocks", "write attention: standard"),
        (
            {"name": "dpt_dinov3_small", "attention": "performer", "head_dim": 32},
            "model.head_dim",
            "rotary positions are made for heads of 64 channels, not 32",
        ),
    ],
    ids=str,
)
def test_what_the_network_cannot_have(model: dict[str, Any], key: str, words: str) -> None:
    resolution = (192, 640)
    found = refusals(model, resolution)
    assert found.keys() == {key}
    assert words in found[key]


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert refusals({"heads": 5, "taps": [1]}, (1, 1)).keys() == {"model.heads", "model.taps", "data.resolution"}


@pytest.mark.parametrize(
    ("name", "resolution", "closest"),
    [
        ("dpt_hybrid", (192, 641), "multiples of 32, the network's stride; the closest size is [192, 640]"),
        ("dpt_dinov2_base", (192, 640), "multiples of 14, the network's stride; the closest size is [196, 644]"),
        ("dpt_dinov3_base", (196, 644), "the closest size is [192, 640]"),
        ("dpt_tiny", (0, 640), "the closest size is [32, 640]"),
        ("dpt_large", (-32, 640), "the closest size is [32, 640]"),
    ],
)
def test_sizes_follow_the_networks_stride(name: str, resolution: tuple[int, int], closest: str) -> None:
    found = refusals({"name": name}, resolution)
    assert found.keys() == {"data.resolution"}
    assert closest in found["data.resolution"]
    assert found["data.resolution"].startswith(f"{resolution[0]}x{resolution[1]} (height x width)")


@given(st.tuples(st.integers(-5, 3000), st.integers(-5, 3000)), st.sampled_from([14, 16, 32]))
def test_the_closest_size_is_one_that_fits(size: tuple[int, int], stride: int) -> None:
    problem = size_problem(size, stride)
    if problem is None:
        assert all(side > 0 and side % stride == 0 for side in size)
        return
    height, width = map(int, problem.rpartition("[")[2].rstrip("]").split(", "))
    assert size_problem((height, width), stride) is None
    for near, side in zip((height, width), size, strict=True):
        assert abs(near - side) <= stride / 2 or near == stride


@pytest.mark.parametrize("name", SPECS)
def test_what_a_network_has_by_itself(name: str) -> None:
    spec = SPECS[name]
    own = config({"name": name}, (spec.stride, 2 * spec.stride))
    assert [own.own_value(f"model.{key}") for key in ("heads", "taps", "readout")] == [
        spec.heads,
        spec.taps,
        spec.readout,
    ]
    assert own.own_value("model.weights") is None
    assert own.own_value("train.weight_decay") is None


@given(st.dictionaries(st.sampled_from(["name", "heads", "taps", "readout", "attention_blocks"]), st.integers() | st.none() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(-1, 30), max_size=14)))  # fmt: skip
def test_any_settings_are_taken_or_refused(model: dict[str, Any]) -> None:
    """Whatever a study file holds, the answer is settings or a ValidationError."""
    try:
        settings = ModelSettings.model_validate(model)
    except ValidationError:
        return
    assert ModelSettings.model_validate(settings.model_dump()) == settings
