"""One suite for every attention that is registered, whoever wrote it. Those of the log are exempt, and said to be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import timm.layers
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ablate.depth import attention
from ablate.depth.attention import base

Make = Callable[..., base.Attention]
Tokens = Callable[..., torch.Tensor]
Layout = tuple[int, int, int, int]
"""batch, rows, columns, prefix"""

FAMILY = [name for name in attention.names() if not attention.as_logged(name)]
OTHER_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "performer": [{"features": 5}, {"head_dim": 4}, {"head_dim": 12, "redraw_every": 3}],
    "memory_compressed": [
        *[{"compression": r} for r in (1, 3, 5, 64)],
        {"compression": 3, "null_key": True},
        {"compression": 3, "zero_padding": True},
    ],
    "memory_compressed_2d": [
        *[{"compression": r} for r in (1, 3, 64)],
        {"compression": 3, "null_key": True, "zero_padding": True},
    ],
    "nystrom": [{"landmarks": 1}, {"landmarks": 6}],
    "window": [{"window": 1}, {"window": 3}],
}
VARIANTS = [(name, options) for name in FAMILY for options in [{}, *OTHER_OPTIONS.get(name, [])]]
every_attention = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value))
layouts = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 9), st.sampled_from([0, 1, 2, 5]))
anywhere = given(layout=layouts)


def test_options_that_differ_are_those_of_this_family() -> None:
    for name, variants in OTHER_OPTIONS.items():
        for options in variants:
            assert set(options) <= set(attention.options(name)), name
    assert set(FAMILY) >= {"standard", "performer", "linear", "nystrom", "window"}


@pytest.mark.parametrize("name", attention.names())
def test_constructor_takes_exactly_the_options_of_its_file(name: str) -> None:
    parameters = list(inspect.signature(base.load(name)).parameters)
    assert parameters == ["dim", "num_heads", "qkv_bias", *attention.options(name)]


@every_attention
@settings(max_examples=12, deadline=None)
@anywhere
@example(layout=(2, 5, 7, 1))  # 35 patches: neither 2 nor 3 divides them
@example(layout=(3, 7, 9, 0))
@example(layout=(1, 4, 6, 5))
def test_any_layout_in_float32(make: Make, tokens: Tokens, name: str, options: dict[str, Any], layout: Layout) -> None:
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
        if rows * columns > 1:
            assert parameter.grad.abs().max() > 0, key
    assert x.grad is not None
    assert x.grad.isfinite().all()


@every_attention
@settings(max_examples=5, deadline=None)
@anywhere
@example(layout=(2, 5, 7, 1))
def test_any_layout_in_bfloat16(make: Make, tokens: Tokens, name: str, options: dict[str, Any], layout: Layout) -> None:
    batch, rows, columns, prefix = layout
    module = make(name, options)
    x = tokens(batch, rows, columns, prefix)
    exact = module(x, grid=(rows, columns), prefix=prefix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module(x, grid=(rows, columns), prefix=prefix)
    assert torch.allclose(mixed.float(), exact, atol=0.05)
    out = module.to(torch.bfloat16)(x.bfloat16(), grid=(rows, columns), prefix=prefix)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), exact, atol=0.05)
    out.sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def constant_comes_out_unchanged(module: base.Attention, layout: Layout) -> bool:
    """Values that are the same at every token, in, and out? Then no zeros were averaged in."""
    batch, rows, columns, prefix = layout
    sizes = (2, batch, module.num_heads, prefix + rows * columns, module.head_dim)
    q, k = torch.randn(sizes, generator=torch.Generator().manual_seed(1)).unbind()
    value = torch.arange(float(module.head_dim)) - 3
    with torch.no_grad():
        out = module.attend(q, k, value.expand_as(k).contiguous(), (rows, columns), prefix)
    return torch.allclose(out, value.expand_as(out), atol=1e-4)


@every_attention
@settings(max_examples=12, deadline=None)
@anywhere
@example(layout=(2, 5, 7, 1))
def test_rows_sum_to_one_where_that_is_promised(make: Make, name: str, options: dict[str, Any], layout: Layout) -> None:
    module = make(name, options)
    assert not module.rows_sum_to_one or constant_comes_out_unchanged(module, layout)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("memory_compressed", {"compression": 3, "null_key": True}),
        ("memory_compressed", {"compression": 3, "zero_padding": True}),
        ("memory_compressed_2d", {"compression": 3, "null_key": True}),
        ("memory_compressed_2d", {"compression": 3, "zero_padding": True}),
        ("nystrom", {"landmarks": 6}),
        ("memory_compressed_0_0_3", {}),
    ],
)
def test_a_promise_that_is_not_made_would_not_be_kept(make: Make, name: str, options: dict[str, Any]) -> None:
    """Or the promise would say nothing, and the test before could not fail."""
    module = make(name, options)
    assert not module.rows_sum_to_one
    assert not constant_comes_out_unchanged(module, (1, 7, 10, 1))


@every_attention
def test_order_of_tokens_matters_as_documented(make: Make, tokens: Tokens, name: str, options: dict[str, Any]) -> None:
    module, x = make(name, options).double(), tokens(2, 7, 10, 1).double()
    order = torch.randperm(71, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        out, moved = (module(tokens, grid=(7, 10), prefix=1) for tokens in (x, x[:, order]))
    same = torch.allclose(moved, out[:, order], atol=1e-5)
    no_matter = (
        options.get("compression") == 1 or options.get("landmarks") == 1
    )  # standard attention; one output for all
    assert same == (module.permutation_equivariant or no_matter)


@every_attention
def test_large_inputs_stay_finite(make: Make, tokens: Tokens, name: str, options: dict[str, Any]) -> None:
    module = make(name, options)
    x = tokens(1, 7, 10, 1, scale=1e3).requires_grad_()
    out = module(x, grid=(7, 10), prefix=1)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@every_attention
@pytest.mark.parametrize("batch", [2, 3])
def test_images_of_a_batch_do_not_meet(
    make: Make, tokens: Tokens, name: str, options: dict[str, Any], batch: int
) -> None:
    module, x = make(name, options), tokens(batch, 7, 10, 1)
    x[0] *= 5
    together = module(x, grid=(7, 10), prefix=1)
    alone = torch.cat([module(one[None], grid=(7, 10), prefix=1) for one in x])
    assert torch.allclose(together, alone, atol=1e-5)


@every_attention
def test_nothing_is_remembered_of_another_grid(make: Make, tokens: Tokens, name: str, options: dict[str, Any]) -> None:
    module, layouts = make(name, options), [(6, 9, 1), (9, 6, 1), (3, 4, 0), (2, 2, 5)]
    first = [module(tokens(2, *layout), grid=layout[:2], prefix=layout[2]) for layout in layouts]
    again = [module(tokens(2, *layout), grid=layout[:2], prefix=layout[2]) for layout in reversed(layouts)]
    for one, other in zip(first, reversed(again), strict=True):
        assert torch.equal(one, other)


@every_attention
def test_a_wrong_grid_is_refused(make: Make, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="10 tokens are not 1 prefix tokens and a grid of 2x5"):
        make(name, options)(torch.zeros(1, 10, 16), grid=(2, 5), prefix=1)


@every_attention
def test_the_same_seed_builds_the_same(make: Make, name: str, options: dict[str, Any]) -> None:
    one, same, other = (make(name, options, seed=seed).state_dict() for seed in (1, 1, 2))
    assert one.keys() == same.keys()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["qkv.weight"], other["qkv.weight"])


@every_attention
def test_training_and_evaluation_are_one_function(
    make: Make, tokens: Tokens, name: str, options: dict[str, Any]
) -> None:
    module, x = make(name, options), tokens(1, 4, 5, 1)
    assert torch.equal(module.train()(x, grid=(4, 5), prefix=1), module.eval()(x, grid=(4, 5), prefix=1))


@every_attention
def test_what_is_saved_is_all_there_is(make: Make, tokens: Tokens, name: str, options: dict[str, Any]) -> None:
    one, other, x = make(name, options, seed=1), make(name, options, seed=2), tokens(2, 7, 10, 1)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x, grid=(7, 10), prefix=1), other(x, grid=(7, 10), prefix=1))


@every_attention
@settings(max_examples=6, deadline=None)
@anywhere
def test_rotary_positions_turn_the_patches_alone(
    make: Make, tokens: Tokens, name: str, options: dict[str, Any], layout: Layout
) -> None:
    batch, rows, columns, prefix = layout
    module, x = make(name, options), tokens(batch, rows, columns, prefix)
    angle = torch.randn(rows * columns, module.head_dim // 2, generator=torch.Generator().manual_seed(0))
    angle = angle.repeat_interleave(2, dim=1)
    table = torch.cat([angle.sin(), angle.cos()], dim=-1)
    turned = module(x, grid=(rows, columns), prefix=prefix, rope=table)
    assert turned.shape == x.shape
    assert turned.isfinite().all()
    still = torch.cat([torch.zeros_like(angle), torch.ones_like(angle)], dim=-1)
    plain = module(x, grid=(rows, columns), prefix=prefix)
    assert torch.allclose(module(x, grid=(rows, columns), prefix=prefix, rope=still), plain, atol=1e-6)
    with pytest.raises(ValueError, match="rotary positions of"):
        module(x, grid=(rows, columns), prefix=prefix, rope=table[:, 1:])


@every_attention
def test_rotary_positions_are_used(make: Make, tokens: Tokens, name: str, options: dict[str, Any]) -> None:
    module, x = make(name, options), tokens(1, 4, 6, 1, scale=5.0)
    angle = torch.arange(24.0)[:, None].expand(24, module.head_dim)
    table = torch.cat([angle.sin(), angle.cos()], dim=-1)
    out, turned = module(x, grid=(4, 6), prefix=1), module(x, grid=(4, 6), prefix=1, rope=table)
    assert float((out - turned).detach().abs().max()) > 1e-5


@every_attention
def test_starts_from_timms_weights_and_leaves_the_generator_alone(name: str, options: dict[str, Any]) -> None:
    old = timm.layers.Attention(16, num_heads=2, qkv_bias=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    new, _ = base.replacements([old, old], name, 16, 2, **{**attention.options(name), **options})
    assert torch.equal(torch.rand(3), expected)
    if new.num_heads * new.head_dim == 16:
        for key, value in old.state_dict().items():
            assert torch.equal(new.state_dict()[key], value), key


@every_attention
def test_blocks_share_no_memory(name: str, options: dict[str, Any]) -> None:
    old = [timm.layers.Attention(16, num_heads=2, qkv_bias=True)] * 3
    blocks = base.replacements(old, name, 16, 2, **{**attention.options(name), **options})
    places = [tensor.untyped_storage().data_ptr() for one in [*blocks, old[0]] for tensor in one.state_dict().values()]
    assert len(places) == len(set(places))
    assert len({id(module) for block in blocks for module in block.modules()}) == 3 * len(list(blocks[0].modules()))
