"""Notes, and the import of logs, under kills, in company and on full disks: real processes, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.engine import doctor
from ablate.runs import notes
from ablate.runs.paths import RunsDir

pytestmark = pytest.mark.slow

LOG = Path(__file__).parents[1] / "data" / "progress.md"

KILLS = """
import os, signal, sys
from ablate.runs import disk

def killed_at(number, work):
    '''Whether a process that does `work` is killed before its file operation of that number.'''
    if (child := os.fork()) == 0:
        left = [number]
        for name in [name for name, value in vars(disk).items() if callable(value) and value.__module__ == disk.__name__]:
            def counted(*arguments, real=getattr(disk, name)):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments)
            setattr(disk, name, counted)
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, number
    return os.WIFSIGNALED(status)
"""

NOTES = (
    KILLS
    + """
from pathlib import Path
from ablate.runs import notes
from ablate.runs.paths import RunPaths
paths = RunPaths(Path(sys.argv[1]))
notes.add_note(paths, "the first")
known, number = ["the first"], 0
while killed_at(number, lambda: notes.add_note(paths, f"note {number}")):
    texts = [note.text for note in notes.read_notes(paths).notes]
    assert texts in (known, [*known, f"note {number}"]), (texts, known)
    known, number = texts, number + 1
print(number, len(known))
"""
)

IMPORT = (
    KILLS
    + """
import json
from pathlib import Path
from ablate.depth import logged
from ablate.depth.task import DepthTask
from ablate.external import store
from ablate.external.from_log import read_log
from ablate.runs import directory, journal, notes, states
from ablate.runs.paths import RunsDir
task = DepthTask()
found, _ = read_log(Path(sys.argv[2]), task, logged)
found = found[3:5]
counts = []
for number in range(10_000):
    runs = RunsDir(Path(sys.argv[1]) / str(number))
    killed = killed_at(number, lambda: store.take_in(found, runs, "progress", task))
    for paths in runs.runs():                      # whole, or not there at all
        assert directory.read_identity(paths).external and directory.read_config(paths).config
        assert states.read_outcome(paths).state == "complete"
        assert sum(line.record.type == "evaluation" for line in journal.read(paths.journal)) == 2
    counts.append(len(runs.runs()))
    taken = store.take_in(found, runs, "progress", task)
    assert len(taken.new) + len(taken.unchanged) == 2 and len(runs.runs()) == 2 and not taken.changed
    record = json.loads(runs.study("progress").read_text())
    assert [cell["current"] for cell in record["cells"]] == [True, True]
    if not killed:
        break
assert counts == sorted(counts) and set(counts) == {0, 1, 2}
print(number)
"""
)


def python(code: str, *arguments: object, timeout: float = 200) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_killed_note_is_there_whole_or_not_at_all(work: Any) -> None:
    """SIGKILL before every file operation, one after the other: no earlier note is lost, no lock stays behind."""
    paths = work.run()
    operations, written = map(int, python(NOTES, paths.root).split())
    assert operations > 8 and 1 < written < operations  # some kills came before the note was there, some after
    assert not list(paths.root.glob("*.tmp"))
    assert work.ablate("note", paths.name, "still works").returncode == 0


def test_notes_that_are_written_at_once_are_all_kept(work: Any) -> None:
    """While the run trains, too: nobody waits for its lease."""
    paths = work.run(train={"epochs": 3}, sleep=0.05)
    worker = work.start(paths)
    code = (
        "import sys; from pathlib import Path; from ablate.runs import notes; from ablate.runs.paths import RunPaths\n"
        "for n in range(10): notes.add_note(RunPaths(Path(sys.argv[1])), f'{sys.argv[2]}-{n}')\n"
        "notes.add_tags(RunPaths(Path(sys.argv[1])), [sys.argv[2]])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(paths.root), str(who)]) for who in range(6)]
    assert [writer.wait(timeout=100) for writer in writers] == [0] * 6
    assert worker.wait(timeout=100) == 0
    found = notes.read_notes(paths)
    assert sorted(note.text for note in found.notes) == sorted(f"{who}-{n}" for who in range(6) for n in range(10))
    assert [note.number for note in found.notes] == list(range(1, 61))
    assert sorted(found.tags) == list("012345")


def test_notes_survive_a_resume_a_rebuild_and_a_damaged_database(work: Any) -> None:
    study = work.study("study: toys\ntask: toy\nbase: {train: {epochs: 2}}\n")
    assert work.ablate("run", study).returncode == 0
    [root] = (work.root / "runs").glob("toy-*")
    assert work.ablate("note", root.name, "a | b\nsecond line").returncode == 0
    assert work.ablate("tag", root.name, "thesis").returncode == 0
    assert work.ablate("resume", root.name, "--from-scratch").returncode == 0
    (work.root / "results.duckdb").write_bytes(b"damaged")
    assert "was damaged" in work.ablate("ls").stderr
    assert work.query("SELECT number, text FROM notes") == [(1, "a | b\nsecond line")]
    assert work.query("SELECT tag FROM tags") == [("thesis",)]
    [row] = json.loads(work.ablate("ls", "--json").stdout)
    assert (row["remarks"][0]["text"], row["tags"]) == ("a | b\nsecond line", ["thesis"])
    assert work.ablate("db", "verify").returncode == 0


def test_damaged_notes_are_named_and_do_no_harm(work: Any) -> None:
    paths = work.run(train={"epochs": 2})
    assert work.train(paths) == 0
    assert work.ablate("note", paths.name, "good").returncode == 0
    assert work.ablate("ls").returncode == 0
    whole = paths.notes.read_bytes()
    paths.notes.write_bytes(whole[:-20])
    done = work.ablate("note", paths.name, "another")
    assert done.returncode == 1 and "notes.json: damaged" in done.stderr
    shown = work.ablate("ls", "--json")
    assert shown.returncode == 0 and "notes.json: damaged" in shown.stderr
    assert json.loads(shown.stdout)[0]["remarks"] == []
    assert ["notes.json" in found.text for found in doctor._runs(RunsDir(paths.root.parent))] == [True, False]
    assert work.ablate("db", "verify").returncode == 0
    paths.notes.write_bytes(whole)
    shown = work.ablate("ls", "--json")
    assert "damaged" not in shown.stderr
    assert json.loads(shown.stdout)[0]["remarks"][0]["text"] == "good"


def test_a_full_disk_leaves_the_notes_as_they_were(small_disk: Any, work: Any) -> None:
    paths = work.run(runs=small_disk.root / "runs")
    notes.add_note(paths, "before")
    small_disk.fill()
    done = work.ablate("note", "--runs-dir", str(small_disk.root / "runs"), paths.name, "x" * 9000)
    assert done.returncode == 1 and "no space left" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert [note.text for note in notes.read_notes(paths).notes] == ["before"]


def test_a_killed_import_leaves_whole_runs_and_is_finished_by_the_next(tmp_path: Path) -> None:
    """SIGKILL before every file operation of an import; then it is done again."""
    assert int(python(IMPORT, tmp_path, LOG)) > 50


def test_an_import_survives_the_loss_of_the_database(work: Any) -> None:
    assert work.ablate("import", str(LOG)).returncode == 0
    before = work.ablate("report", "--format", "csv").stdout
    (work.root / "results.duckdb").unlink()
    assert work.ablate("db", "rebuild").returncode == 0
    assert work.ablate("report", "--format", "csv").stdout == before
    assert before.count("\n") == 1 + 3 + 4 * 2
    assert len(RunsDir(work.root / "runs").runs()) == 7
    assert os.listdir(work.root / "runs" / "studies")  # noqa: PTH208
