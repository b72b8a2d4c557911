"""The model of a disk: what it may forget, what it may not, and that nothing that the product writes escapes it."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.campaign import REPOSITORY, recorder
from tests.campaign.model import File, Machine, Operation

ROOT = Path("/disk")
CHANCES = (0.0, 0.3, 0.7, 1.0)


def machine(*operations: Operation) -> Machine:
    disk = Machine(ROOT)
    for operation in operations:
        disk.apply(operation)
    return disk


def survivors(disk: Machine) -> Iterator[dict[str, bytes | None]]:
    """Many ways in which a cut may come out."""
    for seed in range(200):
        for chance in CHANCES:
            yield {str(path): content for path, content in disk.crashed(random.Random(seed), chance)}


def opened(name: str) -> Operation:
    return Operation("open_new", ROOT / name, descriptor=3)


def written(data: bytes) -> Operation:
    return Operation("write", ROOT / "?", descriptor=3, data=data)


SYNC = Operation("sync", descriptor=3)
SYNC_FOLDER = Operation("sync_folder", ROOT)


def test_what_was_never_synced_may_be_there_whole_in_part_or_not_at_all() -> None:
    found = [state.get("a") for state in survivors(machine(opened("a"), written(b"x" * 1000)))]
    assert None in found
    assert b"x" * 1000 in found
    assert b"" in found
    assert bytes(1000) in found
    assert any(content and len(content) == 1000 and b"x\0" in content for content in found), "torn at a sector"
    assert any(content and 0 < len(content) < 1000 for content in found), "cut short"


def test_a_synced_file_may_have_no_name_but_is_whole_if_it_has() -> None:
    found = [state.get("a") for state in survivors(machine(opened("a"), written(b"xyz"), SYNC))]
    assert set(found) == {None, b"xyz"}


def test_a_synced_file_in_a_synced_folder_is_there_whatever_happens() -> None:
    disk = machine(opened("a"), written(b"xyz"), SYNC, SYNC_FOLDER, written(b"later"))
    assert all((state["a"] or b"").startswith(b"xyz") for state in survivors(disk))


def test_a_replaced_file_is_the_old_one_or_the_new_one() -> None:
    disk = machine(opened("a"), written(b"old"), SYNC, SYNC_FOLDER, opened("a.tmp"), written(b"new"), SYNC)
    disk.apply(Operation("replace", ROOT / "a.tmp", ROOT / "a"))
    assert {state["a"] for state in survivors(disk)} == {b"old", b"new"}
    disk.apply(SYNC_FOLDER)
    assert {state["a"] for state in survivors(disk)} == {b"new"}


def test_a_rename_without_fsync_may_leave_an_empty_file() -> None:
    disk = machine(opened("a.tmp"), written(b"new"), Operation("replace", ROOT / "a.tmp", ROOT / "a"), SYNC_FOLDER)
    assert b"" in {state["a"] for state in survivors(disk)}


def test_a_removed_file_may_come_back_until_its_folder_is_synced() -> None:
    disk = machine(opened("a"), SYNC, SYNC_FOLDER, Operation("unlink", ROOT / "a"))
    assert {"a" in state for state in survivors(disk)} == {True, False}
    disk.apply(SYNC_FOLDER)
    assert {"a" in state for state in survivors(disk)} == {False}


def test_what_lies_in_a_folder_without_a_name_is_gone() -> None:
    disk = machine(Operation("make_folder", ROOT / "f"), Operation("open_new", ROOT / "f" / "a", descriptor=3), SYNC)
    disk.apply(Operation("sync_folder", ROOT / "f"))
    assert {"f/a" in state for state in survivors(disk)} == {True, False}


@given(st.lists(st.tuples(st.integers(0, 50), st.binary(max_size=60)), max_size=6), st.integers(0, 2**16))
def test_only_written_bytes_and_zeros_ever_come_back(writes: list[tuple[int, bytes]], seed: int) -> None:
    file = File()
    for offset, data in writes:
        file.write(offset, data)
    possible = [{0} for _ in range(200)]
    for offset, data in writes:
        for place, byte in enumerate(data):
            possible[offset + place].add(byte)
    content = file.crashed(random.Random(seed), 0.5)
    assert len(content) <= len(file.now)
    assert all(byte in possible[place] for place, byte in enumerate(content))
    assert file.crashed(random.Random(seed), 1.0) == file.now


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_that_the_product_writes_escapes_the_record(tmp_path: Path, seed: int) -> None:
    """Replayed onto an empty model, the recorded calls give the very files that lie on the disk."""
    disk = Machine(tmp_path)
    for operation in recorder.record(tmp_path, seed):
        disk.apply(operation)
    modelled = {path for path, _ in disk.crashed(random.Random(0), 1.0)}
    assert modelled == {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    for path, content in disk.crashed(random.Random(0), 1.0):
        if content is not None:
            assert (tmp_path / path).read_bytes() == content, path


CHANGING = {
    *("write_bytes", "write_text", "unlink", "mkdir", "rmdir", "rename", "touch", "symlink_to", "hardlink_to"),
    *("fsync", "fdatasync", "ftruncate", "truncate", "pwrite", "rmtree", "remove", "renames", "makedirs"),
}


def test_runs_are_written_through_one_module() -> None:
    """No other file of the room calls what changes a disk; `disk.replace` and the like are of course allowed."""
    wrong = []
    for path in sorted((REPOSITORY / "ablate" / "runs").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if path.name != "disk.py" and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if node.func.attr in CHANGING and owner not in ("disk", "self._disk"):
                    wrong.append(f"{path.name}:{node.lineno}: {ast.unparse(node.func)}")
                if owner == "os" and node.func.attr in ("write", "replace"):
                    wrong.append(f"{path.name}:{node.lineno}: {ast.unparse(node.func)}")
    assert not wrong
