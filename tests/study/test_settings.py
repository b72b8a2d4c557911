"""The settings of a configuration class by dotted key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from ablate.depth.config import DepthConfig
from ablate.study.settings import catalogue, choices, freeze, lookup, nest, takes_list
from ablate.task import RunSettings, Settings


def test_every_leaf_and_group_has_a_key() -> None:
    known = catalogue(DepthConfig)
    assert {
        "seed",
        "train.lr",
        "train.checkpoint.every",
        "data.subset.n",
        "eval.select.metric",
    } <= known.settings.keys()
    assert {"model", "data.subset", "eval.select", "train.checkpoint"} <= known.groups.keys()
    assert known.groups["data.subset"].optional
    assert not known.groups["data"].optional
    assert not known.settings.keys() & known.groups.keys()
    assert catalogue(DepthConfig) is known


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("train.lr", 1e-5),
        ("data.root", Path("data/kitti")),
        ("eval.select.metric", "abs_rel"),
        ("data.subset.seed", None),
        ("data.subset.n", None),
    ],
)
def test_defaults(key: str, default: object) -> None:
    assert catalogue(DepthConfig).default(key) == default


def test_a_default_is_that_of_the_holding_field(toy_config: Any) -> None:
    assert catalogue(toy_config).default("turned.a") == 7
    assert catalogue(toy_config).default("knobs.a") == 0


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.lrr", "train.lr"),
        ("train.learning", None),
        ("lr", "train.lr"),
        ("optimiser", "train.optimizer"),
        ("optimizer.lr", "train.lr"),
        ("trian.epochs", "train.epochs"),
        ("modle", "model"),
        ("data.subset.redrawn", "data.subset.redraw"),
        ("data.subset.zzz", None),
        ("TRAIN.LR", "train.lr"),
        ("", None),
    ],
)
def test_the_closest_spelling(key: str, meant: str | None) -> None:
    assert catalogue(DepthConfig).closest(key) == meant


def test_what_a_setting_takes() -> None:
    known = catalogue(DepthConfig).settings
    assert takes_list(known["data.resolution"])
    assert takes_list(known["eval.resolutions"])
    assert not takes_list(known["train.lr"])
    assert choices(known["eval.resolutions"]) == ("full", "reduced")
    assert choices(known["model.attention"])[0] == "standard"
    assert choices(known["train.lr"]) == ()


def test_only_what_can_change_a_result_can_differ() -> None:
    known = catalogue(DepthConfig)
    assert known.can_differ("train.lr")
    assert known.can_differ("model.weights")
    assert not known.can_differ("data.workers")
    assert not known.can_differ("train.checkpoint.every")


class Odd(Settings):
    mixed: int | str | None = None
    pair: tuple[int, Literal["a", "b"]] = (1, "a")
    many: Sequence[float] = ()
    flag: bool = False
    anything: Any = None


class OddConfig(RunSettings):
    odd: Odd = Odd()


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("odd.mixed", 3, None),
        ("odd.mixed", "3", None),
        ("odd.mixed", None, None),
        ("odd.mixed", True, "expected a whole number or text or null, found true"),
        ("odd.pair", [2, "b"], None),
        ("odd.pair", [2, "c"], "expected one of a, b; found 'c'"),
        ("odd.pair", [2], "the list [2] is too short"),
        ("odd.many", [1, 2.5], None),
        ("odd.many", [1, True], "expected a number, found true"),
        ("odd.many", [1, "2"], "expected a number, found '2'"),
        ("odd.flag", True, None),
        ("odd.flag", 1, "expected true or false, found 1"),
        ("odd.flag", "yes", "expected true or false, found 'yes'"),
        ("odd.anything", {"a": [1]}, None),
    ],
)
def test_values_are_never_silently_converted(key: str, value: object, problem: str | None) -> None:
    found = [complaint.problem for complaint in catalogue(OddConfig).check(key, value)]
    assert (found == []) if problem is None else (problem in found[0])


def test_layers() -> None:
    assert nest({"a.b": 1, "a.c": 2, "d": None}, {"a.b": 3, "d.e": 4}) == {"a": {"b": 3, "c": 2}, "d": {"e": 4}}
    assert nest({"a.b": 1}, {"a": None}) == {"a": None}
    shared: dict[str, Any] = {}
    nest({"a": shared}, {"a.b": 1})
    assert shared == {}


def test_lookup_stops_at_a_group_that_is_null() -> None:
    config = DepthConfig.model_validate({"train": {"lr": 2e-3}})
    assert lookup(config, "train.lr") == 2e-3
    assert lookup(config, "data.subset.n") is None


def test_values_that_mean_the_same_freeze_the_same() -> None:
    assert freeze(1) == freeze(1.0)
    assert freeze([1, [2, 3]]) == freeze((1.0, (2, 3)))
    assert freeze(Path("a/b")) == freeze("a/b")
    assert freeze({"a": 1, "b": [2]}) == freeze({"b": (2,), "a": 1})
    assert freeze(True) != freeze(1)
    assert freeze([False]) != freeze([0])
    assert len({freeze({"a": [1, {"b": 2}]}), freeze(None), freeze("x")}) == 3
