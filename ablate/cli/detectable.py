"""What `ablate plan` says of the number of seeds: the smallest difference that they can show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ablate.engine.launch import StudyPlan
from ablate.errors import AblateError
from ablate.report.stats.power import SEEDS


def detectable(plan: StudyPlan, db: Path, runs_dir: Path) -> Iterator[str]:
    """One sentence, from earlier results of the study; or what is needed for one. Makes no database."""
    from ablate.report.summary import summarise
    from ablate.results.open import open_results

    seeds = ", ".join(map(str, SEEDS[:-1])) + f" or {SEEDS[-1]}"
    needed = f"how small a difference {seeds} seeds can show is known once two arms have two seeds each"
    if not (db.exists() or runs_dir.is_dir()):
        yield needed
        return
    try:
        with open_results(db, runs_dir) as results:
            known = any(row.study == plan.study.study for row in results.studies())
            if not known:
                yield f"{needed}; {plan.study.study} was not run here yet"
                return
            found = summarise(results, plan.study.study, plan.task.metrics)[0].judgement
    except AblateError as error:
        yield f"{needed} ({error})"
        return
    if found is None or not found.detectable:
        yield needed
        return
    smallest = ", ".join(f"{one.smallest:.2g} with {one.seeds} seeds" for one in found.detectable)
    yield (
        f"smallest difference in {found.metric.header} that can be shown with a power of 0.8, going by earlier results: "
        f"{smallest}"
    )
