"""Building, loading and replacing: what all attentions have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import timm.layers
import torch
from timm.models.eva import EvaAttention

from ablate import plugins
from ablate.depth import attention
from ablate.depth.attention import base

Make = Callable[..., base.Attention]
Tokens = Callable[..., torch.Tensor]


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of standard, "):
        base.load("../secrets")


def test_standard_is_timms_attention(tokens: Tokens) -> None:
    torch.manual_seed(0)
    old, x = timm.layers.Attention(24, num_heads=3, qkv_bias=True), tokens(2, 3, 4, 1, dim=24)
    (new,) = base.replacements([old], "standard", 24, 3)
    assert torch.allclose(new(x, grid=(3, 4), prefix=1), old(x), atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_standard_is_timms_attention_of_dinov3(tokens: Tokens, bias: bool, half: bool) -> None:
    """Rotary positions of both kinds, and biases of queries and values alone."""
    torch.manual_seed(0)
    old = EvaAttention(24, 3, qkv_bias=bias, num_prefix_tokens=5, scale_norm=False, rotate_half=half)
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter)
    rope = torch.randn(12, 16)
    x = tokens(2, 3, 4, 5, dim=24)
    (new,) = base.replacements([old], "standard", 24, 3)
    assert (new.qkv.bias is not None) == bias
    assert torch.allclose(new(x, grid=(3, 4), prefix=5, rope=rope), old(x, rope=rope), atol=1e-5)
    assert not torch.allclose(new(x, grid=(3, 4), prefix=5), old(x, rope=rope), atol=1e-2)


def test_standard_is_the_attention_of_a_whole_dinov3(tokens: Tokens) -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch16_dinov3", depth=2, embed_dim=48, num_heads=2).eval()
    x, rope = tokens(1, 4, 6, 5, dim=48), network.rope.get_embed((4, 6))
    old = [block.attn for block in network.blocks]
    for theirs, ours in zip(old, base.replacements(old, "standard", 48, 2), strict=True):
        assert torch.allclose(ours(x, grid=(4, 6), prefix=5, rope=rope), theirs(x, rope=rope), atol=1e-6)


def test_a_tensor_that_would_be_lost_is_named() -> None:
    old = timm.layers.Attention(16, num_heads=2, qkv_bias=True, qk_norm=True, norm_layer=torch.nn.LayerNorm)
    with pytest.raises(ValueError, match=r"Attention has k_norm\.bias, k_norm\.weight, .*which no attention"):
        base.replacements([old], "standard", 16, 2)


def old(count: int, dim: int = 16) -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [timm.layers.Attention(dim, num_heads=2, qkv_bias=True) for _ in range(count)]


def test_blocks_that_are_not_named_keep_standard_attention() -> None:
    theirs = old(4)
    ours = base.replacements(theirs, "linear", 16, 2, blocks=(1, 3))
    assert [type(one).__name__ for one in ours] == [
        "StandardAttention",
        "LinearAttention",
        "StandardAttention",
        "LinearAttention",
    ]
    for one, other in zip(theirs, ours, strict=True):
        assert torch.equal(one.qkv.weight, other.qkv.weight)  # type: ignore[union-attr,arg-type]


def test_a_block_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="block 4; there are blocks 0 to 3"):
        base.replacements(old(4), "linear", 16, 2, blocks=(1, 4))


def test_sharing_is_one_module_for_the_blocks_that_are_named() -> None:
    theirs = old(4)
    first, *rest = base.replacements(theirs, "memory_compressed", 16, 2, blocks=(1, 2, 3), share=True, compression=2)
    assert rest[0] is rest[1] is rest[2]
    assert first is not rest[0]
    assert torch.equal(rest[0].qkv.weight, theirs[1].qkv.weight)  # type: ignore[arg-type,union-attr]
    assert len(set(base.replacements(theirs, "standard", 16, 2, share=True))) == 1


@pytest.mark.parametrize(
    ("name", "heads", "options", "millions"),
    [
        ("performer", 8, {"head_dim": 64}, 96.4),
        ("memory_compressed_0_0_3", 8, {"compression": 2}, 97.3),
        ("memory_compressed_0_0_3", 8, {"compression": 3}, 97.4),
    ],
)
def test_the_logs_networks_had_the_parameters_of_one_shared_module(
    name: str, heads: int, options: dict[str, int], millions: float
) -> None:
    """Rows 5 to 7 of the log; DPT-Hybrid has 123,146,985 parameters, twelve attentions among them."""
    standard = timm.layers.Attention(768, num_heads=12, qkv_bias=True)
    ours = base.replacements([standard] * 12, name, 768, heads, share=True, **options)
    own = sum(parameter.numel() for parameter in torch.nn.ModuleList(ours).parameters())
    rest = 123_146_985 - 12 * sum(parameter.numel() for parameter in standard.parameters())
    assert round((rest + own) / 1e6, 1) == millions


def test_a_file_marks_one_class() -> None:
    class First(base.Attention):
        pass

    class Second(base.Attention):
        pass

    First.__module__ = Second.__module__ = "somewhere.else"
    base.attention(First)
    with pytest.raises(TypeError, match="marks two classes"):
        base.attention(Second)


def plug_in(folder: Path, monkeypatch: pytest.MonkeyPatch, points: str, code: str) -> None:
    """A folder as `--plugins` takes it, with a module in a package that must not be imported early."""
    package = folder / "src" / "ablate_test_plugin"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "x"\n[project.entry-points."ablate.attention"]\n{points}\n'
    )
    (package / "__init__.py").write_text("import sys\nsys.ablate_test_plugin_imported = True\n")
    (package / "mine.py").write_text(code)
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("ablate_test_plugin", "ablate_test_plugin.mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)


MINE = """\
from ablate.depth.attention.base import Attention

OPTIONS = {"compression": 5}


class Mine(Attention):
    def __init__(self, dim, num_heads, qkv_bias, compression):
        super().__init__(dim, num_heads, qkv_bias)
        self.compression = compression

    def attend(self, q_BHNE, k_BHNE, v_BHNE, grid, prefix):
        return v_BHNE


class NotOne:
    pass
"""


def test_an_attention_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, monkeypatch, 'mine = "ablate_test_plugin.mine:Mine"', MINE)
    assert attention.names()[-1] == "mine"
    assert attention.options("mine") == {"compression": 5}
    assert not attention.as_logged("mine")
    assert not hasattr(sys, "ablate_test_plugin_imported"), "read, not imported"
    try:
        (new,) = base.replacements(old(1), "mine", 16, 2, **attention.options("mine"))
    finally:
        vars(sys).pop("ablate_test_plugin_imported", None)
    assert type(new).__name__ == "Mine"
    assert new(torch.randn(2, 7, 16), (2, 3), 1).shape == (2, 7, 16)


def test_a_plug_in_may_not_take_the_name_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, monkeypatch, 'performer = "ablate_test_plugin.mine:Mine"', MINE)
    with pytest.raises(ValueError, match=r"'performer' of ablate_test_plugin.mine:Mine has the name of a built-in"):
        attention.names()


def test_a_plug_in_may_not_invent_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, monkeypatch, 'mine = "ablate_test_plugin.mine:Mine"', MINE.replace("compression", "dilation"))
    with pytest.raises(ValueError, match=r"mine.py names 'dilation', which is no setting of an attention; expected"):
        attention.options("mine")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ablate_test_plugin.mine:NotOne", "is no subclass of"),
        ("ablate_test_plugin.mine:Nothing", "cannot be imported"),
        ("ablate_test_plugin.none:Mine", "cannot be imported"),
    ],
)
def test_a_plug_in_that_is_no_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    plug_in(tmp_path, monkeypatch, f'mine = "{value}"', MINE)
    with pytest.raises(TypeError, match=message):
        base.load("mine")
    vars(sys).pop("ablate_test_plugin_imported", None)
