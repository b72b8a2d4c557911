from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.attention import base
from ablate.depth.attention.memory_compressed import MemoryCompressedAttention

Make = Callable[..., MemoryCompressedAttention]
Tokens = Callable[..., torch.Tensor]
Layout = tuple[int, int, int, int]

BOTH = pytest.mark.parametrize("name", ["memory_compressed", "memory_compressed_2d"])
layouts = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 9), st.integers(0, 3))


def heads(batch: int, tokens: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(batch, 2, tokens, 8, generator=torch.Generator().manual_seed(seed))


@BOTH
@settings(max_examples=15, deadline=None)
@given(layout=layouts, zero_padding=st.booleans())
def test_compression_of_one_starts_as_standard_attention(
    make: Make, tokens: Tokens, name: str, layout: Layout, zero_padding: bool
) -> None:
    batch, rows, columns, prefix = layout
    standard = make("standard", {}, dim=24)
    compressed = make(name, {"compression": 1, "zero_padding": zero_padding}, dim=24)
    assert compressed.load_state_dict(standard.state_dict(), strict=False).unexpected_keys == []
    x = tokens(batch, rows, columns, prefix, dim=24)
    expected = standard(x, grid=(rows, columns), prefix=prefix)
    assert torch.allclose(compressed(x, grid=(rows, columns), prefix=prefix), expected, atol=1e-6)
    keys = torch.randn(batch, 2, prefix + rows * columns, 12)
    assert torch.equal(compressed.shorter(keys, (rows, columns), prefix), keys)


@settings(max_examples=40, deadline=None)
@given(layout=layouts, compression=st.integers(1, 12))
def test_keys_are_means_of_windows(make: Make, layout: Layout, compression: int) -> None:
    """Against a loop: windows of r from the right; the leftmost has what is left; prefix tokens keep to themselves."""
    batch, rows, columns, prefix = layout
    module = make("memory_compressed", {"compression": compression})
    x = heads(batch, prefix + rows * columns)
    expected = []
    for start, stop in ((0, prefix), (prefix, x.shape[2])):
        stops = range(stop, start, -compression)
        expected += [x[:, :, max(start, end - compression) : end].mean(dim=2) for end in reversed(stops)]
    shorter = module.shorter(x, (rows, columns), prefix)
    assert torch.allclose(shorter, torch.stack(expected, dim=2), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(layout=layouts, compression=st.integers(1, 12))
def test_keys_on_the_grid_are_means_of_windows_of_one_row(make: Make, layout: Layout, compression: int) -> None:
    batch, rows, columns, prefix = layout
    module = make("memory_compressed_2d", {"compression": compression})
    x = heads(batch, prefix + rows * columns)
    expected = []
    for start, stop in ((0, prefix), *((prefix + row * columns, prefix + (row + 1) * columns) for row in range(rows))):
        stops = range(stop, start, -compression)
        expected += [x[:, :, max(start, end - compression) : end].mean(dim=2) for end in reversed(stops)]
    shorter = module.shorter(x, (rows, columns), prefix)
    assert torch.allclose(shorter, torch.stack(expected, dim=2), atol=1e-5)


@pytest.mark.parametrize(("name", "mixes"), [("memory_compressed", True), ("memory_compressed_2d", False)])
def test_three_tokens_of_forty_columns_mix_rows_unless_on_the_grid(make: Make, name: str, mixes: bool) -> None:
    """192x640: 1 is added to one row of patches; a key of that row alone grows by 1, one of two rows by less."""
    module = make(name, {"compression": 3})
    x = heads(1, 1 + 12 * 40)
    changed = x.clone()
    changed[:, :, 1 + 5 * 40 : 1 + 6 * 40] += 1
    one, other = (module.shorter(tokens, (12, 40), 1) for tokens in (x, changed))
    growth = (other - one)[0, 0].mean(dim=-1)
    own, part = growth > 0.99, (growth > 0.01) & (growth < 0.99)
    assert (int(own.sum()), int(part.sum())) == ((13, 1) if mixes else (14, 0))


@BOTH
def test_prefix_tokens_never_share_a_window_with_patches(make: Make, name: str) -> None:
    module = make(name, {"compression": 3})
    x = heads(1, 2 + 4 * 5)
    changed = x.clone()
    changed[:, :, :2] += 1
    one, other = (module.shorter(tokens, (4, 5), 2) for tokens in (x, changed))
    assert (one != other).any(dim=-1)[0, 0].nonzero().flatten().tolist() == [0]


@BOTH
def test_a_trained_compression_mixes_the_channels_of_its_head_alone(make: Make, name: str) -> None:
    module = make(name, {"compression": 2})
    torch.nn.init.normal_(module.compress.weight)
    x = heads(1, 7)
    changed = x.clone()
    changed[:, 0] += 1
    first, second = module.shorter(x, (2, 3), 1), module.shorter(changed, (2, 3), 1)
    assert torch.equal(first[:, 1], second[:, 1])
    assert not torch.equal(first[:, 0], second[:, 0])


@pytest.mark.parametrize(("compression", "keys", "on_grid"), [(2, 241, 241), (3, 161, 169)])
def test_at_the_logs_size_every_window_is_full(make: Make, compression: int, keys: int, on_grid: int) -> None:
    """192x640 gives 480 patches: r = 2 and 3 divide them, so training sees the log's 241 and 161 keys."""
    for name, expected in (("memory_compressed", keys), ("memory_compressed_2d", on_grid)):
        module = make(name, {"compression": compression})
        assert module.shorter(torch.zeros(1, 2, 481, 8), (12, 40), 1).shape[2] == expected


def test_both_have_the_same_parameters(make: Make) -> None:
    options = {"compression": 3, "null_key": True}
    one, other = make("memory_compressed", options), make("memory_compressed_2d", options)
    other.load_state_dict(one.state_dict())


def test_zero_padding_averages_zeros_in_and_may_mix_the_class_token_with_a_patch(make: Make) -> None:
    """At 1216x352 there are 1,673 tokens: r = 3 pads one zero, and the first key is of zero, class token and patch."""
    module = make("memory_compressed", {"compression": 3, "zero_padding": True})
    x = heads(1, 1 + 22 * 76)
    shorter = module.shorter(x, (22, 76), 1)
    assert shorter.shape[2] == 558
    assert torch.allclose(shorter[:, :, 0], (x[:, :, 0] + x[:, :, 1]) / 3, atol=1e-6)


@BOTH
def test_a_null_key_is_one_more_key_for_every_image(make: Make, tokens: Tokens, name: str) -> None:
    module = make(name, {"compression": 2, "null_key": True})
    x = tokens(3, 4, 5, 1)
    out = module(x, grid=(4, 5), prefix=1)
    for parameter in (module.null_k, module.null_v):
        assert parameter is not None
        torch.nn.init.constant_(parameter, 1.0)
    moved = module(x, grid=(4, 5), prefix=1)
    assert ((out - moved).abs().amax(dim=(1, 2)) > 1e-4).all()
    with torch.no_grad():
        cast(torch.nn.Parameter, module.null_k).zero_()
    q = k = v = torch.zeros(1, 2, 21, 8)
    assert torch.allclose(
        module.attend(q, k, v, (4, 5), 1), torch.tensor(1 / (12 if name == "memory_compressed" else 14))
    )


@BOTH
def test_compression_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        base.load(name)(16, 2, True, compression=0)  # type: ignore[call-arg]
