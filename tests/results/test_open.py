import os
import signal
import subprocess
import sys
import time

import pytest

from ablate.errors import UnknownRunError
from ablate.results.ingest import ingest
from ablate.results.open import open_results


def test_an_empty_place_is_left_empty(work):
    with open_results(work.db, work.runs_dir) as results:
        assert results.runs() == () and results.studies() == () and "no runs yet" in results.freshness
    assert list(work.root.iterdir()) == []


def test_fresh_results_say_so(work):
    work.run().train(1)
    with open_results(work.db, work.runs_dir) as results:
        assert results.freshness.startswith("up to date as of ")
        assert len(results.runs()) == 1


def test_reading_while_another_process_reads_is_stale_and_says_so(work, hold_in_process):
    run = work.run()
    run.train(1, complete=False)
    ingest(work.db, work.runs_dir)
    run.epoch(2)
    reader = hold_in_process(work.db, "shared")
    with open_results(work.db, work.runs_dir, wait=0.1) as results:
        assert "in use by" in results.freshness and "Shown is what was known at" in results.freshness
        assert [row.epoch for row in results.epochs(run.run_id)] == [1]
    reader.end()
    with open_results(work.db, work.runs_dir, wait=0.1) as results:
        assert [row.epoch for row in results.epochs(run.run_id)] == [1, 2]


@pytest.mark.parametrize("exists", [True, False])
def test_a_stopped_holder_does_not_stop_reports(work, hold_in_process, exists):
    """Fault 12: bounded wait, then the journals."""
    run = work.run()
    run.train(1, complete=False)
    if exists:
        ingest(work.db, work.runs_dir)
    run.epoch(2)
    holder = hold_in_process(work.db)
    holder.popen.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert ingest(work.db, work.runs_dir, wait=0.1) is None
        with open_results(work.db, work.runs_dir, wait=0.3) as results:
            assert [row.epoch for row in results.epochs(run.run_id)] == [1, 2]
            assert f"process {holder.popen.pid}" in results.freshness
            assert f"Read from {work.runs_dir} itself" in results.freshness
            assert results.runs()[0].directory == run.paths.root
    finally:
        holder.popen.send_signal(signal.SIGCONT)
    assert time.monotonic() - began < 10


SHELL = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


def test_a_database_open_in_a_foreign_program_does_not_stop_reports(work, start):
    """Somebody's DuckDB shell knows nothing of our lock."""
    run = work.run()
    run.train(1)
    ingest(work.db, work.runs_dir)
    shell = start(SHELL, work.db)
    assert shell.line() == "open"
    assert ingest(work.db, work.runs_dir) is None
    with open_results(work.db, work.runs_dir, wait=0.1) as results:
        assert len(results.epochs(run.run_id)) == 1
        assert "open in another program" in results.freshness and str(shell.popen.pid) in results.freshness


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_read(work):
    work.run().train(1)
    work.root.chmod(0o555)
    try:
        with open_results(work.db, work.runs_dir) as results:
            assert len(results.runs()) == 1
    finally:
        work.root.chmod(0o755)


def test_two_openings_in_one_process(work):
    work.run().train(1)
    with open_results(work.db, work.runs_dir) as one, open_results(work.db, work.runs_dir, wait=0.1) as two:
        assert len(one.runs()) == len(two.runs()) == 1


def test_a_database_alone_can_be_read(work, tmp_path):
    run = work.run()
    run.train(2)
    ingest(work.db, work.runs_dir)
    sent = tmp_path / "sent.duckdb"
    sent.write_bytes(work.db.read_bytes())
    with open_results(sent, tmp_path / "nowhere") as results:
        assert len(results.epochs(run.run_id)) == 2


def test_resolve(work):
    a, b = work.run("mem-com", "abcdefgh"), work.run("mem-com", "abczzzzz")
    work.run("mem", "mem00000")
    work.study("one", [a, b])
    work.study("two", [a])
    with open_results(work.db, work.runs_dir) as results:
        for name in ("abcdefgh", "abcd", "mem-com-abcd", a.paths.name, str(a.paths.root), f"{a.paths.root}/"):
            assert results.resolve(name).run_id == "abcdefgh"
        assert results.resolve("mem-m").run_id == "mem00000"
        with pytest.raises(UnknownRunError, match="names 2 runs: mem-com-abcdefgh, mem-com-abczzzzz"):
            results.resolve("abc")
        with pytest.raises(UnknownRunError, match=r"did you mean .*abcdefgh"):
            results.resolve("abcdefgx")
        for hopeless in ("", "/", "%", "'", "\x00", "no such thing"):
            with pytest.raises(UnknownRunError):
                results.resolve(hopeless)


def test_the_room_needs_no_torch_and_no_pandas():
    code = "import sys, ablate.results.open, ablate.results.rebuild, ablate.report.render, ablate.report.summary\n"
    code += "assert not {'torch', 'pandas', 'wandb'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
