"""Everything that differs between two runs is named: the log's confounds, and every setting there is."""

import copy
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.config import DepthConfig
from ablate.depth.task import DepthTask
from ablate.errors import UsageError
from ablate.report.comparability import Discrepancy, Matched, Recorded, Tuned, between, discrepancies, read_estimand
from ablate.report.stats.seeds import over_seeds
from ablate.report.tuning import Trial, chosen, unequal
from ablate.study import expand, load_study
from ablate.study.remarks import UNKNOWN

LOG = Path(__file__).parents[2] / "studies" / "progress-log.yaml"
ASPECTS = {
    "pretrained %": 100.0,
    "data": {"fingerprint": "c0ffee", "contents": "abc"},
    "digests": {"model.weights": "d8", "train": "a1"},
    "protocol": {"reduced": {"crop": "kb", "mask": "garg", "cap": "0.001-80 m", "network": [192, 672]}},
    "memory ladder": "none",
    "code": "f00",
}


def recorded(config=None, name="a", unknown=(), **aspects):
    settings_ = config if config is not None else DepthConfig().model_dump(mode="json")
    return Recorded(name, settings_, copy.deepcopy(ASPECTS) | aspects, tuple(unknown))


def keys(found):
    return {one.key for one in found}


def leaves(value, trail=()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*trail, name))
    else:
        yield trail


def changed(value, trail):
    """A copy with something else at `trail`."""
    copied = copy.deepcopy(value)
    place = copied
    for name in trail[:-1]:
        place = place[name]
    place[trail[-1]] = "something else" if place[trail[-1]] != "something else" else "another"
    return copied


CONFIG = DepthConfig.model_validate({"data": {"subset": {"n": 5}}}).model_dump(mode="json")
EVERYTHING = [("settings", trail) for trail in leaves(CONFIG)] + [("aspects", trail) for trail in leaves(ASPECTS)]


@pytest.mark.parametrize(
    ("part", "trail"), EVERYTHING, ids=lambda value: ".".join(value) if type(value) is tuple else ""
)
def test_every_recorded_setting_is_named_when_it_changes(part, trail):
    first = Recorded("a", CONFIG, ASPECTS)
    second = Recorded(
        "b",
        *(
            changed(getattr(first, name), trail) if name == part else getattr(first, name)
            for name in ("settings", "aspects")
        ),
    )
    expected = set() if trail == ("seed",) else {".".join(trail)}
    assert keys(discrepancies(first, second, ())) == keys(discrepancies(second, first, ())) == expected
    if part == "settings":
        assert not discrepancies(first, second, {".".join(trail)}), "the factor under study may differ"
        assert not discrepancies(first, second, {trail[0]}), "and so may a group of settings"
    else:
        assert keys(discrepancies(first, second, {".".join(trail), trail[0]})) == expected, "no factor excuses this"


@pytest.mark.parametrize(
    ("part", "trail"), EVERYTHING, ids=lambda value: ".".join(value) if type(value) is tuple else ""
)
def test_what_is_unknown_differs_from_everything(part, trail):
    key = ".".join(trail)
    known, unknown = Recorded("a", CONFIG, ASPECTS), Recorded("b", CONFIG, ASPECTS, (key,))
    expected = set() if trail == ("seed",) else {key}
    for pair in ((known, unknown), (unknown, known), (unknown, unknown)):
        assert keys(discrepancies(*pair, ())) == keys(discrepancies(*pair, {key})) == expected


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.text("ab", max_size=2)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text("xyz", min_size=1, max_size=1), inner)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.text("pq", min_size=1, max_size=2), json_values), json_values)
def test_a_run_is_like_itself_and_like_no_run_with_one_thing_more(config, value):
    same = Recorded("b", copy.deepcopy(config), ASPECTS)
    assert not discrepancies(Recorded("a", config, ASPECTS), same, ())
    more = Recorded("b", {**config, "more": value}, ASPECTS)
    assert keys(discrepancies(Recorded("a", config, ASPECTS), more, ())) == {"more"}


def test_equal_numbers_are_equal_and_true_is_no_number():
    of = [Recorded("x", {"a": value}, {}) for value in (1, 1.0, True)]
    assert not discrepancies(of[0], of[1], ())
    assert keys(discrepancies(of[0], of[2], ())) == {"a"}


def test_a_group_that_is_absent_differs_as_one():
    whole = DepthConfig().model_dump(mode="json")
    (one,) = discrepancies(recorded(whole), recorded(CONFIG), ())
    assert one.key == "data.subset" and one.text.startswith("data.subset (none against {")
    assert not discrepancies(recorded(whole), recorded(CONFIG), {"data.subset.n"})


def test_settings_that_cannot_change_a_result_are_ignored_where_that_is_said():
    other = recorded(changed(CONFIG, ("data", "workers")))
    assert keys(discrepancies(recorded(CONFIG), other, ())) == {"data.workers"}
    assert not discrepancies(recorded(CONFIG), other, (), ignored={"data.workers"})


def test_the_pretrained_share_is_named_though_the_attention_under_study_causes_it():
    second = recorded(changed(CONFIG, ("model", "attention")), **{"pretrained %": 78.3})
    (one,) = discrepancies(recorded(CONFIG), second, {"model.attention"})
    assert one.text == "pretrained % (100 against 78.3)"


def test_what_is_tuned_over_may_differ_and_nothing_else():
    second = recorded(changed(changed(CONFIG, ("train", "lr")), ("train", "epochs")))
    assert keys(discrepancies(recorded(CONFIG), second, (), Matched())) == {"train.lr", "train.epochs"}
    assert keys(discrepancies(recorded(CONFIG), second, (), Tuned(("train.lr",), 3))) == {"train.epochs"}


def test_groups_are_compared_run_by_run_and_within_themselves():
    lr = changed(CONFIG, ("train", "lr"))
    assert keys(between([recorded(CONFIG)], [recorded(CONFIG), recorded(lr)], ())) == {"train.lr"}
    mixed = between([recorded(CONFIG), recorded(lr)], [recorded(lr), recorded(CONFIG)], {"train.lr"})
    assert keys(mixed) == {"train.lr"}, "an arm that is itself not of one setting is not one arm"
    seeds = [recorded({**CONFIG, "seed": seed}) for seed in range(3)]
    assert between(seeds, seeds, ()) == ()


@pytest.fixture(scope="module")
def log():
    """Rows 3 to 7 as logged, by number; what the log never states is unknown, the pretrained share too."""
    found = {}
    for cell in expand(load_study(LOG, {"depth": DepthTask()}), DepthTask()):
        config = cell.config.model_dump(mode="json")
        numbers = {int(text) for note in cell.notes for text in re.findall(r"^Row (\d)", note)}
        if config["data"]["labels"] == "floor_metres":
            aspects = {"pretrained %": UNKNOWN, "code": UNKNOWN}
            found[numbers.pop()] = Recorded(cell.notes[0], config, aspects, cell.unknown)
    assert sorted(found) == [3, 4, 5, 6, 7]
    return found


FACTOR = ("model.attention", "model.compression")
UNSTATED = {"pretrained %", "code", "eval.select"}
MODULE = {"model.share_attention", "model.attention_init", "model.heads"}


@pytest.mark.parametrize(("pair", "confounds"), [
    ((4, 5), {"train.epochs", "model.head_dim"} | MODULE),
    ((4, 6), {"train.epochs", "train.lr"} | MODULE),
    ((4, 7), {"train.epochs", "train.lr"} | MODULE),
    ((5, 6), {"train.epochs", "train.lr", "model.head_dim"}),
    ((5, 7), {"train.epochs", "train.lr", "model.head_dim"}),
    ((6, 7), set()),
])  # fmt: skip
def test_the_confounds_of_rows_4_to_7_of_the_log_are_found(log, pair, confounds):
    assert keys(discrepancies(*(log[number] for number in pair), FACTOR)) == confounds | UNSTATED


def test_what_is_said_of_rows_4_and_6(log):
    found = {one.key: one.text for one in discrepancies(log[4], log[6], FACTOR)}
    assert found["train.lr"] == "train.lr (0.0001 against 1e-05)"
    assert found["train.epochs"] == "train.epochs (10 against 20)"
    assert found["pretrained %"] == "pretrained % (unknown in both)"


def test_the_learning_rate_of_row_3_is_not_known(log):
    found = {one.key: one for one in discrepancies(log[3], log[4], {"data.subset", "train.lr"})}
    assert found["train.lr"] == Discrepancy("train.lr", UNKNOWN, 1e-4), "and a factor whose value is not known is none"


@pytest.mark.parametrize(("value", "expected"), [
    (None, Matched()),
    ("matched", Matched()),
    ({"tuned": {"over": "train.lr", "trials": 4}}, Tuned(("train.lr",), 4)),
    ({"tuned": {"over": ["train.lr", "train.flip"], "trials": 1}}, Tuned(("train.lr", "train.flip"), 1)),
])  # fmt: skip
def test_what_a_study_may_say_it_estimates(value, expected):
    assert read_estimand(value) == expected


@pytest.mark.parametrize("value", [
    "tuned", 3, {"tuned": {"over": "train.lr"}}, {"tuned": {"over": [], "trials": 2}},
    {"tuned": {"over": "train.lr", "trials": 0}}, {"tuned": {"over": "train.lr", "trials": True}},
    {"tuned": {"over": "a", "trials": 1}, "matched": None},
])  # fmt: skip
def test_anything_else_is_refused_with_the_two_forms(value):
    with pytest.raises(UsageError, match=r"compare: expected `matched` or \{tuned: \{over: train.lr, trials: 4\}\}"):
        read_estimand(value)


def trial(name, lr, *scores, planned=3, split="val"):
    return Trial(name, {"train.lr": lr}, over_seeds(scores, planned), split)


TUNED = Tuned(("train.lr",), 2)


def test_the_best_trial_on_validation_stands_for_an_arm():
    trials = [trial("a", 1e-3), trial("b", 1e-4, 0.3, 0.4, 0.5), trial("c", 1e-5, 0.2, 0.3, 0.4)]
    assert chosen(trials, "min").name == "c" and chosen(trials, "max").name == "b"
    assert chosen([trial("a", 1e-3)], "min") is None, "it diverged"
    assert chosen([trial("a", 1, 0.1), trial("b", 2, 0.1)], "min").name == "a"
    assert chosen([*trials, trial("d", 1e-6, 0.1, split="test")], "min") is None


def test_an_unequal_budget_is_named():
    fair = [trial("a", 1e-3), trial("b", 1e-4, 0.3, 0.4, 0.5)]
    assert unequal({"x": fair, "y": fair}, TUNED) == {}
    found = unequal(
        {
            "more": [*fair, trial("c", 1e-5, 0.1)],
            "twice the same": [trial("d", 1e-3, 0.3), trial("e", 1e-3, 0.3)],
            "on test": [trial("f", 1e-3, 0.3), trial("g", 1e-4, 0.3, split="test")],
            "fewer seeds": [trial("h", 1e-3, 0.3), trial("i", 1e-4, 0.3, planned=1)],
            "fair": fair,
        },
        TUNED,
    )
    assert found["more"] == ("3 trials over train.lr where the study says 2",)
    assert found["twice the same"] == ("1 trials over train.lr where the study says 2",)
    assert found["on test"][0] == "chosen on the test split; tune on validation"
    assert found["fewer seeds"] == ("fewer seeds than the other trials have (3): i",)
    assert "fair" not in found
