"""How often the statistics of reports are wrong: pseudo-studies in which the truth is known.

    python benchmarks/verdicts.py --simulate --studies 2000
    python benchmarks/verdicts.py --trainings trainings.csv

A pseudo-study has some arms of n seeds each, evaluated on the same images. All arms are the same but one, whose error
is smaller by an injected effect (0, 2, 5 or 10 %) on every image. `--trainings` draws the trainings from real ones that
differ in their seed alone (`trainings.py` makes some hundred), and the drives, with replacement, from theirs; `--simulate` draws both from a random-effects
model, whose variances are such that the cruder methods err as often as was measured on 28 real toy networks (652 images,
28 drives).

Printed for each method: false claims (% of comparisons of equal arms called different), coverage (% of 95 % intervals
that hold the true difference of the changed arm) and power (% of true effects found). `ours, study` is what a report
says: after Holm's correction, where false claims are studies with any.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas
from numpy.typing import NDArray

from ablate.errors import UsageError
from ablate.report.stats.components import drive_variance
from ablate.report.stats.difference import difference
from ablate.report.stats.multiplicity import holm
from ablate.report.stats.quantiles import normal_quantile, t_quantile
from ablate.report.stats.scores import Scores

Floats = NDArray[np.float64]
Whole = NDArray[np.intp]

EFFECTS = (0.0, 0.02, 0.05, 0.10)
REPLICATES = 500
"""Of every bootstrap."""
STUDY = "ours, study"


class Drawn(NamedTuple):
    """A pseudo-study: value_ASI (arms, seeds, images) and the true difference of arm 1 from arm 0, the baseline."""

    value_ASI: Floats
    drive_I: Whole
    truth: float


class Source(Protocol):
    def draw(self, rng: np.random.Generator, arms: int, seeds: int, effect: float) -> Drawn: ...


@dataclass(frozen=True)
class Simulation:
    """A random-effects model. All but `level` are standard deviations, relative to `level` (an AbsRel, say).

    A value is level x (1 + drive + image) + run + run x drive + run x image. With these defaults the mean of a
    training has a seed-to-seed deviation of 3.0 %, and of identical arms a bootstrap over images calls 71 % different.
    """

    images: int = 652
    drives: int = 28
    level: float = 0.1
    drive: float = 0.2
    image: float = 0.3
    run: float = 0.0264
    run_drive: float = 0.0696
    run_image: float = 0.127
    uneven_effect: float = 0.5
    """Of the injected effect between drives, relative to the effect."""
    unstable: float = 1.0
    """How many times larger the deviations of runs of arm 1 are than those of the others."""

    def draw(self, rng: np.random.Generator, arms: int, seeds: int, effect: float) -> Drawn:
        share_K = rng.dirichlet(np.full(self.drives, 8.0))
        count_K = 2 + rng.multinomial(self.images - 2 * self.drives, share_K)
        drive_I = np.repeat(np.arange(self.drives), count_K)
        images = len(drive_I)
        base_I = 1 + self.drive * rng.normal(size=self.drives)[drive_I] + self.image * rng.normal(size=images)
        noise_ASI = self.run * rng.normal(size=(arms, seeds, 1))
        noise_ASI = noise_ASI + self.run_drive * rng.normal(size=(arms, seeds, self.drives))[:, :, drive_I]
        noise_ASI = noise_ASI + self.run_image * rng.normal(size=(arms, seeds, images))
        noise_ASI[1] *= self.unstable
        factor_AI = np.ones((arms, images))
        factor_AI[1] -= effect * (1 + self.uneven_effect * rng.normal(size=self.drives))[drive_I]
        value_ASI = self.level * (base_I * factor_AI[:, None] + noise_ASI)
        return Drawn(value_ASI, drive_I, -effect * self.level)


@dataclass(frozen=True)
class Trainings:
    """Real results: value_RI of R trainings that differ in their seed alone."""

    value_RI: Floats
    drive_I: Whole

    def draw(self, rng: np.random.Generator, arms: int, seeds: int, effect: float) -> Drawn:
        if arms * seeds > len(self.value_RI):
            raise UsageError(
                f"{arms} arms of {seeds} seeds need {arms * seeds} trainings; {len(self.value_RI)} are there"
            )
        chosen = rng.permutation(len(self.value_RI))[: arms * seeds].reshape(arms, seeds)
        drives = int(self.drive_I.max()) + 1
        members = [np.flatnonzero(self.drive_I == drive) for drive in rng.integers(drives, size=drives)]
        # A drive that is drawn twice counts as two.
        drive_I = np.repeat(np.arange(drives), [len(images) for images in members])
        value_ASI = self.value_RI[:, np.concatenate(members)][chosen]
        value_ASI[1] *= 1 - effect
        return Drawn(value_ASI, drive_I, -effect * float(self.value_RI.mean()))


class Interval(NamedTuple):
    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


Pair = Callable[[Floats, Floats, Whole, np.random.Generator], Interval]
"""From the values of an arm and of the baseline (S x I each), paired by seed and image."""


def over_images(arm_SI: Floats, base_SI: Floats, drive_I: Whole, rng: np.random.Generator) -> Interval:
    """Percentile bootstrap over images, as is common."""
    difference_I = (arm_SI - base_SI).mean(0)
    images = len(difference_I)
    return _percentiles(difference_I[rng.integers(images, size=(REPLICATES, images))].mean(1))


def over_drives(arm_SI: Floats, base_SI: Floats, drive_I: Whole, rng: np.random.Generator) -> Interval:
    """The same over whole drives."""
    sums_K, count_K = np.bincount(drive_I, (arm_SI - base_SI).mean(0)), np.bincount(drive_I)
    drives = len(count_K)
    drawn = rng.integers(drives, size=(REPLICATES, drives))
    return _percentiles(sums_K[drawn].sum(1) / count_K[drawn].sum(1))


def over_seeds(arm_SI: Floats, base_SI: Floats, drive_I: Whole, rng: np.random.Generator) -> Interval:
    """Percentile bootstrap over seeds."""
    mean_S = (arm_SI - base_SI).mean(1)
    return _percentiles(mean_S[rng.integers(len(mean_S), size=(REPLICATES, len(mean_S)))].mean(1))


def crossed_normal(arm_SI: Floats, base_SI: Floats, drive_I: Whole, rng: np.random.Generator) -> Interval:
    """Crossed seed x drive, of one comparison alone, with the normal distribution's quantile."""
    difference_SI = arm_SI - base_SI
    mean_I = difference_SI.mean(0)
    seeds = float(difference_SI.mean(1).var(ddof=1)) / len(difference_SI)
    variance = seeds + drive_variance(mean_I, [difference_SI - mean_I], drive_I).variance
    return _around(float(mean_I.mean()), normal_quantile(0.975) * variance**0.5)


def welch(arm_SI: Floats, base_SI: Floats, drive_I: Whole, rng: np.random.Generator) -> Interval:
    """Welch's t interval on the means of the runs."""
    means = arm_SI.mean(1), base_SI.mean(1)
    first, second = (float(mean_S.var(ddof=1)) / len(mean_S) for mean_S in means)
    df = (first + second) ** 2 / (first**2 / (len(means[0]) - 1) + second**2 / (len(means[1]) - 1))
    return _around(float(means[0].mean() - means[1].mean()), t_quantile(0.975, df) * (first + second) ** 0.5)


def _percentiles(estimates: Floats) -> Interval:
    low, high = np.quantile(estimates, [0.025, 0.975])
    return Interval(float(low), float(high))


def _around(centre: float, half: float) -> Interval:
    return Interval(centre - half, centre + half)


METHODS: Mapping[str, Pair] = {
    "bootstrap over images": over_images,
    "bootstrap over drives": over_drives,
    "bootstrap over seeds": over_seeds,
    "crossed, normal, alone": crossed_normal,
    "Welch on seeds": welch,
}


@dataclass(frozen=True)
class Counts:
    """Of one method: `claims` of `equal` comparisons of equal arms, `held` of `intervals`, `found` of `changed` arms."""

    claims: int = 0
    equal: int = 0
    held: int = 0
    intervals: int = 0
    found: int = 0
    changed: int = 0

    def plus(self, equal: Sequence[bool], held: Sequence[bool], found: Sequence[bool]) -> Counts:
        return replace(
            self,
            claims=self.claims + sum(equal),
            equal=self.equal + len(equal),
            held=self.held + sum(held),
            found=self.found + sum(found),
            intervals=self.intervals + len(held),
            changed=self.changed + len(found),
        )


def measure(
    source: Source,
    *,
    arms: int,
    seeds: int,
    effect: float,
    studies: int,
    seed: int = 0,
    methods: Mapping[str, Pair] = METHODS,
) -> dict[str, Counts]:
    """`studies` pseudo-studies with `effect` in arm 1; by method, ours always among them."""
    rng = np.random.default_rng([seed, arms, seeds, round(effect * 1000)])
    totals = dict.fromkeys((*methods, "ours", STUDY), Counts())
    for _ in range(studies):
        drawn = source.draw(rng, arms, seeds, effect)
        for name, outcome in _judged(drawn, rng, effect, methods):
            totals[name] = totals[name].plus(*outcome)
    return totals


def _judged(
    drawn: Drawn, rng: np.random.Generator, effect: float, methods: Mapping[str, Pair]
) -> Iterator[tuple[str, tuple[list[bool], list[bool], list[bool]]]]:
    """By method: claims about equal arms, whether the interval of arm 1 holds the truth, whether it was found."""
    base_SI, others = drawn.value_ASI[0], range(1, len(drawn.value_ASI))
    for name, method in methods.items():
        intervals = [method(drawn.value_ASI[arm], base_SI, drawn.drive_I, rng) for arm in others]
        yield name, _outcome(intervals, [not interval.holds(0) for interval in intervals], drawn.truth, effect)
    images = tuple(str(place) for place in range(len(drawn.drive_I)))
    runs = {str(arm): dict(enumerate(rows_SI)) for arm, rows_SI in enumerate(drawn.value_ASI)}
    scores = Scores(images, drawn.drive_I, runs, 0)
    means = scores.means()
    found = [one for arm in others if (one := difference(scores, str(arm), "0", means=means)) is not None]
    intervals = [Interval(one.low, one.high) for one in found]
    yield "ours", _outcome(intervals, [one.p <= 0.05 for one in found], drawn.truth, effect)
    claims = [p <= 0.05 for p in holm([one.p for one in found])]
    _, held, power = _outcome(intervals, claims, drawn.truth, effect)
    equal = claims[1:] if effect else claims
    yield STUDY, ([any(equal)] if equal else [], held, power)


def _outcome(
    intervals: Sequence[Interval], claims: Sequence[bool], truth: float, effect: float
) -> tuple[list[bool], list[bool], list[bool]]:
    equal = list(claims[1:] if effect else claims)
    # A claim in the wrong direction is no discovery.
    found = claims[0] and (intervals[0].low + intervals[0].high) * truth > 0
    held = [interval.holds(truth) for interval in (intervals[:1] if effect else intervals)]
    return equal, held, [found]


def real_trainings(path: Path, metric: str) -> Trainings:
    """From a CSV file of columns seed, image, drive and metrics, as `trainings.py` writes it.

    Raises UsageError if a column is missing, or if two trainings share no image.
    """
    rows = pandas.read_csv(path)
    if missing := [name for name in ("seed", "image", "drive", metric) if name not in rows]:
        raise UsageError(f"{path}: no column {', '.join(missing)}; make the file with benchmarks/trainings.py")
    values = rows.pivot(index="seed", columns="image", values=metric).dropna(axis="columns")
    if values.empty:
        raise UsageError(f"{path}: no image that all trainings have {metric} of")
    drive_of = rows.drop_duplicates("image").set_index("image")["drive"]
    drive_I, _ = pandas.factorize(drive_of.loc[values.columns])
    return Trainings(values.to_numpy(dtype=np.float64), drive_I.astype(np.intp))


def table(results: Mapping[float, Mapping[str, Counts]]) -> str:
    """Rows are methods; percentages, by injected effect."""
    effects = list(results)
    head = ["method", "false claims", *(f"coverage, {_name(e)}" for e in effects)]
    head += [f"power, {_name(effect)}" for effect in effects if effect]
    lines = [head, ["---"] * len(head)]
    for name in results[effects[0]]:
        of = [results[effect][name] for effect in effects]
        claims, equal = sum(one.claims for one in of if one.equal), sum(one.equal for one in of)
        power = [_percent(one.found, one.changed) for effect, one in zip(effects, of, strict=True) if effect]
        lines.append([name, _percent(claims, equal), *(_percent(one.held, one.intervals) for one in of), *power])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _name(effect: float) -> str:
    return f"{100 * effect:g} %" if effect else "equal"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--simulate", action="store_true", help="draw from the random-effects model")
    where.add_argument("--trainings", type=Path, help="a CSV file of real trainings that differ in their seed alone")
    parser.add_argument("--metric", default="abs_rel", help="a column of that file")
    parser.add_argument("--arms", type=int, default=4, help="the baseline among them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--studies", type=int, default=1000, help="pseudo-studies per row of the printed tables")
    parser.add_argument("--unstable", type=float, default=1.0, help="simulate: arm 1 varies so many times as much")
    parser.add_argument("--ours", action="store_true", help="leave the other methods out, which take most of the time")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = _arguments(arguments)
    source: Source = Simulation(unstable=options.unstable)
    try:
        if options.trainings is not None:
            source = real_trainings(options.trainings, options.metric)
        for seeds in options.seeds:
            results = {
                effect: measure(
                    source,
                    arms=options.arms,
                    seeds=seeds,
                    effect=effect,
                    studies=options.studies,
                    seed=options.seed,
                    methods={} if options.ours else METHODS,
                )
                for effect in EFFECTS
            }
            sys.stdout.write(f"{options.arms} arms, {seeds} seeds, {options.studies} studies per effect\n\n")
            sys.stdout.write(table(results) + "\n")
            sys.stdout.flush()
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
