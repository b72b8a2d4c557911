"""Every attention meets the same contract; each has tests of its own below."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys

import numpy as np
import pytest
import timm.layers
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth import attention
from ablate.depth.attention import base
from ablate.depth.attention.performer import orthogonal_features

VARIANTS = [
    ("standard", {}),
    ("performer", {}),
    *[("memory_compressed", {"compression": r}) for r in (1, 2, 3, 5, 64)],
]
every_attention = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value))
layouts = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 9), st.integers(0, 3))


def make(name: str, options: dict[str, int], dim: int = 16, heads: int = 2, seed: int = 0) -> base.Attention:
    torch.manual_seed(seed)
    return base.load(name)(dim, heads, True, **options)


def tokens(batch: int, rows: int, columns: int, prefix: int, dim: int = 16, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    return scale * torch.randn(batch, prefix + rows * columns, dim, generator=generator)


def test_every_file_of_the_family_is_covered() -> None:
    assert {name for name, _ in VARIANTS} == set(attention.names())
    assert attention.names()[0] == "standard"


@pytest.mark.parametrize("name", attention.names())
def test_constructor_takes_exactly_the_options_of_its_file(name: str) -> None:
    parameters = list(inspect.signature(base.load(name)).parameters)
    assert parameters == ["dim", "num_heads", "qkv_bias", *attention.options(name)]


def test_names_and_options_are_listed_without_torch() -> None:
    code = (
        "import sys; from ablate.depth import attention; "
        "assert attention.options('memory_compressed') == {'compression': 2}; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of standard, "):
        base.load("../secrets")


@every_attention
@settings(max_examples=25, deadline=None)
@given(layout=layouts)
def test_any_layout_in_float32(name: str, options: dict[str, int], layout: tuple[int, int, int, int]) -> None:
    batch, rows, columns, prefix = layout
    module = make(name, options)
    x = tokens(batch, rows, columns, prefix).requires_grad_()
    out = module(x, grid=(rows, columns), prefix=prefix)
    assert out.shape == x.shape
    assert out.isfinite().all()
    out.square().sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # a constant added to all keys leaves softmax as it is: their biases alone may have no gradient
        if key.endswith("weight") and rows * columns > 1:
            assert parameter.grad.abs().max() > 0, key
    assert x.grad is not None
    assert x.grad.isfinite().all()


@every_attention
@settings(max_examples=8, deadline=None)
@given(layout=layouts)
def test_any_layout_in_bfloat16(name: str, options: dict[str, int], layout: tuple[int, int, int, int]) -> None:
    batch, rows, columns, prefix = layout
    module = make(name, options)
    x = tokens(batch, rows, columns, prefix)
    exact = module(x, grid=(rows, columns), prefix=prefix)
    out = module.to(torch.bfloat16)(x.bfloat16(), grid=(rows, columns), prefix=prefix)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), exact, atol=0.05)


@every_attention
def test_under_autocast(name: str, options: dict[str, int]) -> None:
    module, x = make(name, options), tokens(2, 3, 5, 1)
    exact = module(x, grid=(3, 5), prefix=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(x, grid=(3, 5), prefix=1)
    assert torch.allclose(out.float(), exact, atol=0.05)


@every_attention
@settings(max_examples=25, deadline=None)
@given(layout=layouts)
def test_weights_sum_to_one(name: str, options: dict[str, int], layout: tuple[int, int, int, int]) -> None:
    """Values that are the same at every token come out unchanged, so no padding was averaged in."""
    batch, rows, columns, prefix = layout
    module = make(name, options)
    q, k = torch.randn(2, batch, 2, prefix + rows * columns, 8, generator=torch.Generator().manual_seed(1)).unbind()
    value = torch.arange(8.0) - 3
    out = module.attend(q, k, value.expand_as(k).contiguous(), (rows, columns), prefix)
    assert torch.allclose(out, value.expand_as(out), atol=1e-5)


@every_attention
def test_large_inputs_stay_finite(name: str, options: dict[str, int]) -> None:
    module = make(name, options)
    x = tokens(1, 4, 5, 1, scale=1e3).requires_grad_()
    out = module(x, grid=(4, 5), prefix=1)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@every_attention
def test_images_of_a_batch_do_not_meet(name: str, options: dict[str, int]) -> None:
    module, x = make(name, options), tokens(3, 3, 3, 1)
    together = module(x, grid=(3, 3), prefix=1)
    alone = torch.cat([module(one[None], grid=(3, 3), prefix=1) for one in x])
    assert torch.allclose(together, alone, atol=1e-6)


@every_attention
def test_a_wrong_grid_is_refused(name: str, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="10 tokens are not 1 prefix tokens and a grid of 2x5"):
        make(name, options)(torch.zeros(1, 10, 16), grid=(2, 5), prefix=1)


@every_attention
def test_starts_from_timms_weights_and_leaves_the_generator_alone(name: str, options: dict[str, int]) -> None:
    old = timm.layers.Attention(16, num_heads=2, qkv_bias=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    new, second = base.replacements([old, old], name, 16, 2, **options)
    assert torch.equal(torch.rand(3), expected)
    for key, value in old.state_dict().items():
        assert torch.equal(new.state_dict()[key], value), key
    new.qkv.weight.data.zero_()
    for other in (old, second):
        assert other.qkv.weight.abs().max() > 0, "two blocks share their memory"


def test_standard_is_timms_attention() -> None:
    torch.manual_seed(0)
    old, x = timm.layers.Attention(24, num_heads=3, qkv_bias=True), tokens(2, 3, 4, 1, dim=24)
    (new,) = base.replacements([old], "standard", 24, 3)
    assert torch.allclose(new(x, grid=(3, 4), prefix=1), old(x), atol=1e-6)


# memory_compressed


def test_compression_of_one_starts_as_standard_attention() -> None:
    standard = make("standard", {}, dim=24)
    compressed = make("memory_compressed", {"compression": 1}, dim=24)
    assert compressed.load_state_dict(standard.state_dict(), strict=False).unexpected_keys == []
    x = tokens(2, 3, 5, 1, dim=24)
    assert torch.allclose(compressed(x, grid=(3, 5), prefix=1), standard(x, grid=(3, 5), prefix=1), atol=1e-6)
    keys = torch.randn(2, 2, 16, 12)
    assert torch.equal(compressed._shorter(keys, 1), keys)  # type: ignore[operator]


@settings(max_examples=40, deadline=None)
@given(layout=layouts, compression=st.integers(1, 12))
def test_keys_are_means_of_windows(layout: tuple[int, int, int, int], compression: int) -> None:
    """Against a loop: windows of r from the right; the leftmost has what is left; prefix tokens keep to themselves."""
    batch, rows, columns, prefix = layout
    module = make("memory_compressed", {"compression": compression})
    x = torch.randn(batch, 2, prefix + rows * columns, 8, generator=torch.Generator().manual_seed(2))
    expected = []
    for start, stop in ((0, prefix), (prefix, x.shape[2])):
        stops = range(stop, start, -compression)
        expected += [x[:, :, max(start, end - compression) : end].mean(dim=2) for end in reversed(stops)]
    assert torch.allclose(module._shorter(x, prefix), torch.stack(expected, dim=2), atol=1e-5)  # type: ignore[operator]


def test_a_trained_compression_mixes_the_channels_of_its_head_alone() -> None:
    module = make("memory_compressed", {"compression": 2})
    torch.nn.init.normal_(module.compress.weight)  # type: ignore[union-attr,arg-type]
    x = torch.randn(1, 2, 7, 8)
    changed = x.clone()
    changed[:, 0] += 1
    first, second = module._shorter(x, 1), module._shorter(changed, 1)  # type: ignore[operator]
    assert torch.equal(first[:, 1], second[:, 1])
    assert not torch.equal(first[:, 0], second[:, 0])


def test_at_the_logs_size_every_window_is_full() -> None:
    """192x640 gives 480 patches: r = 2 and 3 divide them, so training sees the log's 241 and 161 keys."""
    for compression, keys in ((2, 241), (3, 161)):
        module = make("memory_compressed", {"compression": compression})
        assert module._shorter(torch.zeros(1, 2, 481, 8), 1).shape[2] == keys  # type: ignore[operator]


def test_compression_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        base.load("memory_compressed")(16, 2, True, compression=0)


# performer


def reference_favor(q: np.ndarray, k: np.ndarray, v: np.ndarray, features: np.ndarray) -> np.ndarray:
    """FAVOR+ of one head in float64, token by token, as performer_pytorch 1.1.3 computes it."""
    count, dim = features.shape

    def positive(x: np.ndarray, top: np.ndarray | float) -> np.ndarray:
        dots = features @ (x * dim**-0.25)
        return (np.exp(dots - (x @ x) / (2 * np.sqrt(dim)) - top) + 1e-4) / np.sqrt(count)

    top = max((features @ (x * dim**-0.25)).max() for x in k)
    keys = [positive(x, top) for x in k]
    out = []
    for x in q:
        query = positive(x, (features @ (x * dim**-0.25)).max())
        weights = np.array([query @ key for key in keys])
        out.append((weights[:, None] * v).sum(axis=0) / weights.sum())
    return np.array(out)


def test_performer_is_favor() -> None:
    module = make("performer", {})
    q, k, v = torch.randn(3, 2, 2, 13, 8, generator=torch.Generator().manual_seed(4)).unbind()
    out = module.attend(q, k, v, (3, 4), 1)
    features = module.get_buffer("features").double().numpy()
    for image, head in itertools.product(range(2), range(2)):
        one = [x[image, head].double().numpy() for x in (q, k, v)]
        assert np.allclose(out[image, head].numpy(), reference_favor(*one, features), rtol=1e-4, atol=1e-5)


def test_performer_approaches_softmax_with_more_features() -> None:
    module = make("performer", {}, dim=32, heads=2)
    q, k, v = (0.7 * torch.randn(3, 1, 2, 30, 16, generator=torch.Generator().manual_seed(4))).unbind()
    exact = F.scaled_dot_product_attention(q, k, v)
    errors = []
    for count in (16, 4096):
        module.features = orthogonal_features(count, 16, torch.Generator().manual_seed(0))
        errors.append(float((module.attend(q, k, v, (5, 6), 0) - exact).abs().mean()))
    assert errors[1] < 0.25 * errors[0]
    assert errors[1] < 0.02


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 60), dim=st.integers(1, 16), seed=st.integers(0, 99))
def test_features_are_orthogonal_with_gaussian_norms(count: int, dim: int, seed: int) -> None:
    features = orthogonal_features(count, dim, torch.Generator().manual_seed(seed))
    assert features.shape == (count, dim)
    for block in features.split(dim):
        directions = F.normalize(block.double(), dim=1)
        assert torch.allclose(directions @ directions.T, torch.eye(len(block), dtype=torch.float64), atol=1e-5)
    again = orthogonal_features(count, dim, torch.Generator().manual_seed(seed))
    assert torch.equal(features, again)


def test_squared_norms_of_features_are_chi_squared() -> None:
    squares = orthogonal_features(8000, 16, torch.Generator().manual_seed(0)).square().sum(dim=1)
    assert float(squares.mean()) == pytest.approx(16, rel=0.02)
    assert float(squares.var()) == pytest.approx(32, rel=0.1)


def test_features_are_saved_frozen_and_of_the_published_number() -> None:
    module = make("performer", {}, dim=128, heads=2)
    assert module.state_dict()["features"].shape == (266, 64)
    assert "features" not in dict(module.named_parameters())
    assert not torch.equal(make("performer", {}, seed=1).features, make("performer", {}, seed=2).features)
    assert torch.equal(make("performer", {}, seed=1).features, make("performer", {}, seed=1).features)
