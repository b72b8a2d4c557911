"""The contract of an attention: how it is built, what it is told, and which parameters it must have.

Shapes: B batch, N tokens (prefix tokens first, then patches row by row), D width, H heads, E = D / H.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ablate.depth import attention as family

Grid = tuple[int, int]
"""(rows, columns) of patch tokens: N = prefix + rows * columns."""


class Attention(nn.Module):
    """Multi-head self-attention that keeps timm's `qkv` (3D x D) and `proj` (D x D).

    A subclass implements `attend`; further parameters are its own. It must accept any B, N, grid and prefix.

    Args of the constructor:
        dim: D, a multiple of num_heads.
        num_heads: H.
        qkv_bias: whether `qkv` has a bias, as timm's ViTs do.
        Further keyword arguments: the `OPTIONS` of its file.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels cannot be shared by {num_heads} heads")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor, grid: Grid, prefix: int) -> Tensor:
        """BND -> BND. `grid` is (rows, columns) of the patches, `prefix` the number of tokens before them."""
        B, N, _ = x_BND.shape
        if prefix + grid[0] * grid[1] != N:
            raise ValueError(f"{N} tokens are not {prefix} prefix tokens and a grid of {grid[0]}x{grid[1]}")
        qkv_3BHNE = self.qkv(x_BND).reshape(B, N, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q_BHNE, k_BHNE, v_BHNE = qkv_3BHNE.unbind(0)
        out_BHNE = self.attend(q_BHNE, k_BHNE, v_BHNE, grid, prefix)
        return cast(Tensor, self.proj(out_BHNE.transpose(1, 2).flatten(2)))

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        """BHNE x 3 -> BHNE: for each query a mean of values, with weights that sum to one."""
        raise NotImplementedError


_MARKED: dict[str, type[Attention]] = {}


def attention(cls: type[Attention]) -> type[Attention]:
    """Marks the one class of a file of `ablate/depth/attention` as the attention of that name."""
    name = cls.__module__.rpartition(".")[2]
    if name in _MARKED and _MARKED[name].__qualname__ != cls.__qualname__:
        raise TypeError(f"{cls.__module__} marks two classes as its attention; one file holds one attention")
    _MARKED[name] = cls
    return cls


def load(name: str) -> type[Attention]:
    """The class of `model.attention: name`. Raises ValueError for a name that no file has."""
    if name not in family.names():
        raise ValueError(f"no attention {name!r}; expected one of {', '.join(family.names())}")
    importlib.import_module(f"{family.__name__}.{name}")
    if name not in _MARKED:
        raise TypeError(f"{family.__name__}.{name} marks no class with @attention")
    return _MARKED[name]


def replacements(old: Iterable[nn.Module], name: str, dim: int, num_heads: int, **options: int) -> list[Attention]:
    """For each of timm's attentions one of that name, which starts from its `qkv` and `proj`.

    The global generator is left as it was: cells of a study that differ in attention alone start from the
    same weights everywhere else, and in `qkv` and `proj` too.
    """
    with torch.random.fork_rng(devices=[]):
        return [_replacement(module.state_dict(), load(name), dim, num_heads, options) for module in old]


def _replacement(
    state: Mapping[str, Tensor], kind: type[Attention], dim: int, num_heads: int, options: Mapping[str, Any]
) -> Attention:
    new = kind(dim, num_heads, "qkv.bias" in state, **options)
    for name in ("qkv", "proj"):
        linear = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        new.get_submodule(name).load_state_dict(linear)
    return new
