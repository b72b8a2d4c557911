from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from ablate.depth import attention
from ablate.depth.config import ModelSettings
from ablate.depth.model import audit
from ablate.depth.model.decoder import Decoder, Fusion
from ablate.depth.model.dpt import DPT, build, inverse_to_depth
from ablate.depth.model.encoder import Readout
from ablate.depth.model.specs import SPECS

PUBLISHED_TENSORS = 368
PUBLISHED_PARAMETERS = 123_146_985
PUBLISHED_LAYOUT = "fba1b6b4f9e879d6d67ae345bb2ee46dd0e30000bc2d970ee9bd58c73fa66a63"


def layout(shapes: dict[str, tuple[int, ...]]) -> str:
    """A fingerprint of names and shapes."""
    lines = sorted(f"{key} {'x'.join(map(str, shape))}" for key, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def on_meta(name: str = "dpt_hybrid", **settings: object) -> DPT:
    with torch.device("meta"):
        return build(ModelSettings(name=name, **settings))  # type: ignore[arg-type]


def tiny(seed: int = 0, **settings: object) -> DPT:
    torch.manual_seed(seed)
    return build(ModelSettings(name="dpt_tiny", **settings))  # type: ignore[arg-type]


VARIANTS: list[dict[str, object]] = [
    *({"attention": name} for name in attention.names()),
    {"attention": "memory_compressed", "compression": 3},
]


def test_hybrid_has_the_published_tensors() -> None:
    """368 names and shapes of the `main` layout; the fingerprint was taken from the published list."""
    state = on_meta().state_dict()
    assert len(state) == PUBLISHED_TENSORS
    assert sum(value.numel() for value in state.values()) == PUBLISHED_PARAMETERS
    assert layout({key: tuple(value.shape) for key, value in state.items()}) == PUBLISHED_LAYOUT


def test_the_fingerprint_is_that_of_the_published_list(shared: Path) -> None:
    shapes = json.loads((shared / "reference" / "dpt_hybrid_keys.json").read_text())["main"]
    assert layout(shapes) == PUBLISHED_LAYOUT


def test_encoder_is_timms_hybrid() -> None:
    """Same names, shapes and modules as timm's own; only the attention is replaced."""
    with torch.device("meta"):
        theirs = timm.create_model("vit_base_r50_s16_384", pretrained=False)
    ours = on_meta().pretrained.model
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}

    def described(model: nn.Module) -> dict[str, str]:
        leaves = {k: m for k, m in model.named_modules() if not any(True for _ in m.children())}
        return {k: f"{type(m).__name__}({m.extra_repr()})" for k, m in leaves.items() if ".attn" not in k}

    assert described(ours) == described(theirs)


@pytest.mark.slow
def test_encoder_computes_what_timms_hybrid_does() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("vit_base_r50_s16_384", pretrained=False).eval()
    ours = on_meta()
    ours.pretrained.model.load_state_dict(theirs.state_dict(), assign=True)
    image = torch.randn(1, 3, 384, 384)
    with torch.no_grad():
        expected = theirs.forward_features(image)
        patches = ours.pretrained.model.patch_embed(image)
        tokens = ours.pretrained._tokens(patches, (24, 24))[-1]
        assert torch.allclose(ours.pretrained.model.norm(tokens), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("resolution", "tolerance"), [("full", 1e-3), ("reduced", 2e-2)])
def test_hybrid_predicts_what_the_published_code_does(shared: Path, resolution: str, tolerance: float) -> None:
    """Stand-in weights under the published names; depth that isl-org/DPT computed with them."""
    sys.path.insert(0, str(shared / "reference"))
    try:
        from stand_in import stand_in_image, stand_in_weights  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    shapes = json.loads((shared / "reference" / "dpt_hybrid_keys.json").read_text())["main"]
    model = on_meta()
    model.load_state_dict(stand_in_weights(shapes, 2), assign=True)
    crop = stand_in_image(2, 375, 1242)[375 - 352 :, 13 : 13 + 1216]
    image = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    size = (352, 1216) if resolution == "full" else (192, 672)
    with torch.inference_mode():
        depth = model.depth(F.interpolate(image, size=size, mode="bicubic") if resolution == "reduced" else image)
        depth = F.interpolate(depth, size=(352, 1216), mode="bicubic") if resolution == "reduced" else depth
    expected = np.load(shared / "reference" / "predict_seed2.npz")[resolution]
    difference = np.abs(depth[0, 0, 4::16, 4::16].numpy() - expected) / expected
    assert np.median(difference) < tolerance


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_tiny_predicts_at_any_size(settings: dict[str, object]) -> None:
    model = tiny(**settings).eval()
    for height, width in ((32, 32), (96, 320), (64, 224), (352, 1216)):
        with torch.inference_mode():
            depth = model.depth(torch.rand(1, 3, height, width) * 2 - 1)
        assert depth.shape == (1, 1, height, width)
        assert depth.isfinite().all()
        assert (depth > 0).all()


def test_a_size_that_is_no_multiple_of_32_is_refused() -> None:
    with pytest.raises(ValueError, match="48x320 is not made of multiples of 32"):
        tiny()(torch.zeros(1, 3, 48, 320))


@pytest.mark.parametrize("name", SPECS)
def test_an_untrained_network_starts_in_the_range_of_streets(name: str) -> None:
    torch.manual_seed(0)
    model = build(ModelSettings(name=name)).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        depth = model.depth(torch.rand(1, 3, 96, 320) * 2 - 1)
    assert 8 < float(depth.median()) < 30
    assert (depth < 80).float().mean() > 0.95


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_every_used_parameter_gets_a_gradient(settings: dict[str, object]) -> None:
    model = tiny(**settings)
    model(torch.rand(2, 3, 64, 96) * 2 - 1).mean().backward()
    without = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {key for key, _ in model.named_parameters() if audit._part_of(key) == "unused"}


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_nothing_is_shared_and_the_parts_add_up(settings: dict[str, object]) -> None:
    for name in SPECS:
        model = on_meta(name, **settings)
        assert audit.shared(model) == ()
        assert sum(part.parameters for part in audit.parts(model)) == audit.count(model)


def test_parts_of_the_hybrid() -> None:
    parts = {part.name: part.parameters for part in audit.parts(on_meta())}
    assert sum(parts.values()) == PUBLISHED_PARAMETERS
    assert parts["attention"] == 12 * (768 * 2304 + 2304 + 768 * 768 + 768)
    assert parts["mlp"] == 12 * (2 * 768 * 3072 + 3072 + 768)
    compressed = audit.parts(on_meta(attention="memory_compressed", compression=3))
    extra = next(part.parameters for part in compressed if part.name == "attention") - parts["attention"]
    assert extra == 12 * (768 * 64 * 3 + 768)


def test_shared_modules_are_found() -> None:
    model = tiny()
    blocks = model.pretrained.model.blocks
    blocks[2].attn = blocks[0].attn
    blocks[3].mlp.fc1.weight = blocks[1].mlp.fc1.weight
    found = {part.name: part for part in audit.shared(model)}
    first = "pretrained.model.blocks.0.attn"
    assert found.keys() == {first, "pretrained.model.blocks.1.mlp.fc1.weight"}
    assert found[first].shared == ("pretrained.model.blocks.2.attn",)
    assert found[first].parameters == 4 * 64 * 64 + 4 * 64


def test_cells_that_differ_in_attention_start_alike_elsewhere() -> None:
    states = [tiny(**settings).state_dict() for settings in VARIANTS]
    for key, value in states[0].items():
        assert all(torch.equal(value, state[key]) for state in states[1:]), key
    other = tiny(seed=1).state_dict()
    assert not torch.equal(other["pretrained.model.cls_token"], states[0]["pretrained.model.cls_token"])


def test_blocks_have_attentions_of_their_own() -> None:
    blocks = tiny(attention="performer").pretrained.model.blocks
    assert len({id(block.attn) for block in blocks}) == len(blocks)
    assert not torch.equal(blocks[0].attn.features, blocks[1].attn.features)


def test_positions_are_exact_on_their_own_grid_and_interpolated_elsewhere() -> None:
    encoder = tiny().pretrained
    assert encoder._positions((6, 20)) is encoder.model.pos_embed
    resized = encoder._positions((12, 10))
    assert resized.shape == (1, 121, 64)
    assert torch.equal(resized[:, :1], encoder.model.pos_embed[:, :1])
    with torch.no_grad():  # a ramp over the columns stays a ramp
        encoder.model.pos_embed[0, 1:] = torch.arange(20.0).repeat(6)[:, None].expand(-1, 64)
    columns = encoder._positions((6, 10))[0, 1:, 0].reshape(6, 10)
    assert torch.allclose(columns[0], torch.arange(10) * 2 + 0.5)


def test_readout_joins_the_class_token_to_every_patch() -> None:
    readout = Readout(4)
    x = torch.randn(2, 7, 4)
    expected = F.gelu(readout.project[0](torch.cat([x[:, 1:], x[:, :1].repeat(1, 6, 1)], dim=-1)))
    assert torch.allclose(readout(x), expected)


def test_fusion_is_the_published_order_of_resize_and_convolution() -> None:
    """isl-org/DPT doubles the map before the 1x1 convolution; doubling it after is the same."""
    torch.manual_seed(0)
    fusion = Fusion(6)
    x, path = torch.randn(2, 2, 6, 3, 5).unbind()
    inner = fusion.resConfUnit2(path + fusion.resConfUnit1(x))
    doubled = F.interpolate(inner, scale_factor=2, mode="bilinear", align_corners=True)
    assert torch.allclose(fusion(x, path), fusion.out_conv(doubled), atol=1e-5)
    assert torch.allclose(
        fusion(x, None), fusion(torch.zeros_like(x), x - fusion.resConfUnit1(torch.zeros_like(x))), atol=1e-5
    )


def test_decoder_doubles_its_finest_map_twice() -> None:
    decoder = Decoder((8, 8, 12, 12), 6, (4, 4))
    maps = [torch.randn(1, width, 64 // 2**k, 96 // 2**k) for k, width in enumerate((8, 8, 12, 12))]
    assert decoder(maps).shape == (1, 1, 256, 384)


def test_depth_of_known_outputs() -> None:
    """x = 0 is 172.7 m, 111.5 is 80 m, 1566 is 10 m, 16526 is 1 m (KITTI's constants)."""
    depth = inverse_to_depth(torch.tensor([0.0, 111.5, 1566.0, 3228.0, 16526.0]))
    assert depth.tolist() == pytest.approx([172.71, 80.0, 10.0, 5.0, 1.0], rel=1e-3)


def test_same_seed_same_training() -> None:
    def trained() -> torch.Tensor:
        model = tiny(seed=3, attention="memory_compressed")
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
        for _ in range(3):
            optimizer.zero_grad()
            model.depth(image).log().square().mean().backward()
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(trained(), trained())
