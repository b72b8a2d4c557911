"""What may be concluded from a study, as a section of a Markdown report: verdicts first, then what they rest on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from tabulate import tabulate

from ablate.report.arms import short_names, value_text
from ablate.report.judgement import Arm, Judgement, Pair
from ablate.report.judgement_labels import judgement_labels
from ablate.report.options import AS_USUAL, Options
from ablate.report.stats.effects import Interaction, MainEffect
from ablate.report.stats.factors import Factor, Value
from ablate.report.stats.seeds import SeedSummary
from ablate.report.stats.verdict import Verdict

Escape = Callable[[str], str]

_MISSING = "–"
_ARROWS = {"max": "↑", "min": "↓"}
_GROUPED = 12
_MANY = 40
"""Lines of a list that a page shows; the rest is in the JSON report."""


def conclusions(judgement: Judgement | None, escape: Escape, options: Options = AS_USUAL) -> list[str]:
    """Blocks of Markdown; none for a study of which nothing can be said. `escape` makes text from a study harmless."""
    if judgement is None:
        return []
    page = _Page(judgement, escape, options)
    blocks = [f"### {page.said.title}", page.about(), *page.verdicts(), page.arms(), *page.confounded()]
    blocks += [*page.described(), *page.effects(), *page.front(), *page.detectable(), *page.notes()]
    return [block for block in blocks if block]


def mean_text(found: SeedSummary) -> str:
    """'0.102 ± 0.004 (3)', '0.102 (1)', or '– (0/3)'."""
    if found.mean is None:
        return f"{_MISSING} ({found.count})"
    return f"{found.mean:.3f}" + (f" ± {found.sd:.2g}" if found.sd is not None else "") + f" ({found.count})"


class _Page:
    def __init__(self, judgement: Judgement, escape: Escape, options: Options) -> None:
        self.judged, self.escape, self.words = judgement, escape, options.words
        self.said = judgement_labels(options.lang)
        self.chosen = options.metrics
        axes = dict.fromkeys(axis for arm in judgement.arms for axis in arm.settings)
        self.short = short_names(list(axes))

    def about(self) -> str:
        judged, metric = self.judged, self.judged.metric
        size = self.words.sizes.get(judged.resolution, f"{judged.resolution} size")
        return self.said.about.format(
            metric=self._header(metric.key),
            split=self.escape(judged.split),
            size=self.escape(size),
            estimand=self.escape(self.said.estimands.get(judged.estimand, judged.estimand)),
        )

    def verdicts(self) -> list[str]:
        """Claims first, then what was not shown, then what cannot be said."""
        order = ("better", "worse", "no difference shown", "no verdict")
        sentences = [v.sentence for v in sorted(self.judged.verdicts, key=lambda v: order.index(v.outcome))]
        return [self._list(sentences)] if sentences else []

    def arms(self) -> str:
        judged = self.judged
        if all(arm.external for arm in judged.arms):
            return ""  # the tables below say the same
        names = self.said.costs
        costs = [key for key in names if any(arm.costs.get(key) is not None for arm in judged.arms)]
        metrics = [key for key in (judged.arms[0].scores if judged.arms else ()) if self._is_shown(key)]
        metrics.sort(key=lambda key: key != judged.metric.key)
        failed = any(arm.failures.failed for arm in judged.arms)
        rows = [self._arm(arm, metrics, costs, failed) for arm in judged.arms]
        headers = [self.said.arm, *map(self._header, metrics), *(names[key] for key in costs)]
        headers += [self.said.failed] if failed else []
        return f"#### {self.said.arms}\n\n{_table(headers, rows)}"

    def _is_shown(self, key: str) -> bool:
        """Verdicts are about one metric, which is always there; of the others those that the reader chose, or all."""
        return not self.chosen or key == self.judged.metric.key or key in self.chosen

    def _header(self, key: str) -> str:
        found = next((one for one in (*self.judged.metrics, self.judged.metric) if one.key == key), None)
        return self.escape(key if found is None else f"{found.header} {_ARROWS[found.better]}")

    def _arm(self, arm: Arm, metrics: Sequence[str], costs: Sequence[str], failed: bool) -> list[str]:
        cells = [self.escape(arm.name) + (f" ({self.words.external})" if arm.external else "")]
        cells += [mean_text(arm.scores[key]) for key in metrics]
        cells += [_MISSING if (value := arm.costs[key]) is None else _cost(value) for key in costs]
        return cells + ([_failures(arm)] if failed else [])

    def confounded(self) -> list[str]:
        planned = [pair for pair in self.judged.pairs if pair.planned and pair.discrepancies]
        others = [pair for pair in self.judged.pairs if not pair.planned and pair.discrepancies]
        blocks = []
        for title, pairs in ((self.said.not_comparable, planned), (self.said.imported_pairs, others)):
            if pairs:
                sets = [_unknown_of_both(pair) for pair in pairs]
                common = [key for key in sets[0] if all(key in other for other in sets)] if len(sets) > 1 else []
                said = [_differing(pair, common) for pair in pairs]
                said += [self.said.unknown_of_all.format(what=", ".join(common))] if common else []
                blocks += [f"#### {title}", self._list(said)]
        return blocks

    def described(self) -> list[str]:
        """A row per comparison, a column per metric: a study of nine metrics has them on one screen."""
        others = {key: verdicts for key, verdicts in self.judged.others.items() if verdicts and self._is_shown(key)}
        found = {(one.arm, one.baseline, key): one for key, verdicts in others.items() for one in verdicts}
        pairs = list(dict.fromkeys((arm, baseline) for arm, baseline, _ in found))
        rows = [
            [
                self.escape(self.said.against.format(arm=arm, baseline=baseline)),
                *(_described(found.get((arm, baseline, key))) for key in others),
            ]
            for arm, baseline in pairs
        ]
        headers = [self.said.comparison, *map(self._header, others)]
        return [f"#### {self.said.others}", _table(headers, rows)] if rows else []

    def effects(self) -> list[str]:
        blocks = []
        if self.judged.main_effects:
            rows = [row for effect in self.judged.main_effects for row in self._effect_rows(effect)]
            title = self.said.main_effects.format(metric=self._header(self.judged.metric.key))
            blocks += [f"#### {title}", _table(self.said.effect_columns, rows)]
        for interaction in self.judged.interactions:
            blocks += self._interaction(interaction)
        found: list[MainEffect | Interaction] = [*self.judged.main_effects, *self.judged.interactions]
        return [*blocks, self._list(list(dict.fromkeys(said for one in found for said in self._left_out(one))))]

    def _effect_rows(self, effect: MainEffect) -> Iterator[list[str]]:
        for level in effect.levels:
            interval = _MISSING if level.low is None else f"{level.low:+.3g} to {level.high:+.3g}"
            yield [
                *(self.escape(self._factor(effect.factor)), self.escape(self._value(level.value))),
                *(f"{level.mean:.4f}", f"{level.effect:+.3g}", interval, str(level.cells), str(level.runs)),
            ]

    def _interaction(self, found: Interaction) -> list[str]:
        rows = [
            [self.escape(self._value(value)), *(f"{effect:+.3g}" for effect in line)]
            for value, line in zip(found.row_values, found.effect, strict=True)
        ]
        rows_name, columns_name = self._factor(found.rows), self._factor(found.columns)
        headers = [self.escape(rows_name), *(self.escape(self._value(value)) for value in found.column_values)]
        width = "" if found.half_width is None else f" (± {found.half_width:.2g}, {self.said.interval})"
        title = self.said.interaction.format(rows=self.escape(rows_name), columns=self.escape(columns_name))
        return [f"#### {title}{width}", _table(headers, rows)]

    def _left_out(self, found: MainEffect | Interaction) -> list[str]:
        factors = [found.factor] if isinstance(found, MainEffect) else [found.rows, found.columns]
        name = " x ".join(map(self._factor, factors))
        said = [self.said.outside_grid.format(name=name, who="; ".join(found.left_out))] if found.left_out else []
        return said + ([] if found.exact else [self.said.cut_short.format(name=name)])

    def front(self) -> list[str]:
        front = self.judged.front
        if front is None:
            return []
        header = self.judged.metric.header
        columns = ", ".join(self.said.costs.get(key) or header for key in front.columns)
        lines = [self.said.best.format(columns=columns, who="; ".join(front.best))]
        lines += [self.said.no_value.format(who="; ".join(front.left_out))] if front.left_out else []
        return [f"#### {self.said.pareto}", self._list([*lines, *front.notes])]

    def detectable(self) -> list[str]:
        if not self.judged.detectable:
            return []
        found = ", ".join(
            self.said.with_seeds.format(smallest=f"{one.smallest:.2g}", seeds=one.seeds)
            for one in self.judged.detectable
        )
        return [self.said.detectable.format(metric=self.escape(self.judged.metric.header), found=found)]

    def notes(self) -> list[str]:
        return [self._list(self.judged.notes)] if self.judged.notes else []

    def _factor(self, factor: Factor) -> str:
        return " with ".join(self.short.get(axis, axis) for axis in factor.axes)

    def _value(self, value: Value) -> str:
        return ", ".join(_MISSING if one is None else value_text(json.loads(one)) for one in value)

    def _list(self, sentences: Sequence[str]) -> str:
        lines = [f"- {self.escape(sentence)}" for sentence in sentences[:_MANY]]
        if len(sentences) > _MANY:
            lines.append(f"- {self.said.more.format(count=len(sentences) - _MANY)}")
        return "\n".join(lines)


def _cost(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _described(found: Verdict | None) -> str:
    """'+0.0833 (-0.865 to +1.03)'."""
    if found is None:
        return _MISSING
    if (one := found.difference) is not None:
        return f"{one.estimate:+.3g} ({one.low:+.3g} to {one.high:+.3g})"
    return _MISSING if found.observed is None else f"{found.observed.estimate:+.3g}"


def _unknown_of_both(pair: Pair) -> list[str]:
    return [one.key for one in pair.discrepancies if one.first == one.second]


def _differing(pair: Pair, elsewhere: Sequence[str]) -> str:
    """'a and b differ in x (1 against 2); unknown of both: y, z'; what `elsewhere` says is left out."""
    known = [one.text for one in pair.discrepancies if one.is_known]
    known += [one.text for one in pair.discrepancies if not one.is_known and one.first != one.second]
    unknown = [key for key in _unknown_of_both(pair) if key not in elsewhere]
    beside = " beside the factor" if pair.planned else ""
    says = f"differ{beside} in {', '.join(known)}" if known else f"are not known to differ{beside}"
    return f"{pair.arm} and {pair.baseline} {says}" + (f"; unknown of both: {_grouped(unknown)}" if unknown else "")


def _grouped(keys: Sequence[str]) -> str:
    """Single settings by their keys, many of one group by their number: 'data.labels, 27 of train'."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.partition(".")[0], []).append(key)
    return ", ".join(
        ", ".join(found) if len(found) < _GROUPED else f"{len(found)} of {name}" for name, found in groups.items()
    )


def _failures(arm: Arm) -> str:
    rate = arm.failures
    if rate.share is None or rate.low is None or rate.high is None:
        return _MISSING
    return f"{rate.failed}/{rate.of} ({100 * rate.low:.0f}-{100 * rate.high:.0f} %)"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["left", *["center"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, tablefmt="pipe", colalign=align if rows else None, disable_numparse=True)
