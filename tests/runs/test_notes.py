"""Notes and tags come back as they were written; anything else is refused by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import RecordError, UsageError
from ablate.runs import notes
from ablate.runs.notes import Note, Notes
from ablate.runs.paths import RunPaths

WHOLE = Notes((Note(1, 5.0, "first\nand more"), Note(3, 6.0, "ñ")), ("thesis",), 4)


def test_notes_are_numbered_for_good(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert notes.read_notes(paths) == notes.NONE
    assert [notes.add_note(paths, text).number for text in ("one", " two\n", "three")] == [1, 2, 3]
    assert notes.remove_note(paths, 2).text == "two"
    assert notes.add_note(paths, "four").number == 4
    assert [(note.number, note.text) for note in notes.read_notes(paths).notes] == [
        (1, "one"),
        (3, "three"),
        (4, "four"),
    ]
    with pytest.raises(UsageError, match="has no note 2; it has: 1, 3, 4"):
        notes.remove_note(paths, 2)
    notes.remove_note(paths, 4)
    assert notes.add_note(paths, "five").number == 5


def test_tags_are_a_set_in_order(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert notes.add_tags(paths, ["b", " a ", "b"]) == ("b", "a")
    assert notes.add_tags(paths, ["a", "figure 3"]) == ("b", "a", "figure 3")
    assert notes.remove_tags(paths, ["b"]) == ("a", "figure 3")
    with pytest.raises(UsageError, match="has no tag 'b'; it has: a, figure 3"):
        notes.remove_tags(paths, ["a", "b"])
    assert notes.read_notes(paths).tags == ("a", "figure 3")


@pytest.mark.parametrize("text", ["", " \n", "x" * 10_001, "\x1b[2J", "\0", "\x85", "\ud800"])
def test_texts_that_are_no_note(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="a note"):
        notes.add_note(RunPaths(tmp_path), text)
    assert not RunPaths(tmp_path).notes.exists()


@pytest.mark.parametrize("tag", ["", " ", "a,b", "x" * 65, "a\nb", "\u202e", "\u2028", "\ud800"])
def test_texts_that_are_no_tag(tmp_path: Path, tag: str) -> None:
    with pytest.raises(UsageError, match="a tag"):
        notes.add_tags(RunPaths(tmp_path), ["good", tag])
    assert not RunPaths(tmp_path).notes.exists()


texts = st.text(min_size=1, max_size=50)


@given(st.lists(texts, max_size=5), st.lists(texts, max_size=5))
def test_whatever_is_taken_comes_back(said: list[str], tags: list[str]) -> None:
    with TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder))
        taken, tagged = [], {}
        for text in said:
            try:
                taken.append(notes.add_note(paths, text))
            except UsageError:
                continue
        for tag in tags:
            try:
                tagged |= dict.fromkeys(notes.add_tags(paths, [tag]))
            except UsageError:
                continue
        found = notes.read_notes(paths)
        assert (list(found.notes), list(found.tags)) == (taken, list(tagged))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["notes", "tags", "next", "v", "more"]), json_values)
def test_what_is_not_notes_is_refused_or_means_what_it_says(key: str, value: Any) -> None:
    with TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder))
        paths.notes.write_text(json.dumps(asdict(WHOLE) | {key: value}))
        try:
            assert isinstance(notes.read_notes(paths), Notes)
        except RecordError as error:
            assert str(paths.notes) in str(error)


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder))
        paths.notes.write_bytes(data)
        with pytest.raises(RecordError, match=r"notes\.json"):
            notes.read_notes(paths)
        with pytest.raises(RecordError, match=r"notes\.json"):
            notes.add_note(paths, "x")
        assert paths.notes.read_bytes() == data  # nothing that somebody wrote is thrown away


def test_links_are_refused(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    (tmp_path / "elsewhere").write_text(json.dumps(asdict(WHOLE)))
    paths.notes.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="symbolic link"):
        notes.read_notes(paths)
    with pytest.raises(RecordError, match="symbolic link"):
        notes.add_note(paths, "x")
    paths.notes.unlink()
    paths.notes_lock.unlink()
    paths.notes_lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        notes.add_note(paths, "x")
    assert json.loads((tmp_path / "elsewhere").read_text())["next"] == 4
