"""Rules that depend on the network are judged in cells, and found in the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ablate.errors import StudyError
from ablate.study import Cell

Cells = Callable[..., tuple[Cell, ...]]
Refused = Callable[..., StudyError]


def test_a_size_is_judged_by_the_network_of_its_cell(cells: Cells) -> None:
    text = """
base: {data.resolution: [196, 644]}
grid: {model.name: [dpt_dinov2_small, dpt_dinov2_base]}
"""
    assert len(cells(text)) == 2
    both = "zip: {model.name: [dpt_dinov2_small, dpt_tiny], data.resolution: [[196, 644], [192, 640]]}"
    assert len(cells(both)) == 2


def test_the_cell_that_does_not_suit_is_named(refused: Refused) -> None:
    found = refused("base: {data.resolution: [192, 640]}\ngrid: {model.name: [dpt_tiny, dpt_dinov2_small]}")
    assert (found.line, found.key) == (2, "data.resolution")
    assert "the closest size is [196, 644] (in the cell model.name='dpt_dinov2_small')" in found.problem


def test_what_is_nowhere_set_is_blamed_on_the_network(refused: Refused) -> None:
    found = refused("base:\n  train.lr: 1e-4\n  model.name: dpt_dinov2_small")
    assert (found.line, found.key) == (4, "data.resolution")
    assert "192x640" in found.problem


def test_taps_and_heads_are_refused_where_they_stand(refused: Refused) -> None:
    found = refused("grid: {model.heads: [12, 5]}")
    assert (found.line, found.column, found.key) == (2, 26, "model.heads")
    assert "5 heads cannot share 768 channels" in found.problem
    found = refused("base: {model: {name: dpt_large, taps: [8, 11]}}")
    assert (found.line, found.column, found.key) == (2, 39, "model.taps")


def test_taps_of_another_network_are_fine(cells: Cells) -> None:
    """A value is not judged alone: the default network is not the one it is meant for."""
    (cell,) = cells("base: {model.name: dpt_large, model.taps: [2, 5, 8, 11], model.heads: 4}")
    assert cell.config.model.taps == (2, 5, 8, 11)  # type: ignore[attr-defined]


def test_an_axis_shows_the_networks_own_value(cells: Cells) -> None:
    """12 heads are DPT-Hybrid's own, so that cell is the plain run; its row still says 12."""
    grid = cells("grid: {model.heads: [1, 12, 24]}\nbaseline: {model.heads: 12}")
    assert [cell.settings for cell in grid] == [{"model.heads": 1}, {"model.heads": 12}, {"model.heads": 24}]
    assert [cell.baseline for cell in grid] == [1, 1, 1]
    assert cells("grid: {model.heads: [null, 24]}")[0].settings == {"model.heads": None}
    assert grid[1].config == cells("base: {}")[0].config
    entries: Any = cells("ablate: [{model.taps: [2, 5]}, {model.taps: [8, 11], train.lr: 1e-4}]")
    assert [cell.settings["model.taps"] for cell in entries] == [[8, 11], [2, 5], [8, 11]]
