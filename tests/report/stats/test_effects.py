"""Main effects and interactions against fitted models, and the largest balanced sub-grid against every other."""

import itertools
import json
import math

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.formula.api import ols

from ablate.report.stats.balance import largest
from ablate.report.stats.effects import interactions, main_effects
from ablate.report.stats.factors import Cell, Factor, factors_of

AXES = ("a", "b", "c")


def grid(keep=lambda **_: True, seeds=2, rng=None, sizes=(3, 2, 2)):
    rng = rng or np.random.default_rng(0)
    cells = []
    for values in itertools.product(*(range(size) for size in sizes)):
        settings = dict(zip(AXES, values, strict=False))
        if keep(**settings):
            level = sum(place * value for place, value in enumerate(values, 1)) + values[0] * values[1]
            cells.append(Cell(str(values), settings, tuple(level + rng.normal(size=seeds))))
    return cells


def of(effects, *axes):
    return next(effect for effect in effects if effect.factor.axes == axes)


def test_effects_of_a_full_grid_are_those_of_a_linear_model_with_sum_contrasts():
    cells = grid(seeds=3)
    frame = pandas.DataFrame([{**cell.settings, "y": value} for cell in cells for value in cell.values])
    fit = ols("y ~ C(a, Sum) * C(b, Sum) * C(c, Sum)", frame).fit()
    effect = of(main_effects(cells, AXES), "a")
    for place, level in enumerate(effect.levels[:2]):
        name = f"C(a, Sum)[S.{place}]"
        assert level.effect == pytest.approx(fit.params[name])
        assert (level.low, level.high) == pytest.approx(tuple(fit.conf_int().loc[name]))
        assert (level.cells, level.runs) == (4, 12)
    assert effect.left_out == () and effect.exact
    both = next(one for one in interactions(cells, AXES) if (one.rows.axes, one.columns.axes) == (("a",), ("b",)))
    name = "C(a, Sum)[S.1]:C(b, Sum)[S.0]"
    assert both.effect[1][0] == pytest.approx(fit.params[name])
    low, high = fit.conf_int().loc[name]
    assert both.half_width == pytest.approx((high - low) / 2)


def test_a_missing_seed_gives_a_cell_no_less_weight():
    cells = grid(seeds=3)
    cells[0] = Cell(cells[0].name, cells[0].settings, cells[0].values[:1])
    effect = of(main_effects(cells, AXES), "b")
    assert effect.levels[0].mean == pytest.approx(np.mean([cell.mean for cell in cells if cell.settings["b"] == 0]))
    assert (effect.levels[0].runs, effect.levels[1].runs) == (16, 18)


def test_what_is_not_in_the_balanced_sub_grid_is_named():
    """Without one cell of 3 x 2 x 2, two thirds of the grid are left, and a difference of values stays one of alike."""
    cells = grid(lambda a, b, c: (a, b, c) != (2, 1, 1))
    effect = of(main_effects(cells, AXES), "b")
    assert {level.cells for level in effect.levels} == {4}
    assert sorted(effect.left_out) == ["(2, 0, 0)", "(2, 0, 1)", "(2, 1, 0)"]
    assert effect.over == ((Factor(("a",)), (("0",), ("1",))), (Factor(("c",)), (("0",), ("1",))))


def test_a_cell_without_a_result_is_left_out_too():
    cells = grid()
    cells[-1] = Cell(cells[-1].name, cells[-1].settings, ())
    assert "(2, 1, 1)" in of(main_effects(cells, AXES), "c").left_out


def test_one_seed_gives_means_and_no_interval():
    effect = of(main_effects(grid(seeds=1), AXES), "a")
    assert all(level.low is None and level.high is None for level in effect.levels)


def test_an_axis_that_exists_for_one_value_only_is_one_factor_with_it():
    cells = [
        Cell(f"{attention}-{rate}-{lr}", {"attention": attention, "lr": lr} | ({"rate": rate} if rate else {}), (1.0,))
        for attention, rates in (("standard", [None]), ("compressed", [2, 3]))
        for rate in rates
        for lr in (1e-4, 1e-5)
    ]
    found = main_effects(cells, ("attention", "rate", "lr"))
    assert [effect.factor.axes for effect in found] == [("attention", "rate"), ("lr",), ("rate",)]
    assert [level.value for level in found[0].levels] == [
        ('"standard"', None),
        ('"compressed"', "2"),
        ('"compressed"', "3"),
    ]
    assert found[0].left_out == found[1].left_out == ()
    assert found[2].left_out == ("standard-None-0.0001", "standard-None-1e-05")


def test_axes_that_move_together_are_one_factor():
    cells = [Cell(f"{a}{b}", {"a": a, "b": 10 * a, "c": b}, (1.0,)) for a in (1, 2) for b in (3, 4)]
    assert [effect.factor.axes for effect in main_effects(cells, AXES)] == [("a", "b"), ("c",)]


def test_an_axis_within_a_nested_one_is_never_hidden_in_its_effect():
    """As in studies/trouble.yaml: batches of 32 are trained at another resolution, and one axis is tied to another."""
    cells = [
        Cell("small", {"lr": 1e-3, "batch": 4}, (1.0,)),
        Cell("large", {"lr": 1e-3, "batch": 32, "size": 128}, (2.0,)),
        Cell("fails", {"lr": 1.0, "warmup": 2000, "then": "fail"}, ()),
        Cell("again", {"lr": 1.0, "warmup": 2000, "then": "rollback"}, (3.0,)),
    ]
    found = main_effects(cells, ("lr", "warmup", "then", "batch", "size"))
    assert [effect.factor.axes for effect in found] == [("lr", "warmup", "then", "batch", "size"), ("batch", "size")]
    assert [level.value for level in found[1].levels] == [("4", None), ("32", "128")]


def test_an_axis_with_one_value_and_one_that_is_never_crossed_have_no_effect():
    ladder = [Cell("x", {"a": 1, "b": 1, "c": 0}, (1.0,)), Cell("y", {"a": 2, "b": 1, "c": 0}, (2.0,))]
    assert [effect.factor.axes for effect in main_effects(ladder, AXES)] == [("a",)]
    one_at_a_time = [Cell(str(v), dict(zip("ab", v, strict=True)), (1.0,)) for v in ((0, 0), (1, 0), (0, 1))]
    assert [effect.factor.axes for effect in main_effects(one_at_a_time, ("a", "b"))] == [("a",), ("b",)]
    assert interactions(one_at_a_time, ("a", "b")) == ()


present = st.lists(st.booleans(), min_size=18, max_size=18)


@settings(max_examples=150, deadline=None)
@given(present, st.sampled_from(AXES))
def test_no_balanced_sub_grid_is_larger(kept, axis):
    """Against all 7 x 7 x 3 choices of values of a 3 x 3 x 2 grid."""
    everything = list(itertools.product(range(3), range(3), range(2)))
    here = {values for values, keep in zip(everything, kept, strict=True) if keep}
    cells = [Cell(str(values), dict(zip(AXES, values, strict=True)), (1.0,)) for values in here]
    found = largest(cells, [Factor((name,)) for name in AXES], [Factor((axis,))])
    best = 0
    for chosen in itertools.product(*(list(subsets(range(size))) for size in (3, 3, 2))):
        if len(chosen[AXES.index(axis)]) >= 2 and set(itertools.product(*chosen)) <= here:
            best = max(best, math.prod(map(len, chosen)))
    assert (len(found.cells) if found else 0) == best
    if found:
        assert found.exact
        keys = {tuple(json.loads(value[0]) for value in key) for key in found.cells}
        assert keys == set(itertools.product(*([json.loads(v[0]) for v in values] for values in found.values))) <= here


def subsets(values):
    values = list(values)
    for count in range(1, len(values) + 1):
        yield from itertools.combinations(values, count)


def test_a_large_grid_full_of_holes_is_searched_within_the_budget():
    rng = np.random.default_rng(0)
    cells = [
        Cell(str(values), dict(zip("abcd", values, strict=True)), (1.0,))
        for values in itertools.product(range(12), range(12), range(12), range(6))
        if rng.random() > 0.3
    ]
    factors = [Factor((name,)) for name in "abcd"]
    found = largest(cells, factors, [factors[0]])
    assert found is not None and len(found.cells) >= 24
    assert dict(factors_of(cells, "abcd")).keys() == set(factors)
