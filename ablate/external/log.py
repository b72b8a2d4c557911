"""Progress logs in Markdown, as people keep them: a numbered heading per run, its fields, and tables of metrics.

    ## 4. Title (10 epochs, ~44k images per epoch) ~17h
    - **Weights**: weights/four.pt          (or Pesos; **Wandb**; **Notes**, or Notas)
    ``` bash … ```                          the commands that evaluated it
    ##### Output (Full size)                a table of one row; so for (Reduced size)

Headings, fields and phrases may be Spanish or English. Everything else in a run's section is kept as a note of it;
what is outside of such sections is left alone. Nothing is guessed: what a title does not say stays None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.external.metrics import Numbers, read_table
from ablate.external.phrases import Phrases, read_phrases
from ablate.task import Metric

MAX_TITLE = 1000
MAX_ROWS = 10_000

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*)")
_NUMBERED = re.compile(r"(\d{1,9})[.)][ \t]+(.+)")
_OUTPUT = re.compile(r"(?:output|salida|resultados?|results?)[ \t]*\(([^()]{1,60})\)[ \t:]*", re.IGNORECASE)
_FIELD = re.compile(r"[-*+][ \t]+\*\*([^*]{1,40}?):?\*\*[ \t]*:?[ \t]*(.*)")
_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_FIELDS = {
    **dict.fromkeys(("pesos", "weights", "peso", "checkpoint"), "weights"),
    **dict.fromkeys(("wandb", "w&b", "weights & biases"), "wandb"),
    **dict.fromkeys(("notas", "nota", "notes", "note"), "notes"),
}
_SIZES = {
    **dict.fromkeys(("full", "full size", "completo", "tamaño completo", "tamaño original"), "full"),
    **dict.fromkeys(("reduced", "reduced size", "reducido", "tamaño reducido"), "reduced"),
}
_NOTHING = ("", "n/a", "na", "-", "–", "—", "none", "ninguno")


@dataclass(frozen=True)
class Logged:
    """One run, as a log has it. `outputs` are its tables by resolution (`full`, `reduced`)."""

    number: int
    line: int
    title: str
    weights: str | None
    wandb: str | None
    notes: tuple[str, ...]
    """What stands under `Notes`, behind the file of weights, and outside of fields, in this order."""
    beside: Mapping[str, Any]
    """The same by where it stands: `notes`, `weights` and `prose`, as far as there are any."""
    commands: tuple[str, ...]
    outputs: Mapping[str, Numbers]
    phrases: Phrases


@dataclass
class Log:
    """What a file holds. `problems` name lines and leave nothing to be imported; `remarks` do not."""

    rows: list[Logged] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def parse(text: str, metrics: Sequence[Metric]) -> Log:
    """Reads a log; takes time in proportion to its length. Columns are `metrics` by their headers or keys."""
    log = Log()
    seen: dict[int, int] = {}
    for section in _sections(text):
        if len(log.rows) >= MAX_ROWS:
            log.problems.append(f"line {section.line}: more than {MAX_ROWS} runs in one log")
            break
        row = _Reader(section, metrics, log).row()
        if row is None:
            continue
        if row.number in seen:
            log.remarks.append(f"line {row.line}: heading {row.number} stands at line {seen[row.number]} too")
        seen.setdefault(row.number, row.line)
        log.rows.append(row)
    return log


@dataclass
class _Section:
    number: int
    title: str
    line: int
    lines: list[tuple[int, str]] = field(default_factory=list)


def _sections(text: str) -> Iterator[_Section]:
    """The parts of a text below headings such as `## 4. …`; a heading within a fenced block is none."""
    section: _Section | None = None
    fence = ""
    for number, line in enumerate(text.split("\n"), 1):
        line = plain(line.rstrip("\r"))
        opens = _FENCE.match(line)
        if opens and not fence:
            fence = opens[1]
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        heading = None if fence or opens else _HEADING.fullmatch(line.strip())
        if heading and len(heading[1]) <= 2:
            if section is not None:
                yield section
            numbered = _NUMBERED.fullmatch(heading[2].strip()) if len(heading[1]) == 2 else None
            section = _Section(int(numbered[1]), numbered[2].strip(), number) if numbered else None
        elif section is not None:
            section.lines.append((number, line))
    if section is not None:
        yield section


def plain(text: str, allowed: str = "\t") -> str:
    """Without characters that terminals or databases would take for commands, or that cannot be written as UTF-8."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in allowed else "\N{REPLACEMENT CHARACTER}" for char in text)


class _Reader:
    """Reads one section line by line."""

    def __init__(self, section: _Section, metrics: Sequence[Metric], log: Log) -> None:
        self._section, self._metrics, self._log = section, metrics, log
        self._fields: dict[str, str] = {}
        self._prose: list[str] = []
        self._commands: list[str] = []
        self._outputs: dict[str, Numbers] = {}
        self._fence = ""
        self._open: str | None = None
        """The field that a line without a mark of its own goes on with; "" for prose."""

    def row(self) -> Logged | None:
        """None if the section is about something else: it has neither fields of a run nor tables."""
        lines = self._section.lines
        place = 0
        while place < len(lines):
            place = self._line(place)
        if not (self._fields or self._outputs):
            self._log.remarks.append(f"line {self._section.line}: no run: neither weights, notes nor a table below it")
            return None
        if len(self._section.title) > MAX_TITLE:
            self._wrong(self._section.line, f"a title of more than {MAX_TITLE} characters")
        if not self._outputs:
            self._log.remarks.append(f"line {self._section.line}: run {self._section.number} has no table of numbers")
        return self._made()

    def _made(self) -> Logged:
        weights, remark = _weights(self._fields.get("weights", ""))
        noted, prose = self._fields.get("notes", "").strip(), [text.strip() for text in self._prose if text.strip()]
        beside = {"notes": [noted] if noted else [], "weights": remark.strip(), "prose": prose}
        return Logged(
            number=self._section.number,
            line=self._section.line,
            title=self._section.title,
            weights=weights,
            wandb=_or_none(self._fields.get("wandb", "")),
            notes=tuple(note for note in (noted, remark.strip(), *prose) if note),
            beside={name: text for name, text in beside.items() if text},
            commands=tuple(self._commands),
            outputs=self._outputs,
            phrases=read_phrases(self._section.title),
        )

    def _wrong(self, line: int, problem: str) -> None:
        self._log.problems.append(f"line {line}: {problem}")

    def _line(self, place: int) -> int:
        """Reads what is at `place`; returns where to go on."""
        number, line = self._section.lines[place]
        text = line.strip()
        if self._in_fence(line, text):
            return place + 1
        heading = _HEADING.fullmatch(text)
        if heading:
            self._open = None
            output = _OUTPUT.fullmatch(heading[2].strip())
            return self._output(place + 1, number, output[1]) if output else place + 1
        if found := _FIELD.match(text):
            self._field(number, found[1].strip().lower(), found[2], text)
        elif text.startswith("|"):
            self._wrong(number, "a table without a heading such as `##### Output (Full size)`")
            return self._after_table(place)
        elif not text or set(text) <= set("-*_ "):
            self._open = None
        else:
            self._text(text)
        return place + 1

    def _in_fence(self, line: str, text: str) -> bool:
        opens = _FENCE.match(line)
        if not self._fence:
            self._fence = opens[1] if opens else ""
            return bool(opens)
        if text.startswith(self._fence) and not text.strip(self._fence[0]):
            self._fence = ""
        elif text:
            self._commands.append(text)
        return True

    def _field(self, number: int, name: str, value: str, text: str) -> None:
        kind = _FIELDS.get(name)
        if kind is None:
            self._prose.append(text)
            self._open = ""
        elif kind in self._fields:
            self._wrong(number, f"{name} is there twice in run {self._section.number}")
        else:
            self._fields[kind] = value.strip()
            self._open = kind

    def _text(self, text: str) -> None:
        if self._open:
            self._fields[self._open] += f" {text}"
        elif self._open == "" and not text.startswith(("- ", "* ", "+ ")):
            self._prose[-1] += f" {text}"
        else:
            self._prose.append(text)
            self._open = ""

    def _output(self, place: int, heading: int, label: str) -> int:
        """A table below its heading; empty lines may be between them."""
        lines = self._section.lines
        while place < len(lines) and not lines[place][1].strip():
            place += 1
        end = self._after_table(place)
        resolution = _resolution(label)
        if not resolution:
            self._wrong(heading, f"a size must have a name, such as Full size; found {label!r}")
        elif resolution in self._outputs:
            self._wrong(heading, f"run {self._section.number} has two tables of {resolution} size")
        elif end == place:
            self._wrong(heading, f"no table below this heading of run {self._section.number}")
        else:
            numbers, problems, remarks = read_table(lines[place:end], self._metrics)
            self._outputs[resolution] = numbers
            self._log.problems += problems
            self._log.remarks += remarks
        return end

    def _after_table(self, place: int) -> int:
        lines = self._section.lines
        while place < len(lines) and lines[place][1].strip().startswith("|"):
            place += 1
        return place


def _resolution(label: str) -> str:
    """'Full size' -> 'full'; of other labels a word without spaces."""
    name = " ".join(label.lower().split())
    return _SIZES.get(name) or re.sub(r"[^a-z0-9]+", "_", name.removesuffix(" size")).strip("_")


def _weights(text: str) -> tuple[str | None, str]:
    """The file, and what is said of it behind `->` or a space."""
    file, _, rest = text.strip().strip("`").partition(" ")
    if _or_none(text) is None:
        return None, ""
    if "/" not in file and "." not in file:
        return None, text
    return file.strip("`"), rest.lstrip("->→: ").strip()


def _or_none(text: str) -> str | None:
    text = text.strip()
    return None if text.lower() in _NOTHING else text
