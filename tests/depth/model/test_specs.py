"""The table of networks, and rows that other packages bring."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate import plugins
from ablate.depth.model import specs
from ablate.depth.model.specs import SPECS, NetworkSpec, heads_problem, taps_problem
from ablate.errors import UsageError

PLUGIN = """
from dataclasses import replace
from ablate.depth.model.specs import SPECS

mini = replace(SPECS["dpt_tiny"], features=8)
number = 3
"""


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Registers `name = value`, with the module above, for the length of a test."""

    def plug(name: str, value: str) -> None:
        (tmp_path / "pyproject.toml").write_text(f'[project.entry-points."ablate.models"]\n{name} = "{value}"\n')
        (tmp_path / "mini_networks.py").write_text(PLUGIN)
        monkeypatch.setenv(plugins.VARIABLE, str(tmp_path))
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.delitem(sys.modules, "mini_networks", raising=False)

    return plug


def test_every_row_is_found_by_its_name() -> None:
    assert specs.names()[: len(SPECS)] == tuple(SPECS)
    assert all(specs.load(name) is spec for name, spec in SPECS.items())
    with pytest.raises(ValueError, match=r"no network 'dpt_huge'; expected one of dpt_hybrid, "):
        specs.load("dpt_huge")


def test_strides_are_those_that_the_networks_were_made_for() -> None:
    assert {name: spec.stride for name, spec in SPECS.items()} == {
        name: 14 if "dinov2" in name else 32 for name in SPECS
    }


def test_a_plug_ins_network(plug: Callable[[str, str], None]) -> None:
    plug("dpt_mini", "mini_networks:mini")
    assert specs.names()[-1] == "dpt_mini"
    assert specs.load("dpt_mini") == replace(SPECS["dpt_tiny"], features=8)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dpt_mini", "mini_networks:number", "is a int, no NetworkSpec"),
        ("dpt_mini", "mini_networks:missing", "cannot be loaded"),
        ("dpt_mini", "no_such_module:mini", "cannot be loaded"),
        ("dpt_large", "mini_networks:mini", "has the name of a built-in network"),
    ],
)
def test_what_a_plug_in_may_not_bring(plug: Callable[[str, str], None], name: str, value: str, words: str) -> None:
    plug(name, value)
    with pytest.raises(UsageError, match=words):
        specs.load("dpt_mini")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 5}, "5 heads cannot share 64 channels evenly"),
        ({"heads": 0}, "0 heads cannot share"),
        ({"taps": (0, 1, 2, 3)}, "4 taps, and the decoder takes 2"),
        ({"taps": (3, 1)}, "not in ascending order"),
        ({"taps": (1, 1)}, "not in ascending order"),
        ({"taps": (1, 4)}, "tap 4 is none of the blocks 0 to 3"),
        ({"taps": (-1, 3)}, "tap -1 is none of the blocks 0 to 3"),
        ({"map_channels": (64,)}, "2 map_channels are needed"),
        ({"patch": 8}, "patch must be 16"),
        ({"stride": 24}, "stride must be a multiple of patch, 16"),
        ({"position_grid": None}, "a stem needs learned positions"),
    ],
)
def test_numbers_that_do_not_fit_together(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SPECS["dpt_tiny"], **change)


def test_rotary_positions_need_heads_of_a_multiple_of_four() -> None:
    assert heads_problem(SPECS["dpt_dinov3_small"], 96) is None
    assert "3 channels wide" in (heads_problem(SPECS["dpt_dinov3_small"], 128) or "")


@given(st.sampled_from(sorted(SPECS)), st.integers(1, 1100))
def test_head_choices_are_those_that_a_network_takes(name: str, heads: int) -> None:
    spec = SPECS[name]
    if heads in spec.head_choices():
        assert spec.embed_dim % heads == 0
        assert spec.tailored(heads=heads).heads == heads
    else:
        with pytest.raises(ValueError, match=f"{heads} heads"):
            spec.tailored(heads=heads)


@given(st.sampled_from(sorted(SPECS)), st.lists(st.integers(-2, 26), max_size=5))
def test_taps_are_taken_or_refused(name: str, taps: list[int]) -> None:
    spec = SPECS[name]
    fine = len(taps) == spec.tap_count and taps == sorted(set(taps)) and all(0 <= tap < spec.blocks for tap in taps)
    assert (taps_problem(spec, tuple(taps)) is None) == fine
    if fine:
        assert spec.tailored(taps=tuple(taps)).built == taps[-1] + 1


def test_what_is_not_given_stays() -> None:
    for spec in SPECS.values():
        assert spec.tailored() == spec
    changed = SPECS["dpt_large"].tailored(readout="add", decoder_norm="batch")
    assert changed == replace(SPECS["dpt_large"], readout="add", decoder_norm="batch")


def test_reading_the_table_needs_no_torch() -> None:
    code = (
        "import sys; from ablate.depth.model import specs, fit; specs.load('dpt_large'); "
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_spec_is_hashable_data() -> None:
    assert len({*SPECS.values(), *SPECS.values()}) == len(SPECS)
    assert isinstance(SPECS["dpt_tiny"], NetworkSpec)
