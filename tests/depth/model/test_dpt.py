from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from ablate.depth import attention as family
from ablate.depth.config import ModelSettings
from ablate.depth.model import audit
from ablate.depth.model.dpt import DPT, build, inverse_to_depth
from ablate.depth.model.specs import SPECS, NetworkSpec

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


TIMM = {
    "dpt_hybrid": "vit_base_r50_s16_384",
    "dpt_large": "vit_large_patch16_384",
    **{f"dpt_dinov2_{size}": f"vit_{size}_patch14_dinov2" for size in ("small", "base", "large")},
    **{f"dpt_dinov3_{size}": f"vit_{size}_patch16_dinov3" for size in ("small", "base", "large")},
}

VARIANTS: list[dict[str, object]] = [
    *({"attention": name} for name in family.names()),
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


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_tiny_predicts_at_any_size(settings: dict[str, object]) -> None:
    model = tiny(**settings).eval()
    for height, width in ((32, 32), (96, 320), (64, 224)):
        with torch.inference_mode():
            depth = model.depth(torch.rand(1, 3, height, width) * 2 - 1)
        assert depth.shape == (1, 1, height, width)
        assert depth.isfinite().all()
        assert (depth > 0).all()


@pytest.mark.parametrize("name", SPECS)
def test_every_network_gives_one_value_per_pixel(name: str) -> None:
    """Shapes alone, at a size that is not square and, in tokens of DINOv2, odd."""
    model = on_meta(name)
    size = (3 * model.spec.stride, 7 * model.spec.stride)
    assert model(torch.empty(2, 3, *size, device="meta")).shape == (2, 1, *size)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (3, 7), (6, 5)])
def test_small_networks_give_one_value_per_pixel(small: NetworkSpec, rows: int, columns: int) -> None:
    size = (rows * small.stride, columns * small.stride)
    with torch.inference_mode():
        assert DPT(small).eval()(torch.zeros(2, 3, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize("attention", [name for name in family.names() if name != "memory_compressed_0_0_3"])
def test_every_attention_runs_in_every_network(small: NetworkSpec, attention: str) -> None:
    """With class token, registers and rotary positions, and gradients for all that is used."""
    settings = ModelSettings(attention=attention)
    options = {key: getattr(settings, key) for key in family.options(attention)}
    model = DPT(small, attention, options, blocks=(1, 3))
    size = (2 * small.stride, 3 * small.stride)
    out = model(torch.rand(2, 3, *size) * 2 - 1)
    assert out.shape == (2, 1, *size)
    out.mean().backward()
    without = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {key for key, _ in model.named_parameters() if audit.part_of(key, small) == "unused"}


@pytest.mark.parametrize("changes", [{"decoder_norm": "batch"}, {"readout": "add"}, {"readout": "project"}], ids=str)
def test_axes_change_no_shape_and_train(small: NetworkSpec, changes: dict[str, Any]) -> None:
    model = DPT(small.tailored(**changes))
    size = (small.stride, 3 * small.stride)
    out = model(torch.rand(2, 3, *size) * 2 - 1)
    assert out.shape == (2, 1, *size)
    out.mean().backward()
    last = model.get_parameter("scratch.refinenet4.resConfUnit2.conv1.weight").grad
    assert last is not None
    assert last.abs().sum() > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_an_untrained_network_starts_in_the_range_of_streets(small: NetworkSpec, seed: int) -> None:
    torch.manual_seed(seed)
    model = DPT(small).eval()
    with torch.inference_mode():
        depth = model.depth(torch.rand(1, 3, 3 * small.stride, 10 * small.stride) * 2 - 1)
    assert 8 < float(depth.median()) < 30
    assert (depth < 80).float().mean() > 0.95


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_nothing_is_shared_and_the_parts_add_up(settings: dict[str, object]) -> None:
    model = on_meta("dpt_tiny", **settings)
    assert audit.shared(model) == ()
    assert sum(part.parameters for part in audit.parts(model)) == audit.count(model)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_cells_that_differ_in_attention_start_alike_elsewhere(settings: dict[str, object]) -> None:
    plain, other = tiny().state_dict(), tiny(**settings).state_dict()
    for key, value in plain.items():
        if ".attn." not in key:
            assert torch.equal(value, other[key]), key
    assert not torch.equal(plain["pretrained.model.cls_token"], tiny(seed=1).state_dict()["pretrained.model.cls_token"])


def test_cells_that_differ_in_heads_readout_or_sharing_start_alike_elsewhere() -> None:
    plain = tiny().state_dict()
    for settings in ({"heads": 8}, {"attention": "performer", "attention_blocks": (1, 2)}):
        other = tiny(**settings).state_dict()
        assert all(torch.equal(value, other[key]) for key, value in plain.items())


def test_blocks_have_attentions_of_their_own() -> None:
    blocks = tiny(attention="performer").pretrained.model.blocks
    assert len({id(block.attn) for block in blocks}) == len(blocks)
    assert not torch.equal(blocks[0].attn.features, blocks[1].attn.features)


def test_depth_of_known_outputs() -> None:
    """KITTI: x = 0 is 172.7 m, 111.5 is 80 m, 1566 is 10 m, 16526 is 1 m. NYU: 0 is 7.26 m, 1000 is 2.26 m."""
    depth = inverse_to_depth(torch.tensor([0.0, 111.5, 1566.0, 3228.0, 16526.0]))
    assert depth.tolist() == pytest.approx([172.71, 80.0, 10.0, 5.0, 1.0], rel=1e-3)
    indoors = inverse_to_depth(torch.tensor([0.0, 1000.0]), 0.000305, 0.1378)
    assert indoors.tolist() == pytest.approx([7.257, 2.258], rel=1e-3)


def test_metres_by_the_data_sets_scale_and_shift() -> None:
    model, image = tiny().eval(), torch.rand(1, 3, 32, 64) * 2 - 1
    with torch.inference_mode():
        inverse = model(image)
        assert torch.allclose(model.depth(image, 0.000305, 0.1378), 1 / (0.000305 * inverse + 0.1378))
        assert torch.equal(model.depth(image), inverse_to_depth(inverse))


@pytest.mark.parametrize("name", SPECS)
def test_encoders_see_the_colours_that_they_were_trained_on(name: str) -> None:
    """DINOv2 and 3 take ImageNet's mean and deviation, as Depth Anything does; our images are in [-1, 1]."""
    pixels = torch.randint(0, 256, (2, 3, 4, 5)).float()
    half, imagenet = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    mean, std = (torch.tensor(of_rgb).view(3, 1, 1) for of_rgb in (imagenet if "dino" in name else half))
    seen = on_meta(name).normalised(pixels / 127.5 - 1)
    assert torch.allclose(seen, (pixels / 255 - mean) / std, atol=1e-5)
    data = timm.get_pretrained_cfg(TIMM[name]) if name in TIMM else None
    assert data is None or (data.mean, data.std) == (tuple(SPECS[name].mean), tuple(SPECS[name].std))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_metres_keep_single_precision(dtype: torch.dtype) -> None:
    """The floor of 1e-8 is 0 in half precision, and 1 / 0 no depth."""
    depth = inverse_to_depth(torch.zeros(2, dtype=dtype), 1.0, 0.0)
    assert depth.dtype == torch.float32
    assert depth.tolist() == pytest.approx([1e8, 1e8])


def test_half_precision_is_close_and_trains(small: NetworkSpec) -> None:
    """By autocast and with bfloat16 weights; no layer asks for a precision of its own."""
    torch.manual_seed(0)
    model = DPT(small)
    image = torch.rand(2, 3, 2 * small.stride, 3 * small.stride) * 2 - 1
    exact = model.depth(image).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model.depth(image)
    assert rough.dtype == torch.float32
    assert float(((rough.detach() - exact) / exact).abs().median()) < 0.05
    rough.log().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with torch.inference_mode():
        low = model.to(torch.bfloat16).depth(image.to(torch.bfloat16))
    assert float(((low - exact) / exact).abs().median()) < 0.1


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


def test_settings_that_do_not_suit_the_network_build_none() -> None:
    """A configuration refuses them before; this is what code that builds a network by itself meets."""
    with pytest.raises(ValueError, match="5 heads cannot share 64 channels"):
        tiny(heads=5)
    with pytest.raises(ValueError, match="1 taps"):
        tiny(taps=(3,))


def test_released_networks_stay_as_they_were() -> None:
    """The weights of seed 0, and what they predict: figures in the README and of every user came from them."""
    digest = hashlib.sha256()
    for value in tiny().state_dict().values():
        digest.update(value.numpy().tobytes())
    assert digest.hexdigest()[:16] == "48567b48a0414f0d"
