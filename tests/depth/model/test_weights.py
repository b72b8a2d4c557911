from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ablate.depth.config import ModelSettings
from ablate.depth.model.dpt import DPT, build
from ablate.depth.model.weights import load_weights, read_weights
from ablate.errors import DataError


def tiny(seed: int, attention: str = "standard") -> DPT:
    torch.manual_seed(seed)
    return build(ModelSettings(name="dpt_tiny", attention=attention))


def write(path: Path, state: Mapping[str, Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
def test_weights_that_fit_are_loaded(tmp_path: Path, name: str) -> None:
    wanted = tiny(0).state_dict()
    model = tiny(1)
    assert load_weights(model, write(tmp_path / name, wanted)) == ()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("attention", "own"), [("performer", "features"), ("memory_compressed", "compress.weight")])
def test_weights_of_standard_attention_fit_the_others(tmp_path: Path, attention: str, own: str) -> None:
    wanted = tiny(0).state_dict()
    model = tiny(1, attention)
    before = model.state_dict()[f"pretrained.model.blocks.0.attn.{own}"].clone()
    kept = load_weights(model, write(tmp_path / "w.pt", wanted))
    assert f"pretrained.model.blocks.0.attn.{own}" in kept
    state = model.state_dict()
    assert set(state) == set(wanted) | set(kept)
    assert all(torch.equal(state[key], value) for key, value in wanted.items())
    assert torch.equal(state[f"pretrained.model.blocks.0.attn.{own}"], before)


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


def test_weights_of_another_attention_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", tiny(0, "memory_compressed").state_dict())
    with pytest.raises(DataError, match="8 unexpected"):
        load_weights(tiny(0), path)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04" + b"\0" * 100, b"\x80\x02}q\x00."])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_weights(tiny(0), path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_truncated_download(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, tiny(0).state_dict())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match="is the download complete"):
        read_weights(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file; set model\.weights"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(DataError, match="cannot be read"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, {1: torch.zeros(1)}, torch.zeros(1)])
def test_files_that_hold_something_else(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match="expected tensors by name"):
        read_weights(tmp_path / "w.pt")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_never_runs(tmp_path: Path, writer: object) -> None:
    writer({"a": Payload(tmp_path / "ran")}, tmp_path / "w.pt")  # type: ignore[operator]
    with pytest.raises(DataError):
        read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()
