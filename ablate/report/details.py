"""What a section about one run says beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Picture(NamedTuple):
    """A file that a report refers to. `path` is relative to the folder that the report lies in, fit for a link.

    `title` and `caption` are plain text, not escaped. `run_id` is None for a picture of the whole study.
    """

    title: str
    caption: str
    path: str
    run_id: str | None = None


@dataclass(frozen=True)
class Details:
    """`title` is what a log calls the run, with all that it says in brackets; `titles` what its task calls it, by
    language, and `titled` the settings (dotted keys) that these state.

    `images` are training images of an epoch, `hours` the time spent training. `commands` reproduce the run, or are what
    the source of an imported one gives. `written` are a log's numbers as they are written there, by resolution and by
    key or, of columns that are no metric here, header.
    """

    number: int | None = None
    title: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    titled: tuple[str, ...] = ()
    epochs: int | None = None
    images: int | None = None
    hours: float | None = None
    weights: str | None = None
    weights_remark: str | None = None
    wandb: str | None = None
    notes: tuple[str, ...] = ()
    prose: tuple[str, ...] = ()
    """Text that stands above the fields, and below the title."""
    commands: tuple[str, ...] = ()
    written: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def told(self) -> tuple[str, ...]:
        """What the section about the run says of it."""
        return (*self.notes, *self.prose, *((self.weights_remark,) if self.weights_remark else ()))
