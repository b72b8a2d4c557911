"""Questions whose answers are drawn: whole courses of training, breakdowns, and the scores of single images.

Each is one query for all runs of a study. Of an epoch that was computed again the newest attempt counts, by arg_max and
not a ranking: see `Queries`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.results.queries import Queries

Points = tuple[tuple[int, float | None], ...]
"""(epoch, value), by epoch; None where there is none."""

_OF = "s.run_id IN (SELECT unnest(?::VARCHAR[]))"


@dataclass(frozen=True)
class Speed:
    """Images per second, the median over epochs, and the peak of memory (MiB); None if not recorded."""

    images_per_second: float | None
    peak_memory_mb: float | None


def training_losses(results: Queries, run_ids: Sequence[str]) -> dict[str, Points]:
    _, rows = results.rows(
        f"""SELECT s.run_id, e.epoch, arg_max(coalesce(e.train_loss, 'nan'), (e.attempt, e.seq))
        FROM base.epochs e JOIN base.shown s USING (source) WHERE {_OF} GROUP BY ALL ORDER BY ALL""",
        [list(run_ids)],
    )
    return _points(rows)


def validation_values(
    results: Queries, run_ids: Sequence[str], metric: str, split: str, resolution: str
) -> dict[str, Points]:
    """Of a metric, or of the loss (`loss`)."""
    value = "e.loss" if metric == "loss" else "e.metrics[?]"
    parameters: list[object] = [] if metric == "loss" else [metric]
    _, rows = results.rows(
        f"""SELECT s.run_id, e.epoch, arg_max(coalesce({value}, 'nan'), (e.attempt, e.seq))
        FROM base.evaluations e JOIN base.shown s USING (source)
        WHERE e.split = ? AND e.resolution = ? AND {_OF} GROUP BY ALL ORDER BY ALL""",
        [*parameters, split, resolution, list(run_ids)],
    )
    return _points(rows)


def speeds(results: Queries, run_ids: Sequence[str]) -> dict[str, Speed]:
    _, rows = results.rows(
        f"""SELECT s.run_id, median(e.images_per_second), max(e.peak_memory_mb)
        FROM base.epochs e JOIN base.shown s USING (source) WHERE {_OF} GROUP BY ALL""",
        [list(run_ids)],
    )
    return {run_id: Speed(speed, memory) for run_id, speed, memory in rows}


def breakdowns(results: Queries, run_ids: Sequence[str], resolution: str) -> dict[tuple[str, int, str], Any]:
    """The bodies of `breakdown` events by (run id, epoch, split)."""
    _, rows = results.rows(
        f"""SELECT s.run_id, e.epoch, e.body ->> 'split', arg_max(CAST(e.body AS VARCHAR), (e.attempt, e.seq))
        FROM base.events e JOIN base.shown s USING (source)
        WHERE e.name = 'breakdown' AND e.body ->> 'resolution' = ? AND {_OF} GROUP BY ALL ORDER BY ALL""",
        [resolution, list(run_ids)],
    )
    return {(run_id, epoch, split): json.loads(body) for run_id, epoch, split, body in rows}


def image_values(
    results: Queries, at: Mapping[str, tuple[int, str]], metric: str, resolution: str
) -> dict[str, dict[str, float]]:
    """A metric of single images, by run id and image, of the (epoch, split) that `at` gives for each run."""
    run_ids, places = list(at), list(at.values())
    _, rows = results.rows(
        """SELECT a.run_id, i.image, arg_max(i.metrics[?], (e.attempt, e.seq))
        FROM (SELECT unnest(?::VARCHAR[]) AS run_id, unnest(?::INTEGER[]) AS epoch, unnest(?::VARCHAR[]) AS split) a
            JOIN base.shown s USING (run_id) JOIN base.evaluations e USING (source)
            JOIN base.images i ON i.source = e.source AND i.seq = e.seq
        WHERE e.epoch = a.epoch AND e.split = a.split AND e.resolution = ? AND i.metrics[?] IS NOT NULL
        GROUP BY ALL ORDER BY ALL""",
        [metric, run_ids, [epoch for epoch, _ in places], [split for _, split in places], resolution, metric],
    )
    found: dict[str, dict[str, float]] = {}
    for run_id, image, value in rows:
        found.setdefault(run_id, {})[image] = value
    return found


def _points(rows: Sequence[tuple[Any, ...]]) -> dict[str, Points]:
    found: dict[str, list[tuple[int, float | None]]] = {}
    for run_id, epoch, value in rows:
        found.setdefault(run_id, []).append((epoch, value if value == value else None))
    return {run_id: tuple(points) for run_id, points in found.items()}
