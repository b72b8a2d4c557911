"""The reference packages with copied weights give the same result. `docs/faithfulness.md` prints these figures."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from ablate.depth.attention import base

SIZES = [(48, 3, 37, 1), (48, 3, 36, 0), (768, 8, 481, 1)]
"""dim, heads, tokens, prefix; the last is the log's, at 192x640."""
sizes = pytest.mark.parametrize(("dim", "heads", "tokens", "prefix"), SIZES)


def package(name: str) -> Any:
    """performer-pytorch calls what Python 3.11 and torch 2 have deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def grid(tokens: int, prefix: int) -> tuple[int, int]:
    rows = 12 if (tokens - prefix) % 12 == 0 else 1
    return rows, (tokens - prefix) // rows


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> bool:
    """Largest difference, relative to the largest entry."""
    return float((ours - theirs).abs().max()) <= tolerance * float(theirs.abs().max())


@torch.no_grad()
def copy(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    for name, value in weights.items():
        target = module.get_parameter(name) if name in dict(module.named_parameters()) else module.get_buffer(name)
        target.copy_(value)


@sizes
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_performer_pytorch(dim: int, heads: int, tokens: int, prefix: int, bias: bool) -> None:
    """SelfAttention of 1.1.4, whose heads have 64 channels whatever the width: 512 inside of 768 with 8 of them."""
    torch.manual_seed(0)
    theirs = package("performer_pytorch").SelfAttention(dim=dim, heads=heads, causal=False, qkv_bias=bias)
    ours = base.load("performer")(dim, heads, bias, head_dim=64)  # type: ignore[call-arg]
    parts = [theirs.to_q, theirs.to_k, theirs.to_v]
    weights = {
        "qkv.weight": torch.cat([part.weight for part in parts]),
        "proj.weight": theirs.to_out.weight,
        "proj.bias": theirs.to_out.bias,
        "features": theirs.fast_attention.projection_matrix,
    }
    copy(ours, weights | ({"qkv.bias": torch.cat([part.bias for part in parts])} if bias else {}))
    for scale in (1.0, 10.0):
        x = scale * torch.randn(2, tokens, dim)
        assert close(ours(x, grid(tokens, prefix), prefix), theirs(x), 1e-5)


@sizes
@torch.no_grad()
def test_fast_attention_of_performer_pytorch(dim: int, heads: int, tokens: int, prefix: int) -> None:
    torch.manual_seed(0)
    head_dim = dim // heads
    theirs = package("performer_pytorch").FastAttention(head_dim)
    ours = base.load("performer")(dim, heads, True)
    assert ours.get_buffer("features").shape == theirs.projection_matrix.shape
    copy(ours, {"features": theirs.projection_matrix})
    q, k, v = torch.randn(3, 2, heads, tokens, head_dim).unbind()
    assert close(ours.attend(q, k, v, grid(tokens, prefix), prefix), theirs(q, k, v), 1e-5)


def reference(dim: int, heads: int, compression: int) -> Any:
    """memory-compressed-attention with null key and value that are not zero, so that they count."""
    kind = package("memory_compressed_attention").MemoryCompressedAttention
    theirs = kind(dim=dim, heads=heads, causal=False, compression_factor=compression).double()
    nn.init.normal_(theirs.null_k)
    nn.init.normal_(theirs.null_v)
    return theirs


def compressed(theirs: Any) -> dict[str, torch.Tensor]:
    return {
        "compress.weight": theirs.compress_fn.conv.weight,
        "compress.bias": theirs.compress_fn.conv.bias,
        "null_k": theirs.null_k,
        "null_v": theirs.null_v,
    }


@sizes
@pytest.mark.parametrize("compression", [1, 2, 3, 5])
@torch.no_grad()
def test_memory_compressed_attention(dim: int, heads: int, tokens: int, prefix: int, compression: int) -> None:
    """Version 0.0.7, in float64. It scales logits by dim^-1/2, so our queries get the factor between the two."""
    torch.manual_seed(0)
    theirs = reference(dim, heads, compression)
    options: dict[str, Any] = {"compression": compression, "null_key": True, "zero_padding": True}
    ours = base.load("memory_compressed")(dim, heads, False, **options).double()
    qkv = theirs.to_qkv.weight.clone()
    qkv[:dim] *= math.sqrt((dim // heads) / dim)
    out = {"proj.weight": theirs.to_out.weight, "proj.bias": theirs.to_out.bias}
    copy(ours, {"qkv.weight": qkv, **out, **compressed(theirs)})
    for scale in (1.0, 10.0):
        x = scale * torch.randn(2, tokens, dim, dtype=torch.float64)
        assert close(ours(x, grid(tokens, prefix), prefix), theirs(x), 1e-12)


@sizes
@pytest.mark.parametrize("compression", [2, 3])
@torch.no_grad()
def test_memory_compressed_attention_without_its_softmax(
    monkeypatch: pytest.MonkeyPatch, dim: int, heads: int, tokens: int, prefix: int, compression: int
) -> None:
    """Version 0.0.3 computed the softmax and went on with the logits: 0.0.7 whose softmax gives back what it gets."""
    torch.manual_seed(0)
    theirs = reference(dim, heads, compression)
    ours = base.load("memory_compressed_0_0_3")(dim, heads, True, compression=compression).double()  # type: ignore[call-arg]
    outer = {key: value for key, value in theirs.state_dict().items() if key.startswith("to_")}
    copy(ours, outer | compressed(theirs))
    x = torch.randn(1, tokens, dim, dtype=torch.float64)
    right = theirs(x)
    monkeypatch.setattr(torch.Tensor, "softmax", lambda logits, dim: logits)
    wrong = theirs(x)
    assert close(ours(x, grid(tokens, prefix), prefix), wrong, 1e-12)
    assert not close(wrong, right, 0.5)
