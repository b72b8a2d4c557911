from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.config import ModelSettings
from ablate.depth.model import layouts
from ablate.depth.model.dpt import DPT, build
from ablate.depth.model.layouts import LAYOUTS, Layout
from ablate.depth.model.specs import NetworkSpec

PUBLISHED = {
    # isl-org/DPT main -> dpt_scriptable: all that differs among 368 tensors
    "pretrained.act_postprocess3.0.project.0.weight": "pretrained.readout_oper3.0.project.0.weight",
    "pretrained.act_postprocess3.0.project.0.bias": "pretrained.readout_oper3.0.project.0.bias",
    "pretrained.act_postprocess4.0.project.0.weight": "pretrained.readout_oper4.0.project.0.weight",
    "pretrained.act_postprocess4.0.project.0.bias": "pretrained.readout_oper4.0.project.0.bias",
    "pretrained.act_postprocess3.3.weight": "pretrained.act_postprocess3.0.weight",
    "pretrained.act_postprocess3.3.bias": "pretrained.act_postprocess3.0.bias",
    "pretrained.act_postprocess4.3.weight": "pretrained.act_postprocess4.0.weight",
    "pretrained.act_postprocess4.3.bias": "pretrained.act_postprocess4.0.bias",
    "pretrained.act_postprocess4.4.weight": "pretrained.act_postprocess4.1.weight",
    "pretrained.act_postprocess4.4.bias": "pretrained.act_postprocess4.1.bias",
}

OF_NETWORKS = [
    ("dpt_hybrid", layouts.MAIN),
    ("dpt_hybrid", layouts.SCRIPTABLE),
    ("dpt_hybrid", layouts.HF_HYBRID),
    ("dpt_large", layouts.MAIN),
    ("dpt_large", layouts.SCRIPTABLE),
    ("dpt_large", layouts.HF_DPT),
    ("dpt_dinov2_small", layouts.MAIN),
    ("dpt_dinov2_small", layouts.DEPTH_ANYTHING),
    ("dpt_dinov2_small", layouts.HF_DEPTH_ANYTHING),
]


@cache
def keys_of(name: str) -> list[str]:
    with torch.device("meta"):
        return list(build(ModelSettings(name=name)).state_dict())


def written(layout: Layout, keys: list[str]) -> list[str]:
    """The keys of a file that holds all tensors the layout has a place for."""
    return [name for key in keys for name in layout.theirs(key) or ()]


def test_the_two_published_layouts_differ_in_ten_keys() -> None:
    keys = keys_of("dpt_hybrid")
    found = {key: layouts.SCRIPTABLE.theirs(key) for key in keys}
    assert {key: names[0] for key, names in found.items() if names != (key,)} == PUBLISHED  # type: ignore[index]
    assert len(keys) == 368


def test_the_published_lists_are_recognised_and_translated(shared: Path) -> None:
    lists = json.loads((shared / "reference" / "dpt_hybrid_keys.json").read_text())
    for name, keys in lists.items():
        layout = layouts.detect(keys)
        assert layout.name == name
        ours, strangers = layout.ours(keys)
        assert strangers == ()
        assert set(ours) == set(lists["main"]) == set(keys_of("dpt_hybrid"))
        assert all(lists["main"][key] == keys[names[0]] for key, names in ours.items())


@pytest.mark.parametrize(("network", "layout"), OF_NETWORKS, ids=lambda value: getattr(value, "name", value))
def test_there_and_back_is_where_it_began(network: str, layout: Layout) -> None:
    keys = keys_of(network)
    names = written(layout, keys)
    assert len(names) == len(set(names)), "two tensors under one name"
    assert layouts.detect(names) is layout
    ours, strangers = layout.ours(names)
    assert strangers == ()
    classifier = {key for key in keys if key.startswith("pretrained.model.head.")}
    assert set(keys) - set(ours) == (classifier if layout.name.startswith("hf") else set())
    assert all(layout.theirs(key) == found for key, found in ours.items())


@settings(deadline=None)  # the first example of a network builds it
@given(st.data())
def test_any_part_of_a_file_is_translated_alike_in_any_order(data: st.DataObject) -> None:
    """What a key is called does not depend on what else a file holds, and no key is lost."""
    network, layout = data.draw(st.sampled_from(OF_NETWORKS))
    keys = keys_of(network)
    some = data.draw(st.lists(st.sampled_from(keys), unique=True, max_size=20))
    strange = data.draw(st.lists(st.text(alphabet="abc.#0$", max_size=12), unique=True, max_size=3))
    given_keys = data.draw(st.permutations([*written(layout, some), *strange]))
    ours, strangers = layout.ours(given_keys)
    known = [key for key in some if layout.theirs(key) is not None]
    assert set(known) <= set(ours)
    assert sorted([*(name for names in ours.values() for name in names), *strangers]) == sorted(given_keys)
    for key in known:
        assert ours[key] == layout.theirs(key), "query, key and value in this order"


@given(st.lists(st.text(max_size=30), unique=True))
def test_no_keys_are_too_strange_to_look_at(keys: list[str]) -> None:
    ours, strangers = layouts.detect(keys).ours(keys)
    assert sorted([*(name for names in ours.values() for name in names), *strangers]) == sorted(keys)


def test_a_query_without_its_key_is_a_stranger() -> None:
    layer = "dpt.encoder.layer.3.attention.attention"
    ours, strangers = layouts.HF_DPT.ours([f"{layer}.query.weight", f"{layer}.value.weight"])
    assert ours == {}
    assert strangers == (f"{layer}.query.weight", f"{layer}.value.weight")
    keys = [f"{layer}.{name}.weight" for name in ("value", "query", "key")]
    ours, strangers = layouts.HF_DPT.ours(keys)
    assert ours == {"pretrained.model.blocks.3.attn.qkv.weight": (keys[1], keys[2], keys[0])}


def test_two_names_for_one_tensor_do_not_hide_each_other() -> None:
    layer = "backbone.encoder.layer.0.attention"
    keys = [f"{layer}.output.dense.bias", f"{layer}.o_proj.bias"]
    ours, strangers = layouts.HF_DEPTH_ANYTHING.ours(keys)
    assert ours == {"pretrained.model.blocks.0.attn.proj.bias": (keys[0],)}
    assert strangers == (keys[1],)


def test_numbers_are_whole_words() -> None:
    layout = layouts.HF_DPT
    assert layout.theirs("pretrained.model.blocks.11.norm1.weight") == ("dpt.encoder.layer.11.layernorm_before.weight",)
    assert layout.theirs("pretrained.model.blocks.1x.norm1.weight") is None
    assert layout.theirs("scratch.layer1_rnx.weight") is None
    assert layouts.DEPTH_ANYTHING.theirs("scratch.output_conv.0.weight") == ("depth_head.scratch.output_conv1.weight",)
    assert layouts.DEPTH_ANYTHING.theirs("scratch.output_conv.1.weight") == ("depth_head.scratch.output_conv.1.weight",)


def test_depth_anything_as_published() -> None:
    """The renames that the published checkpoints need, spelled out."""
    pairs = {
        "pretrained.model.blocks.3.ls1.gamma": "pretrained.blocks.3.ls1.gamma",
        "pretrained.act_postprocess1.3.weight": "depth_head.projects.0.weight",
        "pretrained.act_postprocess1.4.weight": "depth_head.resize_layers.0.weight",
        "pretrained.act_postprocess2.4.weight": "depth_head.resize_layers.1.weight",
        "pretrained.act_postprocess4.4.weight": "depth_head.resize_layers.3.weight",
        "scratch.layer1_rn.weight": "depth_head.scratch.layer1_rn.weight",
        "scratch.refinenet1.resConfUnit2.conv1.bias": "depth_head.scratch.refinenet1.resConfUnit2.conv1.bias",
        "scratch.output_conv.2.bias": "depth_head.scratch.output_conv2.0.bias",
        "scratch.output_conv.4.bias": "depth_head.scratch.output_conv2.2.bias",
    }
    assert {key: layouts.DEPTH_ANYTHING.theirs(key) for key in pairs} == {key: (name,) for key, name in pairs.items()}


def test_encoders_of_timm_are_recognised(small_spec: Callable[[str], NetworkSpec]) -> None:
    for family in ("hybrid", "large", "dinov2", "dinov3"):
        with torch.device("meta"):
            keys = list(DPT(small_spec(family)).pretrained.model.state_dict())
        assert layouts.detect(keys) is layouts.TIMM
        ours, strangers = layouts.TIMM.ours(keys)
        assert set(ours) == {f"pretrained.model.{key}" for key in keys}
        assert strangers == ()


def test_layouts_are_called_by_their_names() -> None:
    assert all(layout.name == name for name, layout in LAYOUTS.items())
    assert layouts.detect(["anything"]) is layouts.MAIN
