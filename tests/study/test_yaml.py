"""YAML 1.2 as studies use it: what values mean, where they stand, and what is refused in bounded time."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import StudyError
from ablate.study.yaml import MAX_BYTES, parse_document, parse_value, read_document


def value(text: str) -> object:
    return parse_document(text, "f.yaml").data


def error(text: str) -> StudyError:
    with pytest.raises(StudyError) as caught:
        parse_document(text, "f.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("1e-4", 1e-4), ("1E5", 1e5), (".5e-3", 5e-4), ("1.", 1.0), ("+1.5e+3", 1500.0), ("-2", -2), ("-.5", -0.5)),
        *(("0x1f", 31), ("0o17", 15), ("017", 17), ("+3", 3)),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("", None)),
        *(("no", "no"), ("yes", "yes"), ("off", "off"), ("y", "y"), ("1_000", "1_000"), ("12:30:45", "12:30:45")),
        *(("2024-01-01", "2024-01-01"), ("1e", "1e"), ("e5", "e5"), (".", "."), ("1e-4 m", "1e-4 m"), ("0b1", "0b1")),
        *(("'1e-4'", "1e-4"), ('"true"', "true"), ("=", "="), ("-", [None])),
    ],
)
def test_scalars_follow_the_core_schema(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_as_itself(number: float) -> None:
    assert value(repr(number)) == number
    assert value(f"{number:.17e}") == number


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(min_codepoint=32, max_codepoint=0x7E)),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(min_codepoint=32, max_codepoint=0x7E), max_size=60), inner, max_size=4),
        max_leaves=12,
    )
)  # fmt: skip
def test_json_is_yaml(data: object) -> None:
    assert value(json.dumps(data)) == data


def test_places_count_from_one() -> None:
    document = parse_document("a: 1\nb:\n  - x\n  - {c: [2, 3]}\n", "f.yaml")
    assert document.data == {"a": 1, "b": ["x", {"c": [2, 3]}]}
    assert document.keys[("b", 1, "c")] == (4, 6)
    assert document.values[("b", 1, "c", 1)] == (4, 13)
    assert document.values[("b", 0)] == (3, 5)


def test_aliases_are_expanded() -> None:
    assert value("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "given twice; first on line 1"),
        ("a: !!str 1\n", 1, 4, "tags are not supported"),
        ("a: ! 1\n", 1, 4, "tags are not supported"),
        ("!!map {a: 1}\n", 1, 1, "tags are not supported"),
        ("!!str a: 1\n", 1, 1, "tags are not supported"),
        ("a: !!python/object/apply:os.system [id]\n", 1, 4, "tags are not supported"),
        ("%YAML 1.1\n---\na: 1\n", 2, 1, "directives"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", 2, 1, "directives"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("1: a\n", 1, 1, "a key must be text, found 1"),
        ("true: a\n", 1, 1, "a key must be text, found true"),
        ("? [a]\n: b\n", 1, 3, "a key must be text"),
        ("a: 1\n<<: {b: 2}\n", 2, 1, "merge keys"),
        ("a: *b\n", 1, 4, "has no anchor before it"),
        ("a: &x [*x]\n", 1, 8, "has no anchor before it"),
        ("a:\n  b: .inf\n", 2, 6, "not a finite number"),
        ("a: .nan\n", 1, 4, "not a finite number"),
        ("a: 1e999\n", 1, 4, "too large"),
        ("a: b: c\n", 1, 5, "not valid YAML"),
        ("a: [1, 2\nb: 3\n", 2, 2, "not valid YAML"),
        ('a: "\\0"\n', 1, 4, "U+0000"),
        ('a: "\\uD800"\n', 1, 4, "U+D800"),
        ("a:\n\tb: 1\n", 2, 1, "not valid YAML"),
    ],
)
def test_refusals_name_the_place(text: str, line: int, column: int, words: str) -> None:
    found = error(text)
    assert (found.file, found.line, found.column) == ("f.yaml", line, column)
    assert words in found.problem
    assert "\n" not in found.problem


@pytest.mark.parametrize(
    "text", ['a: "\\UFFFFFFFF"', "a: b\x00", "a: \x1b[31m", "a: " + "9" * 5000, "a: 0x" + "f" * 5000]
)
def test_what_the_parser_chokes_on_is_one_line(text: str) -> None:
    found = error(text)
    assert found.line == 1
    assert "\n" not in found.problem


def bomb() -> str:
    names = "abcdefghi"
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in itertools.pairwise(names)]
    return "\n".join(lines)


HOSTILE = {
    "alias bomb": bomb(),
    "brackets": "[" * 3000,
    "many brackets": "a: " + "[" * 900_000,
    "braces": "{a: " * 3000,
    "dashes": "- " * 3000,
    "question marks": "? " * 3000,
    "long list": "a: [" + "x," * 400_000 + "]",
    "long text": "a: '" + "x" * 900_000 + "'",
    "many lines": "a: b\n" + " b\n" * 300_000,
    "deep alias": "a: &a [1]\n" + "\n".join(f"k{i}: &{'b' * (i + 1)} [*{'b' * i if i else 'a'}]" for i in range(60)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bombs_are_refused_in_bounded_time_and_memory(name: str) -> None:
    started = time.process_time()
    found = error(HOSTILE[name])
    assert time.process_time() - started < 20  # about 2 s where nothing else runs; unbounded before
    assert len(str(found)) < 500


def test_an_alias_bomb_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        error(bomb())
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n", "expected a mapping"),
        (b"text\n", "expected a mapping"),
        (b"a: 1\nb: \xff\n", "is not UTF-8"),
        (b"a: 1\n" + b"#" * MAX_BYTES, "is larger than"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=words) as caught:
        read_document(path)
    assert caught.value.file == str(path)


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes("\ufeffa: 1\r\nb:\r\n  - 2\r\n".encode())
    assert read_document(path).data == {"a": 1, "b": [2]}


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("study: a\n")
    with pytest.raises(StudyError) as caught:
        read_document(tmp_path / "quikstart.yaml")
    assert "no such file" in caught.value.problem
    assert str(tmp_path / "quickstart.yaml") in (caught.value.hint or "")
    with pytest.raises(StudyError):
        read_document(tmp_path)
    with pytest.raises(StudyError):
        read_document(tmp_path / "a\0b.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e-4", 1e-4), ("a=b", "a=b"), ("[1, 2]", [1, 2]), ("{a: 1}", {"a": 1}), ("null", None), ("~/x", "~/x")],
)
def test_option_values(text: str, expected: object) -> None:
    assert parse_value(text, "--set") == expected


def test_option_values_that_fail_have_no_line() -> None:
    with pytest.raises(StudyError) as caught:
        parse_value("[1, 2", "--set a=[1, 2")
    assert caught.value.line is None
    assert str(caught.value).startswith("--set a=[1, 2: not valid YAML")
