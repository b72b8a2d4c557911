"""The networks against timm and transformers, with the same random weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from ablate.depth.model.dpt import DPT
from ablate.depth.model.specs import SPECS, NetworkSpec
from ablate.depth.model.transformer import vision_transformer

transformers = pytest.importorskip("transformers", reason="transformers is a test dependency")

TOLERANCE = 1e-4

Randomise = Callable[[nn.Module], DPT]
Small = Callable[[str], NetworkSpec]

TIMM = {
    "dpt_hybrid": "vit_base_r50_s16_384",
    "dpt_large": "vit_large_patch16_384",
    "dpt_dinov2_small": "vit_small_patch14_dinov2",
    "dpt_dinov2_base": "vit_base_patch14_dinov2",
    "dpt_dinov2_large": "vit_large_patch14_dinov2",
    "dpt_dinov3_small": "vit_small_patch16_dinov3",
    "dpt_dinov3_base": "vit_base_patch16_dinov3",
    "dpt_dinov3_large": "vit_large_patch16_dinov3",
}

NECK = [
    (r"scratch\.layer(\d)_rn\.", lambda m: f"neck.convs.{int(m[1]) - 1}."),
    (r"scratch\.refinenet(\d)\.", lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}."),
    (r"out_conv\.", "projection."),
    (r"resConfUnit(\d)\.conv(\d)\.", r"residual_layer\1.convolution\2."),
    (r"resConfUnit(\d)\.bn(\d)\.", r"residual_layer\1.batch_norm\2."),
    (
        r"pretrained\.act_postprocess(\d)\.0\.project\.",
        lambda m: f"neck.reassemble_stage.readout_projects.{int(m[1]) - 1}.",
    ),
    (r"pretrained\.act_postprocess(\d)\.3\.", lambda m: f"neck.reassemble_stage.layers.{int(m[1]) - 1}.projection."),
    (r"pretrained\.act_postprocess(\d)\.4\.", lambda m: f"neck.reassemble_stage.layers.{int(m[1]) - 1}.resize."),
]

DPT_NAMES = [
    *NECK,
    (r"pretrained\.model\.blocks\.(\d+)\.attn\.proj\.", r"dpt.encoder.layer.\1.attention.output.dense."),
    (r"pretrained\.model\.blocks\.(\d+)\.attn\.", r"dpt.encoder.layer.\1.attention.attention."),
    (r"pretrained\.model\.blocks\.(\d+)\.mlp\.fc1\.", r"dpt.encoder.layer.\1.intermediate.dense."),
    (r"pretrained\.model\.blocks\.(\d+)\.mlp\.fc2\.", r"dpt.encoder.layer.\1.output.dense."),
    (r"pretrained\.model\.blocks\.(\d+)\.norm1\.", r"dpt.encoder.layer.\1.layernorm_before."),
    (r"pretrained\.model\.blocks\.(\d+)\.norm2\.", r"dpt.encoder.layer.\1.layernorm_after."),
    (r"pretrained\.model\.norm\.", "dpt.layernorm."),
    (r"pretrained\.model\.pos_embed", "dpt.embeddings.position_embeddings"),
    (r"pretrained\.model\.cls_token", "dpt.embeddings.cls_token"),
    (r"pretrained\.model\.patch_embed\.proj\.", "dpt.embeddings.patch_embeddings.projection."),
    (r"scratch\.output_conv\.", "head.head."),
]
QKV_OF_DPT = ("query", "key", "value")

DEPTH_ANYTHING_NAMES = [
    *NECK,
    (r"pretrained\.model\.blocks\.(\d+)\.attn\.proj\.", r"backbone.encoder.layer.\1.attention.o_proj."),
    (r"pretrained\.model\.blocks\.(\d+)\.attn\.", r"backbone.encoder.layer.\1.attention."),
    (r"pretrained\.model\.blocks\.(\d+)\.ls(\d)\.gamma", r"backbone.encoder.layer.\1.layer_scale\2.lambda1"),
    (r"pretrained\.model\.blocks\.", "backbone.encoder.layer."),
    (r"pretrained\.model\.norm\.", "backbone.layernorm."),
    (r"pretrained\.model\.pos_embed", "backbone.embeddings.position_embeddings"),
    (r"pretrained\.model\.cls_token", "backbone.embeddings.cls_token"),
    (r"pretrained\.model\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
    (r"scratch\.output_conv\.(\d)\.", lambda m: f"head.conv{int(m[1]) // 2 + 1}."),
]
QKV_OF_DEPTH_ANYTHING = ("q_proj", "k_proj", "v_proj")


def renamed(state: Mapping[str, Tensor], names: Any, qkv: tuple[str, str, str]) -> dict[str, Tensor]:
    """Our tensors under the names of transformers."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, target in names:
            key = re.sub(pattern, target, key)
        if ".qkv." in key:
            found |= {key.replace("qkv", part): piece for part, piece in zip(qkv, value.chunk(3), strict=True)}
        else:
            found[key] = value
    return found


def load(theirs: nn.Module, state: dict[str, Tensor], unused: set[str]) -> nn.Module:
    """Every tensor must find its place, but for those of theirs that are named."""
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert {key for key in missing if "num_batches_tracked" not in key} == unused
    return theirs.eval()


def close(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.05, "the weights make a constant picture; the comparison shows nothing"
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < TOLERANCE * theirs.abs().max().clamp(min=1)


def depth_anything(spec: NetworkSpec) -> nn.Module:
    rows = spec.position_grid[0] if spec.position_grid else 0
    backbone = transformers.Dinov2Config(
        hidden_size=spec.embed_dim,
        num_hidden_layers=spec.blocks,
        num_attention_heads=spec.heads,
        image_size=14 * rows,
        patch_size=14,
        out_indices=[tap + 1 for tap in spec.taps],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=spec.embed_dim,
        patch_size=14,
        neck_hidden_sizes=list(spec.map_channels),
        fusion_hidden_size=spec.features,
        head_hidden_size=spec.head_channels[1],
    )
    return transformers.DepthAnythingForDepthEstimation(config)


@pytest.mark.parametrize("size", [(56, 56), (42, 98), (98, 14), (28, 112), (14, 14)], ids=str)
def test_dinov2_is_depth_anything(small_spec: Small, randomise: Randomise, size: tuple[int, int]) -> None:
    """On the learned grid, on others, and on one with as many cells as the learned one but another shape."""
    ours = randomise(DPT(small_spec("dinov2")))
    state = renamed(ours.state_dict(), DEPTH_ANYTHING_NAMES, QKV_OF_DEPTH_ANYTHING)
    theirs = load(depth_anything(small_spec("dinov2")), state, {"backbone.embeddings.mask_token"})
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        close(ours(image)[:, 0], theirs(ours.normalised(image)).predicted_depth)


@pytest.mark.parametrize("name", ["dpt_dinov2_small", "dpt_dinov2_base", "dpt_dinov2_large"])
def test_dinov2_networks_have_the_tensors_of_depth_anything(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = DPT(SPECS[name]), depth_anything(SPECS[name])
    state = renamed(ours.state_dict(), DEPTH_ANYTHING_NAMES, QKV_OF_DEPTH_ANYTHING)
    wanted = {key: value.shape for key, value in theirs.state_dict().items()}
    del wanted["backbone.embeddings.mask_token"]
    assert {key: value.shape for key, value in state.items()} == wanted


def dpt_large(spec: NetworkSpec) -> nn.Module:
    rows = spec.position_grid[0] if spec.position_grid else 0
    config = transformers.DPTConfig(
        hidden_size=spec.embed_dim,
        num_hidden_layers=spec.blocks,
        num_attention_heads=spec.heads,
        intermediate_size=int(spec.mlp_ratio * spec.embed_dim),
        layer_norm_eps=1e-6,
        image_size=16 * rows,
        backbone_out_indices=list(spec.taps),
        readout_type=spec.readout,
        neck_hidden_sizes=list(spec.map_channels),
        fusion_hidden_size=spec.features,
        use_batch_norm_in_fusion_residual=spec.decoder_norm == "batch",
    )
    return transformers.DPTForDepthEstimation(config)


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"readout": "ignore"},
        {"readout": "add"},
        {"decoder_norm": "batch"},
        {"heads": 8},
        {"taps": (1, 3, 4, 5), "blocks": 6},
    ],
    ids=str,
)
def test_large_is_that_of_transformers(
    small_spec: Small, randomise: Randomise, changes: dict[str, Any], side: int
) -> None:
    """Square inputs alone: transformers cannot run this network on others."""
    spec = replace(small_spec("large"), **changes)
    ours = randomise(DPT(spec))
    for name, buffer in ours.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(2)) + 0.5)
    theirs = load(dpt_large(spec), renamed(ours.state_dict(), DPT_NAMES, QKV_OF_DPT), set())
    image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        close(ours(image)[:, 0], theirs(ours.normalised(image)).predicted_depth)


def test_large_has_the_tensors_of_transformers() -> None:
    with torch.device("meta"):
        ours, theirs = DPT(SPECS["dpt_large"]), dpt_large(SPECS["dpt_large"])
    state = renamed(ours.state_dict(), DPT_NAMES, QKV_OF_DPT)
    classifier = {key: state.pop(key) for key in list(state) if ".head." in key and key.startswith("pretrained")}
    assert len(classifier) == 2
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("name", TIMM)
def test_encoders_are_timms(name: str) -> None:
    """Same names, shapes and modules as timm's own."""
    with torch.device("meta"):
        theirs, ours = timm.create_model(TIMM[name], pretrained=False), vision_transformer(SPECS[name])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}

    def described(model: nn.Module) -> dict[str, str]:
        leaves = {k: m for k, m in model.named_modules() if not any(True for _ in m.children())}
        return {k: f"{type(m).__name__}({m.extra_repr()})" for k, m in leaves.items()}

    assert described(ours) == described(theirs)


@pytest.mark.parametrize("family", ["hybrid", "large", "dinov2", "dinov2_registers", "dinov3"])
def test_tokens_are_those_of_timms_forward(small_spec: Small, randomise: Randomise, family: str) -> None:
    """After the last block and norm, on the grid that timm's encoder was made for; DINOv3 on two more."""
    spec = replace(small_spec(family), tap_norm=True)
    ours = randomise(DPT(spec)).pretrained
    theirs = vision_transformer(spec).eval()
    theirs.load_state_dict(ours.model.state_dict())
    grids = [spec.position_grid] if spec.position_grid else [(4, 4), (2, 6), (8, 2)]
    for rows, columns in grids:
        image = torch.randn(2, 3, spec.patch * rows, spec.patch * columns)
        with torch.inference_mode():
            _, patches = ours._embedded(image)
            tokens = ours._tokens(patches.flatten(2).transpose(1, 2), (rows, columns))[-1]
            assert torch.allclose(tokens, theirs.forward_features(image), atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_rotary_positions_follow_the_heads(small_spec: Small, randomise: Randomise, heads: int) -> None:
    spec = replace(small_spec("dinov3"), heads=heads)
    ours = randomise(DPT(spec)).pretrained
    theirs = vision_transformer(spec).eval()
    theirs.load_state_dict(ours.model.state_dict())
    image = torch.randn(1, 3, 32, 96)
    with torch.inference_mode():
        tokens = ours._tokens(ours._embedded(image)[1].flatten(2).transpose(1, 2), (2, 6))[-1]
        assert torch.allclose(tokens, theirs.forward_features(image), atol=1e-5)
