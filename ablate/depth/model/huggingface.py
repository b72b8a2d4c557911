"""What transformers must be told to build one of our networks: `config.json` and its like. No torch here.

Written for `DPTForDepthEstimation` (DPT-Hybrid, DPT-Large) and `DepthAnythingForDepthEstimation` (DINOv2). Both give
`predicted_depth`, the network's inverse depth: KITTI's and NYU's scale and shift are not part of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ablate.depth.model import layouts
from ablate.depth.model.layouts import Layout
from ablate.depth.model.specs import NetworkSpec
from ablate.task import Json

BOTTLENECK = 0.25
"""Of transformers' BiT; it has no setting for it."""
NARROW = 32
"""Channels before the last convolution of `DPTForDepthEstimation`; it has no setting for it."""


def is_depth_anything(spec: NetworkSpec) -> bool:
    """Whether a network is a DINOv2 with Depth Anything's decoder."""
    return spec.tap_norm and not spec.rotary and spec.layer_scale is not None and spec.stem is None


def layout_of(spec: NetworkSpec) -> Layout:
    if is_depth_anything(spec):
        return layouts.HF_DEPTH_ANYTHING
    return layouts.HF_DPT if spec.stem is None else layouts.HF_HYBRID


def obstacles(spec: NetworkSpec) -> Iterator[str]:
    """Why transformers has no class that computes this network, if it has none."""
    if spec.rotary or spec.registers:
        yield "transformers has no depth network with rotary positions or registers"
        return
    if spec.tap_norm != (spec.layer_scale is not None):
        yield "transformers has no depth network with one of tap_norm and layer_scale alone"
    grid = spec.position_grid or (0, 0)
    if grid[0] != grid[1]:
        yield f"transformers takes learned positions to be square, and these are {grid[0]}x{grid[1]}"
    wide, narrow = spec.head_channels
    if wide != spec.features // 2 or (narrow != NARROW and not is_depth_anything(spec)):
        yield f"transformers' head has {spec.features // 2} and {NARROW} channels, and this one {wide} and {narrow}"
    if spec.stem and spec.stem.bottleneck != BOTTLENECK:
        yield f"transformers' BiT has bottlenecks of {BOTTLENECK}, and this one {spec.stem.bottleneck}"
    if spec.stem and spec.readout != "project":
        yield f"transformers' hybrid has the readout project, and this one {spec.readout}"
    if is_depth_anything(spec) and (spec.readout != "ignore" or spec.decoder_norm != "none"):
        yield "transformers' Depth Anything has the readout ignore and no normalisation in its decoder"


def config(spec: NetworkSpec) -> Mapping[str, Json]:
    """`config.json`."""
    return _depth_anything(spec) if is_depth_anything(spec) else _dpt(spec)


def preprocessor(spec: NetworkSpec) -> Mapping[str, Json]:
    """`preprocessor_config.json`: RGB normalised as the encoder takes it, at the size of the learned positions.

    `DPTForDepthEstimation` takes square inputs alone, of a hybrid of this size alone.
    """
    side = spec.patch * (spec.position_grid or (0, 0))[0]
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "keep_aspect_ratio": is_depth_anything(spec),
        "ensure_multiple_of": spec.stride,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        "do_pad": False,
    }


def _transformer(spec: NetworkSpec) -> dict[str, Json]:
    return {
        "hidden_size": spec.embed_dim,
        "num_hidden_layers": spec.built,
        "num_attention_heads": spec.heads,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,  # timm's; transformers' own default for DPT is 1e-12
        "image_size": spec.patch * (spec.position_grid or (0, 0))[0],
        "patch_size": spec.patch,
        "num_channels": 3,
        "qkv_bias": True,
    }


def _dpt(spec: NetworkSpec) -> dict[str, Json]:
    normed = spec.decoder_norm == "batch"
    plain: dict[str, Json] = {
        "is_hybrid": False,
        "backbone_out_indices": list(spec.taps),
        "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_sizes": list(spec.map_channels),
    }
    return {
        "architectures": ["DPTForDepthEstimation"],
        "model_type": "dpt",
        "torch_dtype": "float32",
        **_transformer(spec),
        "intermediate_size": math.floor(spec.embed_dim * spec.mlp_ratio),
        **(plain if spec.stem is None else _hybrid(spec)),
        "readout_type": spec.readout,
        "fusion_hidden_size": spec.features,
        "head_in_index": -1,
        "use_batch_norm_in_fusion_residual": normed,
        "use_bias_in_fusion_residual": not normed,
        "add_projection": False,
        "use_auxiliary_head": False,
    }


def _hybrid(spec: NetworkSpec) -> dict[str, Json]:
    stem = spec.stem
    assert stem is not None
    return {
        "is_hybrid": True,
        "backbone_out_indices": [0, 1, *spec.taps],  # the first two stand for the ResNet's stages
        "reassemble_factors": [1, 1, 1, 0.5],
        "neck_hidden_sizes": [*stem.stage_channels[:2], *spec.map_channels],
        "neck_ignore_stages": [0, 1],
        "backbone_featmap_shape": [1, stem.stage_channels[2], *(spec.position_grid or (0, 0))],
        "backbone_config": {
            "model_type": "bit",
            "layer_type": "bottleneck",
            "global_padding": "same",
            "embedding_dynamic_padding": True,
            "embedding_size": stem.channels,
            "depths": list(stem.stage_blocks),
            "hidden_sizes": list(stem.stage_channels),
            "num_groups": stem.norm_groups,
            "out_features": ["stage1", "stage2", "stage3"],
        },
    }


def _depth_anything(spec: NetworkSpec) -> dict[str, Json]:
    return {
        "architectures": ["DepthAnythingForDepthEstimation"],
        "model_type": "depth_anything",
        "torch_dtype": "float32",
        "backbone_config": {
            "model_type": "dinov2",
            **_transformer(spec),
            "mlp_ratio": int(spec.mlp_ratio),
            "layerscale_value": 1.0,  # the start of training alone
            "out_features": [f"stage{tap + 1}" for tap in spec.taps],
            "apply_layernorm": True,
            "reshape_hidden_states": False,
            "use_swiglu_ffn": False,
        },
        "patch_size": spec.patch,
        "reassemble_hidden_size": spec.embed_dim,
        "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_sizes": list(spec.map_channels),
        "fusion_hidden_size": spec.features,
        "head_hidden_size": spec.head_channels[1],
        "head_in_index": -1,
        "depth_estimation_type": "relative",
        "max_depth": 1,
    }
