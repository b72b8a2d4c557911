r"""Tables for papers: booktabs, the best value of a column bold, the second underlined.

Needs `\usepackage{booktabs}`, `\usepackage[T1]{fontenc}`, and in old installations `textcomp` and `inputenc` (utf8).
Compiles with pdfLaTeX: characters that its T1 fonts do not have stand as their code points.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ablate.report.columns import Column, Group, Mark, groups
from ablate.report.externals import is_logged
from ablate.report.labels import Labels
from ablate.report.options import AS_USUAL, Options
from ablate.report.said import about, how_selected, of_runs, one_line, unfinished
from ablate.report.summary import StudySummary
from ablate.report.tables import Table, tables
from ablate.results.records import State

_COMMANDS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}", "*": "{*}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "≈": r"$\approx$",
    "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "≤": r"$\leq$", "≥": r"$\geq$", "δ": r"$\delta$",
    "µ": r"$\mu$", "μ": r"$\mu$", "°": r"\textdegree{}", "–": r"\textendash{}", "—": r"\textemdash{}",
    "…": r"\ldots{}", "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}", "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}", "¡": r"\textexclamdown{}", "¿": r"\textquestiondown{}", "ª": r"\textordfeminine{}",
    "º": r"\textordmasculine{}", "§": r"\S{}", "¶": r"\P{}", "©": r"\textcopyright{}", "€": r"\texteuro{}",
    "«": r"\guillemotleft{}", "»": r"\guillemotright{}", "†": r"\textdagger{}",
}  # fmt: skip
"""Brackets and `*` would be an option of the `\\\\` before them, quotes a shorthand of babel."""

_LIGATURES = re.compile("(?<=-)(?=-)|(?<=')(?=')|(?<=,)(?=,)")
"""`--` is a dash, `''` and `,,` are quotes."""

_LETTERS = re.compile(r"[ -~À-ÖØ-öø-ſ]")
"""ASCII, and the letters of Latin-1 and Latin Extended-A that T1 fonts have."""
_NOT_IN_T1 = "ĈĉĊċĒēĔĕĖėĜĝĠġĤĥĦħĨĩĪīĬĭĮįĴĵĶķĸĻļĿŀŅņŉŌōŎŏŖŗŜŝŢţŦŧŨũŪūŬŭŲųŴŵŶŷſ"

_MARKS: dict[Mark | None, str] = {"best": r"\textbf{%s}", "second": r"\underline{%s}", None: "%s"}


def escape(text: str) -> str:
    """Text from a study as LaTeX prints it, on one line; never a command."""
    return "".join(_escaped(char) for char in _LIGATURES.sub("\0", one_line(text).strip()))


def _escaped(char: str) -> str:
    if char == "\0":
        return "{}"
    if char in _COMMANDS:
        return _COMMANDS[char]
    if _LETTERS.fullmatch(char) and char not in _NOT_IN_T1:
        return char
    return " " if char.isspace() else f"{{[}}U+{ord(char):04X}{{]}}"


def render_latex(summaries: Sequence[StudySummary], options: Options = AS_USUAL) -> str:
    """A `table` of the selected epochs per study and size; what a reader must know stands in its caption and below it."""
    found = [
        _table(summary, table, options) for summary in summaries for table in tables(summary, "selected", options.words)
    ]
    if not found:
        return ""
    needed = "% \\usepackage[T1]{fontenc}, \\usepackage{textcomp} and \\usepackage{booktabs}"
    return "\n\n".join([needed, *found]) + "\n"


def _table(summary: StudySummary, table: Table, options: Options) -> str:
    shown = groups(summary, table, options)
    columns = shown[0].columns if shown else ()
    alignment = "".join("l" if column.align == "left" else "c" for column in columns)
    headers = " & ".join(escape(column.header) for column in columns)
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_caption(summary, table, options.words)}}}",
        rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", rf"{headers} \\", *_body(shown, len(columns)),
        r"\bottomrule", r"\end{tabular}", *_notes(summary, table, options.words), r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


def _body(shown: Sequence[Group], width: int) -> Iterator[str]:
    for group in shown:
        yield r"\midrule"
        if group.title is not None:
            yield rf"\multicolumn{{{width}}}{{l}}{{{escape(group.title)}}} \\"
        yield from (rf"{row} \\" for row in _rows(group.columns))


def _rows(columns: Sequence[Column]) -> Iterator[str]:
    for place in range(len(columns[0].cells) if columns else 0):
        yield " & ".join(_marked(column, place) for column in columns)


def _marked(column: Column, place: int) -> str:
    mark = column.marks[place] if column.marks else None
    return _MARKS[mark] % escape(column.cells[place])


def _caption(summary: StudySummary, table: Table, words: Labels) -> str:
    name = summary.study if summary.study is not None else words.outside
    logged = bool(summary.runs) and all(is_logged(run) for run in summary.runs)
    chosen = words.as_reported if logged else words.selected + how_selected(summary, words)
    parts = [f"{name}, {words.size(table.resolution)}", chosen, about(table, words), words.best_and_second]
    if any(run.status is not State.COMPLETE for run in summary.runs):
        parts.append(words.never_best)
    return " ".join(f"{escape(part)}." for part in parts if part)


def _notes(summary: StudySummary, table: Table, words: Labels) -> Iterator[str]:
    """In small print below the table; what concerns single runs as comments, which can be taken in."""
    for note in (*table.notes, *summary.notes):
        yield rf"\par\footnotesize {escape(note)}"
    unfinished_runs = (unfinished(run, words) for run in summary.runs if run.status is not State.COMPLETE)
    for note in (*unfinished_runs, *of_runs(summary.runs, words)):
        yield f"% {one_line(note)}"
