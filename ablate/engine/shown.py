"""What an evaluation gives beside its numbers: breakdowns as events of the journal, panels as files of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ablate.runs.panels import PanelStore
from ablate.task import Evaluation, PanelSettings

BREAKDOWN = "breakdown"


def record_of(evaluation: Evaluation) -> dict[str, Any]:
    """The body of its journal record: all but what is stored in other places."""
    body = asdict(replace(evaluation, breakdown=None, panels=()))
    del body["breakdown"], body["panels"]
    return body


def breakdowns(evaluations: Sequence[Evaluation]) -> Iterator[dict[str, Any]]:
    """The bodies of the events that hold what `evaluations` are by ranges."""
    for one in evaluations:
        if one.breakdown is not None:
            where = {"name": BREAKDOWN, "split": one.split, "resolution": one.resolution}
            yield where | asdict(one.breakdown)


class Panels:
    """Keeps the panels of the epochs that the settings ask for; `folder` is None where none are kept."""

    def __init__(self, folder: Path | None, settings: PanelSettings) -> None:
        self._store = None if folder is None else PanelStore(folder)
        self._settings = settings

    def keep(self, evaluations: Sequence[Evaluation], epoch: int, *, selected: bool) -> None:
        """Stores those of an epoch, if it is selected or asked for. Raises OSError."""
        if self._store is None or not (selected or self._asked(epoch)):
            return
        for one in evaluations:
            if one.panels:
                self._store.store(epoch, one.split, one.resolution, one.panels)

    def tidy(self, now: int, best: int | None, *, ended: bool) -> None:
        """Removes those that are no longer kept after epoch `now`: call it once a checkpoint vouches for that epoch."""
        if self._store is not None:
            selected = {best, now} if ended else {best}
            self._store.tidy(lambda epoch: epoch <= now and (epoch in selected or self._asked(epoch)))

    def _asked(self, epoch: int) -> bool:
        epochs = self._settings.epochs
        return self._settings.images > 0 and (epochs == "every" or (epochs != "selected" and epoch in epochs))
