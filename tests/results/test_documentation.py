"""docs/results.md says what is there."""

import re
from pathlib import Path

import pytest

from ablate.results import database
from ablate.results.open import open_results

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


def documented():
    """{view: [(column, type)]}."""
    views = {}
    for section in re.split(r"^### ", TEXT, flags=re.M)[1:]:
        name = re.match(r"`(\w+)`", section)[1]
        views[name] = re.findall(r"^\| `(\w+)` \| (\w+) \|", section, flags=re.M)
    return views


def test_columns_are_those_of_the_views():
    connection = database.empty()
    views = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'"
    ).fetchall()
    there = {name: [row[:2] for row in connection.execute(f"DESCRIBE {name}").fetchall()] for (name,) in views}
    assert documented() == there


@pytest.mark.parametrize("query", re.findall(r"```sql\n(.*?)```", TEXT, flags=re.S))
def test_examples_run(work, query):
    a, b = work.run("a", "k3v9q2xa", model={"attention": "performer"}), work.run("b")
    a.train(3, best=2)
    a.event("breakdown", 2, split="test", resolution="full", rows=[{"low": 0.0, "high": 10.0, "pixels": 7}])
    b.train(2)
    failed = work.run("c")
    failed.train(1, complete=False)
    failed.outcome("failed", "oom", "no memory left")
    work.study("compressed", [a, b, failed], axis="model.attention")
    with open_results(work.db, work.runs_dir) as results:
        columns, rows = results.rows(query.rstrip("; \n"))
        assert columns and rows


def test_the_way_of_reading_works(work, monkeypatch):
    work.run().train(1)
    with open_results(work.db, work.runs_dir):
        pass
    monkeypatch.chdir(work.root)
    plain, notebook, *_ = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    names = {}
    exec(plain, names)
    assert names["connection"].execute("SELECT count(*) FROM epochs").fetchone() == (1,)
    names["connection"].close()
    exec(notebook, names)
    assert list(names["table"].columns) == ["run_id", "epoch", "abs_rel"]
    assert len(names["table"]) == 1
    assert names["table"]["abs_rel"].dtype.kind == "f"
