import time

import pytest

from ablate.errors import HeldError
from ablate.results.lock import hold, lock_path


def test_holder_is_named_and_waiting_is_bounded(work, hold_in_process):
    holder = hold_in_process(work.db)
    began = time.monotonic()
    named = f"process {holder.popen.pid} on .* since .*wait for it"
    with pytest.raises(HeldError, match=named), hold(work.db, exclusive=False, wait=0.3):
        pass
    assert 0.25 < time.monotonic() - began < 5


def test_a_killed_holder_frees_the_lock(work, hold_in_process):
    hold_in_process(work.db).end()
    with hold(work.db, exclusive=True, wait=5):
        pass


def test_readers_share_and_keep_writers_out(work, hold_in_process):
    hold_in_process(work.db, "shared")
    with hold(work.db, exclusive=False, wait=0), pytest.raises(HeldError), hold(work.db, exclusive=True, wait=0.1):
        pass


def test_a_lock_is_exclusive_within_one_process_too(work):
    with hold(work.db, exclusive=True, wait=0), pytest.raises(HeldError), hold(work.db, exclusive=False, wait=0.05):
        pass


def test_mark_survives_other_holders(work):
    with hold(work.db, exclusive=True, wait=0) as lock:
        assert not lock.ours
        lock.mark_ours()
    for exclusive in (True, False, True):
        with hold(work.db, exclusive=exclusive, wait=0) as lock:
            assert lock.ours


def test_nothing_is_left_beside_a_foreign_file(work):
    with hold(work.db, exclusive=True, wait=0):
        pass
    assert not lock_path(work.db).exists()


def test_a_lock_file_removed_while_waiting_is_not_trusted(work, hold_in_process):
    """Whoever holds the removed file excludes nobody: both must end up with the same file."""
    holder = hold_in_process(work.db)
    lock_path(work.db).unlink()
    with hold(work.db, exclusive=True, wait=1) as lock:
        lock.mark_ours()
        with pytest.raises(HeldError), hold(work.db, exclusive=True, wait=0):
            pass
    holder.end()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"holder": 3}', '{"holder": {"pid": "x"}, "ours": "yes"}', "\x00" * 50]
)
def test_any_text_in_the_lock_file_is_survived(work, hold_in_process, text):
    hold_in_process(work.db)
    lock_path(work.db).write_text(text)
    with pytest.raises(HeldError, match="another process"), hold(work.db, exclusive=True, wait=0):
        pass


def test_a_symbolic_link_is_not_followed(work, tmp_path):
    lock_path(work.db).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), hold(work.db, exclusive=True, wait=0):
        pass
    assert not (tmp_path / "elsewhere").exists()
