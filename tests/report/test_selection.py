"""The words that choose runs, over real run directories and a real database."""

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.errors import UnknownRunError, UsageError
from ablate.report.selection import choose, select, select_one
from ablate.results.open import open_results
from ablate.runs import notes


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two studies that share a run, a failed and a queued run, and one that no study holds."""
    path = Path(__file__).parents[1] / "results" / "conftest.py"
    spec = importlib.util.spec_from_file_location("results_conftest", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_conftest"] = module
    spec.loader.exec_module(module)
    work = module.Workplace(tmp_path_factory.mktemp("work"))
    model = {"attention": "performer", "size": [192, 640], "name": None}
    shared = work.run("shared", "aaaa1111", model=model, seed=3)
    failed = work.run("shared-too", "bbbb2222", train={"epochs": 5, "lr": 1e-2}, seed=0)
    loose = work.run("loose", "cccc3333", model={"attention": "standard"}, encoder={"width": 1}, decoder={"width": 2})
    stale = work.run("stale", "dddd4444")
    shared.train(1)
    failed.train(1, complete=False)
    failed.outcome("failed", "oom", "no memory left")
    loose.train(1)
    stale.train(1)
    notes.add_tags(loose.paths, ["thesis", "figure 3"])
    work.study("one", [shared, failed, stale], gone=[stale])
    work.study("two", [shared])
    return work


@pytest.fixture(scope="module")
def results(work):
    with open_results(work.db, work.runs_dir) as results:
        yield results


def chosen(results, *words, **options):
    return sorted((row.study or "-", row.name.rpartition("-")[2][:1]) for row in select(results, words, **options))


EVERYTHING = [("-", "c"), ("one", "a"), ("one", "b"), ("one", "d"), ("two", "a")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], EVERYTHING),
        (["one"], [("one", "a"), ("one", "b"), ("one", "d")]),
        (["aaaa1111"], [("one", "a"), ("two", "a")]),
        (["shared-aaaa1111"], [("one", "a"), ("two", "a")]),
        (["runs/shared-aaaa1111/"], [("one", "a"), ("two", "a")]),
        (["shared"], [("one", "a"), ("one", "b"), ("two", "a")]),
        (["c", "two"], [("-", "c"), ("two", "a")]),
        (["study=one", "run=aa"], [("one", "a")]),
        (["one", "status=failed"], [("one", "b")]),
        (["status=failed,queued"], [("one", "b")]),
        (["status!=complete"], [("one", "b")]),
        (["reason=oom"], [("one", "b")]),
        (["tag=figure 3"], [("-", "c")]),
        (["seed=0", "study=one"], [("one", "a"), ("one", "b"), ("one", "d")]),
        (["lr=1"], [("one", "a"), ("two", "a")]),
        (["train.lr=1.0", "study=two"], [("two", "a")]),
        (["lr=1e-1"], [("one", "b")]),
        (["model.attention=performer,standard"], [("-", "c"), ("one", "a"), ("two", "a")]),
        (["attention=performer", "attention=standard"], [("-", "c"), ("one", "a"), ("two", "a")]),
        (["attention!=performer", "status=complete"], [("-", "c"), ("one", "d")]),
        (["size=192x640"], [("one", "a"), ("two", "a")]),
        (["size=[192, 640]"], [("one", "a"), ("two", "a")]),
        (["model.name=null"], [("one", "a"), ("two", "a")]),
        (["*-[bc]*"], [("-", "c"), ("one", "b")]),
        (["*o*"], [("-", "c"), ("one", "a"), ("one", "b"), ("one", "d"), ("two", "a")]),
        (["run=*aaaa*"], [("one", "a"), ("two", "a")]),
        (["task=depth", "tag=thesis", "status=failed"], []),
    ],
)
def test_words_choose_rows(results, words, expected):
    assert chosen(results, *words) == expected


def test_rows_of_earlier_versions_can_be_left_out(results):
    assert chosen(results, "one", current=True) == [("one", "a"), ("one", "b")]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tow"], ["'tow'", "did you mean two?"]),
        (["zzzzzz"], ["studies: one, two", "ablate ls"]),
        (["study=tree"], ["known: one, two"]),
        (["status=fialed"], ["did you mean failed?"]),
        (["reason=x"], ["oom", "diverged"]),
        (["tag=nothing"], ["thesis, figure 3"]),
        (["train.rl=1"], ["did you mean train.lr?"]),
        (["attention=preformer"], ["model.attention", "performer, standard"]),
        (["lr="], ["key=value"]),
        (["=1"], ["key=value"]),
        ([""], ["empty"]),
        (["aaaa@3"], ["names an epoch"]),
        (["nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_what_is_not_there_is_said_with_what_is(results, words, parts):
    with pytest.raises(UsageError) as caught:
        select(results, words)
    for part in parts:
        assert part in str(caught.value)


def test_an_end_of_two_settings_is_ambiguous(results):
    with pytest.raises(UsageError, match=r"width may be encoder\.width, decoder\.width; write more of it"):
        select(results, ["width=1"])
    assert chosen(results, "decoder.width=2") == [("-", "c")]


def test_a_start_that_fits_several_is_refused_where_something_is_changed(results):
    with pytest.raises(UnknownRunError, match="names 2 runs: shared-aaaa1111, shared-too-bbbb2222"):
        select(results, ["shared"], exact=True)
    assert chosen(results, "shared*", exact=True) == [("one", "a"), ("one", "b"), ("two", "a")]
    assert chosen(results, "shared-t", exact=True) == [("one", "b")]


def test_an_epoch_can_be_named(results):
    found = choose(results, ["aaaa@3", "loose"])
    assert found.epochs == {"aaaa1111": 3}
    assert [row.run_id for row in found.runs] == ["aaaa1111", "cccc3333"]
    assert select_one(results, "aaaa@3")[1] == 3
    with pytest.raises(UnknownRunError, match="after the @"):
        choose(results, ["aaaa@x"])


def test_one_run_is_one_run(results):
    assert select_one(results, ["one", "status=failed"])[0].run_id == "bbbb2222"
    with pytest.raises(UnknownRunError, match="names 3 runs, and one is meant"):
        select_one(results, "one")
    with pytest.raises(UnknownRunError, match="no run fits"):
        select_one(results, ["one", "status=queued"])


def test_a_study_file_stands_for_its_study(results, tmp_path):
    (tmp_path / "file.yaml").write_text("study: two\nbase: {train.lr: 1}\n")
    assert chosen(results, str(tmp_path / "file.yaml")) == [("two", "a")]
    (tmp_path / "new.yaml").write_text("study: new\n")
    with pytest.raises(UsageError, match=r"study new .* has not been run here; known: one, two"):
        select(results, [str(tmp_path / "new.yaml")])


WORDS = st.one_of(
    st.text(max_size=12),
    st.builds("{}={}".format, st.sampled_from(["lr", "seed", "status", "tag", "run", "study", "size", "x"]), st.text()),
    st.sampled_from(["one", "two", "shared", "aaaa@1", "*", "seed!=0", "lr=1", "status=failed"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, max_size=4))
def test_any_words_choose_rows_or_are_refused(results, words):
    everything = [(row.study, row.run_id) for row in results.runs()]
    try:
        found = [(row.study, row.run_id) for row in select(results, words)]
    except UsageError as error:
        assert str(error)
    else:
        assert found == [row for row in everything if row in found]
