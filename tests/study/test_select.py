"""`--only axis=value[,value]`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ablate.errors import StudyError
from ablate.study import Cell, select

Cells = Callable[..., tuple[Cell, ...]]


@pytest.fixture
def study(cells: Cells, study_text: str) -> tuple[Cell, ...]:
    return cells(study_text)


@pytest.mark.parametrize(
    ("only", "positions"),
    [
        ([], list(range(21))),
        (["train.lr=1e-4", "seed=0"], [0, 9, 15]),
        (["train.lr=0.00010", "seed=0"], [0, 9, 15]),
        (["model.attention=performer,standard", "seed=2"], [2, 5, 8]),
        (["model.attention=performer", "model.attention=standard", "seed=2"], [2, 5, 8]),
        (["model.compression=3", "seed=1"], [16, 19]),
        (["seed=1,2", "model.compression = 2", "train.lr=1e-5"], [13, 14]),
    ],
)
def test_selection(study: tuple[Cell, ...], only: list[str], positions: list[int]) -> None:
    assert [cell.position for cell in select(study, only)] == positions


def test_values_that_are_lists_or_text(cells: Cells) -> None:
    sizes = cells("grid: {data.resolution: [[64, 64], [64, 96]]}")
    assert [cell.position for cell in select(sizes, ["data.resolution=[64, 96]"])] == [1]
    paths = cells("grid: {model.weights: [null, a.pt]}")
    assert [cell.position for cell in select(paths, ["model.weights=null"])] == [0]
    assert [cell.position for cell in select(paths, ["model.weights=a.pt"])] == [1]
    flags = cells("base: {data.subset.n: 3}\ngrid: {data.subset.redraw: [false, true]}")
    assert [cell.position for cell in select(flags, ["data.subset.redraw=true"])] == [1]


@pytest.mark.parametrize(
    ("only", "problem", "hint"),
    [
        (["lr"], "expected axis=value", "--only"),
        (["train.lr="], "expected axis=value", "--only"),
        (["lrate=1"], "no such axis", "axes: "),
        (["train.lrr=1"], "no such axis", "did you mean train.lr?"),
        (["train.flip=1"], "no such axis", "axes: "),
        (["model.attention=perform"], "no cell has the value 'perform'", "'performer'"),
        (["seed=7"], "no cell has the value 7", "values: 0, 1, 2"),
        (["data.subset=1"], "no such axis", None),
        (["train.lr=[1"], "not valid YAML", None),
        (["model.attention=performer", "train.lr=1e-4"], "no cell matches all", None),
    ],
)
def test_mistakes(study: tuple[Cell, ...], only: list[str], problem: str, hint: str | None) -> None:
    with pytest.raises(StudyError) as caught:
        select(study, only)
    assert problem in caught.value.problem
    assert (hint or "") in (caught.value.hint or "")
    assert str(caught.value).startswith(f"--only {only[0]}")
