"""A report in Markdown as a person at a terminal wants it: tables drawn, and cut into pieces where they are too wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich import box
from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.measure import Measurement
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ablate.cli.console import harmless

_STYLES = {"h2": "bold magenta", "h3": "bold cyan", "h4": "bold", "h5": "italic"}
_GAP = 2

Column = tuple[str, bool, list[str]]
"""Header, whether it is centred, cells."""


def show_markdown(text: str, console: Console | None = None) -> None:
    """Prints a report that `render` made."""
    console = console or Console(highlight=False)
    for part in _parts(text, console):
        console.print(part)
        console.print()


def _parts(text: str, console: Console) -> Iterator[RenderableType]:
    """The blocks of the document, in order; what is no table or heading is left to rich."""
    lines = text.splitlines()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for place, token in enumerate(tokens):
        if token.level or token.nesting < 0 or token.map is None:
            continue
        if token.type == "table_open":
            yield from _pieces(_table(tokens[place:]), console)
        elif token.type == "heading_open":
            yield Text(_plain(tokens[place + 1]), style=_STYLES.get(token.tag, "bold"))
        elif token.type == "fence":
            yield Text(harmless(token.content.strip("\n")), style="green")
        elif token.type == "hr":
            yield Rule(style="dim")
        else:
            yield Markdown("\n".join(lines[token.map[0] : token.map[1]]), hyperlinks=False)


def _plain(inline: Token) -> str:
    """The text of a line of Markdown without its marks."""
    return harmless("".join(child.content for child in inline.children or ()))


def _table(tokens: Sequence[Token]) -> list[Column]:
    columns: list[Column] = []
    place = 0
    for at, token in enumerate(tokens):
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            place = 0
        elif token.type == "th_open":
            centred = "center" in str(token.attrGet("style") or "")
            columns.append((_plain(tokens[at + 1]), centred, []))
        elif token.type == "td_open":
            columns[place][2].append(_plain(tokens[at + 1]))
            place += 1
    return columns


def _pieces(columns: Sequence[Column], console: Console) -> Iterator[Table]:
    """As few tables as fit the terminal; each begins with the first column, so that rows can be told apart."""
    if not columns:
        return
    first, *rest = columns
    room = console.width - _width(first, console)
    piece: list[Column] = []
    for column in rest:
        if piece and sum(_width(other, console) for other in (*piece, column)) > room:
            yield _drawn([first, *piece])
            piece = []
        piece.append(column)
    yield _drawn([first, *piece])


def _width(column: Column, console: Console) -> int:
    header, _, cells = column
    return _GAP + max(Measurement.get(console, console.options, Text(text)).maximum for text in (header, *cells))


def _drawn(columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for header, centred, _ in columns:
        table.add_column(Text(header), justify="center" if centred else "left", overflow="fold")
    for row in zip(*(cells for _, _, cells in columns), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return table
