"""A few thousand inputs for each reader, chosen by what code they reach; more by hand, see coverage_guided.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SEEDS = {
    "journal": b'00000000 {"v":1,"seq":1,"attempt":1,"type":"event","epoch":1,"step":1,"wall":1,"mono":1,"body":{}}\n',
    "study": b"study: s\nbase: {train: {lr: 1e-4}}\ngrid:\n  model.attention: [standard, performer]\nseeds: [0]\n",
    "manifest": b'{"v": 1, "number": 1, "position": {"stage": 0, "epoch": 1, "step": 0}, "seq": 1, "loop": {}, "files": {}, "best": null}',
    "list": b"2011_09_26/2011_09_26_drive_0001_sync 5 l\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("target", SEEDS)
def test_only_errors_of_ours(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel here; the hypothesis tests fuzz the same readers")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "seed").write_bytes(SEEDS[target])
    script = Path(__file__).with_name("coverage_guided.py")
    options = ["-max_total_time=6", "-timeout=20", "-rss_limit_mb=0", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, str(script), target, *options, str(corpus)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
