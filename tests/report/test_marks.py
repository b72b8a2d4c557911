"""What a reader must know of how numbers came about stands below them."""

from __future__ import annotations

from pathlib import Path

from ablate.report.markdown import render_markdown
from ablate.report.summary import summarise
from ablate.results.open import open_results
from ablate.runs.directory import RunConfig, RunIdentity, ensure_run
from ablate.runs.journal import Journal
from ablate.runs.paths import RunsDir
from ablate.task import Metric


def test_rollbacks_ladders_and_marks_are_footnotes(tmp_path: Path) -> None:
    runs = RunsDir(tmp_path / "runs")
    identity = RunIdentity("aaaaaaaa", "a" * 64, "toy-aaaaaaaa", "toy", 1, {}, {}, 0.0)
    paths = ensure_run(runs, identity, RunConfig({}, "ablate run toy.yaml", {}))
    with Journal(paths.journal) as journal:
        journal.attempt = 1
        journal.append("attempt", 0, 0, {"facts": {}})
        journal.append("event", 0, 0, {"name": "opened", "facts": {"marks": ["as logged: so <b>it</b> was"]}})
        journal.append("event", 2, 3, {"name": "rollback", "to_epoch": 2, "lr_factor": 0.5, "why": "the loss is nan"})
        journal.append("event", 2, 0, {"name": "ladder", "rung": 1, "did": "trained in 2 pieces", "why": "no memory"})
        scores = {"abs_rel": 0.1}
        body = {"split": "val", "resolution": "full", "metrics": scores, "loss": None, "images": 1, "skipped": 0}
        journal.append("evaluation", 2, 4, {**body, "protocol": {}, "scores": []})
    with open_results(tmp_path / "results.duckdb", runs.root) as results:
        metrics = (Metric("abs_rel", "AbsRel", "min"),)
        text = render_markdown(summarise(results, None, metrics))
    assert "as logged: so &lt;b&gt;it&lt;/b&gt; was" in text
    assert "back to the start of epoch 2, from there at 0.5 times the learning rate" in text
    assert "memory ran out (rung 1 of the memory ladder): trained in 2 pieces" in text
