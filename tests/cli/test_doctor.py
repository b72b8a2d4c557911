"""`ablate doctor` on healthy and on damaged runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ablate.engine import doctor, machine
from ablate.engine.doctor import Finding, Level
from ablate.runs.paths import RunPaths


def wrong(db: str = "results.duckdb", runs: str = "runs") -> list[Finding]:
    return [one for one in doctor.examine(Path(db), Path(runs)) if one.level is Level.WRONG]


@pytest.fixture
def one(ablate, toys, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """A complete run, in a place where packages need no look (which takes seconds)."""
    monkeypatch.setattr(machine, "probe", lambda: {"missing": {}, "versions": {}, "devices": ["cpu"]})
    ablate("run", "toys.yaml", "--only", "model.width=2", "--only", "train.lr=1e-1")
    assert wrong() == []
    return RunPaths(next(Path("runs").glob("toy-*")))


def test_a_healthy_place(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    done = ablate("doctor", "--json")
    assert done.returncode == 0
    findings = json.loads(done.stdout)
    assert {one["about"] for one in findings} >= {"python", "packages", "devices", "disk", "clock", "database", "runs"}
    assert {one["level"] for one in findings} == {"fine"}
    assert any("cpu" in one["text"] for one in findings if one["about"] == "devices")


def test_before_the_first_run_nothing_is_wrong(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "probe", lambda: {"missing": {}, "versions": {}, "devices": ["cpu"]})
    monkeypatch.chdir(tmp_path)
    assert wrong() == []
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"


def test_a_probe_that_fails_is_a_finding(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PROBE", "import os; os._exit(7)")
    monkeypatch.chdir(tmp_path)
    (found,) = wrong()
    assert (found.about, "ended with code 7" in found.text) == ("packages", True)


def test_doctor_does_not_import_torch_itself(ablate) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from ablate.engine import doctor, machine\n"
        "machine._PROBE = 'print(chr(123) + chr(125))'\n"
        "machine.probe = lambda real=machine.probe: {'missing': {}, 'devices': []} | real()\n"
        "list(doctor.examine(Path('r.duckdb'), Path('runs')))\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_package_that_cannot_be_imported(ablate, tmp_path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "timm.py").write_text("raise ImportError('libjpeg.so.9: no such file')")
    env = {"PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])}
    done = ablate("doctor", env=env)
    assert done.returncode == 1
    assert "timm cannot be imported (ImportError: libjpeg.so.9: no such file)" in done.stdout
    assert "remedy: " in done.stdout


def test_a_flipped_bit_in_the_weights(one) -> None:
    weights = next(one.checkpoints.glob("*.pt"))
    data = bytearray(weights.read_bytes())
    data[3] ^= 1
    weights.write_bytes(data)
    (found,) = wrong()
    assert found.about == "checkpoints"
    assert str(weights) in found.text and "--from-scratch" in found.remedy


def test_a_journal_that_lacks_what_a_checkpoint_vouches_for(one) -> None:
    data = one.journal.read_bytes()
    one.journal.write_bytes(data[: len(data) // 3])
    found = [finding for finding in wrong() if finding.about == "journals"]
    assert len(found) == 1
    assert "a checkpoint vouches for" in found[0].text


def test_a_torn_tail_is_said_with_its_remedy(one) -> None:
    with one.journal.open("ab") as file:
        file.write(b'deadbeef {"v":1,')
    (found,) = wrong()
    assert (found.about, "16 bytes after record" in found.text) == ("journals", True)


def test_a_certificate_that_cannot_be_read(one) -> None:
    one.certificate.write_text('{"v": 1, "identical": "yes"}')
    (found,) = wrong()
    assert "certificate.json: damaged" in found.text and "ablate verify" in found.remedy


@pytest.mark.parametrize("name", ["run.json", "config.json", "outcome.json"])
def test_a_record_that_cannot_be_read(one, name: str) -> None:
    (one.root / name).write_text("{")
    found = [finding for finding in wrong() if finding.about == "records"]
    assert len(found) == 1
    assert name in found[0].text and "ablate rm" in found[0].remedy


def test_a_study_record_that_cannot_be_read(one) -> None:
    Path("runs/studies/toys.json").write_text("[]")
    assert [finding.about for finding in wrong() if "toys.json" in finding.text] == ["studies"]


def test_what_a_kill_left_behind(one) -> None:
    (one.root / "config.json.tmp").write_text("{")
    one.outcome.unlink()
    old = time.time() - 3600
    folder = Path("runs/.verify-x.4194400.tmp")
    folder.mkdir()
    os.utime(folder, (old, old))
    texts = [finding.text for finding in wrong() if finding.about == "leftovers"]
    assert len(texts) == 3
    assert "1 half-written files" in texts[0]
    assert "its process ended without a word" in texts[1]
    assert ".verify-x" in texts[2]


def test_a_record_from_the_future(one) -> None:
    later = time.time() + 86_400
    os.utime(one.journal, (later, later))
    (found,) = wrong()
    assert found.about == "clock"
    assert one.name in found.text


def test_a_damaged_database(one) -> None:
    Path("results.duckdb").write_bytes(b"\0" * 20_000)
    assert wrong() == [], "a report would mend it as well: it is made again"
    Path("results.duckdb").unlink()
    Path("other.duckdb").write_text("mine")
    (found,) = wrong(db="other.duckdb")
    assert found.about == "database"


def test_little_space_is_wrong(one, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(2**40, 2**40 - 2**20, 2**20))
    (found,) = wrong()
    assert (found.about, "1 MiB free" in found.text) == ("disk", True)
