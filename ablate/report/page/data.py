"""What a page shows, as values: every number and every text is here before anything is drawn.

Texts are as they were written; control characters are gone, and nothing is escaped yet. `render` does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Mark = Literal["", "best", "second"]


class Chart(Protocol):
    """A Vega-Lite specification with its words."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def spec(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Picture:
    """One panel of one image as a run saw it: 'input', 'prediction', …

    `png` and `bar` are the bytes of files: the picture, and what its colours mean, if they mean a number. `epoch` is
    None where it is not known.
    """

    run_id: str
    image: str
    panel: str
    png: bytes
    epoch: int | None = None
    bar: bytes = b""


@dataclass(frozen=True)
class Column:
    """`group` is the place of the view that the column belongs to; None for one that every view has.

    `numeric` columns sort by number, others as text; missing values stay at the end either way.
    """

    key: str
    header: str
    numeric: bool = False
    group: int | None = None
    title: str = ""
    """What a pointer that rests on the header is told: 'train.lr', 'lower is better'."""
    descending: bool = False
    """Whether the first click sorts the largest value to the top."""


@dataclass(frozen=True)
class Cell:
    """`value` is what sorting goes by: the full number; None where there is none, or where `text` sorts as it is."""

    text: str
    value: float | None = None
    mark: Mark = ""


@dataclass(frozen=True)
class Row:
    """`words` is what the free-text filter searches beside the cells; `link` the run's key, None for an arm."""

    name: str
    cells: tuple[Cell, ...]
    link: str | None = None
    badge: str = ""
    """'external' for a row that was imported."""
    status: str = ""
    words: str = ""
    tags: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    """Filter key -> the value that the row has."""


@dataclass(frozen=True)
class Filter:
    key: str
    label: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """One table out of several that share rows: a checkpoint at a resolution."""

    label: str
    about: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A table that can be sorted and filtered. Cells of a row are in the order of `columns`."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    views: tuple[View, ...] = ()
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True)
class Standing:
    """Where a run that trains stands. `eta` is in seconds as of `wall` (Unix time)."""

    run_id: str
    doing: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    images_per_second: float | None
    eta: float | None
    wall: float


@dataclass(frozen=True)
class Change:
    """A setting with its value in the baseline and in the run, as text."""

    key: str
    before: str
    after: str


@dataclass(frozen=True)
class Grid:
    """A small table of texts; `numeric` are the places of columns that are set right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()


@dataclass(frozen=True)
class Point:
    """One value of a learning curve."""

    epoch: int
    series: str
    value: float


@dataclass(frozen=True)
class RunPage:
    """All that the page says of one run. `facts` are (name, text)."""

    key: str
    run_id: str
    name: str
    status: str
    state: str
    message: str
    badge: str
    baseline: str | None
    """The key of the run that it is compared with; None for a baseline, or if that run is not shown."""
    against: str
    """What `changes` are changes of: 'std-k3v9q2xa', or 'the defaults'."""
    changes: tuple[Change, ...]
    more_settings: Mapping[str, str]
    """Settings in which it differs from what the page says of all runs together."""
    facts: tuple[tuple[str, str], ...]
    scores: Grid
    curve: tuple[Point, ...]
    log_scale: bool
    best_epoch: int | None
    epochs: Grid
    notes: tuple[str, ...]
    remarks: tuple[tuple[str, str], ...]
    """(when and which, text)."""
    tags: tuple[str, ...]
    command: str
    attempts: Grid
    events: Grid


@dataclass(frozen=True)
class Trouble:
    """A run that is not complete, said where nobody can miss it."""

    key: str
    name: str
    status: str
    text: str


@dataclass(frozen=True)
class Finding:
    """A verdict of the study, as a sentence, with what it rests on."""

    sentence: str
    outcome: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyPage:
    """`headline` are at most three sentences; `judged` whether they are a verdict."""

    key: str
    title: str
    about: tuple[str, ...]
    headline: tuple[str, ...]
    judged: bool
    counts: Mapping[str, int]
    trouble: tuple[Trouble, ...]
    notes: tuple[str, ...]
    runs: Sheet
    arms: Sheet | None
    findings: tuple[Finding, ...]
    described: Grid | None
    """The metrics that no verdict is about."""
    imported: Grid | None
    """What is not comparable in pairs with imported runs."""
    detectable: Grid | None
    charts: tuple[Chart, ...]
    pictures: tuple[Picture, ...]
    standings: tuple[Standing, ...]
    settings: Mapping[str, str]
    """The configuration that most runs share, by dotted key."""
    pages: tuple[RunPage, ...]


@dataclass(frozen=True)
class Page:
    """`written` is Unix time; `refresh` the seconds until the page looks for a newer version of itself; None: never."""

    title: str
    studies: tuple[StudyPage, ...]
    written: float
    freshness: str
    refresh: float | None = None
