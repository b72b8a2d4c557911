"""Scale and shift of a training set, and what is done with them before the first step."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ablate.depth.alignment import Estimate, align_start, estimate, fold, lines
from ablate.depth.config import DepthConfig, ModelSettings
from ablate.depth.data.base import Frame
from ablate.depth.data.splits import read_splits, reader
from ablate.depth.model.dpt import DPT, build, inverse_to_depth
from ablate.depth.protocol import KITTI
from ablate.depth.session import DepthSession
from ablate.errors import DataError
from ablate.task import Placement, Position


def network(seed: int = 0) -> DPT:
    torch.manual_seed(seed)
    return build(ModelSettings(name="dpt_tiny"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "start.pt"
    torch.save(network().state_dict(), path)
    return path


def aligned_to(street: Path, weights: Path, **train: Any) -> DepthConfig:
    return DepthConfig.model_validate(
        {
            "model": {"name": "dpt_tiny", "weights": weights},
            "data": {"root": street, "resolution": (32, 96)},
            "train": {"epochs": 1, "batch_size": 2, **train},
            "eval": {"resolutions": ("reduced",)},
        }
    )


def frames(config: DepthConfig) -> tuple[Frame, ...]:
    return read_splits(config.data)["train"].frames


class Known(nn.Module):
    """In place of a network: (1 / truth - shift) / scale of the frame that comes next, so that the answer is known."""

    def __init__(self, config: DepthConfig, pairs: list[tuple[float, float]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        reads, size = reader(config.data, "train"), config.data.resolution
        from ablate.depth.data.images import squash_depth

        self.answers = []
        for frame, (scale, shift) in zip(frames(config), pairs, strict=True):
            depth = torch.from_numpy(squash_depth(reads.load_depth(frame.depth), size))[None, None]
            inverse = torch.where(depth > 0, 1 / depth, 0.0)
            self.answers.append((inverse.double() - shift) / scale)
        self.calls = itertools.count()

    def forward(self, image: Tensor) -> Tensor:
        return self.answers[next(self.calls)]


def test_known_scales_and_shifts_are_found_and_averaged(street: Path, weights: Path) -> None:
    config = aligned_to(street, weights)
    pairs = [(1e-4 * (1 + place), 1e-3 * place) for place in range(7)]
    for workers in (0, 3):
        known = Known(config, pairs)
        found = estimate(cast(DPT, known), frames(config), (32, 96), reader(config.data, "train"), KITTI, workers)
        assert found.scale == pytest.approx(4e-4, rel=1e-3) and found.shift == pytest.approx(3e-3, rel=2e-2)
        assert found.scale_spread == pytest.approx(2e-4, rel=1e-3)
        assert (found.images, found.undecided) == (7, 0)


@pytest.fixture(scope="module")
def before() -> tuple[DPT, Tensor, Tensor]:
    """A network in double precision, an image, and its output; half of it is at 0."""
    model = network().double().eval()
    last = cast(nn.Conv2d, model.scratch.output_conv[4])
    with torch.no_grad():
        image_13HW = torch.rand(1, 3, 32, 64).double() * 2 - 1
        cast(Tensor, last.bias).sub_(model(image_13HW).median())
        return model, image_13HW, model(image_13HW)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-6, 1e-2), st.floats(-0.01, 0.1))
def test_a_fold_keeps_depth_and_the_published_constants(
    before: tuple[DPT, Tensor, Tensor], scale: float, shift: float
) -> None:
    """Exact where the convolution gave x > 0 and the folded one does; cut off at 172.7 m elsewhere."""
    model, image_13HW, x = before
    last = cast(nn.Conv2d, model.scratch.output_conv[4])
    kept = {key: value.clone() for key, value in last.state_dict().items()}
    fold(model, scale, shift, KITTI)
    with torch.no_grad():
        new = model(image_13HW)
    last.load_state_dict(kept)
    alive = (x > 0) & (new > 0)
    assert torch.allclose((KITTI.scale * new + KITTI.shift)[alive], (scale * x + shift)[alive], rtol=1e-9, atol=1e-12)
    assert float(inverse_to_depth(new).max()) <= 1 / KITTI.shift + 1e-6
    assert bool(((scale * x + shift)[(x > 0) & (new == 0)] <= KITTI.shift + 1e-9).all()), "cut off, being farther"
    assert bool((new[x == 0] <= max(0.0, (shift - KITTI.shift) / KITTI.scale) + 1e-6).all()), "no nearer than 1 / shift"


def test_published_constants_change_nothing(street: Path, weights: Path) -> None:
    model, config = network(), aligned_to(street, weights)
    assert align_start(model, config, frames(config), KITTI, None) is None
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), network().state_dict().values(), strict=True)
    )
    assert lines(None) == []


def test_none_reads_the_output_as_inverse_metres(street: Path, weights: Path) -> None:
    model, config = network().eval(), aligned_to(street, weights, alignment="none")
    with torch.no_grad():
        cast(nn.Conv2d, model.scratch.output_conv[4]).weight.mul_(1e-5)
        cast(Tensor, model.scratch.output_conv[4].bias).fill_(0.05)  # type: ignore[union-attr]
        image = torch.rand(1, 3, 32, 64)
        x = model(image)
        align_start(model, config, (), KITTI, None)
        assert torch.allclose(model.depth(image), 1 / x, rtol=1e-3)


def opened(config: DepthConfig, cache_dir: Path | None) -> tuple[DepthSession, Mapping[str, Any]]:
    session = DepthSession(config, Placement(cache_dir=cache_dir))
    return session, cast(Mapping[str, Any], session.facts["alignment"])


def weights_of(session: DepthSession) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in session._model.state_dict().items()}


def test_a_session_starts_aligned_and_says_so(street: Path, weights: Path, tmp_path: Path) -> None:
    """What it estimates, estimated again of the folded network, is what was published."""
    config = aligned_to(street, weights, alignment="estimated")
    session, facts = opened(config, tmp_path / "cache")
    assert facts["how"] == "estimated" and facts["images"] == 7
    assert facts["published"] == {"scale": 0.00006016, "shift": 0.00579}
    assert any("estimated over 7 training images" in note for note in session.facts["notes"])  # type: ignore[union-attr]
    again = estimate(session._model, frames(config), (32, 96), reader(config.data, "train"), KITTI)
    if facts["at_zero"] == 0 and again.at_zero == 0:
        assert (again.scale, again.shift) == pytest.approx((KITTI.scale, KITTI.shift), rel=1e-3)
    else:
        assert again.scale == pytest.approx(KITTI.scale, rel=0.2)
    before = weights_of(session)
    (batch, *_) = session.batches(1, 0)
    assert session.step(batch, Position(0, 1, 0)).loss > 0
    other, _ = opened(config, None)
    assert all(torch.equal(value, before[key]) for key, value in weights_of(other).items()), (
        "cached or not, bit for bit"
    )


def test_a_second_start_reads_the_cache_and_only_what_it_is_of(street: Path, weights: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    config = aligned_to(street, weights, alignment="estimated")
    align_start(network(), config, frames(config), KITTI, cache)
    (file,) = (cache / "alignment").iterdir()
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "scale": 0.5}))
    facts = align_start(network(), config, frames(config), KITTI, cache)
    assert facts is not None and facts["scale"] == 0.5, "the file, not the images"
    file.write_text("damaged")
    facts = align_start(network(), config, frames(config), KITTI, cache)
    assert facts is not None and facts["scale"] == stored["scale"] and json.loads(file.read_text()) == stored
    half = config.model_copy(update={"data": config.data.model_copy(update={"resolution": (32, 64)})})
    align_start(network(), half, frames(half), KITTI, cache)
    torch.save(network(seed=5).state_dict(), weights)
    os.utime(weights, ns=(1, 1))
    align_start(network(), config, frames(config), KITTI, cache)
    assert len(list((cache / "alignment").iterdir())) == 3


def test_images_that_decide_nothing_are_no_alignment(street: Path, weights: Path) -> None:
    config, model = aligned_to(street, weights, alignment="estimated"), network()
    with torch.no_grad():
        cast(Tensor, model.scratch.output_conv[4].bias).fill_(-1e9)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="none of the 7 images"):
        align_start(model, config, frames(config), KITTI, None)


def test_without_weights_there_is_nothing_to_align() -> None:
    spelled = DepthConfig.model_validate({"train": {"alignment": "estimated"}})
    assert spelled == DepthConfig(), "two spellings of one run"


def test_the_estimate_is_told() -> None:
    facts = {"how": "estimated", **vars(Estimate(1e-4, 0.01, 1e-5, 1e-3, 9, 2, 0.25))}
    (line,) = lines({**facts, "published": {"scale": 6e-5, "shift": 0.005}})
    assert "9 training images, 2 more left out" in line and "1 / (0.0001 x + 0.01)" in line and "25.0%" in line
