"""The page of one run: how it differs from its baseline, how it trained, what happened to it, and how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.report.externals import MARK, not_stated
from ablate.report.page.data import Change, Grid, Point, RunPage
from ablate.report.page.words import MISSING, brief, brief_number, clean, detail, flat, number, shown, when
from ablate.report.summary import RunSummary, StudySummary
from ablate.report.tables import state
from ablate.results.bulk import Recorded
from ablate.results.records import AttemptRow, EventRow, RunRow, State
from ablate.study.remarks import UNKNOWN, is_unknown

QUIET = ("scalars",)
"""Events that are curves in themselves."""
_EVENTS = 200
"""Of one run, at most: the first and the newest."""


@dataclass(frozen=True)
class Settings:
    """Configurations as texts by dotted key: what most runs of a study have in common, and each run's own."""

    shared: Mapping[str, str]
    own: Mapping[str, Mapping[str, str]]

    def differing(self, run_id: str) -> dict[str, str]:
        """What is to be laid over `shared` to have the configuration of a run."""
        own = self.own.get(run_id, {})
        keys = (*self.shared, *(key for key in own if key not in self.shared))
        return {key: own.get(key, MISSING) for key in keys if own.get(key, MISSING) != self.shared.get(key)}


def settings_of(rows: Sequence[RunRow], unknown: Mapping[str, Sequence[str]]) -> Settings:
    own = {row.run_id: _texts(row.configuration, unknown.get(row.run_id, ())) for row in rows if row.configuration}
    values: dict[str, Counter[str]] = {}
    for texts in own.values():
        for key, text in texts.items():
            values.setdefault(key, Counter())[text] += 1
    return Settings({key: counter.most_common(1)[0][0] for key, counter in values.items()}, own)


def _texts(configuration: Mapping[str, Any], unknown: Sequence[str]) -> dict[str, str]:
    return {
        clean(key): UNKNOWN if is_unknown(key, tuple(unknown)) else brief(shown(value))
        for key, value in flat(configuration).items()
    }


@dataclass(frozen=True)
class Maker:
    """Makes the pages of a study's runs. `keys` are the keys of the pages by run id."""

    summary: StudySummary
    rows: Mapping[str, RunRow]
    recorded: Mapping[str, Recorded]
    settings: Settings
    keys: Mapping[str, str]

    def page(self, run: RunSummary) -> RunPage:
        row = self.rows[run.run_id]
        found = self.recorded.get(run.run_id, Recorded())
        against, changes = self._changes(run, row)
        curve = self._curve(found)
        return RunPage(
            key=self.keys[run.run_id],
            run_id=clean(run.run_id),
            name=clean(run.name),
            status=str(run.status),
            state=clean(state(run)),
            message=clean(run.message or ""),
            badge=MARK if run.external else "",
            baseline=self.keys.get(run.baseline or ""),
            against=against,
            changes=changes,
            more_settings=self.settings.differing(run.run_id),
            facts=_facts(run, row, found),
            scores=self._scores(run),
            curve=curve,
            log_scale=_wants_log([point.value for point in curve]),
            best_epoch=run.selected_epoch,
            epochs=self._epochs(found),
            notes=_notes(run),
            remarks=tuple((f"note {one.number}, {when(one.time)}", clean(one.text)) for one in run.remarks),
            tags=tuple(map(clean, run.tags)),
            command=_command(run, row),
            attempts=_attempts(found.attempts),
            events=_events(found.events),
        )

    def _changes(self, run: RunSummary, row: RunRow) -> tuple[str, tuple[Change, ...]]:
        """Against the baseline; of a baseline, or without its record, what differs from the defaults."""
        own = self.settings.own.get(run.run_id, {})
        other = self.settings.own.get(run.baseline or "")
        if other is None or not own:
            settings = {clean(key): shown(value) for key, value in flat(row.settings or run.settings).items()}
            return "the defaults", tuple(Change(key, "default", value) for key, value in settings.items())
        keys = dict.fromkeys((*other, *own))
        changes = (Change(key, other.get(key, MISSING), own.get(key, MISSING)) for key in keys)
        name = self.rows[run.baseline or ""].name
        return clean(name), tuple(one for one in changes if one.before != one.after or one.before == UNKNOWN)

    def _scores(self, run: RunSummary) -> Grid:
        metrics = self.summary.metrics
        headers = ("Checkpoint", "Epoch", "Split", "Size", "Images", *(clean(metric.header) for metric in metrics))
        rows = tuple(
            (
                score.checkpoint, shown(score.epoch), clean(score.split), clean(score.resolution), shown(score.images),
                *(number(score.metrics.get(metric.key)) for metric in metrics),
            )
            for score in run.scores
        )  # fmt: skip
        return Grid(headers, rows, (1, *range(4, len(headers))))

    def _looked_at(self, found: Recorded) -> str | None:
        """The resolution that selection looks at, or the first there is."""
        known = list(dict.fromkeys(row.resolution for row in found.evaluations))
        chosen = self.summary.select.resolution if self.summary.select else None
        return chosen if chosen in known else next(iter(known), None)

    def _curve(self, found: Recorded) -> tuple[Point, ...]:
        resolution = self._looked_at(found)
        points = [Point(row.epoch, "train", row.train_loss) for row in found.epochs if row.train_loss is not None]
        points += [
            Point(row.epoch, "validation", row.loss)
            for row in found.evaluations
            if row.resolution == resolution and row.loss is not None
        ]
        return tuple(points)

    def _epochs(self, found: Recorded) -> Grid:
        resolution = self._looked_at(found)
        validated = {row.epoch: row for row in found.evaluations if row.resolution == resolution}
        trained = {row.epoch: row for row in found.epochs}
        metrics = self.summary.metrics
        headers = (
            "Epoch", "Train loss", "Val loss", "Learning rate", "Seconds", "Images/s", "Peak MiB",
            *(clean(metric.header) for metric in metrics),
        )  # fmt: skip
        rows = []
        for epoch in sorted({*trained, *validated}):
            one, other = trained.get(epoch), validated.get(epoch)
            rows.append((
                str(epoch),
                brief_number(one.train_loss if one else None),
                brief_number(other.loss if other else None),
                shown(one.lr if one else None),
                number(one.seconds if one else None, 1),
                number(one.images_per_second if one else None, 1),
                number(one.peak_memory_mb if one else None, 0),
                *(number(other.metrics.get(metric.key) if other else None) for metric in metrics),
            ))  # fmt: skip
        return Grid(headers, tuple(rows), tuple(range(len(headers))))


def _wants_log(values: Sequence[float]) -> bool:
    """Whether a linear axis would press most of a curve flat: all positive, over more than a factor of 20."""
    return bool(values) and min(values) > 0 and max(values) > 20 * min(values)


def _facts(run: RunSummary, row: RunRow, found: Recorded) -> tuple[tuple[str, str], ...]:
    epochs = f"{shown(run.last_epoch)} of {shown(run.planned_epochs)}"
    seconds = [one.seconds for one in found.epochs if one.seconds is not None]
    facts = [
        ("Run", run.run_id),
        ("Epochs", epochs),
        ("Selected epoch", shown(run.selected_epoch)),
        ("Seed", UNKNOWN if "seed" in run.unknown else shown(run.seed)),
        ("Data", run.data or ""),
        ("Made", when(row.created) if row.created else ""),
        ("Training time", f"{sum(seconds) / 3600:.2f} h" if sum(seconds) >= 3600 else f"{sum(seconds):.0f} s"),
        ("Attempts", str(row.attempts)),
    ]
    if run.external:
        facts.append(("Source", run.external.label))
    empty = {"", MISSING} | ({"0 s"} if not seconds else set())
    return tuple((name, clean(text)) for name, text in facts if text not in empty)


def _command(run: RunSummary, row: RunRow) -> str:
    """What reproduces the run, a command a line; else what made it."""
    commands = run.details.commands if run.details is not None else ()
    return clean("\n".join(commands) or row.command or "")


def _notes(run: RunSummary) -> tuple[str, ...]:
    notes = list(run.notes)
    if unstated := [key for key in run.unknown if key not in run.settings]:
        notes.append(f"not stated: {not_stated(unstated, run.settings) if run.external else ', '.join(unstated)}")
    return tuple(map(clean, notes))


def _attempts(attempts: Sequence[AttemptRow]) -> Grid:
    headers = ("Attempt", "Began", "From", "Host", "Device", "Threads", "Versions", "Commit", "Command")
    rows = []
    for one in attempts:
        start, git = one.resumed_from, one.git or {}
        where = f"epoch {start.get('epoch')}, step {start.get('step')}" if start else "the start"
        commit = str(git.get("commit") or "")[:10] + (" with edits" if git.get("dirty") else "")
        versions = ", ".join(f"{name} {version}" for name, version in (one.versions or {}).items())
        texts = (
            str(one.attempt), when(one.wall), where, shown(one.host), shown(one.device), shown(one.threads),
            versions or MISSING, commit or MISSING, one.command or MISSING,
        )  # fmt: skip
        rows.append(tuple(brief(text) for text in texts))
    return Grid(headers, tuple(rows), (0,))


def _events(events: Sequence[EventRow]) -> Grid:
    kept = list(events) if len(events) <= _EVENTS else [*events[: _EVENTS // 2], *events[-_EVENTS // 2 :]]
    rows = tuple(
        (when(one.wall), str(one.attempt), str(one.epoch), str(one.step), clean(one.name), detail(one.body))
        for one in kept
    )
    return Grid(("Time", "Attempt", "Epoch", "Step", "Event", "What"), rows, (1, 2, 3))


def is_shown(run: RunSummary) -> bool:
    """Whether a run belongs among those that need a look."""
    return run.status in (State.FAILED, State.PAUSED)
