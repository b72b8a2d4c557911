from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import Tensor

from ablate.depth.config import DepthConfig, ModelSettings
from ablate.depth.model.dpt import build
from ablate.depth.model.layouts import SCRIPTABLE
from ablate.depth.predict import Prediction, Predictor, encode, origin_of, recognise
from ablate.depth.protocol import KITTI, NYU
from ablate.errors import DataError, OutOfMemoryError, UsageError

REFERENCE = Path(__file__).parent / "predict_seed2.npz"
"""What isl-org/DPT predicts, in metres, with the stand-in weights and image of seed 2: every 16th pixel from 4."""


def scriptable(key: str) -> str:
    (name,) = SCRIPTABLE.theirs(key) or (key,)
    return name


def stand_in(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The tensor that the reference was computed with: noise from seed and name, at a scale that keeps activations sane."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))
    if re.search(r"(pos_embed|cls_token)$", key):
        return 0.5 * noise
    if key.startswith("scratch.output_conv.4."):
        return 500 * noise if key.endswith("weight") else torch.full(shape, 2000.0)
    if len(shape) <= 1:
        return float(key.endswith("weight")) + 0.02 * noise
    return noise / noise[0].numel() ** 0.5


def stand_in_weights(seed: int) -> dict[str, Tensor]:
    """A DPT-Hybrid under the names of the `main` layout."""
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in build(ModelSettings()).state_dict().items()}
    return {key: stand_in(scriptable(key), shape, seed) for key, shape in shapes.items()}


def stand_in_image(path: Path, seed: int) -> Path:
    """375x1242, smooth."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:375, 0:1242]
    planes = []
    for _ in "rgb":
        wave = np.sin(x / rng.uniform(20, 90) + rng.uniform(0, 6))
        planes.append(127 + 60 * wave + 60 * np.cos(y / rng.uniform(15, 60) + rng.uniform(0, 6)))
    Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)).save(path)
    return path


def tiny(path: Path, seed: int = 0, **model: object) -> Path:
    torch.manual_seed(seed)
    torch.save(build(ModelSettings.model_validate({"name": "dpt_tiny", **model})).state_dict(), path)
    return path


def picture(path: Path, height: int, width: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.slow
def test_predictions_are_those_of_the_published_code(tmp_path: Path) -> None:
    weights, image = stand_in_weights(2), stand_in_image(tmp_path / "frame.png", 2)
    files = {"main": tmp_path / "main.pt", "scriptable": tmp_path / "scriptable.pt"}
    torch.save(weights, files["main"])
    torch.save({scriptable(key): value for key, value in weights.items()}, files["scriptable"])
    expected = np.load(REFERENCE)
    for layout, resolution, network_input in (("main", "full", (352, 1216)), ("scriptable", "reduced", (192, 672))):
        origin = origin_of(files[layout])
        assert (origin.model.name, origin.protocol, origin.relative) == ("dpt_hybrid", KITTI, False)
        found = Predictor(origin)(image, resolution, crop=True)  # type: ignore[arg-type]
        assert found.values.shape == (352, 1216)
        assert found.network_input == network_input
        difference = np.abs(found.values[4::16, 4::16] - expected[resolution]) / expected[resolution]
        assert np.median(difference) < 1e-4
        assert difference.max() < 2e-2


def test_the_stand_in_is_the_one_of_the_reference(shared: Path, tmp_path: Path) -> None:
    """The recipe above against the program that the reference was made with."""
    import sys

    sys.path.insert(0, str(shared / "reference"))
    try:
        from stand_in import stand_in_image as their_image  # type: ignore[import-not-found]
        from stand_in import stand_in_weights as their_weights
    finally:
        sys.path.pop(0)
    shapes = {
        "pretrained.act_postprocess4.4.weight": (4, 3, 3, 3),
        "pretrained.model.cls_token": (1, 1, 8),
        "pretrained.model.norm.weight": (8,),
        "scratch.output_conv.4.weight": (1, 4, 1, 1),
        "scratch.output_conv.4.bias": (1,),
    }
    theirs = their_weights(shapes, 2)
    assert all(torch.equal(stand_in(scriptable(key), shape, 2), theirs[key]) for key, shape in shapes.items())
    assert np.array_equal(np.asarray(Image.open(stand_in_image(tmp_path / "i.png", 2))), their_image(2, 375, 1242))


@pytest.mark.parametrize(
    ("resolution", "crop", "network", "shape"),
    [
        ("full", False, (384, 1248), (375, 1242)),  # rounded to the stride, by the published rule
        ("full", True, (352, 1216), (352, 1216)),
        ("reduced", True, (192, 672), (352, 1216)),
        ((96, 320), False, (96, 320), (375, 1242)),
        ((384, 384), True, (384, 1312), (352, 1216)),  # DPT's own inference size: the height decides
    ],
)
def test_what_comes_out_has_the_size_of_what_went_in(
    tmp_path: Path, resolution: object, crop: bool, network: tuple[int, int], shape: tuple[int, int]
) -> None:
    predictor = Predictor(origin_of(tiny(tmp_path / "w.pt")))
    found = predictor(picture(tmp_path / "i.png", 375, 1242), resolution, crop=crop)  # type: ignore[arg-type]
    assert found.network_input == network
    assert found.values.shape == shape and found.values.dtype == np.float32
    assert (found.values > 0).all()


def test_a_small_image_has_no_kitti_crop(tmp_path: Path) -> None:
    predictor = Predictor(origin_of(tiny(tmp_path / "w.pt")))
    with pytest.raises(DataError, match=r"small\.png: a frame of 64x96 .* smaller than the 352x1216 crop"):
        predictor(picture(tmp_path / "small.png", 64, 96), "full", crop=True)
    assert predictor(tmp_path / "small.png", "full").values.shape == (64, 96)


def test_a_data_set_has_its_own_scale_and_shift(tmp_path: Path) -> None:
    weights, image = tiny(tmp_path / "w.pt"), picture(tmp_path / "i.png", 64, 96)
    inverse = Predictor(origin_of(weights))(image, "full", relative=True)
    assert inverse.relative
    for dataset, row in (("kitti", KITTI), ("nyu", NYU)):
        depth = Predictor(origin_of(weights, dataset=dataset))(image, "full").values
        assert np.allclose(depth, 1 / (row.scale * inverse.values + row.shift), rtol=1e-5)
    with pytest.raises(UsageError, match="--dataset kiti: expected one of kitti, nyu"):
        origin_of(weights, dataset="kiti")


def test_weights_that_diverged_are_named_not_written(tmp_path: Path) -> None:
    state = torch.load(tiny(tmp_path / "w.pt"), weights_only=True)
    state["scratch.output_conv.4.bias"].fill_(float("nan"))
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"i\.png: the network's output is not finite"):
        Predictor(origin_of(tmp_path / "w.pt"))(picture(tmp_path / "i.png", 32, 32), "full")


@pytest.mark.parametrize("name", ["dpt_hybrid", "dpt_large", "dpt_dinov2_small", "dpt_dinov3_base", "dpt_tiny"])
def test_networks_are_recognised_by_their_tensors(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        state = build(ModelSettings(name=name)).state_dict()
    monkeypatch.setattr("ablate.depth.model.weights.read_weights", lambda path, mapped: state)
    assert recognise(tmp_path / "w.pt") == name


def test_a_file_that_is_of_no_network_here_asks_for_one(tmp_path: Path) -> None:
    torch.save({"pretrained.model.cls_token": torch.zeros(1, 1, 768), "fc.weight": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"w\.pt: which network is it\? .* say --network NAME: dpt_hybrid, "):
        recognise(tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"--network dpt_hybird: .* did you mean dpt_hybrid"):
        origin_of(tmp_path / "w.pt", network="dpt_hybird")


def test_a_run_predicts_with_its_own_configuration(tmp_path: Path) -> None:
    model = {"name": "dpt_tiny", "attention": "performer", "features": 8}
    weights = tiny(tmp_path / "w.pt", **model)
    run = DepthConfig.model_validate({"model": model, "data": {"resolution": (64, 224)}})
    origin = origin_of(weights, run.model_dump(mode="json"))
    assert origin.model == run.model
    assert Predictor(origin).network_input((375, 1242), "reduced") == (64, 224)
    with pytest.raises(UsageError, match="--network dpt_large: the run's network is dpt_tiny"):
        origin_of(weights, run.model_dump(mode="json"), network="dpt_large")
    assert not origin.relative
    base = {"model": model, "train": {"loss": "ssi_trimmed"}, "eval": {"align": "scale_shift"}}
    taught = DepthConfig.model_validate(base).model_dump(mode="json")
    assert origin_of(weights, taught).relative, "what losses without a unit taught is never written as metres"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a memory object"),
        RuntimeError("could not create a primitive"),
    ],
    ids=str,
)
def test_memory_that_runs_out_names_the_image_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    predictor = Predictor(origin_of(tiny(tmp_path / "w.pt"), network="dpt_tiny"))
    image = tmp_path / "i.png"
    Image.new("RGB", (64, 32)).save(image)

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(predictor._model, "forward", fail)
    with pytest.raises(OutOfMemoryError, match=r"i\.png: no memory left for a network input of 32x64"):
        predictor(image, "full")
    monkeypatch.setattr(predictor, "_predict", lambda *arguments: (_ for _ in ()).throw(RuntimeError("another kind")))
    with pytest.raises(RuntimeError, match="another kind"):
        predictor(image, "full")


@pytest.mark.parametrize(
    ("name", "relative"), [("dpt_hybrid-midas-501f0c75.pt", True), ("dpt_hybrid_kitti-cb926ef4.pt", False)]
)
def test_weights_without_a_unit_are_known_by_their_name(tmp_path: Path, name: str, relative: bool) -> None:
    assert origin_of(tiny(tmp_path / name)).relative is relative


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(2.0**-10, 2.0**14, width=32)))
def test_sixteen_bits_hold_what_the_published_code_writes(depth: np.ndarray) -> None:
    for protocol, units in ((KITTI, 256), (NYU, 1000)):
        stored = Image.open(io.BytesIO(encode(Prediction(depth, False, (32, 32)), "png16", protocol)))
        assert stored.mode == "I;16"
        exact = depth.astype(np.float64) * units
        assert (np.asarray(stored) == np.clip(np.floor(exact), 1, 65535)).all()


def test_other_formats(tmp_path: Path) -> None:
    depth = np.linspace(2, 80, 12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(np.load(io.BytesIO(encode(Prediction(depth, False, (32, 32)), "npy", KITTI))), depth)
    for relative in (False, True):
        shown = Image.open(io.BytesIO(encode(Prediction(depth, relative, (32, 32)), "color", KITTI)))
        assert shown.mode == "RGB" and shown.height > 3
    with pytest.raises(UsageError, match="relative depth has none"):
        encode(Prediction(depth, True, (32, 32)), "png16", KITTI)
    flat = Prediction(np.full((3, 4), 7, np.float32), True, (32, 32))
    assert encode(flat, "color", KITTI)
