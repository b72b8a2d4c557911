"""What `ablate run` shows while it trains: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from ablate.cli.console import escape
from ablate.engine.progress import Progress
from ablate.engine.scheduler import Ended, Job
from ablate.engine.stop import StopFlag
from ablate.runs.states import State

_PLAIN_EVERY = 30.0
"""Seconds between two progress lines of a run in a pipe or a CI log."""

_STYLES = {State.COMPLETE: "green", State.FAILED: "bold red", State.PAUSED: "yellow"}

_STOPPING = "stopping: every run finishes its step and saves; Ctrl-C again ends them at once"
_AT_ONCE = "ended at once, without saving: the same command goes on from the last checkpoints"


def _moves(console: Console) -> bool:
    """Whether a table can be drawn over itself; on a dumb terminal rich would draw nothing at all."""
    return console.is_terminal and not console.is_dumb_terminal


class Screen:
    """Use as a context manager; `running` and `ended` are what a scheduler's Watch calls."""

    def __init__(self, console: Console, title: str, total: int, done: int, stop: StopFlag | None = None) -> None:
        self.console = console
        self.title, self.total, self.done = title, total, done
        self.failed = 0
        self._stop = StopFlag() if stop is None else stop
        self._live = Live(console=console, refresh_per_second=8, transient=True) if _moves(console) else None
        self._spoken: dict[str, float] = {}
        self._told = False

    def __enter__(self) -> Self:
        self._stop.last_words = self._last_words
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update("")
            self._live.stop()

    def running(self, active: Sequence[tuple[Job, Progress | None]], waiting: int) -> None:
        if self._stop and active and not self._told:
            self._told = True
            self.console.print(_STOPPING if self._stop.signal == signal.SIGINT else _STOPPING.partition(";")[0])
        if self._live is not None:
            self._live.update(self._table(active, waiting))
            return
        for job, progress in active:
            self._speak(job, progress)

    def ended(self, ended: Ended) -> None:
        name, outcome = ended.job.paths.name, ended.outcome
        if outcome is None or ended.held:
            self.console.print(f"[yellow]held[/]      {name}: another process trains it")
            return
        self.done += outcome.state is State.COMPLETE
        self.failed += outcome.state is State.FAILED
        style = _STYLES.get(outcome.state, "")
        line = f"[{style}]{outcome.state:<9}[/] {escape(name)}"
        if outcome.reason:
            message = (outcome.message or "").partition("\n")[0]
            line += f" ({outcome.reason}: {escape(message)})"
        if outcome.state is State.FAILED:
            line += f"\n          log: {escape(str(ended.job.paths.log))}"
        self.console.print(line)

    def _last_words(self) -> None:
        """A second Ctrl-C: the table is left as it is, the cursor is given back, and nothing is left unsaid."""
        cursor = "\n\x1b[?25h" if self._live is not None else ""
        with contextlib.suppress(OSError):
            os.write(self.console.file.fileno(), f"{cursor}{_AT_ONCE}\n".encode())

    def _speak(self, job: Job, progress: Progress | None) -> None:
        name, now = job.paths.name, time.monotonic()
        if name not in self._spoken:
            self._spoken[name] = now
            self.console.print(f"start     {escape(name)}")
        elif progress is not None and now - self._spoken[name] > _PLAIN_EVERY:
            self._spoken[name] = now
            self.console.print(f"          {escape(name)}: {escape(describe(progress))}")

    def _table(self, active: Sequence[tuple[Job, Progress | None]], waiting: int) -> RenderableType:
        head = f"{self.title}: {self.done} of {self.total} done, {len(active)} running, {waiting} waiting"
        table = Table(title=head, title_justify="left", title_style="bold", box=None, pad_edge=False, expand=False)
        for column in ("run", "", "epoch", "step", "loss", "images/s", "ETA"):
            table.add_column(column, justify="left" if column in ("run", "") else "right", no_wrap=True)
        for job, progress in active:
            table.add_row(*_cells(job, progress))
        return table


def _cells(job: Job, progress: Progress | None) -> tuple[RenderableType, ...]:
    name = escape(job.paths.name)
    if progress is None:
        return name, "starting", "", "", "", "", ""
    fraction = progress.step / progress.steps if progress.steps else 0.0
    bar: RenderableType = ProgressBar(total=1.0, completed=fraction, width=16)
    return (
        name,
        bar if progress.doing == "train" else progress.doing,
        f"{progress.epoch}/{progress.epochs}",
        f"{progress.step}/{progress.steps}",
        "" if progress.loss is None else f"{progress.loss:.4f}",
        "" if progress.images_per_second is None else f"{progress.images_per_second:.1f}",
        duration(progress.eta),
    )


def describe(progress: Progress) -> str:
    """One line: `train, epoch 2/5, step 30/48, loss 0.0413, 21.3 images/s, ETA 0:01:12`."""
    parts = [progress.doing, f"epoch {progress.epoch}/{progress.epochs}", f"step {progress.step}/{progress.steps}"]
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.images_per_second is not None:
        parts.append(f"{progress.images_per_second:.1f} images/s")
    if progress.eta is not None:
        parts.append(f"ETA {duration(progress.eta)}")
    return ", ".join(parts)


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds: 3725 -> '1:02:05'."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
