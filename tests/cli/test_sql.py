"""`ablate sql`, as a user types it, over real run directories and a real database file."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.report.answers import WRITERS
from ablate.results.asking import Column


@pytest.fixture
def work(tmp_path: Path) -> Any:
    """The run writer of tests/results, with a study of two runs."""
    path = Path(__file__).parents[1] / "results" / "conftest.py"
    spec = importlib.util.spec_from_file_location("results_conftest", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_conftest"] = module
    spec.loader.exec_module(module)
    work = module.Workplace(tmp_path)
    runs = [work.run("a", "aaaa1111"), work.run("b", "bbbb2222")]
    for run in runs:
        run.train(2)
    work.study("one", runs)
    return work


def test_formats(here, work) -> None:
    query = "SELECT name, d1, axes, seed FROM leaderboard ORDER BY name"
    table = here("sql", query)
    assert table.returncode == 0, table.stderr
    assert table.stdout == (
        'name         d1  axes              seed\na-aaaa1111  0.2  {"train.lr":1.0}     0\n'
        'b-bbbb2222  0.2  {"train.lr":0.1}     0\n'
    )
    assert "up to date as of" in table.stderr
    markdown = here("sql", query, "--format", "md").stdout
    assert markdown.splitlines()[:3] == [
        "| name | d1 | axes | seed |",
        "| --- | ---: | --- | ---: |",
        '| a-aaaa1111 | 0.2 | {"train.lr":1.0} | 0 |',
    ]
    rows = list(csv.DictReader(io.StringIO(here("sql", query, "--format", "csv").stdout)))
    assert rows[1] == {"name": "b-bbbb2222", "d1": "0.2", "axes": '{"train.lr":0.1}', "seed": "0"}
    data = json.loads(here("sql", query, "--format", "json").stdout)
    assert data[1] == {"name": "b-bbbb2222", "d1": 0.2, "axes": {"train.lr": 0.1}, "seed": 0}
    assert here("sql", query + " LIMIT 0", "--format", "json").stdout == "[\n]\n"
    assert json.loads(here("sql", query + " LIMIT 0", "--format", "json").stdout) == []


def test_a_query_from_a_file_and_from_stdin(here, work, monkeypatch) -> None:
    Path("best.sql").write_text("-- the best\nSELECT count(*) AS n\nFROM runs;\n")
    assert here("sql", "-f", "best.sql").stdout == "n\n2\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("FROM runs SELECT count(*) AS n"))
    assert here("sql", "-", "--format", "csv").stdout == "n\r\n2\r\n"
    for arguments in ([], ["SELECT 1", "-f", "best.sql"], [" "], ["-f", "none.sql"]):
        refused = here("sql", *arguments)
        assert refused.returncode == 2 and refused.stderr.startswith("error: "), refused.stderr


def test_what_is_new_is_there(here, work) -> None:
    assert here("sql", "SELECT max(epoch) AS e FROM epochs").stdout == "e\n2\n"
    work.run("late").train(7)
    assert here("sql", "SELECT max(epoch) AS e FROM epochs").stdout == "e\n7\n"


def test_pivot_explain_and_describe_are_questions(here, work) -> None:
    assert "aaaa1111" in here("sql", "PIVOT (SELECT run_id, d1 FROM leaderboard) ON run_id USING max(d1)").stdout
    assert "abs_rel" in here("sql", "DESCRIBE leaderboard").stdout
    assert "leaderboard" in here("sql", "SHOW TABLES").stdout
    assert "│" in here("sql", "EXPLAIN SELECT * FROM runs").stdout
    assert here("sql", "SELECT NULL AS a, 'x' AS a, 1/3 AS third", "--format", "json").stdout == (
        '[\n {"a": null, "a_1": "x", "third": 0.3333333333333333}\n]\n'
    )


def test_a_mistake_is_shown_with_its_place(here, work) -> None:
    done = here("sql", "SELECT nmae FROM leaderboard")
    assert done.returncode == 2 and done.stdout == ""
    assert '"nmae" not found' in done.stderr and '"name"' in done.stderr
    assert "LINE 1: SELECT nmae FROM leaderboard" in done.stderr and "               ^" not in done.stdout
    assert "^" in done.stderr
    assert "syntax error" in here("sql", "SELEC 1").stderr.lower()
    assert here("sql", "SELECT CAST('a' AS INTEGER)").returncode == 2


FORBIDDEN = [
    "DELETE FROM base.runs",
    "INSERT INTO base.migrations VALUES (99, 'x', 0)",
    "UPDATE base.sources SET present = false",
    "CREATE TABLE mine AS SELECT 1",
    "CREATE TEMP TABLE mine AS SELECT 1",
    "DROP VIEW leaderboard",
    "WITH gone AS (DELETE FROM base.runs RETURNING *) SELECT count(*) FROM gone",
    "EXPLAIN ANALYZE DELETE FROM base.runs",
    "SELECT 1; DROP VIEW leaderboard",
    "COPY (SELECT 1) TO 'out.csv'",
    "COPY runs TO 'out.parquet'",
    "EXPORT DATABASE 'out'",
    "IMPORT DATABASE 'out'",
    "ATTACH 'other.duckdb' AS other",
    "DETACH r",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET threads = 1",
    "RESET ALL",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL enable_logging(storage = 'file', storage_path = 'out')",
    "FROM enable_logging(storage = 'file', storage_path = 'out')",
    "FROM enable_profiling(save_location = 'out')",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "SELECT * FROM read_csv('secret.csv')",
    "SELECT * FROM 'secret.csv'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM glob('*')",
    "SELECT * FROM sniff_csv('secret.csv')",
    "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    "SELECT getenv('HOME')",
    "SELECT * FROM columns",
    "PREPARE x AS SELECT 1",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("place", ["results.duckdb", "nowhere/results.duckdb"])
def test_nothing_else_is_done(here, work, place, tmp_path) -> None:
    """Neither on the database nor, where there can be none, on what is read from the runs into memory."""
    (tmp_path / "secret.csv").write_text("secret\n42\n")
    before = here("sql", "FROM base.runs SELECT count(*)", "--db", place)
    assert before.returncode == 0 and ("Read from" in before.stderr) is ("nowhere" in place)
    data = work.db.read_bytes() if work.db.exists() else b""
    found = sorted(path.name for path in tmp_path.iterdir())
    for query in FORBIDDEN:
        done = here("sql", query, "--db", place)
        assert done.returncode == 2, (query, done)
        assert done.stdout == "" and "42" not in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == found
    assert here("sql", "FROM base.runs SELECT count(*)", "--db", place).stdout == before.stdout
    assert (work.db.read_bytes() if work.db.exists() else b"") == data


def test_a_damaged_database_costs_no_answer(here, work) -> None:
    here("sql", "SELECT 1")
    data = bytearray(work.db.read_bytes())
    for offset in range(12288 + 100, len(data), 4096):
        data[offset] ^= 8
    work.db.write_bytes(bytes(data))
    done = here("sql", "SELECT run_id FROM leaderboard ORDER BY 1", "--format", "csv")
    assert (done.returncode, done.stdout) == (0, "run_id\r\naaaa1111\r\nbbbb2222\r\n"), done.stderr
    assert "damaged" in done.stderr


def test_text_of_others_does_not_reach_the_terminal(here, work) -> None:
    query = "SELECT 'a' || chr(27) || '[2J' || chr(10) || 'b | c <i>' AS t, '=1+1' AS f, chr(155) AS c"
    for form in ("table", "md", "csv", "json"):
        done = here("sql", query, "--format", form)
        assert "\x1b" not in done.stdout or form == "csv"
        assert "\x9b" not in done.stdout or form == "csv"
    assert "'=1+1" in here("sql", query, "--format", "csv").stdout
    assert "<i>" not in here("sql", query, "--format", "md").stdout
    assert len(here("sql", query, "--format", "md").stdout.splitlines()) == 3


def test_a_question_that_takes_too_long(here, work) -> None:
    began = time.monotonic()
    done = here("sql", "SELECT count(*) FROM range(1000000000000) t(i) WHERE i * i % 7 = 8", "--timeout", "0.3")
    assert done.returncode == 1 and "no answer within 0.3 seconds" in done.stderr
    assert time.monotonic() - began < 20
    assert here("sql", "SELECT 1 AS one", "--timeout", "30").stdout == "one\n  1\n"


@pytest.mark.slow
def test_a_big_answer_and_ctrl_c(ablate, work) -> None:
    done = ablate("sql", "SELECT i, i * 0.5 AS half FROM range(200000) t(i)", "--format", "csv")
    assert done.returncode == 0 and done.stdout.count("\n") == 200_001
    command = [sys.executable, "-c", "from ablate.cli import main; main()", "sql"]
    head = subprocess.run(
        f"{sys.executable} -c 'from ablate.cli import main; main()' sql 'FROM range(200000)' --format json | head -2",
        shell=True, capture_output=True, text=True, env=os.environ, timeout=120,
    )  # fmt: skip
    assert head.stdout == '[\n {"range": 0},\n' and "Traceback" not in head.stderr
    query = "SELECT count(*) FROM range(1000000000000) t(i) WHERE i * i % 7 = 8"
    process = subprocess.Popen([*command, query], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, ""), error
    assert "interrupted; a question changes nothing" in error and "Traceback" not in error


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=5), st.dates(),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.floats(), max_size=2), st.decimals(),
)  # fmt: skip
TYPES = st.sampled_from(["VARCHAR", "JSON", "DOUBLE", "BIGINT"])


@given(st.lists(st.tuples(st.text(max_size=5), TYPES, VALUES, VALUES), min_size=1, max_size=4))
def test_every_value_can_be_written(columns) -> None:
    names = [Column(name, kind) for name, kind, *_ in columns]
    rows = list(zip(*(values for _, _, *values in columns), strict=True))
    for form, write in WRITERS.items():
        out: list[str] = []
        write(names, iter(rows), out.append)
        text = "".join(out)
        if form == "json":
            found = json.loads(text, parse_constant=pytest.fail)
            assert [len(row) for row in found] == [len(columns)] * 2
        elif form == "csv":
            assert [len(row) for row in csv.reader(io.StringIO(text, newline=""))] == [len(columns)] * 3
        elif form == "md":
            assert text.count("\n") == 4
