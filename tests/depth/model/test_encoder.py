from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ablate.depth.attention.base import Attention, load
from ablate.depth.model.dpt import DPT
from ablate.depth.model.encoder import Encoder
from ablate.depth.model.specs import NetworkSpec

Small = Callable[[str], NetworkSpec]
Randomise = Callable[[nn.Module], DPT]


def picture(spec: NetworkSpec, rows: int = 2, columns: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, rows * spec.stride, columns * spec.stride, generator=generator) * 2 - 1


def test_maps_are_those_that_the_decoder_expects(small: NetworkSpec) -> None:
    encoder = Encoder(small)
    maps = encoder(picture(small, 3, 5))
    rows, columns = 3 * small.stride // small.patch, 5 * small.stride // small.patch
    half = (-(-rows // 2), -(-columns // 2))
    sizes = [(4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns), half]
    assert [tuple(x.shape) for x in maps] == [
        (2, width, *size) for width, size in zip(encoder.channels, sizes, strict=True)
    ]


def test_a_size_that_is_no_multiple_of_the_stride_is_refused(small: NetworkSpec) -> None:
    message = f"{small.stride + 2}x{small.stride} is not made of multiples of {small.stride}"
    with pytest.raises(ValueError, match=message):
        Encoder(small)(torch.zeros(1, 3, small.stride + 2, small.stride))


@pytest.mark.parametrize("family", ["large", "dinov2", "dinov3", "hybrid"])
def test_blocks_after_the_last_tap_are_not_built_and_change_nothing(
    small_spec: Small, randomise: Randomise, family: str
) -> None:
    """The same taps on a network with all its blocks give the same maps."""
    deep = replace(small_spec(family), blocks=7)
    taps = (1, 2) if deep.stem else (0, 1, 2, 4)
    short = randomise(DPT(deep.tailored(taps=taps)))
    assert len(short.pretrained.model.blocks) == taps[-1] + 1
    assert not any(key.startswith(f"pretrained.model.blocks.{taps[-1] + 1}.") for key in short.state_dict())
    whole = randomise(DPT(deep.tailored(taps=(*taps[:-1], 6))))
    assert len(whole.pretrained.model.blocks) == 7
    missing, _ = whole.load_state_dict(short.state_dict(), strict=False)
    assert all(int(key.split(".")[3]) > taps[-1] for key in missing)
    whole.spec = whole.pretrained.spec = short.spec  # reads the same taps, and runs on to its last block
    with torch.inference_mode():
        assert torch.equal(short(picture(deep)), whole(picture(deep)))


def test_taps_choose_the_blocks(small_spec: Small, randomise: Randomise) -> None:
    spec = small_spec("large")
    model = randomise(DPT(spec))
    seen: list[Tensor] = []
    for block in model.pretrained.model.blocks:
        block.mlp.register_forward_hook(lambda module, inputs, output: seen.append(output))
    tokens = model.pretrained._tokens(torch.randn(1, 6, spec.embed_dim), (2, 3))
    assert len(tokens) == len(seen) == 4
    fewer = replace(spec, blocks=6, taps=(0, 2, 3, 5))
    assert len(Encoder(fewer).model.blocks) == 6


@pytest.mark.parametrize("family", ["large", "dinov3", "hybrid"])
def test_readouts(small_spec: Small, family: str) -> None:
    """Registers are never read; the class token is ignored, added to every patch, or joined and projected."""
    spec = small_spec(family)
    x = torch.randn(2, spec.prefix + 6, spec.embed_dim)
    patches, first = x[:, spec.prefix :], x[:, :1].expand(-1, 6, -1)
    number = 3
    for readout in ("ignore", "add", "project"):
        stage = Encoder(spec.tailored(readout=readout)).get_submodule(f"act_postprocess{number}")
        assert any(key.startswith("0.") for key in stage.state_dict()) == (readout == "project")
        expected = {"ignore": patches, "add": patches + first}.get(readout)
        if expected is None:
            expected = stage["0"].project(torch.cat([patches, first], dim=-1))  # type: ignore[index]
        as_map = expected.transpose(1, 2).reshape(2, spec.embed_dim, 2, 3)
        assert torch.allclose(stage(x, (2, 3)), stage["3"](as_map), atol=1e-6)  # type: ignore[index]


def test_only_the_chosen_blocks_get_the_attention(small: NetworkSpec) -> None:
    blocks = Encoder(small, "performer", blocks=(1, 3)).model.blocks
    standard, performer = load("standard"), load("performer")
    assert [type(block.attn) for block in blocks] == [standard, performer, standard, performer]
    assert {type(block.attn) for block in Encoder(small, "performer").model.blocks} == {performer}


def test_one_attention_for_all_blocks(small: NetworkSpec) -> None:
    blocks = Encoder(small, "standard", share=True).model.blocks
    assert len({id(block.attn) for block in blocks}) == 1
    chosen = Encoder(small, "performer", blocks=(1, 3), share=True).model.blocks
    assert chosen[1].attn is chosen[3].attn
    assert len({id(block.attn) for block in chosen}) == 3


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_heads_are_another_partition_of_the_same_weights(small: NetworkSpec, randomise: Randomise, heads: int) -> None:
    plain, other = randomise(DPT(small)), randomise(DPT(small.tailored(heads=heads)))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in plain.state_dict().items())
    assert {block.attn.num_heads for block in other.pretrained.model.blocks} == {heads}
    with torch.inference_mode():
        assert not torch.allclose(plain(picture(small)), other(picture(small)))


class Spy(Attention):
    """Notes what it is told, and lets the tokens be."""

    def forward(self, x: Tensor, grid: tuple[int, int], prefix: int, rope: Tensor | None = None) -> Tensor:
        self.told = (tuple(x.shape), grid, prefix, None if rope is None else tuple(rope.shape))
        return x


def test_attention_is_told_the_grid_the_prefix_and_rotary_positions(small: NetworkSpec) -> None:
    encoder = Encoder(small)
    spies = [Spy(small.embed_dim, small.heads, True) for _ in encoder.model.blocks]
    for block, spy in zip(encoder.model.blocks, spies, strict=True):
        block.attn = spy
    encoder(picture(small, 1, 2))
    rows, columns = small.stride // small.patch, 2 * small.stride // small.patch
    tokens = (2, small.prefix + rows * columns, small.embed_dim)
    table = (rows * columns, 2 * small.embed_dim // small.heads) if small.rotary else None
    assert {spy.told for spy in spies} == {(tokens, (rows, columns), small.prefix, table)}
    assert small.prefix == (5 if small.registers else 1)


def test_the_place_of_a_patch_matters_with_rotary_positions(small_spec: Small, randomise: Randomise) -> None:
    """Without learned positions, patches in another order would else give the same tokens in that order."""
    encoder = randomise(DPT(small_spec("dinov3"))).pretrained
    patches = torch.randn(1, 6, 32)
    order = torch.tensor([3, 1, 2, 0, 4, 5])
    with torch.inference_mode():
        straight = encoder._tokens(patches, (2, 3))[-1][:, 5:]
        mixed = encoder._tokens(patches[:, order], (2, 3))[-1][:, 5:]
    assert not torch.allclose(straight[:, order], mixed, atol=1e-3)
