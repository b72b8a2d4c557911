"""How a network is trained, through real sessions: what must not change the result, and what must survive a resume."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as rules
from hypothesis import strategies as st
from torch import Tensor, nn

from ablate.depth.config import DepthConfig
from ablate.depth.recipe import Average
from ablate.depth.session import DepthSession
from ablate.errors import CheckpointError
from ablate.task import Evaluation, Placement, Position, StepReport


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def opened(settings: dict[str, Any], *, model: dict[str, Any] | None = None, **train: Any) -> DepthSession:
    merged = {
        **settings,
        "model": {**settings["model"], **(model or {})},
        "train": {**settings["train"], **train},
    }
    return DepthSession(DepthConfig.model_validate(merged), Placement())


def run(session: DepthSession, epoch: int, first: int = 0, last: int | None = None) -> list[StepReport]:
    reports = []
    for step, batch in enumerate(session.batches(epoch, first), start=first):
        if step == last:
            break
        reports.append(session.step(batch, Position(0, epoch, step)))
    return reports


def saved(session: DepthSession) -> dict[str, bytes]:
    files = {}
    for name, component in session.components.items():
        file = io.BytesIO()
        component.save(file)
        files[name] = file.getvalue()
    return files


def restore(session: DepthSession, files: dict[str, bytes]) -> None:
    assert session.components.keys() == files.keys()
    for name, content in files.items():
        session.components[name].load(io.BytesIO(content))


def evaluated(session: DepthSession) -> list[Evaluation]:
    return list(session.evaluate("val", lambda: None))


def gradients(session: DepthSession) -> Tensor:
    found = [p.grad.flatten() for p in session._model.parameters() if p.grad is not None]
    return torch.cat(found).double()


def distance(a: Tensor, b: Tensor) -> float:
    """Relative to the length of b."""
    return float((a - b).norm() / b.norm())


EVERYTHING: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "decoder_lr": 3e-3,
    "schedule": {"name": "one_cycle", "warmup_steps": 2},
    "batch_size": 2,
    "accumulate": 2,
    "steps_per_epoch": 3,
    "clip_norm": 1.0,
    "clip_value": 0.5,
    "ema": 0.9,
    "gradient_checkpointing": True,
    "channels_last": True,
    "loss": {"silog": 1, "silog_sqrt": 0.1},
}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "stop"), [("fp32", 1), ("bf16", 3), ("fp16", 1)])
def test_a_resume_with_everything_on_is_the_same_bit_for_bit(
    settings: dict[str, Any], precision: str, stop: int
) -> None:
    """Stopped within the first epoch, whose steps run over the end of a pass over the 7 images, and between epochs."""
    straight = opened(settings, **EVERYTHING, precision=precision)
    expected = [report for epoch in (1, 2) for report in run(straight, epoch)]
    assert ("scaler" in straight.components) == (precision == "fp16")
    assert all(report.loss >= 0 for report in expected)
    assert len({report.lr for report in expected}) > 3

    first = opened(settings, **EVERYTHING, precision=precision)
    before = run(first, 1, last=stop)
    evaluated(first)
    files = saved(first)
    second = opened(settings, **EVERYTHING, precision=precision)
    restore(second, files)
    assert saved(second) == files
    after = run(second, 1, first=stop) + run(second, 2)
    assert before + after == expected
    assert saved(second) == saved(straight)
    assert evaluated(second) == evaluated(straight)


def test_epochs_of_steps_go_on_through_the_passes(settings: dict[str, Any]) -> None:
    """7 images, 3 steps of 2 per epoch: 7 epochs are 6 passes, each image once in each."""
    session = opened(settings, steps_per_epoch=3, epochs=7)
    names = [name for epoch in range(1, 8) for batch in session.batches(epoch, 0) for name in batch.names]
    assert [session.steps(epoch) for epoch in (1, 7)] == [3, 3]
    assert len(names) == 42
    passes = [names[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(one) == sorted(passes[0]) for one in passes)
    assert len({tuple(one) for one in passes}) == 6
    late = [name for batch in session.batches(2, 1) for name in batch.names]
    assert late == names[8:12]


def test_encoder_and_decoder_learn_at_their_own_rates(settings: dict[str, Any]) -> None:
    session = opened(settings, lr=1e-9, decoder_lr=1e-2)
    before = {key: value.clone() for key, value in session._model.state_dict().items()}
    (report,) = run(session, 1, last=1)
    assert report.lr == 1e-9
    moved = {key: float((value - before[key]).abs().max()) for key, value in session._model.state_dict().items()}
    encoder = [value for key, value in moved.items() if key.startswith("pretrained.model.")]
    decoder = [value for key, value in moved.items() if not key.startswith("pretrained.model.")]
    assert max(encoder) < 1e-7
    assert max(decoder) == pytest.approx(1e-2, rel=0.3)
    assert "pretrained.act_postprocess3.3.weight" in moved
    assert moved["pretrained.act_postprocess3.3.weight"] > 1e-3, "what the ViT does not bring is the decoder's"


def test_rates_follow_the_schedule_and_its_scale(settings: dict[str, Any]) -> None:
    session = opened(settings, lr=1.0e-3, schedule={"name": "poly", "power": 1.0, "warmup_steps": 2})
    rates = [report.lr for epoch in (1, 2) for report in run(session, epoch)]
    assert rates == pytest.approx([1e-3 * f for f in (1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)])
    session.scale_lr(0.5)
    assert run(session, 2, last=1)[0].lr == pytest.approx(1e-3 * 4 / 6 / 2)


def test_two_batches_accumulated_are_one_of_twice_the_size(settings: dict[str, Any]) -> None:
    whole, halves = opened(settings, batch_size=4), opened(settings, batch_size=2, accumulate=2)
    assert whole.steps(1) == halves.steps(1) == 2
    for epoch in (1, 2):
        for one, other in zip(run(whole, epoch), run(halves, epoch), strict=True):
            assert one.samples == other.samples
            assert one.loss == pytest.approx(other.loss, rel=1e-4)
    for key, value in whole._model.state_dict().items():
        # Adam divides by the size of a gradient: what rounding makes of next to nothing is a step of up to the rate
        assert torch.allclose(value, halves._model.state_dict()[key], atol=1e-3), key
    flat = [torch.cat([v.flatten() for v in s._model.state_dict().values()]).double() for s in (whole, halves)]
    assert distance(flat[0], flat[1]) < 1e-4


@pytest.fixture(scope="module")
def batch_of_seven(street: Any) -> tuple[dict[str, Any], Any]:
    settings = {
        "model": {"name": "dpt_tiny"},
        "data": {"root": street, "resolution": (32, 96)},
        "train": {"batch_size": 7, "lr": 1e-9, "flip": 0.0},
        "eval": {"resolutions": ("reduced",), "align": "scale_shift"},
    }
    return settings, next(opened(settings).batches(1, 0))


@rules(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 7),
    rung=st.integers(1, 3),
    empty=st.sets(st.integers(0, 6)),
    loss=st.sampled_from(["silog", "silog_sqrt", "ssi_trimmed"]),
)
def test_smaller_pieces_have_the_same_gradient(
    batch_of_seven: tuple[dict[str, Any], Any], count: int, rung: int, empty: set[int], loss: str
) -> None:
    """Whatever the batch, the piece, and which images have no depth to learn from."""
    settings, batch = batch_of_seven
    depth = batch.depth.clone()
    for image in empty:
        depth[image] = 0
    cut = {key: getattr(batch, key)[:count] for key in ("image", "names", "tasks", "relative") if hasattr(batch, key)}
    part = replace(batch, **cut, depth=depth[:count])
    found = []
    for lightened in (False, True):
        session = opened(settings, loss=loss)
        if lightened:
            assert session.lighten(rung) is not None
        report = session.step(part, Position(0, 1, 0))
        assert report.loss >= 0
        found.append((report.loss, gradients(session)))
    (loss_a, gradient_a), (loss_b, gradient_b) = found
    assert loss_b == pytest.approx(loss_a, rel=1e-4, abs=1e-7)
    if set(range(count)) <= empty:
        assert loss_a == 0
        assert not gradient_a.any()
        assert not gradient_b.any()
    else:
        assert distance(gradient_b, gradient_a) < 1e-3


def test_the_ladder_has_rungs_down_to_one_image_and_then_recomputes(settings: dict[str, Any]) -> None:
    session = opened(settings, batch_size=3)
    said = [session.lighten(rung) for rung in (1, 2, 3, 4)]
    assert said[0] == "trained 2 pieces of at most 2 of each batch of 3, their gradients added up"
    assert said[1] == "trained 3 pieces of at most 1 of each batch of 3, their gradients added up"
    assert (
        said[2]
        == "activations computed again in the backward pass, and trained 3 pieces of at most 1 of each batch of 3"
    )
    assert said[3] is None
    assert opened(settings, batch_size=1).lighten(1) == "activations computed again in the backward pass"
    assert opened(settings, batch_size=1, gradient_checkpointing=True).lighten(1) is None


def test_normalised_by_the_batch_there_are_no_smaller_pieces(settings: dict[str, Any]) -> None:
    """They would have other statistics, and so another gradient: only recomputing is the same training."""
    session = opened(settings, model={"decoder_norm": "batch"})
    assert session.lighten(1) == "activations computed again in the backward pass"
    assert session.lighten(2) is None
    plain = opened(settings, model={"decoder_norm": "batch"})
    session.lighten(1)
    assert [r.loss for r in run(session, 1)] == [r.loss for r in run(plain, 1)]
    assert saved(session)["weights"] == saved(plain)["weights"], "running statistics counted once"


@pytest.mark.parametrize("attention", ["standard", "performer", "memory_compressed"])
def test_activations_computed_again_are_the_same(settings: dict[str, Any], attention: str) -> None:
    kept, again = (
        opened(settings, model={"attention": attention}, gradient_checkpointing=value) for value in (False, True)
    )
    assert run(kept, 1) == run(again, 1)
    assert saved(kept) == saved(again)


def test_the_average_is_what_is_evaluated_and_stored(settings: dict[str, Any]) -> None:
    plain, averaged = opened(settings), opened(settings, ema=0.9)
    run(plain, 1)
    run(averaged, 1)
    assert averaged.components.keys() == {"weights", "online", "optimizer"}
    assert saved(averaged)["online"] == saved(plain)["weights"]
    assert saved(averaged)["weights"] != saved(plain)["weights"]
    before = evaluated(averaged)
    assert before != evaluated(plain)
    plain.components["weights"].load(io.BytesIO(saved(averaged)["weights"]))
    assert evaluated(plain) == before


def test_the_average_by_hand(settings: dict[str, Any]) -> None:
    model = opened(settings)._model
    average = Average(model, 0.5)
    bias = model.scratch.get_submodule("refinenet1").out_conv.bias  # type: ignore[union-attr]
    start = bias.detach().clone()
    expected = start.clone()
    for done in range(6):
        with torch.no_grad():
            bias.add_(1.0)
        average.update(done)
        decay = min(0.5, (1 + done) / (10 + done))
        expected = decay * expected + (1 - decay) * (start + done + 1)
    mine = average.model.scratch.get_submodule("refinenet1").out_conv.bias  # type: ignore[union-attr]
    assert torch.allclose(mine, expected)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


def test_gradients_are_clipped_by_value_and_by_norm(settings: dict[str, Any]) -> None:
    free, by_value, by_norm = opened(settings), opened(settings, clip_value=1e-3), opened(settings, clip_norm=1e-2)
    for session in (free, by_value, by_norm):
        run(session, 1, last=1)
    assert float(gradients(free).norm()) > 1e-2
    assert float(gradients(by_value).abs().max()) == pytest.approx(1e-3)
    assert torch.allclose(gradients(by_value), gradients(free).clamp(-1e-3, 1e-3))
    assert float(gradients(by_norm).norm()) == pytest.approx(1e-2, rel=1e-4)
    assert distance(gradients(by_norm) / gradients(by_norm).norm(), gradients(free) / gradients(free).norm()) < 1e-4


def test_an_overflow_in_fp16_leaves_the_step_out_and_lowers_the_scale(settings: dict[str, Any]) -> None:
    session = opened(settings, precision="fp16")
    session._recipe.scaler.load_state_dict({**session._recipe.scaler.state_dict(), "scale": 2.0**40})
    before = saved(session)["weights"]
    (report,) = run(session, 1, last=1)
    assert report.loss > 0
    assert saved(session)["weights"] == before
    assert session._recipe.scaler.get_scale() == 2.0**39
    other = opened(settings, precision="fp16")
    restore(other, saved(session))
    assert other._recipe.scaler.get_scale() == 2.0**39
    with pytest.raises(CheckpointError, match="scaler"):
        other.components["scaler"].load(io.BytesIO(saved(session)["weights"]))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_nearly_the_same(settings: dict[str, Any], precision: str) -> None:
    exact, half = run(opened(settings), 1), run(opened(settings, precision=precision), 1)
    for one, other in zip(exact, half, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=0.1)
    assert [r.loss for r in exact] != [r.loss for r in half]


def test_channels_last_is_a_layout_and_no_more(settings: dict[str, Any]) -> None:
    plain, last = opened(settings), opened(settings, channels_last=True)
    kernels = [m.weight for m in last._model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    for one, other in zip(run(plain, 1), run(last, 1), strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-3)


def test_a_compiled_network_is_the_same_network(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced by torch.compile and run by its `eager` backend: that of generated code takes minutes, and a compiler."""
    compiled: list[nn.Module] = []
    original = nn.Module.compile

    def trace(module: nn.Module) -> None:
        compiled.append(module)
        original(module, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", trace)
    plain, traced = opened(settings), opened(settings, compile=True, ema=0.5)
    assert len(compiled) == 1
    for one, other in zip(run(plain, 1, last=2), run(traced, 1, last=2), strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
    assert saved(traced).keys() >= {"weights", "online"}
    plain.components["weights"].load(io.BytesIO(saved(traced)["online"]))
    assert evaluated(traced)
