from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch

from ablate.depth.config import ModelSettings
from ablate.depth.model import audit
from ablate.depth.model.dpt import DPT, build
from ablate.depth.model.specs import SPECS, NetworkSpec

Small = Callable[[str], NetworkSpec]

PARAMETERS = {
    "dpt_hybrid": 123_146_985,
    "dpt_large": 344_055_465,
    # those of Depth-Anything-V2's files less its mask token, which nothing uses
    "dpt_dinov2_small": 24_785_089 - 384,
    "dpt_dinov2_base": 97_470_785 - 768,
    "dpt_dinov2_large": 335_315_649 - 1024,
}


def on_meta(name: str = "dpt_hybrid", **settings: object) -> DPT:
    with torch.device("meta"):
        return build(ModelSettings(name=name, **settings))  # type: ignore[arg-type]


def parts_of(model: DPT) -> dict[str, int]:
    return {part.name: part.parameters for part in audit.parts(model)}


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_published_number_of_parameters(name: str) -> None:
    model = on_meta(name)
    assert audit.count(model) == PARAMETERS[name]
    assert sum(parts_of(model).values()) == PARAMETERS[name]
    assert audit.shared(model) == ()


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_dinov3_has_timms_encoder_and_the_decoder_of_its_dinov2_sister(size: str) -> None:
    with torch.device("meta"):
        new, old = (timm.create_model(f"vit_{size}_patch{name}") for name in ("16_dinov3", "14_dinov2"))
    decoder = PARAMETERS[f"dpt_dinov2_{size}"] - audit.count(old)
    assert audit.count(on_meta(f"dpt_dinov3_{size}")) == audit.count(new) + decoder


def test_parts_of_the_hybrid() -> None:
    parts = parts_of(on_meta())
    assert parts["attention"] == 12 * (768 * 2304 + 2304 + 768 * 768 + 768)
    assert parts["mlp"] == 12 * (2 * 768 * 3072 + 3072 + 768)
    compressed = parts_of(on_meta(attention="memory_compressed", compression=3))
    assert compressed["attention"] - parts["attention"] == 12 * (768 * 64 * 3 + 768)


def test_the_last_norm_is_unused_only_where_tapped_tokens_do_not_pass_it() -> None:
    assert audit.part_of("pretrained.model.norm.weight", SPECS["dpt_hybrid"]) == "unused"
    assert audit.part_of("pretrained.model.norm.weight", SPECS["dpt_dinov2_base"]) == "norms"
    with pytest.raises(ValueError, match=r"extra\.weight belongs to no part"):
        audit.part_of("extra.weight", SPECS["dpt_hybrid"])


def test_unused_is_what_gets_no_gradient(small: NetworkSpec) -> None:
    model = DPT(small)
    model(torch.rand(2, 3, 2 * small.stride, 3 * small.stride) * 2 - 1).mean().backward()
    without = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {key for key, _ in model.named_parameters() if audit.part_of(key, small) == "unused"}


def test_blocks_after_the_last_tap_are_not_counted() -> None:
    """The thesis' hooks 2, 5 of DPT-Hybrid: 80.6 M parameters; 0, 1 with the same taps: 52.3 M."""
    assert round(audit.count(on_meta(taps=(2, 5))) / 1e6, 1) == 80.6
    assert round(audit.count(on_meta(taps=(0, 1))) / 1e6, 1) == 52.3


def test_one_attention_for_all_blocks_is_reported() -> None:
    """The log's rows 5 to 7: 96.4 M parameters and less instead of 123.1 M, by accident."""
    model = on_meta(share_attention=True)
    (found,) = audit.shared(model)
    assert found.name == "pretrained.model.blocks.0.attn"
    assert found.shared == tuple(f"pretrained.model.blocks.{number}.attn" for number in range(1, 12))
    assert audit.count(model) == PARAMETERS["dpt_hybrid"] - 11 * found.parameters
    own = [part for part in audit.parts(model) if not part.shared]
    assert sum(part.parameters for part in own) == audit.count(model)


def test_shared_modules_are_found() -> None:
    model = on_meta("dpt_tiny")
    blocks = model.pretrained.model.blocks
    blocks[2].attn = blocks[0].attn
    blocks[3].mlp.fc1.weight = blocks[1].mlp.fc1.weight
    found = {part.name: part for part in audit.shared(model)}
    first = "pretrained.model.blocks.0.attn"
    assert found.keys() == {first, "pretrained.model.blocks.1.mlp.fc1.weight"}
    assert found[first].shared == ("pretrained.model.blocks.2.attn",)
    assert found[first].parameters == 4 * 64 * 64 + 4 * 64
