"""Both languages say everything, and their templates take the same values."""

from __future__ import annotations

import re
import string
from dataclasses import fields
from pathlib import Path

import pytest

from ablate.errors import UsageError
from ablate.report import labels as module
from ablate.report.labels import EN, ES, LANGUAGES, labels
from ablate.report.options import IDENTITY_COLUMNS
from ablate.results.records import State

NAMES = [field.name for field in fields(EN)]
REPORT = Path(module.__file__).parent


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_say_the_same(name: str) -> None:
    english, spanish = getattr(EN, name), getattr(ES, name)
    if isinstance(english, str):
        assert english.strip() and spanish.strip() and holes(english) == holes(spanish)
    else:
        assert english.keys() == spanish.keys() and all({**english, **spanish}.values())


def test_nothing_is_in_the_catalogue_for_nothing() -> None:
    code = "".join(path.read_text() for path in REPORT.rglob("*.py") if path.name != "labels.py")
    used = set(re.findall(r"words\.(\w+)", code)) | {"headers", "protocol", "states", "sizes"}
    assert set(NAMES) <= used


def test_every_column_and_state_has_a_word() -> None:
    for words in (EN, ES):
        assert set(words.headers) == set(IDENTITY_COLUMNS)
        assert set(words.states) == {str(state) for state in State}
        assert words.header("protocol.network_input")[0].isupper()
        assert words.header("protocol.of_a_plug_in") == "Of a plug in"


def test_the_protocol_of_depth_has_words() -> None:
    """As an evaluation records it."""
    from ablate.depth.logged import _RULES

    assert set(_RULES) <= set(ES.protocol)


def test_other_languages_are_refused() -> None:
    assert LANGUAGES == ("en", "es")
    with pytest.raises(UsageError, match="--lang 'fr': expected one of en, es"):
        labels("fr")
