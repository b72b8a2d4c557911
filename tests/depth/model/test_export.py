"""What is exported is what other programs compute: transformers is one of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ablate.depth.config import ModelSettings
from ablate.depth.model import huggingface, specs
from ablate.depth.model.dpt import DPT, build
from ablate.depth.model.export import converted, export, obstacles, write_folder
from ablate.depth.model.specs import SPECS, NetworkSpec, Stem
from ablate.depth.model.weights import load_weights, read_weights
from ablate.errors import DataError, UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of transformers' own dependencies, while it is imported
    from transformers import DepthAnythingForDepthEstimation, DPTConfig, DPTForDepthEstimation

Randomise = Callable[..., Any]

HYBRID = NetworkSpec(
    stem=Stem(channels=16, stage_blocks=(1, 2, 1), stage_channels=(32, 64, 96), bottleneck=0.25, norm_groups=8),
    position_grid=(4, 4),
    embed_dim=48,
    blocks=4,
    heads=3,
    taps=(1, 3),
    readout="project",
    classes=10,
    map_channels=(48, 48),
    features=16,
    head_channels=(8, 32),
)


@pytest.fixture
def hybrid(monkeypatch: pytest.MonkeyPatch) -> str:
    """A DPT-Hybrid of another size, under a name of its own."""
    monkeypatch.setattr(specs, "SPECS", {**SPECS, "small_hybrid": HYBRID})
    return "small_hybrid"


def theirs(folder: Path, kind: type[Any]) -> Any:
    """transformers' network, which must have found every tensor."""
    model, found = kind.from_pretrained(folder, output_loading_info=True)
    assert {key: list(value) for key, value in found.items() if value} == {}
    return model.eval()


def agree(ours: DPT, model: Any, image: Tensor, **options: Any) -> None:
    with torch.inference_mode():
        mine, other = ours(image)[:, 0], model(pixel_values=ours.normalised(image), **options).predicted_depth
    assert mine.shape == other.shape
    assert float((mine > 0).float().mean()) > 0.1, "an output of nothing but zeros would agree with anything"
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4 * float(mine.abs().max()))


def as_hugging_face(model: DPT, folder: Path) -> Path:
    assert list(huggingface.obstacles(model.spec)) == []
    tensors, _ = converted(model, "hf")
    write_folder(model.spec, tensors, folder)
    return folder


def picture(height: int, width: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def weights_of(model: DPT, path: Path) -> Path:
    torch.save(dict(model.state_dict()), path)
    return path


@pytest.mark.parametrize(
    "change",
    [{}, {"heads": 6}, {"taps": (0, 2)}, {"decoder_norm": "batch"}],
    ids=["published", "heads", "taps", "norm"],
)
def test_transformers_computes_our_hybrid(tmp_path: Path, randomise: Randomise, change: dict[str, Any]) -> None:
    model = randomise(DPT(HYBRID.tailored(**change)))
    agree(model, theirs(as_hugging_face(model, tmp_path / "hf"), DPTForDepthEstimation), picture(64, 64))


@pytest.mark.parametrize(
    "change", [{}, {"readout": "add"}, {"readout": "ignore", "taps": (0, 1, 2, 3)}, {"decoder_norm": "batch"}], ids=str
)
def test_transformers_computes_our_large(
    tmp_path: Path, small_spec: Callable[[str], NetworkSpec], randomise: Randomise, change: dict[str, Any]
) -> None:
    model = randomise(DPT(small_spec("large").tailored(**change)))
    folder = as_hugging_face(model, tmp_path / "hf")
    agree(model, theirs(folder, DPTForDepthEstimation), picture(96, 96))


@pytest.mark.parametrize("size", [(56, 56), (70, 98)])
def test_transformers_computes_our_dinov2(
    tmp_path: Path, small_spec: Callable[[str], NetworkSpec], randomise: Randomise, size: tuple[int, int]
) -> None:
    model = randomise(DPT(small_spec("dinov2")))
    folder = as_hugging_face(model, tmp_path / "hf")
    agree(model, theirs(folder, DepthAnythingForDepthEstimation), picture(*size))


@pytest.mark.slow
def test_transformers_computes_the_real_hybrid(randomise: Randomise) -> None:
    """123 M parameters; in memory, where all tensors must find their place too."""
    model = randomise(build(ModelSettings(name="dpt_hybrid")))
    tensors, left_out = converted(model, "hf")
    assert left_out == ["pretrained.model.head.weight", "pretrained.model.head.bias"]
    with torch.device("meta"):
        other = DPTForDepthEstimation(DPTConfig(**huggingface.config(model.spec)))
    other.load_state_dict(tensors, strict=True, assign=True)
    agree(model, other.eval(), picture(384, 384, count=1))


def test_what_transformers_writes_is_read_back(tmp_path: Path, randomise: Randomise) -> None:
    """Its own files, by its own code, have names that differ from those in its memory."""
    spec = replace(
        SPECS["dpt_dinov2_small"], position_grid=(4, 4), embed_dim=48, blocks=4, heads=3, taps=(0, 1, 2, 3),
        map_channels=(8, 8, 16, 16), features=16, head_channels=(8, 8),
    )  # fmt: skip
    model = randomise(DPT(spec))
    other = theirs(as_hugging_face(model, tmp_path / "hf"), DepthAnythingForDepthEstimation)
    other.save_pretrained(tmp_path / "again")
    torch.save(other.state_dict(), tmp_path / "memory.pt")
    for path in (tmp_path / "again", tmp_path / "memory.pt"):
        mine = DPT(spec)
        report = load_weights(mine, path)
        assert report.of("missing") == ()
        assert [entry.key for entry in report.of("unexpected")] == ["backbone.embeddings.mask_token"]
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in mine.state_dict().items())


@pytest.mark.parametrize("target", ["main", "scriptable", "safetensors", "hf"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_export_is_read_back_as_it_was(
    tmp_path: Path, hybrid: str, randomise: Randomise, target: Any, suffix: str
) -> None:
    settings = ModelSettings(name=hybrid)
    model = randomise(build(settings))
    weights = weights_of(model, tmp_path / "w.pt")
    output = tmp_path / ("folder" if target == "hf" else f"x{'.safetensors' if target == 'safetensors' else suffix}")
    export(settings, weights, target, output, force=False)
    again = build(settings)
    report = load_weights(again, output, settings)
    kept = {entry.key for entry in report.of("missing")}
    assert kept == ({"pretrained.model.head.weight", "pretrained.model.head.bias"} if target == "hf" else set())
    for key, value in again.state_dict().items():
        assert key in kept or torch.equal(value, model.state_dict()[key]), key
    assert not list(tmp_path.rglob("*.tmp"))


def test_layouts_have_the_published_keys(tmp_path: Path, hybrid: str) -> None:
    settings = ModelSettings(name=hybrid)
    weights = weights_of(build(settings), tmp_path / "w.pt")
    for target, readout in (("main", "act_postprocess3.0.project.0"), ("scriptable", "readout_oper3.0.project.0")):
        export(settings, weights, target, tmp_path / f"{target}.pt", force=False)  # type: ignore[arg-type]
        keys = read_weights(tmp_path / f"{target}.pt").keys()
        assert f"pretrained.{readout}.weight" in keys
        assert len(keys) == len(build(settings).state_dict())


REPLACED = [
    ({"attention": "performer"}, "main", r"performer.*loses 4 tensors: \S+blocks\.\{0-3\}\.attn\.features"),
    ({"attention": "memory_compressed"}, "hf", r"memory_compressed.*loses 8 tensors"),
    (
        {"attention": "linear"},
        "scriptable",
        r"its attention is linear, which whoever loads the file takes for standard",
    ),
    ({"heads": 6}, "main", "computes 3 heads, and this network 6"),
]


@pytest.mark.parametrize(("given", "target", "reason"), REPLACED)
def test_what_would_be_computed_otherwise_is_refused(
    tmp_path: Path, hybrid: str, given: dict[str, Any], target: Any, reason: str
) -> None:
    settings = ModelSettings.model_validate({"name": hybrid, **given})
    weights = weights_of(build(settings), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=rf"w\.pt: cannot be exported as {target}: .*{reason}.*--layout safetensors"):
        export(settings, weights, target, tmp_path / ("out" if target == "hf" else "out.pt"), force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]
    export(settings, weights, "safetensors", tmp_path / "all.safetensors", force=False)
    assert load_file(tmp_path / "all.safetensors").keys() == build(settings).state_dict().keys()


def test_replaced_attention_in_no_block_is_standard(hybrid: str) -> None:
    model = build(ModelSettings(name=hybrid))
    nowhere = ModelSettings(name=hybrid, attention="linear", attention_blocks=())
    assert list(obstacles(nowhere, model, "main")) == []


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("dpt_tiny", "hf", "positions to be square, and these are 6x20"),
        ("dpt_dinov3_small", "hf", "rotary positions or registers"),
        ("dpt_dinov3_small", "main", "the published code has no dpt_dinov3_small"),
        ("dpt_dinov2_small", "scriptable", "the published code has no dpt_dinov2_small"),
    ],
)
def test_networks_that_a_target_does_not_know(name: str, target: Any, reason: str) -> None:
    settings = ModelSettings(name=name)
    with torch.device("meta"):
        model = build(settings)
    assert reason in "; ".join(obstacles(settings, model, target))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"head_channels": (8, 16)}, "and this one 8 and 16"),
        ({"readout": "add"}, "hybrid has the readout project"),
        ({"stem": replace(HYBRID.stem, bottleneck=0.5)}, "bottlenecks of 0.25"),  # type: ignore[type-var]
        ({"tap_norm": True}, "one of tap_norm and layer_scale alone"),
    ],
)
def test_what_transformers_has_no_setting_for(change: dict[str, Any], reason: str) -> None:
    assert reason in "; ".join(huggingface.obstacles(replace(HYBRID, **change)))


def test_what_the_published_code_must_be_told(tmp_path: Path, hybrid: str) -> None:
    settings = ModelSettings(name=hybrid, taps=(0, 1), readout="ignore", decoder_norm="batch")
    weights = weights_of(build(settings), tmp_path / "w.pt")
    notes = export(settings, weights, "main", tmp_path / "x.pt", force=False)
    assert notes == [
        'the published code needs hooks whose last are [0, 1], readout="ignore", use_bn=True to compute this network',
        "blocks 2 to 3 come after the last tap and are not in the file",
    ]


def test_nothing_is_overwritten_unless_asked_for(tmp_path: Path, hybrid: str) -> None:
    settings = ModelSettings(name=hybrid)
    weights = weights_of(build(settings), tmp_path / "w.pt")
    (tmp_path / "x.pt").write_bytes(b"precious")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    for target, name in (("main", "x.pt"), ("hf", "hf")):
        with pytest.raises(UsageError, match="exists already; --force overwrites it"):
            export(settings, weights, target, tmp_path / name, force=False)  # type: ignore[arg-type]
        export(settings, weights, target, tmp_path / name, force=True)  # type: ignore[arg-type]
    assert read_weights(tmp_path / "x.pt")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["model_type"] == "dpt"


@pytest.mark.parametrize(
    ("target", "name", "reason"),
    [
        ("main", "w", "expected a name ending in .pt or .pth or .safetensors"),
        ("safetensors", "w.pt", "expected a name ending in .safetensors"),
        ("hf", "w.pt", "writes a folder"),
        ("hf", "file", "is a file"),
        ("main", "folder.pt", "is a folder"),
    ],
)
def test_places_that_do_not_suit(tmp_path: Path, target: Any, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(UsageError, match=reason):
        export(ModelSettings(name="dpt_tiny"), tmp_path / "absent.pt", target, tmp_path / name, force=True)


def test_weights_that_do_not_fit_are_not_exported(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="does not fit"):
        export(ModelSettings(name="dpt_tiny"), tmp_path / "w.pt", "main", tmp_path / "x.pt", force=False)
    assert not (tmp_path / "x.pt").exists()


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ModelSettings(name="dpt_tiny")
    weights = weights_of(build(settings), tmp_path / "w.pt")

    def full(tensors: Mapping[str, Tensor], file: Any) -> Iterator[None]:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        export(settings, weights, "main", tmp_path / "x.pt", force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pt"]
