from __future__ import annotations

from collections.abc import Callable

import pytest
import timm.layers
import torch

from ablate.depth.attention import base
from ablate.depth.config import DepthConfig

Make = Callable[..., base.Attention]
Tokens = Callable[..., torch.Tensor]


def test_more_than_one_image_is_refused_with_the_reason(make: Make, tokens: Tokens) -> None:
    module = make("memory_compressed_0_0_3")
    assert module(tokens(1, 3, 5, 1), grid=(3, 5), prefix=1).shape == (1, 16, 16)
    with pytest.raises(ValueError, match=r"one image at a time, not 2: .*did not expand its null key to the batch"):
        module(tokens(2, 3, 5, 1), grid=(3, 5), prefix=1)


def test_a_study_with_larger_batches_is_refused_before_it_starts() -> None:
    settings = {"model": {"attention": "memory_compressed_0_0_3"}}
    assert DepthConfig.model_validate(settings).train.batch_size == 1
    with pytest.raises(ValueError, match=r"one image at a time: .*train\.batch_size"):
        DepthConfig.model_validate({**settings, "train": {"batch_size": 2}})
    DepthConfig.model_validate({"model": {"attention": "memory_compressed"}, "train": {"batch_size": 2}})


def test_there_is_no_softmax(make: Make) -> None:
    """Ten times the queries give ten times the output, less the bias of its projection."""
    module = make("memory_compressed_0_0_3")
    q, k, v = torch.randn(3, 1, 2, 16, 8, generator=torch.Generator().manual_seed(0)).unbind()
    out = module.attend(q, k, v, (3, 5), 1)
    assert torch.allclose(module.attend(10 * q, k, v, (3, 5), 1), 10 * out, rtol=1e-4, atol=1e-4)


def test_logits_have_no_bound(make: Make, tokens: Tokens) -> None:
    """The cube of the scale of its input: what the right one cannot do."""
    sizes = []
    for name in ("memory_compressed", "memory_compressed_0_0_3"):
        module = make(name)
        small, large = (
            module(tokens(1, 3, 5, 1, scale=scale), grid=(3, 5), prefix=1).detach().abs().max() for scale in (10, 1000)
        )
        sizes.append(float(large / small))
    assert sizes[0] < 300
    assert sizes[1] > 1e5


def test_starts_at_random_as_a_checkpoint_did_not_reach_it() -> None:
    old = timm.layers.Attention(16, num_heads=2, qkv_bias=True)
    (new,) = base.replacements([old], "memory_compressed_0_0_3", 16, 2, compression=2)
    assert not set(new.state_dict()) & set(old.state_dict())
    assert set(new.state_dict()) == {
        "to_qkv.weight",
        "to_out.weight",
        "to_out.bias",
        "compress.weight",
        "compress.bias",
        "null_k",
        "null_v",
    }


def test_gradients_reach_every_parameter(make: Make, tokens: Tokens) -> None:
    module = make("memory_compressed_0_0_3")
    module(tokens(1, 3, 5, 1), grid=(3, 5), prefix=1).square().sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        # null_k weights null_v alone, and both start at zero: as in the package, neither ever leaves it
        assert bool(parameter.grad.abs().max() > 0) == (key not in ("null_k", "null_v")), key
