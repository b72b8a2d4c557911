"""Study files as plain data that remembers where everything stands.

YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema): `1e-4` is a number, `no` is text. The
parser is ruamel.yaml's event stream; what the events mean is decided here, because a loader would build an
alias bomb before anyone could count it. Refused: tags, directives, merge keys, duplicate or non-text keys,
several documents, numbers that are not finite, and whatever is larger than a study can be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from ablate.errors import StudyError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Keys and values, counted after aliases are expanded."""
MAX_TEXT = 10_000
"""Characters of one key or value."""
MAX_DIGITS = 300
"""Characters of one number."""

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_RADIX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

Trail = tuple[str | int, ...]
"""The keys and indices that lead to a value."""


class Place(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """A YAML document: `data` is plain Python, `keys` and `values` say where each part of it stands."""

    file: str
    text: str
    data: Any
    keys: dict[Trail, Place] = field(repr=False)
    values: dict[Trail, Place] = field(repr=False)


def read_document(path: Path) -> Document:
    """The YAML file at `path`, which must hold a mapping. Raises StudyError."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise StudyError("there is no such file", file=file, hint=_neighbours(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"cannot be read: {reason}", file=file.replace("\0", "\\0")) from None
    if len(content) > MAX_BYTES:
        raise StudyError(f"is larger than {MAX_BYTES:,} bytes, which no study needs", file=file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise StudyError("is not UTF-8 text", file=file, line=line, hint="save it as UTF-8") from None
    document = parse_document(text, file)
    if not isinstance(document.data, dict):
        where = document.values.get((), Place(1, 1))
        problem = "is empty" if document.data is None else "expected a mapping such as `study: name`"
        raise StudyError(problem, file=file, line=where.line, column=where.column)
    return document


def _neighbours(path: Path) -> str | None:
    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix in (".yaml", ".yml")]
    except (OSError, ValueError):
        return None
    close = get_close_matches(path.name, sorted(names), n=1, cutoff=0.5)
    return f"did you mean {path.parent / close[0]}?" if close else None


def parse_document(text: str, file: str) -> Document:
    """One YAML document of any shape. Raises StudyError, naming `file`."""
    node = _Builder(text, file).document()
    keys: dict[Trail, Place] = {}
    values: dict[Trail, Place] = {}
    return Document(file, text, _plain(node, (), keys, values), keys, values)


@dataclass(frozen=True)
class _Node:
    """A parsed value; `nodes` counts everything in it and `height` its levels, aliases expanded."""

    place: Place
    value: str | int | float | bool | list[_Node] | dict[str, tuple[Place, _Node]] | None
    nodes: int = 1
    height: int = 1


def _plain(node: _Node, path: Trail, keys: dict[Trail, Place], values: dict[Trail, Place]) -> Any:
    values[path] = node.place
    if isinstance(node.value, list):
        return [_plain(child, (*path, index), keys, values) for index, child in enumerate(node.value)]
    if isinstance(node.value, dict):
        keys.update(((*path, key), place) for key, (place, _) in node.value.items())
        return {key: _plain(child, (*path, key), keys, values) for key, (_, child) in node.value.items()}
    return node.value


class _Builder:
    """Turns the event stream into nodes, stopping at the first thing that a study may not hold."""

    def __init__(self, text: str, file: str) -> None:
        self.file, self.text = file, text
        self.anchors: dict[str, _Node] = {}
        self.count = 0
        self.events = self._events()

    def document(self) -> _Node:
        event = next(self.events)
        if isinstance(event, StreamEndEvent):
            return _Node(Place(1, 1), None)
        if event.version is not None or event.tags:
            self._fail(event, "YAML directives are not supported", "remove the line that starts with %")
        node = self._node(next(self.events), 1)
        next(self.events)  # the end of the document
        after = next(self.events)
        if isinstance(after, DocumentStartEvent):
            self._fail(after, "a second document starts here", "one study per file: remove this `---`")
        return node

    def _events(self) -> Iterator[Any]:
        stream = YAML(typ="safe", pure=True).parse(self.text)
        last: Place | None = None
        try:
            next(stream)  # the start of the stream
            for event in stream:
                last = _place(event)
                yield event
        except StudyError:
            raise
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            spot = Place(mark.line + 1, mark.column + 1) if mark else last
            what = ", ".join(part for part in (error.context, error.problem) if part)
            raise self._error(spot, f"not valid YAML: {what}") from None
        except Exception as error:  # the parser lets OverflowError and others out, for instance of "\UFFFFFFFF"
            place = self._place_of(getattr(error, "position", None)) or last
            raise self._error(place, f"not valid YAML: {str(error).splitlines()[0][:200]}") from None

    def _place_of(self, position: Any) -> Place | None:
        if not isinstance(position, int):
            return None
        before = self.text[:position]
        return Place(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)

    def _error(self, place: Place | None, problem: str, hint: str | None = None) -> StudyError:
        line, column = place if place else (None, None)
        return StudyError(problem, file=self.file, line=line, column=column, hint=hint)

    def _fail(self, event: Any, problem: str, hint: str | None = None) -> NoReturn:
        raise self._error(_place(event), problem, hint)

    def _node(self, event: Any, depth: int) -> _Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None:
            self._fail(
                event, f"tags are not supported: {str(event.tag)[:60]}", "remove the tag, and quote text if it needs it"
            )
        self._spend(event, 1, depth)
        if isinstance(event, ScalarEvent):
            node = _Node(_place(event), self._scalar(event))
        elif isinstance(event, SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            node = self._mapping(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _spend(self, event: Any, nodes: int, depth: int) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            self._fail(event, f"more than {MAX_NODES:,} keys and values (aliases expanded), which no study needs")
        if depth > MAX_DEPTH:
            self._fail(event, f"nested more than {MAX_DEPTH} levels deep")

    def _alias(self, event: Any, depth: int) -> _Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            self._fail(event, f"alias *{str(event.anchor)[:60]} has no anchor before it")
        self._spend(event, node.nodes, depth + node.height - 1)
        return node

    def _sequence(self, event: Any, depth: int) -> _Node:
        children: list[_Node] = []
        while not isinstance(child := next(self.events), SequenceEndEvent):
            children.append(self._node(child, depth + 1))
        return _collection(_place(event), children, children)

    def _mapping(self, event: Any, depth: int) -> _Node:
        entries: dict[str, tuple[Place, _Node]] = {}
        while not isinstance(key_event := next(self.events), MappingEndEvent):
            key = self._key(key_event, depth + 1)
            if key in entries:
                first = entries[key][0].line
                raise StudyError(
                    f"this key is given twice; first on line {first}",
                    file=self.file, line=_place(key_event).line, column=_place(key_event).column, key=printable(key),
                )  # fmt: skip
            entries[key] = (_place(key_event), self._node(next(self.events), depth + 1))
        return _collection(_place(event), entries, [node for _, node in entries.values()])

    def _key(self, event: Any, depth: int) -> str:
        if isinstance(event, SequenceStartEvent | MappingStartEvent):
            self._fail(event, "a key must be text, not a list or a mapping")
        node = self._node(event, depth)
        if not isinstance(node.value, str):
            self._fail(event, f"a key must be text, found {shown(node.value)}", "quote it if it is meant as text")
        if node.value == "<<" and isinstance(event, ScalarEvent) and event.implicit[0]:
            self._fail(event, "merge keys (<<) are not supported", "write the settings out")
        return node.value

    def _scalar(self, event: Any) -> str | int | float | bool | None:
        text: str = event.value
        if len(text) > MAX_TEXT:
            self._fail(event, f"a text of {len(text):,} characters; at most {MAX_TEXT:,} are accepted")
        if found := _UNPRINTABLE.search(text):
            self._fail(event, f"the character U+{ord(found[0]):04X} is not accepted")
        if not event.implicit[0]:
            return text
        try:
            return resolve(text)
        except ValueError as error:
            self._fail(event, str(error))


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _collection(place: Place, value: Any, children: list[_Node]) -> _Node:
    keys = len(value) if isinstance(value, dict) else 0
    nodes = 1 + keys + sum(child.nodes for child in children)
    return _Node(place, value, nodes, 1 + max((child.height for child in children), default=0))


def resolve(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means. Raises ValueError for a number that is not finite or is absurdly long."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return text[0] in "tT"
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number; quote it if it is meant as text")
    is_int, is_radix = _INT.fullmatch(text), _RADIX.fullmatch(text)
    if not (is_int or is_radix or _FLOAT.fullmatch(text)):
        return text
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    if is_int:
        return int(text)
    if is_radix:
        return int(text, 0)
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large for a number; quote it if it is meant as text")
    return number


def parse_value(text: str, file: str) -> Any:
    """The value of a command-line option: a scalar, `[a, b]` or `{a: b}`. Raises StudyError without a line."""
    try:
        return parse_document(text, file).data
    except StudyError as error:
        raise StudyError(
            error.problem, file=file, hint=error.hint or "quote the value if it is meant as text"
        ) from None


def shown(value: Any) -> str:
    """A value as a user would write it, short enough for a message."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def printable(key: str) -> str:
    """A key of a study file, safe to print."""
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in key)
    return text if len(text) <= 80 else text[:77] + "..."
