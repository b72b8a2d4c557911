"""Faults 1-10: what a kill, a bad disk or a damaged file does to the checkpoints and the journal of a run."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ablate.errors import JournalError
from ablate.runs import journal, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.journal import Journal
from ablate.runs.states import Reason, State

SETTINGS: dict[str, Any] = {"train": {"epochs": 3, "checkpoint": {"every": "3 steps"}}}

KILL_BEFORE_RENAME = """
import os, signal
from ablate.runs import disk
rename = disk.replace
def deadly(source, target):
    if target.name == "{name}":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
disk.replace = deadly
"""


def paused(work: Any, step: int = 10, **config: Any) -> Any:
    """A run that was killed in the given step, with two checkpoints behind it."""
    trouble = {"kind": "kill", "step": step, "once": str(work.root / "once")}
    paths = work.run(**(SETTINGS | config), trouble=trouble)
    assert work.train(paths) == -9
    assert len(Checkpoints(paths.checkpoints).manifests()) == 2
    return paths


@pytest.mark.parametrize("name", ["000003.weights.pt", "000003.optimizer.pt"])
def test_fault_01_kill_before_a_checkpoints_rename(work: Any, look: Any, calm: Any, name: str) -> None:
    paths = work.run(**SETTINGS)
    assert work.train(paths, inject=KILL_BEFORE_RENAME.format(name=name)) == -9
    aside = paths.checkpoints / f"{name}.tmp"
    assert aside.exists()
    before = look(paths).manifest().position
    assert work.train(paths) == 0
    assert look(paths).records("attempt")[1].body["resumed_from"] == vars(before)
    assert not aside.exists()
    assert look(paths).result() == calm(**SETTINGS)


def test_fault_02_kill_between_checkpoint_and_manifest(work: Any, look: Any, calm: Any) -> None:
    paths = work.run(**SETTINGS)
    assert work.train(paths, inject=KILL_BEFORE_RENAME.format(name="000003.json")) == -9
    assert (paths.checkpoints / "000003.weights.pt").exists(), "whole, but nobody vouches for it"
    adopted = look(paths).manifest()
    assert adopted.number == 2
    assert work.train(paths) == 0
    assert look(paths).records("attempt")[1].body["resumed_from"] == vars(adopted.position)
    assert look(paths).result() == calm(**SETTINGS)
    assert not look(paths).events("differs"), "an epoch that is done again comes out the same"


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """One bit, inside a digit: the file stays readable, its numbers do not."""
    where = content.rindex(b"1")
    return content[:where] + b"0" + content[where + 1 :]


def zero(content: bytes) -> bytes:
    """A page that never reached the disk."""
    return bytes(min(4096, len(content))) + content[4096:]


def damage(paths: Any, component: str, how: Any) -> Path:
    newest = Manifest.read(Checkpoints(paths.checkpoints).manifests()[0])
    file = paths.checkpoints / newest.files[component].name
    file.write_bytes(how(file.read_bytes()))
    return file


def test_fault_03_truncated_checkpoint(work: Any, look: Any, calm: Any) -> None:
    paths = paused(work)
    damage(paths, "optimizer", cut)
    assert work.train(paths) == 0
    assert "is damaged and passed over" in paths.log.read_text()
    assert look(paths).result() == calm(**SETTINGS)


@pytest.mark.parametrize("how", [flip, zero])
def test_fault_04_flipped_bit_or_zeroed_page(work: Any, look: Any, calm: Any, how: Any) -> None:
    settings = {"model": {"width": 400}, "train": SETTINGS["train"] | {"lr": 1e-4}}  # wider, 0.1 diverges
    paths = paused(work, **settings)
    file = damage(paths, "weights", how)
    assert work.train(paths) == 0
    assert f"passed over: {file}" in paths.log.read_text()
    assert look(paths).result() == calm(**settings)


def test_fault_04_a_damaged_manifest_is_passed_over_too(work: Any, look: Any, calm: Any) -> None:
    paths = paused(work)
    newest = Checkpoints(paths.checkpoints).manifests()[0]
    newest.write_bytes(cut(newest.read_bytes()))
    assert work.train(paths) == 0
    assert f"{newest.name} is damaged and passed over" in paths.log.read_text()
    assert look(paths).result() == calm(**SETTINGS)


def test_fault_06_a_full_disk_is_noticed_before_a_save(
    work: Any, look: Any, calm: Any, until: Any, small_disk: Any
) -> None:
    study = work.study("study: full\ntask: toy\nbase: {sleep: 0.05, train: {epochs: 3}}\n")
    places = ("--runs-dir", str(small_disk.root / "runs"))
    process = work.begin("run", study, *places)
    manifest = until(lambda: next(small_disk.root.glob("runs/toy-*/checkpoints/000001.json"), None))
    small_disk.fill(left=500_000)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in output
    from ablate.runs.paths import RunPaths

    paths = RunPaths(manifest.parent.parent)
    assert states.status(paths).state is State.PAUSED
    assert states.status(paths).reason is Reason.DISK
    assert "free; make room, then resume" in (look(paths).outcome().message or "")
    assert Checkpoints(paths.checkpoints).latest(print) is not None
    small_disk.clear()
    assert work.ablate("run", study, *places).returncode == 0
    assert look(paths).result() == calm(train={"epochs": 3})


FULL_AFTER_THE_CHECK = """
from pathlib import Path
from ablate.runs import files
checked = files.need_space
def somebody_else_writes(folder, needed):
    checked(folder, needed)
    if len(list(folder.glob("*.json"))) == 2:
        with open("{ballast}", "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
files.need_space = somebody_else_writes
"""


def test_fault_06_a_disk_that_fills_up_during_a_save(work: Any, look: Any, calm: Any, small_disk: Any) -> None:
    """ENOSPC out of write(2) itself, although there was room a moment before."""
    settings = {"model": {"width": 400}, "train": SETTINGS["train"] | {"lr": 1e-4}}
    paths = work.run(runs=small_disk.root / "runs", **settings)
    assert work.train(paths, inject=FULL_AFTER_THE_CHECK.format(ballast=small_disk.root / "ballast")) != 0
    assert small_disk.free() < 8192
    assert look(paths).manifest().number == 2
    assert Checkpoints(paths.checkpoints).latest(print) is not None, "the earlier checkpoints are as they were"
    assert states.status(paths).state is State.PAUSED
    small_disk.clear()
    assert work.train(paths) == 0
    assert look(paths).result() == calm(**settings)
    assert not list(paths.checkpoints.glob("*.tmp"))


FULL_AT_AN_EPOCH = """
from ablate.runs import disk, journal
append = journal.Journal.append
def on_a_full_disk(self, type_, epoch, step, body, *, durable=True):
    if (type_, epoch) == ("epoch", 2):
        size = self.path.stat().st_size
        append(self, "event", epoch, step, {{"name": "note", "text": "x" * (4096 - (size + 300) % 4096)}})
        with open("{ballast}", "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
    return append(self, type_, epoch, step, body, durable=durable)
journal.Journal.append = on_a_full_disk
"""


def test_fault_07_a_full_disk_in_the_journal(work: Any, look: Any, calm: Any, small_disk: Any) -> None:
    """What the journal does not hold, no checkpoint may claim."""
    settings = {"train": {"epochs": 3}}
    paths = work.run(runs=small_disk.root / "runs", **settings)
    assert work.train(paths, inject=FULL_AT_AN_EPOCH.format(ballast=small_disk.root / "ballast")) != 0
    assert "no space left for the journal" in paths.log.read_text() or "No space left" in paths.log.read_text()
    found = look(paths)
    assert [record.epoch for record in found.records("epoch")] == [1]
    assert found.manifest().position.epoch == 2 and found.manifest().position.step == 0
    assert states.status(paths).state is State.PAUSED
    small_disk.clear()
    assert work.train(paths) == 0
    assert look(paths).result() == calm(**settings)


COUNT_SYNCS = """
import errno, os
from ablate.runs import disk
{sync} = disk.{sync}
calls = []
def failing(descriptor):
    calls.append(descriptor)
    if len(calls) >= {nth}:
        with open("{log}", "a") as file:
            file.write("failed\\n")
        raise OSError(errno.EIO, "Input/output error")
    {sync}(descriptor)
disk.{sync} = failing
"""


@pytest.mark.parametrize(("sync", "nth"), [("sync_data", 5), ("sync", 4)])
def test_fault_08_an_fsync_that_fails_is_fatal_and_not_tried_again(
    work: Any, look: Any, calm: Any, sync: str, nth: int
) -> None:
    """After a failed fsync the kernel may drop the pages, and the next fsync would say that all is well."""
    paths = work.run(**SETTINGS)
    failures = work.root / "failures"
    assert work.train(paths, inject=COUNT_SYNCS.format(sync=sync, nth=nth, log=failures)) == 1
    # Of the journal, not one more; of other files, one for the outcome, which is another file.
    assert len(failures.read_text().splitlines()) <= (1 if sync == "sync_data" else 2)
    assert states.status(paths).state is State.PAUSED
    assert work.train(paths) == 0
    assert look(paths).result() == calm(**SETTINGS)


@pytest.mark.slow
def test_fault_08_a_disk_that_really_fails(work: Any, look: Any, calm: Any, mount: Any, until: Any) -> None:
    """ext4 on an image whose own file system has no blocks left: write(2) succeeds, and fsync(2) fails."""
    outer = mount("-t", "tmpfs", "-o", "size=6m", "tmpfs")
    image = outer.root / "image"
    with image.open("wb") as file:
        file.truncate(32 * 2**20)
    made = subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image)], capture_output=True)
    if made.returncode:
        pytest.skip(f"NOT TESTED HERE: {made.stderr.decode().strip()}")
    inner = mount("-o", "loop", str(image))
    settings = SETTINGS | {"model": {"width": 4000}}
    paths = work.run(runs=inner.root / "runs", **settings, sleep=0.1)
    process = work.start(paths)
    until(lambda: list(paths.checkpoints.glob("000001.json")))
    outer.fill()
    assert process.wait(timeout=120) != 0
    log = paths.log.read_bytes().decode(errors="replace")
    assert "in sync" in log, "it was fsync that failed, not write"
    assert states.status(paths).state is State.PAUSED
    assert Checkpoints(paths.checkpoints).latest(print) is not None


@pytest.mark.parametrize("place", ["new", "used"])
def test_fault_09_a_read_only_folder_is_refused_at_the_start(work: Any, small_disk: Any, place: str) -> None:
    study = work.study("study: ro\ntask: toy\nbase: {train: {epochs: 1}}\n")
    places = ("--runs-dir", str(small_disk.root / "runs"))
    if place == "used":
        assert work.ablate("run", study, *places).returncode == 0
        study = work.study("study: ro\ntask: toy\nbase: {train: {epochs: 2}}\n")
    before = sorted(small_disk.root.rglob("*"))
    small_disk.remount("ro")
    done = work.ablate("run", study, *places)
    assert done.returncode == 1
    assert "read-only file system" in done.stderr and str(small_disk.root) in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(small_disk.root.rglob("*")) == before


def test_fault_09_a_folder_that_vanishes_while_training(work: Any, until: Any, small_disk: Any) -> None:
    """The network share went away, and an empty folder is where it was."""
    study = work.study("study: ro\ntask: toy\nbase: {sleep: 0.05, train: {epochs: 3}}\n")
    process = work.begin("run", study, "--runs-dir", str(small_disk.root / "runs"), "--retries", "0")
    until(lambda: list(small_disk.root.glob("runs/toy-*/checkpoints/000001.json")))
    subprocess.run(["umount", "--lazy", str(small_disk.root)], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(small_disk.root)], check=True)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "did not complete" in output and str(small_disk.root) in output
    assert "Traceback" not in output


@pytest.mark.parametrize("seed", range(2))
def test_fault_10_what_a_power_cut_leaves(work: Any, look: Any, calm: Any, seed: int) -> None:
    """The journal is cut anywhere behind what the last manifest vouches for; `campaign power` tries every state."""
    paths = paused(work)
    manifest = look(paths).manifest()
    kept = next(line.end for line in journal.read(paths.journal) if line.record.seq == manifest.seq)
    size = paths.journal.stat().st_size
    draw = random.Random(seed)
    end = draw.randint(kept, size)
    content = bytearray(paths.journal.read_bytes()[:end])
    if seed:
        content += bytes(draw.randrange(5000))  # the file's new size was written, its content was not
    paths.journal.write_bytes(content)
    (paths.checkpoints / "000009.json.tmp").write_bytes(b"{")
    assert work.train(paths) == 0
    assert look(paths).result() == calm(**SETTINGS)
    paths.journal.write_bytes(paths.journal.read_bytes()[: kept - 1])
    with pytest.raises(JournalError, match="a checkpoint vouches for record"):
        Journal(paths.journal, manifest.seq)
    assert paths.journal.stat().st_size == kept - 1, "nothing is cut that somebody may want back"
