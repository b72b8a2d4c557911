"""LaTeX: what is marked, and that no text from a study is ever a command."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.report.latex import _COMMANDS, _LETTERS, _NOT_IN_T1, escape
from ablate.report.options import Options
from ablate.report.render import render
from ablate.report.summary import StudySummary
from ablate.results.records import State

MEANING = {command: char for char, command in reversed(_COMMANDS.items())}
PIECES = re.compile("|".join(re.escape(command) for command in sorted(MEANING, key=len, reverse=True)))
SAFE = re.compile(r"[A-Za-z0-9 .,:;!?()=+/@'À-ÿ\u0100-\u017f-]*")


def read(text: str) -> str:
    """What LaTeX prints; fails on anything that it would not print as it is."""
    assert SAFE.fullmatch(PIECES.sub("", text).replace("{}", "")), text
    assert not re.search("--|''|,,", PIECES.sub(" ", text))  # ligatures
    return re.sub(PIECES, lambda match: MEANING[match[0]], re.sub(r"(?<=[-',])\{\}", "", text))


def printable(char: str) -> bool:
    return char in _COMMANDS or bool(_LETTERS.fullmatch(char) and char not in _NOT_IN_T1)


@given(st.text("\\{}$&%#_~^<>|\"'`[]*-–—…“”¡¿ñÑçüß, ↑↓→±×δaZ0.", max_size=30))
def test_what_t1_fonts_have_is_printed_as_it_is(text: str) -> None:
    assert read(escape(text)) == text.strip()


@given(st.text(max_size=40))
def test_any_text_is_printed_and_no_command(text: str) -> None:
    found = escape(text)
    assert "\n" not in found
    shown = "".join(char if printable(char) else f"[U+{ord(char):04X}]" for char in text if char.isprintable())
    if text.isprintable():
        assert read(found) == shown.strip()
    else:
        read(found)


def test_other_scripts_stand_as_their_code_points() -> None:
    assert escape("注") == "{[}U+6CE8{]}"
    assert escape("a--b ''x'' \\end{table} % $x$ \u202e") == (
        "a-{}-b '{}'x'{}' \\textbackslash{}end\\{table\\} \\% \\$x\\$"
    )


nasty = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["\\input{/etc/passwd}", "\\\\", "&", "%", "\n\n", "\\end{tabular}", "[1em]", "*", "$", "^^M", "\x85", "\u2028"]
)


@given(name=nasty, value=nasty, axis=nasty, title=nasty, message=nasty, note=nasty)
def test_hostile_text_never_breaks_a_table(make: Any, name: str, value: str, axis: str, title: str, message: str, note: str) -> None:  # fmt: skip
    bad = make.run(
        name, make.score(0.1, 0.2, 0.3, protocol={"mask": value}), settings={f"x{axis}": value}, message=message,
        status=State.FAILED, reason="crash", notes=(note,),
    )  # fmt: skip
    good = make.run("ok-aaaaaaaa", make.score(0.5, 0.5, 0.5))
    text = render([make.study(bad, good, name=title, axes=(f"x{axis}",))], "latex")
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 3
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(re.search(r"tabular}{([lc]+)}", text)[1]) - 1}  # type: ignore[index]
    body = "\n".join(lines)
    assert body.count(r"\begin{") == body.count(r"\end{") == 2
    plain = body.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert not re.search(r"(?<!\\)[%#~^]", plain)


def marked(text: str) -> list[tuple[list[str], list[str]]]:
    """Bold and underlined cells of each table."""
    return [
        (re.findall(r"\\textbf{([^}]*)}", part), re.findall(r"\\underline{([^}]*)}", part))
        for part in text.split(r"\begin{tabular}")[1:]
    ]


def test_best_and_second_follow_the_direction_of_each_metric(grid: StudySummary) -> None:
    full, reduced = marked(render([grid], "latex"))
    assert set(full[0]) == {"0.900", "0.100", "2.000"}
    assert set(full[1]) == {"0.800", "0.150", "3.000"}
    assert set(reduced[0]) == {"0.450", "0.050", "1.000"}


def test_ties_are_all_marked_as_they_read(make: Any) -> None:
    """0.2001 and 0.2004 read alike, so both are the best; the next value is the second."""
    runs = [make.run(f"r-{value}", make.score(0.5, value, 1.0)) for value in (0.2001, 0.2004, 0.3, 0.3, 0.4)]
    ((best, second),) = marked(render([make.study(*runs)], "latex", Options(metrics=("abs_rel",))))
    assert (best, second) == (["0.200", "0.200"], ["0.300", "0.300"])


@pytest.mark.parametrize(
    "changes", [{"status": State.FAILED, "reason": "diverged"}, {"status": State.RUNNING}, {"status": State.PAUSED}]
)
def test_what_is_not_complete_is_never_the_best(make: Any, changes: Any) -> None:
    runs = [make.run("bad", make.score(0.9, 0.01, 0.1), **changes)]
    runs += [make.run(f"r-{value}", make.score(0.5, value, 1.0)) for value in (0.2, 0.3)]
    text = render([make.study(*runs)], "latex", Options(metrics=("abs_rel",)))
    assert marked(text) == [(["0.200"], ["0.300"])]
    assert "0.010" in text and "Runs that are not complete are never marked." in text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_never_the_best(make: Any, value: float | None) -> None:
    runs = [make.run(f"r-{one}", make.score(0.5, one, 1.0)) for one in (value, 0.2, 0.3)]
    assert marked(render([make.study(*runs)], "latex", Options(metrics=("abs_rel",)))) == [(["0.200"], ["0.300"])]


def test_one_run_is_not_the_best_of_anything(make: Any) -> None:
    assert marked(render([make.study(make.run("r", make.score(0.5, 0.2, 1.0)))], "latex")) == [([], [])]


def test_external_rows_are_marked_and_booktabs_is_used(make: Any) -> None:
    run = make.run("log-4", make.score(0.5, 0.2, 1.0), external=make.origin())
    text = render([make.study(run, make.run("mine", make.score(0.5, 0.3, 1.0)))], "latex")
    assert "log-4 (external) &" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert r"\caption{Compressed, full size. Selected epoch (best AbsRel $\downarrow$ on val, full size)." in text


def test_numbers_that_cannot_be_compared_carry_a_warning(make: Any) -> None:
    runs = [make.run("a", make.score(0.5, 0.2, 1.0)), make.run("b", make.score(0.5, 0.2, 1.0, images=697))]
    assert r"\par\footnotesize scored on different numbers of images: 652 (a), 697 (b)" in render(
        [make.study(*runs)], "latex"
    )
