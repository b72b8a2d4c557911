"""The training loop of one run: what to do next, when to save, what to write down.

Its whole state is a position and a `LoopState`; both travel in every checkpoint, so that an interrupted run
goes on as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ablate.engine import divergence
from ablate.engine.progress import Pace, Progress, ProgressFile
from ablate.engine.shown import Panels, breakdowns, record_of
from ablate.engine.stop import StopFlag, Stopped
from ablate.errors import DivergedError
from ablate.runs.checkpoint import WEIGHTS, Checkpoints, Manifest
from ablate.runs.journal import Journal
from ablate.task import Evaluation, Metric, PanelSettings, Position, RunSettings, SelectSettings, Session, StepReport

_SCALARS_EVERY = 5.0
"""Seconds between two records of step losses; these may lag and are not fsynced."""


@dataclass(frozen=True)
class LoopState:
    """Sums over the current epoch, and the best epoch so far."""

    total_steps: int = 0
    images: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    lr: float = 0.0
    """Learning rate of the last step."""
    order: str = ""
    """SHA-256 chained over the names of the samples of this epoch, in order."""
    best_epoch: int | None = None
    best_value: float | None = None
    stop_epoch: int | None = None
    stop_value: float | None = None
    """The best epoch so far by `train.early_stopping.metric`."""
    recent: tuple[float, ...] = ()
    """The last losses, for noticing divergence."""
    norms: Mapping[str, float | str] = field(default_factory=dict)
    """Of the last step's gradient, by part of the network: what there is to store when a loss has no gradient."""
    rollbacks: int = 0
    rung: int = 0
    """How often the run was rolled back, and the rung of the memory ladder that it stands on."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> LoopState:
        """The state of a manifest, whose lists were tuples."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        return cls(**values)

    def after(self, report: StepReport, seconds: float) -> LoopState:
        chained = "\n".join((self.order, *report.samples))
        return replace(
            self,
            total_steps=self.total_steps + 1,
            images=self.images + report.images,
            loss_sum=self.loss_sum + report.loss * report.images,
            seconds=self.seconds + seconds,
            lr=report.lr,
            order=hashlib.sha256(chained.encode()).hexdigest(),
        )

    def next_epoch(self) -> LoopState:
        return replace(self, images=0, loss_sum=0.0, seconds=0.0, order="")


@dataclass
class Loop:
    """Trains a session to its end. `run` returns normally when the run is complete.

    Raises Stopped once a stop was asked for and the state is saved, and whatever the task raises.
    """

    config: RunSettings
    metrics: Sequence[Metric]
    session: Session
    journal: Journal
    checkpoints: Checkpoints
    progress: ProgressFile
    stop: StopFlag
    say: Callable[[str], None]
    earlier: Mapping[tuple[Any, ...], Mapping[str, Any]] = field(default_factory=dict)
    """What earlier attempts wrote, by `record_key`, to notice an epoch that comes out different."""
    panels: Panels = field(default_factory=lambda: Panels(None, PanelSettings()))

    def __post_init__(self) -> None:
        self.position = Position(0, 1 if self.config.train.all_epochs() else 0, 0)
        self.state = LoopState()
        self.manifest: Manifest | None = None
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._scalars: list[tuple[int, float, float]] = []
        self._scalars_at = time.monotonic()
        self._pace = Pace()

    def start(self, manifest: Manifest | None, state: LoopState) -> None:
        """Puts the session and the loop where the checkpoint was taken, if there is one. Raises CheckpointError."""
        self.state = state
        if manifest is not None:
            self.position, self.manifest = manifest.position, manifest
            self._saved_step = state.total_steps
        self.session.enter(self.position.stage)
        if manifest is not None:
            self.checkpoints.load(manifest, self.session.components)

    def run(self) -> None:
        epochs = self.config.train.all_epochs()
        while self.position.epoch <= epochs and not self._exhausted() and not self._has_stopped_early():
            self._epoch()
        self._finish()

    def _has_stopped_early(self) -> bool:
        """Whether so many evaluated epochs in a row were no better than the best before them."""
        return self.position.step == 0 and self._is_out_of_patience(self.position.epoch - 1)

    def _exhausted(self) -> bool:
        """Whether `train.max_steps` was reached and that epoch is evaluated."""
        limit = self.config.train.max_steps
        return limit is not None and self.position.step == 0 and self.state.total_steps >= limit

    def _steps(self) -> int:
        """Steps of the current epoch, cut short by `train.max_steps`."""
        steps = self.session.steps(self.position.epoch) if self.position.epoch else 0
        limit = self.config.train.max_steps
        return steps if limit is None else min(steps, self.position.step + max(0, limit - self.state.total_steps))

    def _epoch(self) -> None:
        steps = self._steps()
        if self.position.step < steps:
            self._train(steps)
        evaluations = self._evaluate("val")
        value = selected_value(evaluations, self.config.select)
        improved = value is not None and self._improves(value)
        self._record_epoch()
        self._heed_early_stopping(evaluations)
        last = self._is_last() or self._is_out_of_patience(self.position.epoch)
        self._record_evaluations(evaluations, self.position.epoch, keep_scores=improved or last)
        if improved:
            self._record_best(value)
        self.panels.keep(evaluations, self.position.epoch, selected=improved or last)
        self._next_epoch()
        self.save(improved=improved)
        self.panels.tidy(self.position.epoch - 1, self.state.best_epoch, ended=last)
        self.stop.check()

    def _next_epoch(self) -> None:
        epoch = self.position.epoch + 1
        stage = self.config.train.stage_of(epoch)
        if stage != self.position.stage and epoch <= self.config.train.all_epochs():
            self.session.enter(stage)
            self.state = replace(self.state, recent=())  # another loss on other data: no measure for its successor
        self.position = Position(stage, epoch, 0)
        self.state = self.state.next_epoch()

    def _heed_early_stopping(self, evaluations: Sequence[Evaluation]) -> None:
        stopping, select = self.config.train.early_stopping, self.config.select
        if stopping is None:
            return
        metric = stopping.metric or select.metric
        value = selected_value(evaluations, select.model_copy(update={"metric": metric}))
        if value is not None and self._beats(value, self.state.stop_value, metric):
            self.state = replace(self.state, stop_epoch=self.position.epoch, stop_value=value)

    def _is_out_of_patience(self, last: int) -> bool:
        stopping, best = self.config.train.early_stopping, self.state.stop_epoch
        return stopping is not None and best is not None and last - best >= stopping.patience

    def _train(self, steps: int) -> None:
        begin = time.monotonic()
        for batch in self.session.batches(self.position.epoch, self.position.step):
            report = self._step(batch)
            end = time.monotonic()
            self._after_step(report, end - begin, steps)
            begin = end
            if self.position.step >= steps:
                break
            if self.stop:
                self.save()
                raise Stopped
            if self._due():
                self.save()
                begin = time.monotonic()

    def _step(self, batch: Any) -> StepReport:
        """Raises DivergedError, once what is known about it is in the journal."""
        settings = self.config.train.divergence
        try:
            report = self.session.step(batch, self.position)
            norms = self.session.gradient_norms()
            wrong = divergence.problem(report.loss, self.state.recent, settings)
            if wrong is None:
                recent = divergence.remember(self.state.recent, report.loss, settings)
                self.state = replace(self.state, recent=recent, norms=_finite(norms))
                return report
            place = f"in epoch {self.position.epoch}, step {self.position.step + 1}"
            images = f" (images: {', '.join(report.samples)})" if report.samples else ""
            problem = f"{wrong} {place}{images}; lower train.lr, or look at these images"
            raise DivergedError(problem, report.samples, norms if math.isfinite(report.loss) else None)
        except DivergedError as error:
            self._record_scalars()
            self._record_divergence(error)
            raise

    def _record_divergence(self, error: DivergedError) -> None:
        norms = self.state.norms if error.norms is None else _finite(error.norms)
        body = {
            "name": "diverged",
            "why": str(error),
            "last_good_loss": self.state.recent[-1] if self.state.recent else None,
            "images": list(error.samples),
            "gradient_norms": norms,
            "gradient_norms_of": "the step before" if error.norms is None else "this step",
        }
        self.journal.append("event", self.position.epoch, self.position.step, body)

    def _after_step(self, report: StepReport, seconds: float, steps: int) -> None:
        self.state = self.state.after(report, seconds)
        self.position = replace(self.position, step=self.position.step + 1)
        self._pace.steps += 1
        self._pace.step_seconds += seconds
        self._scalars.append((self.state.total_steps, report.loss, report.lr))
        if time.monotonic() - self._scalars_at > _SCALARS_EVERY:
            self._record_scalars()
        self._show("train", steps, report.loss)

    def _due(self) -> bool:
        seconds, steps = self.config.train.checkpoint.cadence
        if steps is not None:
            return self.state.total_steps - self._saved_step >= steps
        return seconds is not None and time.monotonic() - self._saved_at >= seconds

    def save(self, *, improved: bool = False) -> None:
        """Stores a checkpoint of where the loop stands."""
        self._record_scalars()
        self.journal.sync()  # the checkpoint vouches for every record before it
        earlier = self.manifest.best if self.manifest else None
        self.manifest = self.checkpoints.save(
            self.position,
            asdict(self.state),
            self.journal.seq,
            self.session.components,
            best="this" if improved else earlier,
            keep=self._is_kept(),
        )
        self._saved_at, self._saved_step = time.monotonic(), self.state.total_steps

    def _is_kept(self) -> bool:
        """Whether an epoch has just ended whose checkpoint stays."""
        every = self.config.train.checkpoint.keep_every
        return every is not None and self.position.step == 0 and (self.position.epoch - 1) % every == 0

    def _evaluate(self, split: str, epoch: int | None = None) -> list[Evaluation]:
        """All resolutions of a split. Saves and raises Stopped if a stop is asked for meanwhile."""
        if split not in self.session.splits:
            return []
        begin = time.monotonic()
        self._show(f"evaluate {split}", self.position.step, None, now=True)
        try:
            evaluations = list(self.session.evaluate(split, self.stop.check))
        except Stopped:
            if epoch is None and self.state.total_steps != self._saved_step:
                self.save()
            raise
        self._pace.evaluation_seconds = time.monotonic() - begin
        return evaluations

    def _is_last(self) -> bool:
        train = self.config.train
        reached = train.max_steps is not None and self.state.total_steps >= train.max_steps
        return reached or self.position.epoch >= train.all_epochs()

    def _record_epoch(self) -> None:
        state, epoch = self.state, self.position.epoch
        if state.images:
            body = {
                "train_loss": state.loss_sum / state.images,
                "lr": state.lr,
                "seconds": state.seconds,
                "images": state.images,
                "images_per_second": state.images / state.seconds if state.seconds else None,
                "peak_memory_mb": self.session.peak_memory_mb(),
                "order": state.order,
            }
            self._record_scalars()
            self.journal.append("epoch", epoch, self.position.step, body, durable=False)
            self._compare("epoch", epoch, body)

    def _record_evaluations(self, evaluations: Sequence[Evaluation], epoch: int, *, keep_scores: bool) -> None:
        for body in breakdowns(evaluations) if keep_scores else ():
            self.journal.append("event", epoch, self.position.step, body, durable=False)
        for number, evaluation in enumerate(evaluations, start=1):
            body = record_of(evaluation)
            if not keep_scores:
                body["scores"] = []
            self.journal.append("evaluation", epoch, self.position.step, body, durable=number == len(evaluations))
            self._compare("evaluation", epoch, body)

    def _compare(self, type_: str, epoch: int, body: Mapping[str, Any]) -> None:
        """Flags a result that an earlier attempt had different: a free check of determinism."""
        before = self.earlier.get(record_key(type_, epoch, body))
        if before is None or comparable(type_, before) == comparable(type_, body):
            return
        differs = {"name": "differs", "type": type_, "split": body.get("split"), "resolution": body.get("resolution")}
        self.journal.append("event", epoch, self.position.step, differs)
        self.say(f"epoch {epoch}: {type_} differs from what an earlier attempt computed; this run is not bit-identical")

    def _improves(self, value: float) -> bool:
        """Whether `value` is the best so far under `eval.select`; ties go to the earlier epoch."""
        return self._beats(value, self.state.best_value, self.config.select.metric)

    def _beats(self, value: float, best: float | None, metric: str) -> bool:
        if best is None:
            return True
        return value < best if better(metric, self.metrics) == "min" else value > best

    def _record_best(self, value: float | None) -> None:
        self.state = replace(self.state, best_epoch=self.position.epoch, best_value=value)
        body = {"name": "selected", "epoch": self.position.epoch, "value": value}
        self.journal.append("event", self.position.epoch, self.position.step, body)

    def _finish(self) -> None:
        """Scores the test split with the last weights and with the best ones."""
        last, best = self.position.epoch - 1, self.state.best_epoch
        self._test(last)
        if self.manifest is not None and best is not None and best != last and "test" in self.session.splits:
            self.checkpoints.load_best(self.manifest, self.session.components[WEIGHTS])
            self._test(best)
        self.panels.tidy(last, best, ended=True)
        body = {"name": "completed", "best_epoch": best, "last_epoch": last}
        self.journal.append("event", last, self.position.step, body)

    def _test(self, epoch: int) -> None:
        evaluations = self._evaluate("test", epoch)
        self._record_evaluations(evaluations, epoch, keep_scores=True)
        self.panels.keep(evaluations, epoch, selected=True)

    def _record_scalars(self) -> None:
        if self._scalars:
            steps, losses, rates = zip(*self._scalars, strict=True)
            body = {"name": "scalars", "steps": steps, "loss": losses, "lr": rates}
            self.journal.append("event", self.position.epoch, self.position.step, body, durable=False)
        self._scalars = []
        self._scalars_at = time.monotonic()

    def _show(self, doing: str, steps: int, loss: float | None, *, now: bool = False) -> None:
        epochs = self.config.train.all_epochs()
        epoch = min(self.position.epoch, epochs)
        left = max(0, steps - self.position.step) + max(0, epochs - epoch) * steps
        if self.config.train.max_steps is not None:
            left = min(left, self.config.train.max_steps - self.state.total_steps)
        rate = self.state.images / self.state.seconds if self.state.seconds else None
        eta = self._pace.eta(left, 1 + max(0, epochs - epoch))
        progress = Progress(doing, epoch, epochs, self.position.step, steps, loss, rate, eta, time.time())
        self.progress.show(progress, now=now)


def _finite(norms: Mapping[str, float]) -> dict[str, float | str]:
    """JSON has no infinity."""
    return {part: norm if math.isfinite(norm) else str(norm) for part, norm in norms.items()}


def better(metric: str, metrics: Sequence[Metric]) -> str:
    """'max' or 'min'; a loss is minimised."""
    return next((known.better for known in metrics if known.key == metric), "min")


def selected_value(evaluations: Sequence[Evaluation], select: SelectSettings) -> float | None:
    for evaluation in evaluations:
        if (evaluation.split, evaluation.resolution) == (select.split, select.resolution):
            return evaluation.loss if select.metric == "loss" else evaluation.metrics.get(select.metric)
    return None


def record_key(type_: str, epoch: int, body: Mapping[str, Any]) -> tuple[Any, ...]:
    return type_, epoch, str(body.get("split")), str(body.get("resolution"))


def comparable(type_: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that must come out the same when it is computed again."""
    keys = ("train_loss", "images", "order") if type_ == "epoch" else ("metrics", "loss", "images", "skipped")
    return {key: body.get(key) for key in keys}
