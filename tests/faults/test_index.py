"""`docs/reliability.md` names a test for each of the 43 faults, and the tests that it names exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+) \|$", DOCUMENT, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", DOCUMENT)))


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_all_43_faults_have_a_row_in_order() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 44))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_fault_names_a_test(row: tuple[str, str, str, str]) -> None:
    number, _, _, tests = row
    named = re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", tests)
    assert named, f"fault {number} has no test"
    for file, name in named:
        numbers = re.fullmatch(r"test_fault((?:_\d\d)+)_.*", name)
        if file.startswith("faults/") and numbers:
            assert f"{int(number):02}" in numbers[1].split("_"), f"{name} says that it is of other faults"


def test_every_named_test_exists() -> None:
    assert [f"{file}::{name}" for file, name in NAMED if name not in functions(file)] == []


def test_every_test_of_a_fault_is_in_the_table() -> None:
    files = sorted(path.name for path in Path(__file__).parent.glob("test_faults_*.py"))
    assert files
    written = {
        (f"faults/{file}", name) for file in files for name in functions(f"faults/{file}") if name.startswith("test_")
    }
    assert written <= set(NAMED)
