from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ablate.depth.config import ModelSettings
from ablate.depth.model import audit, layouts, positions
from ablate.depth.model.dpt import DPT, build
from ablate.depth.model.loadreport import LoadReport
from ablate.depth.model.weights import load_weights, read_weights, survey
from ablate.errors import DataError

DINO = "dpt_dinov2_small"


def settings_of(**given: Any) -> ModelSettings:
    return ModelSettings.model_validate({"name": "dpt_tiny", **given})


def tiny(seed: int, attention: str = "standard", **given: Any) -> DPT:
    torch.manual_seed(seed)
    return build(settings_of(attention=attention, **given))


def write(path: Path, state: Mapping[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path


def surveyed(path: Path, settings: ModelSettings) -> LoadReport:
    with torch.device("meta"):
        model = build(settings)
    return survey(model, path, settings)


def shares(path: Path, **given: Any) -> dict[str, float | None]:
    """pretrained % by part, as `plan` gives it."""
    settings = settings_of(**given)
    with torch.device("meta"):
        model = build(settings)
    found = audit.parts(model, survey(model, path, settings).filled)
    return {part.name: part.pretrained for part in found if not part.shared}


def in_layout(state: Mapping[str, Tensor], layout: layouts.Layout) -> dict[str, Tensor]:
    """The file that another program would have written of these weights."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        names = layout.theirs(key) or ()
        pieces = value.chunk(len(names)) if len(names) > 1 else [value]
        found |= {name: piece.clone() for name, piece in zip(names, pieces, strict=bool(names))} if names else {}
    return found


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
def test_weights_that_fit_are_loaded(tmp_path: Path, name: str) -> None:
    wanted = tiny(0).state_dict()
    model = tiny(1)
    report = load_weights(model, write(tmp_path / name, wanted))
    assert report.filled == set(wanted)
    assert len(report.entries) == len(report.of("loaded")) == len(wanted)
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "optimizer": {"param_groups": [{"lr": 1.0}]}, "epoch": 3},
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"model.module.{key}": value for key, value in state.items()}, "epoch": 1},
    ],
    ids=["model", "state_dict", "model_state_dict", "parallel", "lightning"],
)
def test_wrapped_files_are_unwrapped(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    wanted = tiny(0).state_dict()
    path = tmp_path / "w.pt"
    torch.save(wrap(dict(wanted)), path)
    model = tiny(1)
    load_weights(model, path)
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    assert read_weights(path, mapped=True).keys() == read_weights(path).keys() == wanted.keys()


def test_files_from_before_the_zip_format_are_read_too(tmp_path: Path) -> None:
    wanted = tiny(0).state_dict()
    torch.save(dict(wanted), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert surveyed(tmp_path / "w.pt", settings_of()).filled == set(wanted)
    assert load_weights(tiny(1), tmp_path / "w.pt").filled == set(wanted)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("dpt_tiny", layouts.MAIN),
        ("dpt_tiny", layouts.SCRIPTABLE),
        ("dpt_tiny", layouts.HF_HYBRID),
        (DINO, layouts.DEPTH_ANYTHING),
        (DINO, layouts.HF_DEPTH_ANYTHING),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_layout_gives_every_tensor(tmp_path: Path, name: str, layout: layouts.Layout) -> None:
    settings = settings_of(name=name)
    torch.manual_seed(0)
    wanted = build(settings).state_dict()
    path = write(tmp_path / "w.safetensors", in_layout(wanted, layout))
    model = build(settings)
    report = load_weights(model, path, settings)
    assert report.layout == layout.name
    assert report.filled == set(wanted), "no key missing"
    assert surveyed(path, settings) == report
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


def test_the_classifier_alone_may_be_missing(tmp_path: Path) -> None:
    """transformers drops it, and no output depends on it."""
    hybrid = settings_of(name="dpt_hybrid")
    with torch.device("meta"):
        wanted = build(hybrid).state_dict()
    path = tmp_path / "w.safetensors"
    state = in_layout(
        {key: torch.zeros(value.shape, dtype=torch.uint8) for key, value in wanted.items()}, layouts.HF_HYBRID
    )
    save_file(state, path)
    report = surveyed(path, hybrid)
    assert {entry.key for entry in report.of("missing")} == {f"pretrained.model.head.{x}" for x in ("weight", "bias")}
    assert report.of("unexpected") == report.of("reshaped") == ()
    assert shares(path, name="dpt_hybrid")["attention"] == 1.0
    assert shares(path, name="dpt_hybrid")["unused"] == pytest.approx(1_181_696 / (1_181_696 + 769_000))


def test_an_encoder_of_timm_needs_a_declared_decoder(tmp_path: Path) -> None:
    encoder = tiny(0).pretrained.model.state_dict()
    path = write(tmp_path / "w.pt", encoder | {"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)})
    with pytest.raises(DataError, match=r"missing: pretrained\.act_postprocess3.*`model\.decoder_init: scratch`"):
        load_weights(tiny(1), path)
    model = tiny(1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = load_weights(model, path, settings_of(decoder_init="scratch"))
    after = model.state_dict()
    assert report.layout == "timm"
    assert report.filled == {f"pretrained.model.{key}" for key in encoder}
    assert {entry.key for entry in report.of("unexpected")} == {"head.weight", "head.bias"}
    assert {entry.why for entry in report.of("missing")} == {"model.decoder_init is scratch"}
    for key, value in after.items():
        wanted = encoder[key.removeprefix("pretrained.model.")] if key in report.filled else before[key]
        assert torch.equal(value, wanted), key
    parts = shares(path, decoder_init="scratch")
    assert parts["backbone"] == parts["embedding"] == parts["attention"] == parts["mlp"] == 1.0
    assert parts["reassemble"] == parts["decoder"] == parts["head"] == 0.0


def test_declared_scratch_is_what_the_study_says_whatever_the_file_has(tmp_path: Path) -> None:
    state = tiny(0).state_dict()
    path = write(tmp_path / "w.pt", state)
    for setting, mine in (("attention_init", ".attn."), ("decoder_init", "scratch.")):
        settings = settings_of(**{setting: "scratch"})
        model = tiny(1)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        report = load_weights(model, path, settings)
        kept = {entry.key for entry in report.of("missing")}
        assert kept == {entry.key for entry in report.of("unexpected")}
        assert {key for key in state if mine in key} <= kept
        assert all(f"{setting.removesuffix('_init')}" in entry.why for entry in report.of("missing") if entry.why)
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key] if key in kept else state[key]), key
    assert shares(path, attention_init="scratch")["attention"] == 0.0
    assert shares(path, attention_init="scratch")["mlp"] == 1.0


def test_scratch_attention_is_that_of_the_chosen_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0).state_dict())
    settings = settings_of(attention="performer", attention_blocks=(1, 3), attention_init="scratch")
    missing = {entry.key.split(".")[3] for entry in surveyed(path, settings).of("missing")}
    assert missing == {"1", "3"}
    assert shares(path, attention="performer", attention_blocks=(1, 3), attention_init="scratch")["attention"] == 0.5


@pytest.mark.parametrize(("attention", "own"), [("performer", "features"), ("memory_compressed", "compress.weight")])
def test_weights_of_standard_attention_fit_the_others(tmp_path: Path, attention: str, own: str) -> None:
    wanted = tiny(0).state_dict()
    model = tiny(1, attention)
    before = model.state_dict()[f"pretrained.model.blocks.0.attn.{own}"].clone()
    report = load_weights(model, write(tmp_path / "w.pt", wanted), settings_of(attention=attention))
    kept = {entry.key for entry in report.of("missing")}
    assert f"pretrained.model.blocks.0.attn.{own}" in kept
    state = model.state_dict()
    assert set(state) == set(wanted) | kept
    assert report.filled == set(wanted)
    assert all(torch.equal(state[key], value) for key, value in wanted.items())
    assert torch.equal(state[f"pretrained.model.blocks.0.attn.{own}"], before)


def test_pretrained_counts_what_an_attention_adds(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0).state_dict())
    share = shares(path, attention="memory_compressed")
    attention, added = 4 * (3 * 64 * 64 + 3 * 64 + 64 * 64 + 64), 4 * (64 * 16 * 2 + 64)
    assert share["attention"] == pytest.approx(attention / (attention + added))
    assert shares(path) == dict.fromkeys(shares(path), 1.0)


def test_an_attention_of_another_width_is_its_own(tmp_path: Path) -> None:
    """The log's performer is 512 wide in a network of 768: nothing of the file's attention fits it."""
    path = write(tmp_path / "w.pt", tiny(0).state_dict())
    wide = {"attention": "performer", "head_dim": 24}
    with pytest.raises(DataError, match=r"288x64|192x64 instead of 288x64.*`model\.attention_init: scratch`"):
        load_weights(tiny(1, **wide), path, settings_of(**wide))
    report = load_weights(tiny(1, **wide), path, settings_of(**wide, attention_init="scratch"))
    assert not any(".attn." in key for key in report.filled)
    assert {key for key in tiny(0).state_dict() if ".attn." in key} == {e.key for e in report.of("unexpected")}


def test_blocks_that_share_a_module_cannot_choose_between_tensors(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0).state_dict())
    shared = settings_of(share_attention=True)
    with pytest.raises(DataError, match=r"one module here.*blocks\.\{1-3\}\.attn.*attention_init to scratch"):
        load_weights(build(shared), path, shared)
    with pytest.raises(DataError, match="one module here"):
        surveyed(path, shared)
    scratch = settings_of(share_attention=True, attention_init="scratch")
    assert not any(".attn." in key for key in load_weights(build(scratch), path, scratch).filled)
    own = write(tmp_path / "shared.pt", tiny(2, share_attention=True).state_dict())
    model = build(shared)
    load_weights(model, own, shared)
    assert all(torch.equal(value, read_weights(own)[key]) for key, value in model.state_dict().items())


def test_another_attentions_tensors_are_not_dropped_in_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0, "performer").state_dict())
    with pytest.raises(DataError, match=r"4 unexpected: \S+blocks\.\{0-3\}\.attn\.features.*attention_init: scratch"):
        load_weights(tiny(1), path, settings_of())
    report = load_weights(tiny(1), path, settings_of(attention_init="scratch"))
    assert all(entry.why == "model.attention_init is scratch" for entry in report.of("unexpected"))


def test_blocks_after_the_last_tap_are_reported_and_left(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0).state_dict())
    report = load_weights(tiny(1, taps=(0, 1)), path, settings_of(taps=(0, 1)))
    assert {entry.key.split(".")[3] for entry in report.of("unexpected")} == {"2", "3"}
    assert {entry.why for entry in report.of("unexpected")} == {"after the last tap, block 1"}
    short = write(tmp_path / "short.pt", tiny(0, taps=(0, 1)).state_dict())
    with pytest.raises(DataError, match=r"missing: pretrained\.model\.blocks\.\{2-3\}\.norm1\.weight"):
        load_weights(tiny(1), short)


def test_readouts_and_norms_that_the_study_chose_are_declared(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0).state_dict())
    report = load_weights(tiny(1, readout="ignore"), path, settings_of(readout="ignore"))
    assert {entry.why for entry in report.of("unexpected")} == {"model.readout ignore has no use for it"}
    normed = settings_of(decoder_norm="batch")
    report = load_weights(build(normed), path, normed)
    assert all("bn" in entry.key for entry in report.of("missing"))
    assert all(entry.key.endswith(".bias") for entry in report.of("unexpected"))
    with pytest.raises(DataError, match=r"unexpected: scratch\.refinenet1\.resConfUnit1\.bn1\.weight"):
        load_weights(tiny(1), write(tmp_path / "bn.pt", build(normed).state_dict()))
    with pytest.raises(DataError, match=r"missing: pretrained\.act_postprocess3\.0\.project\.0\.weight"):
        load_weights(tiny(1), write(tmp_path / "r.pt", tiny(0, readout="ignore").state_dict()))


@pytest.mark.parametrize("side", [4, 11, 16])
def test_positions_of_another_grid_are_interpolated_as_the_network_does(tmp_path: Path, side: int) -> None:
    state = dict(tiny(0).state_dict())
    theirs = torch.randn(1, 1 + side * side, 64)
    path = write(tmp_path / "w.pt", state | {"pretrained.model.pos_embed": theirs})
    model = tiny(1)
    report = load_weights(model, path)
    (entry,) = report.of("reshaped")
    assert (entry.key, entry.shape, entry.file_shape) == ("pretrained.model.pos_embed", (1, 121, 64), theirs.shape)
    assert entry.why == f"interpolated from a grid of {side}x{side}"
    wanted = positions.resized(theirs, (side, side), (6, 20), "bilinear")
    assert torch.equal(model.state_dict()["pretrained.model.pos_embed"], wanted)
    assert shares(path)["embedding"] == 1.0


@pytest.mark.parametrize("shape", [(1, 120, 64), (1, 17, 32), (1, 1, 64), (17, 64), (2, 17, 64)])
def test_positions_that_are_no_square_grid_do_not_fit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    state = dict(tiny(0).state_dict()) | {"pretrained.model.pos_embed": torch.zeros(shape)}
    with pytest.raises(DataError, match=r"1 of another shape: pretrained\.model\.pos_embed"):
        load_weights(tiny(1), write(tmp_path / "w.pt", state))


def test_the_mask_token_of_dinov2_is_not_missed(tmp_path: Path) -> None:
    settings = settings_of(name=DINO)
    state = in_layout(build(settings).state_dict(), layouts.DEPTH_ANYTHING)
    path = write(tmp_path / "w.pt", state | {"pretrained.mask_token": torch.zeros(1, 384)})
    (entry,) = surveyed(path, settings).of("unexpected")
    assert entry.key == "pretrained.mask_token"
    path = write(tmp_path / "x.pt", state | {"pretrained.blocks.0.attn.extra": torch.zeros(1)})
    with pytest.raises(DataError, match=r"1 unexpected: pretrained\.blocks\.0\.attn\.extra"):
        surveyed(path, settings)


def test_half_precision_is_taken_as_it_is(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in tiny(0).state_dict().items()}
    model = tiny(1)
    load_weights(model, write(tmp_path / "w.safetensors", state))
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())
    assert all(torch.equal(value, state[key].float()) for key, value in model.state_dict().items())


def test_a_survey_sees_the_newest_version_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0).state_dict())
    assert surveyed(path, settings_of()).problems == ()
    path.unlink()
    write(path, {"a": torch.zeros(1)})
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match="does not fit"):
        surveyed(path, settings_of())
    path.unlink()
    with pytest.raises(DataError, match=r"no such file.*model\.weights|cannot be read"):
        surveyed(path, settings_of())


def test_the_report_is_a_table_for_people_and_for_the_record(tmp_path: Path) -> None:
    state = tiny(0).state_dict() | {"pretrained.model.pos_embed": torch.zeros(1, 17, 64)}
    path = write(tmp_path / "w.pt", state)
    report = load_weights(tiny(1, "memory_compressed"), path, settings_of(attention="memory_compressed"))
    facts = report.facts()
    assert facts["counts"] == {"loaded": len(state) - 1, "reshaped": 1, "missing": 8, "unexpected": 0}
    assert facts["loaded"]["scratch.layer1_rn.weight"] == [16, 32, 3, 3]
    assert facts["missing"][0] == {
        "key": "pretrained.model.blocks.0.attn.compress.weight",
        "shape": [64, 16, 2],
        "why": "the attention's own, which the file has none of",
    }
    assert facts["reshaped"][0]["file_shape"] == [1, 17, 64]
    lines = report.lines()
    assert lines[0] == f"weights {path} (main layout)"
    assert [line.split()[:2] for line in lines if not line.startswith("    ")][1:] == [
        ["loaded", str(len(state) - 1)],
        ["reshaped", "1"],
        ["missing", "8"],
        ["unexpected", "0"],
    ]
    assert any("blocks.{0-3}.attn.compress.weight 64x16x2" in line for line in lines), "four blocks, one line"
    assert any("pos_embed 1x17x64 -> 1x121x64: interpolated from a grid of 4x4" in line for line in lines)


def test_one_error_names_all_that_does_not_fit(tmp_path: Path) -> None:
    state = dict(tiny(0).state_dict())
    del state["scratch.layer1_rn.weight"], state["pretrained.model.cls_token"]
    state["module.extra"] = torch.zeros(1)
    state["scratch.layer2_rn.weight"] = torch.zeros(3, 4)
    model = tiny(1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_weights(model, write(tmp_path / "w.pt", state))
    text = str(caught.value)
    assert str(tmp_path / "w.pt") in text
    assert "2 missing: pretrained.model.cls_token, scratch.layer1_rn.weight" in text
    assert "1 unexpected: module.extra" in text
    assert "1 of another shape: scratch.layer2_rn.weight (3x4 instead of 16x64x3x3)" in text
    assert "model.name" in text
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "partly loaded"


def test_many_keys_are_counted_not_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\d+ missing: ([^,]+, ){4}[^,]+ and \d+ more; 1 unexpected: a\."):
        load_weights(tiny(0), write(tmp_path / "w.pt", {"a": torch.zeros(1)}))


def test_a_compressed_checkpoint_without_some_of_its_convolutions_is_refused(tmp_path: Path) -> None:
    state = dict(tiny(0, "memory_compressed").state_dict())
    del state["pretrained.model.blocks.2.attn.compress.weight"]
    with pytest.raises(DataError, match=r"1 missing: pretrained.model.blocks.2.attn.compress.weight"):
        load_weights(tiny(0, "memory_compressed"), write(tmp_path / "w.pt", state))


def test_a_network_that_is_another_size_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0).state_dict())
    with pytest.raises(DataError, match=r"of another shape.*is model\.name right\?"):
        surveyed(path, settings_of(name="dpt_hybrid"))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04" + b"\0" * 100, b"\x80\x02}q\x00."])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for mapped in (False, True):
        with pytest.raises(DataError) as caught:
            read_weights(path, mapped=mapped)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_truncated_download(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, tiny(0).state_dict())
    path.write_bytes(path.read_bytes()[:-1000])
    for mapped in (False, True):
        with pytest.raises(DataError, match="is the download complete"):
            read_weights(path, mapped=mapped)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file; set model\.weights"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(DataError, match="cannot be read"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], {"epoch": 3}, {1: torch.zeros(1)}, torch.zeros(1), {"model": {"lr": 1.0}}]
)
def test_files_that_hold_something_else(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match="expected tensors by name"):
        read_weights(tmp_path / "w.pt")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    "writer",
    [
        torch.save,
        lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
        lambda value, path: path.write_bytes(pickle.dumps(value)),
    ],
    ids=["zip", "legacy", "bare"],
)
def test_code_in_a_file_never_runs(tmp_path: Path, writer: Callable[..., object], mapped: bool) -> None:
    path = tmp_path / "w.pt"
    writer({"a": Payload(tmp_path / "ran")}, path)
    with pytest.raises(DataError, match=r"w\.pt: refused: .*\((\w+\.)?(open|pickle operand \d+)\).*\.safetensors"):
        read_weights(path, mapped=mapped)
    assert not (tmp_path / "ran").exists()
