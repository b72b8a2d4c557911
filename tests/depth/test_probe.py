"""The hashes of code: they see what is computed, and neither seeds nor threads nor the place of the run."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablate.depth import attention, probe
from ablate.depth.attention.base import load
from ablate.depth.config import DepthConfig
from ablate.depth.model import specs


def code(**settings):
    probe._KNOWN.clear()
    return probe.code_of(DepthConfig.model_validate(settings))


def test_every_network_and_attention_can_be_probed():
    for name in specs.SPECS:
        assert "cannot" not in probe._hashed(name, lambda name=name: probe._network(name))
    found = {
        name: probe._hashed(f"a {name}", lambda name=name: probe._attention(name)) for name in attention.built_in()
    }
    assert not any("cannot" in text for text in found.values())
    assert len({found[name] for name in ("standard", "performer", "linear", "window", "nystrom")}) == 5


def test_seed_size_weights_and_precision_do_not_matter_and_neither_do_threads():
    first = code()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        second = code(seed=3, data={"resolution": [96, 320]}, train={"precision": "bf16", "lr": 1e-3})
    finally:
        torch.set_num_threads(threads)
    assert first == second


def test_it_changes_no_random_state():
    before = torch.random.get_rng_state()
    code()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_change_of_the_code_is_seen_in_its_part_alone(monkeypatch):
    before = code()
    kind = load("standard")
    attend = kind.attend
    monkeypatch.setattr(kind, "attend", lambda self, q, k, v, grid, prefix: attend(self, q * 1.001, k, v, grid, prefix))
    after = code()
    changed = {part for part in before if before[part] != after[part]}
    assert {"attention standard", "network dpt_hybrid"} <= changed
    assert not {"loss silog", "metrics kitti"} & changed
    probe._KNOWN.clear()


def test_what_cannot_be_probed_stops_nothing(monkeypatch):
    def refuse(*_):
        raise RuntimeError("made for other inputs")

    monkeypatch.setattr(load("standard"), "attend", refuse)
    assert code()["attention standard"] == "cannot be probed (RuntimeError)"
    probe._KNOWN.clear()


@given(st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=1, max_size=30), st.integers(0, 29))
def test_rounding_errors_do_not_change_a_hash_and_larger_ones_do(values, place):
    values = [value + 0.123456 for value in values]
    exact = torch.tensor(values, dtype=torch.float64)
    noisy = exact * (1 + 1e-15)
    assert probe.digest([exact]) == probe.digest([noisy])
    other = exact.clone()
    other[place % len(values)] += 0.01 * float(exact.abs().max())
    assert probe.digest([exact]) != probe.digest([other])


@pytest.mark.parametrize("values", [[], [0.0], [float("nan"), 1.0], [float("inf")]])
def test_odd_results_have_a_hash_too(values):
    assert len(probe.digest([torch.tensor(values, dtype=torch.float64)])) == 10
