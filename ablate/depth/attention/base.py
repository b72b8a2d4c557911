"""The contract of an attention: how it is built, what it is told, and which parameters it must have.

Shapes: B batch, N tokens (prefix tokens first, then patches row by row), D width, H heads, E width of a head.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, cast

import torch
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn

from ablate.depth import attention as family

Grid = tuple[int, int]
"""(rows, columns) of patch tokens: N = prefix + rows * columns."""

Blocks = Literal["all"] | Collection[int]
"""Which blocks of an encoder, counted from 0."""


class Attention(nn.Module):
    """Multi-head self-attention that keeps timm's `qkv` (3D x D) and `proj` (D x D).

    A subclass implements `attend`; further parameters are its own. It must accept any B, N, grid and prefix.
    Its attributes say what it promises, and the tests hold every registered class to them:

        rows_sum_to_one: a value that is the same at every token comes out unchanged, before training at least.
        permutation_equivariant: without rotary positions, tokens in another order give the same outputs in that order.
        adopts: it starts from the `qkv` and `proj` of the attention that it replaces, where their sizes agree.

    Args of the constructor:
        dim: D, a multiple of num_heads.
        num_heads: H.
        qkv_bias: whether `qkv` has a bias, as timm's ViTs do.
        Further keyword arguments: the `OPTIONS` of its file.
    """

    rows_sum_to_one: bool = True
    permutation_equivariant: bool = False
    adopts: bool = True
    rotate_half: bool = False
    """How timm pairs a head's channels for rotary positions: halves (DINOv3) or neighbours. `replacements` sets it."""
    redraw_every: int | None = None
    """Optimiser steps between two calls of `redraw`; never if None."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels cannot be shared by {num_heads} heads")
        self.num_heads = num_heads
        self._project(dim, dim // num_heads, qkv_bias)

    def _project(self, dim: int, head_dim: int, qkv_bias: bool) -> None:
        """Makes `qkv` (3HE x D) and `proj` (D x HE) for heads of `head_dim` = E channels."""
        self.head_dim = head_dim
        self.qkv = nn.Linear(dim, 3 * self.num_heads * head_dim, bias=qkv_bias)
        self.proj = nn.Linear(self.num_heads * head_dim, dim)

    def forward(self, x_BND: Tensor, grid: Grid, prefix: int, rope: Tensor | None = None) -> Tensor:
        """BND -> BND.

        Args:
            grid: (rows, columns) of the patches.
            prefix: the number of tokens before them.
            rope: rotary positions of the patches, timm's table of sines and cosines (rows * columns x 2E, or with
                dimensions for batch and heads in front); None for a network that adds its positions to the tokens.

        Raises ValueError if the sizes do not fit together.
        """
        return cast(Tensor, self.proj(self._mixed(self.qkv(x_BND), grid, prefix, rope)))

    def _mixed(self, qkv_BNF: Tensor, grid: Grid, prefix: int, rope: Tensor | None) -> Tensor:
        """B x N x 3HE, queries, keys and values one after the other -> B x N x HE."""
        B, N, _ = qkv_BNF.shape
        if prefix + grid[0] * grid[1] != N:
            raise ValueError(f"{N} tokens are not {prefix} prefix tokens and a grid of {grid[0]}x{grid[1]}")
        qkv_3BHNE = qkv_BNF.reshape(B, N, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q_BHNE, k_BHNE, v_BHNE = qkv_3BHNE.unbind(0)
        if rope is not None:
            q_BHNE, k_BHNE = self._rotated(q_BHNE, rope, prefix), self._rotated(k_BHNE, rope, prefix)
        return self.attend(q_BHNE, k_BHNE, v_BHNE, grid, prefix).transpose(1, 2).flatten(2)

    def attend(self, q_BHNE: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, grid: Grid, prefix: int) -> Tensor:
        """BHNE x 3 -> BHNE: for each query a mean of values, with weights that sum to one."""
        raise NotImplementedError

    def redraw(self, generator: torch.Generator) -> None:
        """Draws whatever is random in it anew, into buffers that are saved with the weights."""

    def _rotated(self, x_BHNE: Tensor, rope: Tensor, prefix: int) -> Tensor:
        """Patches turned by their rotary positions; prefix tokens have none."""
        wanted = (x_BHNE.shape[2] - prefix, 2 * self.head_dim)
        if tuple(rope.shape[-2:]) != wanted:
            raise ValueError(
                f"rotary positions of {rope.shape[-2]}x{rope.shape[-1]} do not fit {wanted[0]} patches in heads of "
                f"{self.head_dim} channels, which need {wanted[0]}x{wanted[1]}"
            )
        patches = apply_rot_embed_cat(x_BHNE[:, :, prefix:], rope, half=self.rotate_half)
        return torch.cat([x_BHNE[:, :, :prefix], patches], dim=2)


_MARKED: dict[str, type[Attention]] = {}
"""By the name of the module, in full: a plug-in's `performer.py` is not ours."""


def attention(cls: type[Attention]) -> type[Attention]:
    """Marks the one class of a file of `ablate/depth/attention` as the attention of that name."""
    marked = _MARKED.get(cls.__module__)
    if marked is not None and marked.__qualname__ != cls.__qualname__:
        raise TypeError(f"{cls.__module__} marks two classes as its attention; one file holds one attention")
    _MARKED[cls.__module__] = cls
    return cls


def load(name: str) -> type[Attention]:
    """The class of `model.attention: name`, from this package or from a plug-in.

    Raises ValueError for a name that is not registered and TypeError if what is registered is no attention.
    """
    if name not in family.names():
        raise ValueError(f"no attention {name!r}; expected one of {', '.join(family.names())}")
    point = family.plugged().get(name)
    if point is None:
        module = f"{family.__name__}.{name}"
        importlib.import_module(module)
        if module not in _MARKED:
            raise TypeError(f"{module} marks no class with @attention")
        return _MARKED[module]
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise TypeError(f"attention {name!r}: its plug-in's {point.value} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Attention)):
        raise TypeError(
            f"attention {name!r}: its plug-in's {point.value} is no subclass of {Attention.__module__}.Attention"
        )
    return found


def replacements(
    old: Iterable[nn.Module],
    name: str,
    dim: int,
    num_heads: int,
    *,
    blocks: Blocks = "all",
    share: bool = False,
    **options: Any,
) -> list[Attention]:
    """For each of timm's attentions one of that name, which starts from its `qkv` and `proj`.

    The global generator is left as it was: cells of a study that differ in attention alone start from the
    same weights everywhere else, and in `qkv` and `proj` too.

    Args:
        old: timm's attention of every block, of its ViT or of its EVA (DINOv3), with or without biases.
        blocks: those that get `name`; the others get `standard`.
        share: one module for all of `blocks`, which starts from the first of them.
        options: the `OPTIONS` of the attention.

    Raises ValueError if `blocks` names one that is not there, or if `old` has tensors that would be lost.
    """
    modules = list(old)
    chosen = range(len(modules)) if isinstance(blocks, str) else blocks
    if absent := sorted(set(chosen) - set(range(len(modules)))):
        raise ValueError(f"no attention to replace in block {absent[0]}; there are blocks 0 to {len(modules) - 1}")
    kind, rest = load(name), load("standard")
    found: list[Attention] = []
    shared: Attention | None = None
    with torch.random.fork_rng(devices=[]):
        for number, module in enumerate(modules):
            if number not in chosen:
                found.append(_replacement(module, rest, dim, num_heads, {}))
            elif share and shared is not None:
                found.append(shared)
            else:
                shared = _replacement(module, kind, dim, num_heads, options)
                found.append(shared)
    return found


def _replacement(
    old: nn.Module, kind: type[Attention], dim: int, num_heads: int, options: Mapping[str, Any]
) -> Attention:
    state = _with_joint_bias(old.state_dict())
    if lost := sorted(key for key in state if not key.startswith(("qkv.", "proj."))):
        raise ValueError(f"{type(old).__name__} has {', '.join(lost)}, which no attention of this family has")
    new = kind(dim, num_heads, "qkv.bias" in state, **options)
    new.rotate_half = bool(getattr(old, "rotate_half", False))
    if kind.adopts and new.qkv.weight.shape == state["qkv.weight"].shape:
        for name in ("qkv", "proj"):
            linear = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
            new.get_submodule(name).load_state_dict(linear)
    return new


def _with_joint_bias(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's EVA keeps apart the biases of queries and values, and its keys have none: zeros here."""
    joint = dict(state)
    if "q_bias" in joint:
        q, v = joint.pop("q_bias"), joint.pop("v_bias")
        joint["qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    return joint
