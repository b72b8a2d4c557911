"""What a report concludes from real run directories, through a real database."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.depth.config import DepthConfig
from ablate.report import ignored
from ablate.report.recorded import Known, differing, recorded_of
from ablate.report.render import render
from ablate.results.recorded import RunFacts
from ablate.results.records import RunRow
from ablate.runs.states import State
from ablate.study.estimand import Matched
from ablate.study.settings import catalogue

STANDARD = {"model.attention": "standard"}
PERFORMER = {"model.attention": "performer"}


def verdicts(judged):
    return {(v.arm, v.baseline): v for v in judged.verdicts}


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not(lab, make_arm):
    lab.study([make_arm(STANDARD), make_arm(PERFORMER, 0.08), make_arm({"model.attention": "linear"})])
    judged = lab.summary().judgement
    found = verdicts(judged)
    assert found["performer", "standard"].outcome == "better"
    assert found["linear", "standard"].outcome == "no difference shown"
    assert found["performer", "standard"].comparisons == 2, "Holm counts every planned comparison"
    assert judged.metric.key == "abs_rel" and (judged.split, judged.resolution) == ("test", "reduced")
    assert set(judged.others) == {"d1", "rmse"}
    assert {one.outcome for rows in judged.others.values() for one in rows} == {"no verdict"}
    assert len(judged.headline) <= 3 and "1 better, 0 worse, 1 without" in judged.headline[0]
    smallest = [one.smallest for one in judged.detectable]
    assert len(smallest) == 3 and sorted(smallest, reverse=True) == smallest
    assert [arm.baseline for arm in judged.arms] == [None, "standard", "standard"]


def test_the_study_may_name_another_metric(lab, make_arm):
    lab.study([make_arm(STANDARD), make_arm(PERFORMER, 0.08)], metric="d1")
    judged = lab.summary().judgement
    assert judged.metric.key == "d1" and judged.verdicts[0].outcome == "better"


def test_a_loss_is_no_metric_that_verdicts_could_be_about(lab, make_arm):
    lab.study([make_arm(STANDARD)], select={"metric": "loss", "split": "val", "resolution": "reduced"})
    found = lab.summary()
    assert found.judgement is None and any("epochs are selected by loss" in note for note in found.notes)


def test_one_seed_gives_no_verdict_and_says_so(lab, make_arm):
    lab.study([make_arm(STANDARD, seeds=1), make_arm(PERFORMER, 0.05, seeds=1)])
    (verdict,) = lab.summary().judgement.verdicts
    assert verdict.outcome == "no verdict" and "has one seed" in verdict.why
    assert "has one seed" in render([lab.summary()], "md")


def test_a_failed_seed_stays_in_the_count_and_in_the_failure_rate(lab, make_arm):
    lab.study([make_arm(STANDARD, seeds=5), make_arm(PERFORMER, seeds=5, failed=1)])
    arm = lab.summary().judgement.arms[1]
    assert arm.scores["abs_rel"].count == "4/5" and (arm.failures.failed, arm.failures.of) == (1, 5)
    text = render([lab.summary()], "md")
    assert "(4/5)" in text and "1/5" in text and "4/5 and 5 seeds" in text


def test_several_baselines(lab, make_arm):
    arms = [make_arm({"model.attention": a, "train.lr": lr}, e)
            for lr, e in ((1e-4, 0.1), (1e-3, 0.2)) for a in ("standard", "performer")]  # fmt: skip
    lab.study(arms, baselines=[None, 0, None, 2])
    judged = lab.summary().judgement
    assert [(pair.arm, pair.baseline, pair.factor) for pair in judged.pairs] == [
        ("performer, lr 0.0001", "standard, lr 0.0001", ("model.attention",)),
        ("performer, lr 0.001", "standard, lr 0.001", ("model.attention",)),
    ]
    assert not any(pair.discrepancies for pair in judged.pairs)
    assert {effect.factor.axes for effect in judged.main_effects} == {("model.attention",), ("train.lr",)}
    assert len(judged.interactions) == 1


CHANGES = {
    "train.lr": {"config": {"train": {"lr": 0.5}}},
    "data files.fingerprint": None,
    "pretrained %": {"opened": {"parts": [{"name": "all", "parameters": 10, "shared": [], "pretrained": 0.5}]}},
    "shared modules": {"opened": {"shared_modules": [["block 0", "block 1"]]}},
    "code.loss silog": {"opened": {"code": {"network dpt_tiny": "aaaaaaaaaa", "loss silog": "cccccccccc"}}},
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_confounded_pair_gets_no_verdict_but_what_else_differs(lab, make_arm, key):
    change = CHANGES[key]
    runs = lab.study([make_arm(STANDARD), make_arm(PERFORMER, 0.05, **(change or {}))])
    if change is None:
        for run in runs[1]:
            run.event("checked", facts={"fingerprint": "0" * 64, "contents": "c" * 64})
    judged = lab.summary().judgement
    (pair,) = judged.pairs
    assert [one.key for one in pair.discrepancies] == [key]
    assert judged.verdicts[0].outcome == "no verdict" and key in judged.verdicts[0].why
    assert key in render([lab.summary()], "md").replace("\\", "")


def test_code_of_the_factor_alone_is_no_discrepancy(lab, make_arm):
    own = {"network dpt_tiny": "aaaaaaaaaa", "loss silog": "bbbbbbbbbb"}
    lab.study([
        make_arm(STANDARD, opened={"code": {**own, "attention standard": "1"}}),
        make_arm(PERFORMER, 0.08, opened={"code": {**own, "attention performer": "2"}}),
    ])  # fmt: skip
    assert lab.summary().judgement.verdicts[0].outcome == "better"


def test_rollbacks_and_the_ladder_of_one_seed_are_named(lab, make_arm):
    runs = lab.study([make_arm(STANDARD), make_arm(PERFORMER)])
    runs[1][0].event("rollback", to_epoch=1, lr_factor=0.5, why="nan")
    runs[1][1].event("ladder", rung=1, did="2 pieces", why="oom")
    (pair,) = lab.summary().judgement.pairs
    assert {one.key for one in pair.discrepancies} == {"rollbacks", "memory ladder"}


def test_what_was_recorded_before_a_run_was_begun_anew_does_not_count(lab, make_arm):
    runs = lab.study([make_arm(STANDARD), make_arm(PERFORMER)])
    runs[1][0].event("rollback", to_epoch=1, lr_factor=0.5, why="nan")
    runs[1][0].attempt(facts={})
    runs[1][0].event("opened", facts={"parameters": 1000, "code": {"network dpt_tiny": "aaaaaaaaaa",
                     "loss silog": "bbbbbbbbbb"}, "shared_modules": [], "parts": []})  # fmt: skip
    assert not lab.summary().judgement.pairs[0].discrepancies


def tuned_arms(make_arm, values):
    return [make_arm({"model.attention": a, "train.lr": lr}, test, val=val) for a, lr, test, val in values]


TUNED = {"tuned": {"over": ["train.lr"], "trials": 2}}


def test_tuned_arms_are_each_at_their_best_on_validation(lab, make_arm):
    values = [("standard", 1e-3, 0.1, 0.1), ("standard", 1e-4, 0.05, 0.2),
              ("performer", 1e-3, 0.3, 0.3), ("performer", 1e-4, 0.07, 0.07)]  # fmt: skip
    lab.study(tuned_arms(make_arm, values), baselines=[None, None, 0, 1], compare=TUNED)
    judged = lab.summary().judgement
    assert judged.estimand == "tuned over train.lr, 2 trials each"
    assert {arm.name: arm.settings["train.lr"] for arm in judged.arms} == {"standard": 1e-3, "performer": 1e-4}
    assert judged.arms[0].stands_for == ("standard, lr 0.001", "standard, lr 0.0001"), "not the one that tests best"
    assert [v.outcome for v in judged.verdicts] == ["better"]


def test_an_unequal_budget_gets_no_verdict(lab, make_arm):
    values = [("standard", 1e-3, 0.1, None), ("standard", 1e-4, 0.2, None), ("performer", 1e-3, 0.05, None)]
    lab.study(tuned_arms(make_arm, values), baselines=[None, None, 0], compare=TUNED)
    (verdict,) = lab.summary().judgement.verdicts
    assert verdict.outcome == "no verdict" and "1 trials over train.lr where the study says 2" in verdict.why


def test_json_has_it_under_stable_names_and_is_strict(lab, make_arm):
    lab.study([make_arm(STANDARD), make_arm(PERFORMER, 0.08)])
    (study,) = json.loads(render([lab.summary()], "json"), parse_constant=lambda text: pytest.fail(text))["studies"]
    judged = study["judgement"]
    assert {"headline", "metric", "arms", "pairs", "verdicts", "others", "main_effects", "front", "detectable",
            "notes", "estimand", "split", "resolution", "interactions"} <= judged.keys()  # fmt: skip
    assert judged["verdicts"][0]["difference"]["estimate"] < 0


def test_names_from_a_study_are_harmless(lab, make_arm):
    lab.study([make_arm(STANDARD), make_arm({"model.attention": "<script>|`x`"}, 0.08)])
    assert "<script>" not in render([lab.summary()], "md")


def test_queries_do_not_grow_with_the_study(lab, make_arm):
    from ablate.report.summary import summarise
    from ablate.results.open import open_results

    def count(name, arms):
        lab.study(arms, name=name)
        metrics = lab.summary(name).metrics
        asked = []
        with open_results(lab.work.db, lab.work.runs_dir) as results:
            fetch = results._fetch
            results._fetch = lambda *question: (asked.append(question), fetch(*question))[1]
            summarise(results, name, metrics)
        return len(asked)

    few = [make_arm({"train.lr": lr}, seeds=1) for lr in (1, 2)]
    many = [make_arm({"train.lr": lr}, seeds=2) for lr in (1, 2, 3, 4)]
    assert count("few", few) == count("many", many)


def test_every_setting_is_compared_or_known_not_to_matter():
    known = catalogue(DepthConfig).settings
    passed = {key for key in known if any(key == one or key.startswith(f"{one}.") for one in ignored.IGNORED)}
    assert passed == {key for key in known if not known[key].identity}
    assert all(ignored.IGNORED.values())


FULL = {"data": {"subset": {"n": 5}}, "train": {"early_stopping": {"patience": 2}}}
CONFIG = DepthConfig.model_validate(FULL).model_dump(mode="json")
FACTS = {
    "digests": {"train": "a", "weights": "b"}, "devices": ("cpu",), "code": {"network": "x"}, "shared": [],
    "rollbacks": (), "ladder": (),
    "parts": [{"name": "all", "parameters": 4, "shared": [], "pretrained": 1.0}],
}  # fmt: skip
OTHER = {
    "digests": {"train": "z", "weights": "b"}, "devices": ("cuda",), "code": {"network": "y"}, "shared": [["a", "b"]],
    "rollbacks": (0.5,), "ladder": ("pieces",),
    "parts": [{"name": "all", "parameters": 4, "shared": [], "pretrained": 0.5}],
}  # fmt: skip
ASPECT = {"digests": "digests.train", "devices": "device", "code": "code.network", "shared": "shared modules",
          "rollbacks": "rollbacks", "ladder": "memory ladder", "parts": "pretrained %"}  # fmt: skip


def known_run(name, config, facts, protocol=None, data=("f", "c")):
    row = RunRow(
        name, None, name, "depth", State.COMPLETE, None, None, None, {}, config, None, None, None, 1, 1, 1, 1.0
    )
    return Known(row, RunFacts(**facts), data, protocol or {"crop": "kb", "network_input": "192x640"})


def leaves(value, trail=()):
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*trail, name))
    else:
        yield trail


def changed(config, trail, value):
    copied = json.loads(json.dumps(config))
    place = copied
    for name in trail[:-1]:
        place = place[name]
    place[trail[-1]] = value
    return copied


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(list(leaves(CONFIG))), st.one_of(st.integers(), st.text(min_size=1), st.lists(st.integers())))
def test_whatever_setting_is_changed_is_named(trail, value):
    config = changed(CONFIG, trail, value)
    runs = recorded_of([known_run("a", CONFIG, FACTS), known_run("b", config, FACTS)])
    found = {one.key for one in differing([runs["a"]], [runs["b"]], (), Matched())}
    key = ".".join(trail)
    before = leaf(CONFIG, trail)
    same = value == before and isinstance(value, bool) == isinstance(before, bool)
    passed = key == "seed" or any(key == one or key.startswith(f"{one}.") for one in ignored.IGNORED)
    assert found == (set() if same or passed else {key})


def leaf(config, trail):
    for name in trail:
        config = config[name]
    return config


@pytest.mark.parametrize("name", ASPECT)
def test_whatever_else_was_recorded_is_named(name):
    runs = recorded_of([known_run("a", CONFIG, FACTS), known_run("b", CONFIG, FACTS | {name: OTHER[name]})])
    assert [one.key for one in differing([runs["a"]], [runs["b"]], (), Matched())] == [ASPECT[name]]


def test_protocol_network_input_and_data_are_named():
    runs = recorded_of([
        known_run("a", CONFIG, FACTS),
        known_run("b", CONFIG, FACTS, {"crop": "kb", "network_input": "192x672"}, ("g", "c")),
    ])  # fmt: skip
    found = {one.key for one in differing([runs["a"]], [runs["b"]], (), Matched())}
    assert found == {"protocol.network_input", "data files.fingerprint"}
