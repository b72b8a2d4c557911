"""What is said of a study: the words, and when there are none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import UsageError
from ablate.report.stats.multiplicity import holm
from ablate.report.stats.scores import drive_by_name, scores_of
from ablate.report.stats.verdict import judge
from ablate.task import Metric

ABS_REL, D1 = Metric("abs_rel", "AbsRel", "min"), Metric("d1", "d1", "max")
IMAGES = [f"2011_09_26/2011_09_26_drive_{drive:04}_sync {frame} l" for drive in range(6) for frame in range(5)]


def study(effects, seeds=3, noise=0.002):
    """`effects[arm]` on 30 images of 6 drives; image values are 0.1 and a little."""
    rng = np.random.default_rng(0)
    level = 0.1 + 0.01 * rng.normal(size=len(IMAGES))
    return {
        arm: {
            seed: dict(zip(IMAGES, level + effect + noise * rng.normal() + 0.002 * rng.normal(size=30), strict=True))
            for seed in range(seeds)
        }
        for arm, effect in effects.items()
    }


def test_an_arm_that_is_better_and_one_that_shows_nothing():
    scores = scores_of(study({"standard": 0.0, "good": -0.05, "same": 0.0, "bad": 0.05}))
    planned = [("good", "standard"), ("same", "standard"), ("bad", "standard")]
    good, same, bad = judge(scores, ABS_REL, planned)
    assert (good.outcome, same.outcome, bad.outcome) == ("better", "no difference shown", "worse")
    assert good.sentence.startswith("good is better than standard in AbsRel: -0.0")
    assert "after Holm's correction for 3 comparisons; 3 seeds, 30 images of 6 drives" in good.sentence
    assert "No difference in AbsRel was shown between same and standard" in same.sentence
    assert good.difference.low < -0.05 < good.difference.high
    assert good.difference.relative == pytest.approx(-0.5, abs=0.1)
    assert [v.adjusted for v in (good, same, bad)] == pytest.approx(holm([v.difference.p for v in (good, same, bad)]))


def test_higher_is_better_where_the_metric_says_so():
    scores = scores_of(study({"standard": 0.0, "up": 0.05}))
    assert judge(scores, D1, [("up", "standard")])[0].outcome == "better"
    assert judge(scores, ABS_REL, [("up", "standard")])[0].outcome == "worse"


def test_one_seed_gets_no_verdict_and_says_so():
    (verdict,) = judge(scores_of(study({"standard": 0.0, "good": -0.05}, seeds=1)), ABS_REL, [("good", "standard")])
    assert (verdict.outcome, verdict.difference, verdict.adjusted) == ("no verdict", None, None)
    assert verdict.sentence.startswith("good against standard: no verdict, since good has one seed, and one training")
    assert "The trained networks differ by -0.0" in verdict.sentence
    assert verdict.observed.estimate == pytest.approx(-0.05, abs=0.01)


def test_a_diverged_seed_is_counted_and_not_dropped_in_silence():
    runs = study({"standard": 0.0, "good": -0.05}, seeds=5)
    del runs["good"][2]
    planned = {"good": 5, "standard": 5}
    (verdict,) = judge(scores_of(runs), ABS_REL, [("good", "standard")], seeds_planned=planned)
    assert "4/5 and 5 seeds, 4 in common" in verdict.sentence
    assert verdict.difference.seeds.n == 4


def test_an_arm_without_results_counts_as_a_comparison():
    runs = study({"standard": 0.0, "good": -0.05})
    good, dead = judge(scores_of(runs), ABS_REL, [("good", "standard"), ("dead", "standard")])
    assert dead.outcome == "no verdict" and dead.why == "dead has no result" and dead.observed is None
    assert good.comparisons == 2 and good.adjusted == pytest.approx(2 * good.difference.p)


def test_a_confounded_pair_gets_no_verdict_but_counts():
    scores = scores_of(study({"standard": 0.0, "good": -0.05}))
    why = {("good", "standard"): ["train.lr (1e-4 against 1e-5)", "pretrained (1 against 0.7)"]}
    (verdict,) = judge(scores, ABS_REL, [("good", "standard")], confounds=why)
    assert verdict.outcome == "no verdict" and verdict.adjusted is None
    assert "since they also differ in train.lr (1e-4 against 1e-5) and pretrained (1 against 0.7)." in verdict.sentence
    both = scores_of(study({"standard": 0.0, "good": -0.05, "same": 0.0}))
    _, same = judge(both, ABS_REL, [("good", "standard"), ("same", "standard")], confounds=why)
    assert same.adjusted == pytest.approx(min(1, 2 * same.difference.p)), "the confounded one as if it showed nothing"
    many = {("good", "standard"): [f"setting {place}" for place in range(9)]}
    (verdict,) = judge(scores, ABS_REL, [("good", "standard")], confounds=many)
    assert verdict.why.endswith("setting 3 and 5 more")


def test_seeds_that_change_nothing_are_said_to_be_no_repetitions():
    runs = study({"standard": 0.0, "good": -0.05}, seeds=1)
    runs = {arm: dict.fromkeys(range(3), seeds[0]) for arm, seeds in runs.items()}
    (verdict,) = judge(scores_of(runs), ABS_REL, [("good", "standard")])
    assert verdict.why == "the seeds changed no number, so they are not repetitions"


def test_a_difference_that_is_the_same_with_every_seed_is_not_put_down_to_seeds_without_effect():
    runs = study({"standard": 0.0})
    runs["moved"] = {
        seed: {image: value + 0.5 for image, value in row.items()} for seed, row in runs["standard"].items()
    }
    (verdict,) = judge(scores_of(runs), ABS_REL, [("moved", "standard")])
    assert verdict.outcome == "no verdict" and "the same with every seed" in verdict.why


def test_images_that_count_as_independent_are_not_said_to_be_of_drives():
    runs = study({"standard": 0.0, "good": -0.05})
    (verdict,) = judge(scores_of(runs, lambda image: "one"), ABS_REL, [("good", "standard")])
    assert "3 seeds, 30 images)" in verdict.sentence


def test_one_image_tells_nothing():
    runs = {arm: {seed: {"x": seed / 7 + len(arm)} for seed in range(3)} for arm in ("a", "bb")}
    (verdict,) = judge(scores_of(runs), ABS_REL, [("a", "bb")])
    assert verdict.why == "there is one image only"


def test_images_that_some_run_lacks_are_left_out_and_counted():
    runs = study({"standard": 0.0, "good": -0.05})
    runs["good"][1][IMAGES[0]] = None
    del runs["standard"][0][IMAGES[7]]
    scores = scores_of(runs)
    assert (len(scores.images), scores.left_out, scores.drives) == (28, 2, 6)
    assert scores.notes == ("2 of 30 images left out: some run has no value of them",)
    assert scores.means()["good"][1] == pytest.approx(np.mean([runs["good"][1][image] for image in scores.images]))


def test_nothing_in_common_is_an_error_that_says_what_to_do():
    with pytest.raises(UsageError, match="2 runs have no image in common; evaluate them on the same split"):
        scores_of({"a": {0: {"x": 1.0}}, "b": {0: {"y": 1.0}}})
    with pytest.raises(UsageError, match="no per-image results"):
        scores_of({"a": {}})


@pytest.mark.parametrize(("image", "drive"), [
    ("2011_09_26/2011_09_26_drive_0002_sync 69 l", "2011_09_26_drive_0002_sync"),
    ("raw/2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png", "2011_09_26_drive_0002_sync"),
    ("kitchen_0028b/rgb_00045.jpg", "kitchen_0028b"),
    ("12", None),
])  # fmt: skip
def test_the_drive_is_read_off_the_name(image, drive):
    assert drive_by_name(image) == drive


def test_unknown_drives_and_a_single_one_are_said():
    loose = scores_of({"a": {0: {"1": 1.0, "2": 2.0, "3": 2.0}}})
    assert loose.drives == 3 and "drives of the images are not known" in loose.notes[0]
    alone = scores_of({"a": {0: {"k/1": 1.0, "k/2": 2.0}}})
    assert alone.drives == 2 and "all images are of one drive" in alone.notes[0]
    mixed = scores_of({"a": {0: {"k/1": 1.0, "k/2": 2.0, "3": 2.0}}})
    assert list(mixed.drive_I) == [1, 0, 0] and not mixed.notes, "an image without a drive is one of its own"


@given(st.permutations(["good", "same", "bad"]))
def test_the_order_of_the_comparisons_does_not_matter(order):
    scores = scores_of(study({"standard": 0.0, "good": -0.006, "same": 0.0, "bad": 0.004}))
    first = {v.arm: v for v in judge(scores, ABS_REL, [(arm, "standard") for arm in ("good", "same", "bad")])}
    again = {v.arm: v for v in judge(scores, ABS_REL, [(arm, "standard") for arm in order])}
    assert first == again
