"""Whatever the files of a run directory, a split list or a PNG hold: an error of ours or a result, and no other run suffers.

Studies are fuzzed in tests/study/test_load.py and test_yaml.py, records of studies in tests/study/test_record.py, lock files in
tests/results/test_lock.py, tensors in tests/depth/test_state.py.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.engine import drift
from ablate.engine.halt import holder_of
from ablate.engine.plan import decide
from ablate.engine.progress import read_progress
from ablate.errors import AblateError, DataError, RecordError
from ablate.results.ingest import ingest
from ablate.results.open import open_results
from ablate.runs import checkpoint, directory, journal, lease, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.directory import find_run
from ablate.runs.journal import Journal
from ablate.runs.paths import RunPaths, RunsDir

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["../x", "a\0b", "/etc/passwd", "\ud800", "x" * 5000, "1e999"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@pytest.fixture
def finished(work: Any) -> RunPaths:
    """A run with everything that a run can have."""
    paths = work.run(train={"epochs": 2}, trouble={"kind": "crash", "step": 7, "once": str(work.root / "once")})
    assert work.train(paths) == 1
    return paths  # type: ignore[no-any-return]


def mutated(draw: st.DataObject, content: bytes) -> bytes:
    """Some bytes cut out, put in or changed."""
    found = bytearray(content)
    for _ in range(draw.draw(st.integers(1, 4))):
        where = draw.draw(st.integers(0, len(found)))
        found[where : where + draw.draw(st.integers(0, 40))] = draw.draw(st.binary(max_size=8))
    return bytes(found)


def changed(draw: st.DataObject, value: Any) -> Any:
    """A JSON value of which one part, anywhere, is replaced or removed."""
    if not isinstance(value, (dict, list)) or not value or draw.draw(st.integers(0, 4)) == 0:
        return draw.draw(values)
    found: Any = dict(value) if isinstance(value, dict) else list(value)
    key = draw.draw(st.sampled_from(sorted(found) if isinstance(found, dict) else range(len(found))))
    if draw.draw(st.integers(0, 3)) == 0:
        del found[key]
    else:
        found[key] = changed(draw, found[key])
    return found


def framed(text: bytes) -> bytes:
    """A journal line whose checksum is right, as a malicious writer would make it."""
    return b"%08x %s\n" % (zlib.crc32(text), text)


@contextlib.contextmanager
def bounded(seconds: float = 10.0, size: int = 200 * 2**20) -> Any:
    began = time.monotonic()
    tracemalloc.start()
    try:
        with contextlib.suppress(AblateError, FileNotFoundError):
            yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < seconds


def read_journal(paths: RunPaths) -> None:
    """Everybody who reads one: the writer's own opening, the resuming worker, the database."""
    records = [line.record for line in journal.read(paths.journal)]
    assert all(isinstance(record.body, dict) for record in records)
    drift.history(paths, 1)
    drift.newest_change(paths)
    states.status(paths)
    Journal(paths.journal).close()


@few
@given(draw=st.data())
def test_journals_of_any_bytes(finished: RunPaths, draw: st.DataObject) -> None:
    original = finished.journal.read_bytes()
    finished.journal.write_bytes(
        draw.draw(st.binary(max_size=300)) if draw.draw(st.booleans()) else mutated(draw, original)
    )
    try:
        with bounded():
            read_journal(finished)
    finally:
        finished.journal.write_bytes(original)


@few
@given(draw=st.data())
def test_journals_with_right_checksums_and_wrong_content(finished: RunPaths, draw: st.DataObject) -> None:
    original = finished.journal.read_bytes()
    lines = original.splitlines(keepends=True)
    where = draw.draw(st.integers(0, len(lines) - 1))
    wrong = changed(draw, json.loads(lines[where][9:]))
    lines[where] = framed(json.dumps(wrong).encode())
    finished.journal.write_bytes(b"".join(lines))
    try:
        with bounded():
            read_journal(finished)
    finally:
        finished.journal.write_bytes(original)


@few
@given(draw=st.data())
def test_manifests(finished: RunPaths, draw: st.DataObject) -> None:
    path = Checkpoints(finished.checkpoints).manifests()[0]
    original = path.read_bytes()
    if draw.draw(st.booleans()):
        path.write_bytes(mutated(draw, original))
    else:
        value = changed(draw, {key: part for key, part in json.loads(original).items() if key != "sha256"})
        signed = {**value, "sha256": checkpoint._digest(value)} if isinstance(value, dict) else value
        path.write_text(json.dumps(signed))
    said: list[str] = []
    try:
        with bounded(), contextlib.suppress(RecordError):
            Manifest.read(path)
        with bounded():
            Checkpoints(finished.checkpoints).latest(said.append)
        with bounded():
            decide(finished)
    finally:
        path.write_bytes(original)


NAMES = ("outcome.json", "run.json", "config.json", "lease.lock", "progress.json", "certificate.json")


@few
@given(draw=st.data(), name=st.sampled_from(NAMES))
def test_small_files(finished: RunPaths, draw: st.DataObject, name: str) -> None:
    path = finished.root / name
    original = path.read_bytes() if path.exists() else b"{}"
    how = draw.draw(st.integers(0, 2))
    content = json.dumps(changed(draw, json.loads(original or b"{}"))).encode()
    content = draw.draw(st.sampled_from([b"[" * 100_000, b"\xff\xfe", b"", b"9" * 5000])) if how == 1 else content
    path.write_bytes(mutated(draw, content) if how == 2 else content)
    readers = (states.status, states.read_outcome, directory.read_identity, directory.read_config, decide, holder_of)
    try:
        for reader in readers:
            with bounded():
                reader(finished)
        with bounded():
            read_progress(finished.progress)
            lease.holder(finished.lease)
            find_run(RunsDir(finished.root.parent), "toy")
    finally:
        path.write_bytes(original)


@few
@given(name=st.text(max_size=20) | st.sampled_from(["../..", "/", "a\0b", "\ud800", "x" * 10_000, "*", "toy", ""]))
def test_names_of_runs(finished: RunPaths, name: str) -> None:
    with bounded():
        assert find_run(RunsDir(finished.root.parent), name) == finished


@pytest.mark.slow
@settings(few, max_examples=40)
@given(draw=st.data(), name=st.sampled_from(["journal.jsonl", "journal", "studies", *NAMES]))
def test_the_database_takes_in_the_other_runs(work: Any, finished: RunPaths, draw: st.DataObject, name: str) -> None:
    """Beside a run that somebody garbled, a good one is ingested and listed, and the bad one is named or shown."""
    place = work.root / "place"
    shutil.rmtree(place, ignore_errors=True)
    good, bad = place / "runs/toy-bbbbbbbb", place / "runs/toy-cccccccc"
    for folder in (good, bad):
        shutil.copytree(finished.root, folder)
        text = (folder / "run.json").read_text()
        (folder / "run.json").write_text(
            text.replace("toy-aaaaaaaa", folder.name).replace("aaaaaaaa", folder.name[-8:])
        )
    if name == "journal":
        lines = (bad / "journal.jsonl").read_bytes().splitlines(keepends=True)
        where = draw.draw(st.integers(0, len(lines) - 1))
        lines[where] = framed(json.dumps(changed(draw, json.loads(lines[where][9:]))).encode())
        (bad / "journal.jsonl").write_bytes(b"".join(lines))
    elif name == "studies":
        (place / "runs/studies").mkdir()
        (place / "runs/studies/s.json").write_bytes(draw.draw(st.binary(max_size=80)))
    else:
        path = bad / name
        content = path.read_bytes() if path.exists() else b"{}"
        garbled = mutated(draw, content)
        with contextlib.suppress(ValueError):
            garbled = json.dumps(changed(draw, json.loads(content))).encode() if draw.draw(st.booleans()) else garbled
        path.write_bytes(garbled)
    done = ingest(place / "results.duckdb", place / "runs")
    assert done is not None
    with open_results(place / "results.duckdb", place / "runs") as results:
        assert "bbbbbbbb" in {row.run_id for row in results.runs()}
        assert [row.epoch for row in results.epochs("bbbbbbbb")] == [1]


LINE = st.from_regex(r"[a-z0-9_./-]{0,12}/[a-z0-9_.-]{0,12} +-?[0-9]{0,12} [lrx]?", fullmatch=True) | st.text(
    max_size=30
)


@few
@given(lines=st.lists(LINE, max_size=6), tail=st.binary(max_size=20))
def test_split_lists(tmp_path: Path, lines: list[str], tail: bytes) -> None:
    """A frame or a DataError, and no path outside of the data set."""
    from ablate.depth.data.kitti import read_split

    text = "\n".join(lines).encode("utf-8", "surrogatepass") + tail
    for name in ("train", "val"):
        (tmp_path / f"{name}_files.txt").write_bytes(text)
    with bounded():
        try:
            split = read_split(tmp_path, None, "train")
        except DataError as error:
            assert "Traceback" not in str(error)
            return
        for path in split.without_image:
            assert path.resolve().is_relative_to(tmp_path.resolve())


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@few
@given(
    width=st.integers(0, 2**32 - 1) | st.integers(1, 64),
    height=st.integers(0, 2**32 - 1) | st.integers(1, 64),
    depth=st.sampled_from([1, 2, 8, 16, 99]),
    colour=st.integers(0, 7),
    interlace=st.integers(0, 2),
    body=st.binary(max_size=200) | st.integers(0, 2**20).map(lambda size: zlib.compress(bytes(size))),
    extra=st.sampled_from(
        [
            b"",
            chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**22))),
            chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**22))),
        ]
    ),
)
def test_png_files(
    tmp_path: Path, width: int, height: int, depth: int, colour: int, interlace: int, body: bytes, extra: bytes
) -> None:
    """Headers that promise any size, with right checksums: pixels or a DataError, and never gigabytes."""
    from ablate.depth.data.images import load_image, load_raw_depth

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    for read in (load_image, load_raw_depth):
        with bounded(), contextlib.suppress(DataError):
            assert read(path).shape[:2] == (height, width)
