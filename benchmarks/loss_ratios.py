"""How far ordinary losses rise above the running median that `train.divergence.factor` is compared with.

    python benchmarks/loss_ratios.py RUNS

prints, for every run in a folder of runs, its steps and the largest ratio of a loss to the median of the up to 100 before
it, from the eleventh step on. docs/recipes.md quotes it for the default of 100.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from ablate.engine.divergence import WARM_UP
from ablate.runs import journal
from ablate.runs.paths import RunPaths, RunsDir
from ablate.task import DivergenceSettings


def losses(paths: RunPaths) -> list[float]:
    """Of every step, in order; of a step that was trained twice, the later one."""
    found: dict[int, float] = {}
    for line in journal.read(paths.journal):
        body = line.record.body
        if body.get("name") == "scalars":
            found |= dict(zip(body["steps"], body["loss"], strict=True))
    return [found[step] for step in sorted(found)]


def largest_ratio(values: list[float], window: int) -> float:
    """0 for a run that is too short to have one."""
    places = range(WARM_UP, len(values))
    return max((values[at] / statistics.median(values[max(0, at - window) : at]) for at in places), default=0.0)


def main(runs: Path) -> None:
    for paths in RunsDir(runs).runs():
        values = losses(paths)
        sys.stdout.write(
            f"{paths.name}  {len(values)} steps  {largest_ratio(values, DivergenceSettings().window):.2f}\n"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
