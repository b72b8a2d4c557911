"""All charts of a study, in the order in which a report shows them."""

from __future__ import annotations

from ablate.report.charts import curves, images, judged
from ablate.report.charts.chart import Chart, clean
from ablate.report.charts.gather import Series
from ablate.report.charts.numbers import cast, seed_values
from ablate.report.summary import StudySummary


def charts(summary: StudySummary, series: Series) -> tuple[Chart, ...]:
    """Those that there are numbers for; arms, effects and the front are the judgement's."""
    drawn = cast(summary, series)
    name = clean(summary.study) if summary.study else "runs outside any study"
    found = [curves.learning_curves(drawn, series, name)]
    judgement = summary.judgement
    if judgement is not None:
        found += [
            judged.seeds(judgement, drawn, seed_values(summary, series)),
            judged.effects(judgement, summary.axes),
            judged.interactions(judgement, summary.axes),
            judged.fronts(judgement, drawn),
        ]
    found += [images.ranges(drawn, series), images.worst(drawn, series)]
    return tuple(chart for chart in found if chart is not None)
