"""What a journal gives back after whatever may happen to its file."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import DiskError, JournalError, RecordError
from ablate.runs import journal
from ablate.runs.journal import Journal

bodies = st.lists(
    st.dictionaries(
        st.text(max_size=8),
        st.one_of(st.integers(), st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False)),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def write(path: Path, records: list[dict[str, object]]) -> list[bytes]:
    """A journal with these bodies; returns its lines."""
    with Journal(path) as writer:
        writer.attempt = 1
        for epoch, body in enumerate(records, start=1):
            writer.append("event", epoch, 0, body)
    return path.read_bytes().splitlines(keepends=True)


def read(path: Path) -> list[dict[str, object]]:
    return [dict(line.record.body) for line in journal.read(path)]


@given(bodies)
def test_what_is_written_is_read(records: list[dict[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        write(path, records)
        assert read(path) == records


@given(bodies, st.data())
def test_a_truncated_journal_is_a_prefix_and_takes_records_again(
    records: list[dict[str, object]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        lines = write(path, records)
        cut = int(data.draw(st.floats(0, 1)) * path.stat().st_size)
        path.write_bytes(path.read_bytes()[:cut])
        whole = sum(1 for end in ends(lines) if end <= cut)
        assert read(path) == records[:whole]
        with Journal(path) as writer:
            assert writer.seq == whole
            writer.append("event", 0, 0, {"name": "after"})
        assert read(path) == [*records[:whole], {"name": "after"}]


@given(bodies, st.data())
def test_a_flipped_bit_never_passes_for_a_record(records: list[dict[str, object]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        lines = write(path, records)
        content = bytearray(path.read_bytes())
        position = int(data.draw(st.floats(0, 1, exclude_max=True)) * len(content))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        whole = sum(1 for end in ends(lines) if end <= position)
        assert read(path) == records[:whole]


def ends(lines: list[bytes]) -> Iterator[int]:
    end = 0
    for line in lines:
        end += len(line)
        yield end


def test_sequence_and_attempt_go_on_where_they_were(path: Path) -> None:
    write(path, [{}, {}])
    with Journal(path) as writer:
        assert (writer.seq, writer.attempt) == (2, 1)
        assert writer.append("event", 0, 0, {}).seq == 3


def test_reading_from_an_offset(path: Path) -> None:
    write(path, [{"n": 1}, {"n": 2}, {"n": 3}])
    first = next(iter(journal.read(path)))
    assert [line.record.body["n"] for line in journal.read(path, first.end)] == [2, 3]


def test_damage_before_what_a_checkpoint_vouches_for_is_an_error(path: Path) -> None:
    lines = write(path, [{"n": n} for n in range(5)])
    path.write_bytes(b"".join([*lines[:2], b"0" * len(lines[2]), *lines[3:]]))
    with pytest.raises(JournalError, match=r"damaged after record 2 .* vouches for record 4"):
        Journal(path, acknowledged=4)
    assert path.stat().st_size == sum(map(len, lines)), "nothing may be cut before somebody has looked"


def test_not_a_number_is_refused(path: Path) -> None:
    with Journal(path) as writer, pytest.raises(ValueError, match="not JSON compliant"):
        writer.append("event", 0, 0, {"loss": float("nan")})
    assert read(path) == []


def test_a_symbolic_link_is_refused(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("precious")
    path.symlink_to(target)
    with pytest.raises(RecordError, match="symbolic link"):
        list(journal.read(path))
    with pytest.raises((OSError, RecordError)):
        Journal(path)
    assert target.read_text() == "precious"


def test_a_full_disk_is_named_and_leaves_whole_records(path: Path) -> None:
    write(path, [{"n": 1}])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, before[1]))
        with Journal(path) as writer, pytest.raises(DiskError, match=r"journal\.jsonl"):
            writer.append("event", 1, 0, {"text": "x" * 500})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert read(path) == [{"n": 1}]
    with Journal(path) as writer:
        writer.append("event", 1, 0, {"n": 2})
    assert read(path) == [{"n": 1}, {"n": 2}]
