"""stop, retry, rm, gc, verify and db verify, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from ablate.engine import machine
from ablate.runs import journal, lease, states
from ablate.runs.checkpoint import Checkpoints, Manifest
from ablate.runs.paths import RunPaths, RunsDir
from ablate.runs.states import State


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from ablate.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def running() -> RunPaths:
    """The run that trains, once it has taken a step."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for progress in Path("runs").glob("*/progress.json"):
            return RunPaths(progress.parent)
        time.sleep(0.02)
    raise AssertionError("no run has started")


def run(width: int = 2, lr: str = "0.1") -> RunPaths:
    return RunPaths(next(Path("runs").glob(f"toy-{width}-lr{lr}-*")))


def sabotage(folder: Path, text: str) -> dict[str, str]:
    """An environment in which every Python process runs `text` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])}


NOISE = """
import os, random, sys
gauss = random.Random.gauss
random.Random.gauss = lambda self, mu=0.0, sigma=1.0: gauss(self, mu, sigma) + os.urandom(1)[0] * 1e-9
sys.stderr.write("UserWarning: wobble_cuda does not have a deterministic implementation, but you set 'torch...'\\n")
"""


def test_nothing_to_stop_is_no_error(ablate, toys) -> None:
    done = ablate("stop")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing is running" in done.stderr
    ablate("run", "toys.yaml", "--only", "model.width=2", "--only", "train.lr=1e-1")
    for target in ("toys", "toys.yaml", run().name):
        done = ablate("stop", target)
        assert done.returncode == 0
        assert f"{target}: nothing is running" in done.stderr
    unknown = ablate("stop", "nobody")
    assert unknown.returncode == 2
    assert "no run called 'nobody'" in unknown.stderr


@pytest.mark.slow
@pytest.mark.parametrize("target", [[], ["toys"]])
def test_stop_saves_and_ends_the_study(ablate, toys, target: list[str]) -> None:
    process = start("run", "toys.yaml", "--set", "sleep=0.2")
    paths = running()
    done = ablate("stop", *target)
    assert done.returncode == 0, done.stderr
    assert f"stopped   study toys (process {process.pid} on" in done.stderr
    assert f"stopped   run {paths.name} (process" in done.stderr
    process.communicate(timeout=30)
    assert process.returncode == 75
    assert states.status(paths).state is State.PAUSED
    assert states.status(paths).reason is states.Reason.SIGNAL
    assert not list(Path("runs").glob("*/progress.json")) or len(list(Path("runs").glob("*/journal.jsonl"))) == 1


@pytest.mark.slow
def test_stop_one_run_and_the_study_goes_on(ablate, toys) -> None:
    process = start("run", "toys.yaml", "--only", "model.width=2", "--set", "sleep=0.1")
    paths = running()
    done = ablate("stop", paths.name[-8:])
    assert done.returncode == 0
    assert f"stopped   run {paths.name}" in done.stderr
    output, _ = process.communicate(timeout=60)
    assert states.status(paths).state is State.PAUSED, output
    others = [folder for folder in Path("runs").glob("toy-2-*") if folder.name != paths.name]
    assert [states.status(RunPaths(folder)).state for folder in others] == [State.COMPLETE]


@pytest.mark.slow
def test_a_holder_that_does_not_answer_is_named(ablate, toys) -> None:
    process = start("run", "toys.yaml", "--set", "sleep=0.2")
    paths = running()
    holder = lease.holder(paths.lease)
    assert holder is not None
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        done = ablate("stop", paths.name, "--wait", "0.3")
        assert done.returncode == 75
        assert f"running   run {paths.name} (process {holder.pid}" in done.stderr
        ((worker, text),) = machine.strays(RunsDir(Path("runs")))
        assert (worker.pid, worker.run) == (holder.pid, paths.root.resolve())
        assert "has been stopped (SIGSTOP)" in text
    finally:
        os.kill(holder.pid, signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


FAILING = """\
study: failing
task: toy
base: {{train: {{epochs: 1}}}}
ablate:
  - {{model.width: 4, trouble.kind: crash, trouble.step: 2, trouble.once: {once}/crash}}
  - {{model.width: 5, trouble.kind: oom, trouble.step: 2, trouble.once: {once}/oom}}
  - {{model.width: 6, trouble.kind: nan}}
"""


def test_retry_trains_what_failed(ablate, tmp_path) -> None:
    Path("failing.yaml").write_text(FAILING.format(once=tmp_path))
    assert ablate("run", "failing.yaml", "--retries", "0").returncode == 1
    assert ablate("retry").returncode == 2
    wrong = ablate("retry", "--reason", "omm")
    assert wrong.returncode == 2
    assert "expected one of crash, killed, oom" in wrong.stderr

    oom = ablate("retry", "--failed", "--reason", "oom", "failing.yaml")
    assert oom.returncode == 0, oom.stderr
    assert oom.stderr.count("retry     ") == 1
    assert states.status(run(5)).state is State.COMPLETE
    assert states.status(run(4)).reason is states.Reason.CRASH

    rest = ablate("retry", "--failed", "failing")
    assert rest.returncode == 0, rest.stderr
    assert states.status(run(4)).state is State.COMPLETE
    assert states.status(run(6)).reason is states.Reason.DIVERGED, "the same run would diverge again"
    nothing = ablate("retry", "--failed")
    assert nothing.returncode == 0
    assert "diverged ones: --reason diverged" in nothing.stderr
    again = ablate("retry", "--reason", "diverged", "--from-scratch")
    assert again.returncode == 1
    assert again.stderr.count("retry     ") == 1
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'results.duckdb' AS r (TYPE duckdb, READ_ONLY)")
        states_of = dict(
            connection.execute("SELECT status, count(DISTINCT run_id) FROM r.runs GROUP BY ALL").fetchall()
        )
    assert states_of == {"complete": 3, "failed": 1}


def test_rm_says_what_goes_and_the_cell_is_queued_again(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    name = run().name
    preview = ablate("rm", name[-8:])
    assert preview.returncode == 0
    assert name in preview.stdout
    assert "nothing was removed; --yes removes 1 run" in preview.stderr
    assert run().identity.exists()

    done = ablate("rm", name, name[-8:], "--yes")
    assert done.returncode == 0, done.stderr
    assert "removed 1 run" in done.stderr
    assert sorted(path.name for path in Path("runs").iterdir() if path.name.startswith(("toy", ".g"))) == [
        run(lr="0.01").name
    ]
    rows = json.loads(ablate("ls", "--json").stdout)
    gone = next(row for row in rows if row["run_id"] == name[-8:])
    assert (gone["status"], gone["directory"], gone["attempts"]) == ("queued", None, 0)
    assert ablate("run", "toys.yaml").returncode == 0
    assert run().identity.exists()
    unknown = ablate("rm", run().name, "nobody", "--yes")
    assert unknown.returncode == 2
    assert run().identity.exists(), "nothing goes if one of the names is wrong"


def test_rm_refuses_a_run_that_is_trained(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    with lease.Lease.acquire(run().lease, "the run"):
        done = ablate("rm", run(lr="0.01").name, run().name, "--yes")
    assert done.returncode == 75
    assert f"held by process {os.getpid()}" in done.stderr
    assert run().identity.exists() and run(lr="0.01").identity.exists()


def test_rm_follows_no_links(ablate, toys, tmp_path) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    outside = tmp_path / "mine"
    outside.mkdir()
    (outside / "thesis.tex").write_text("x")
    (run().root / "link").symlink_to(outside)
    assert ablate("rm", run().name, "--yes").returncode == 0
    assert (outside / "thesis.tex").exists()


def test_gc_keeps_what_the_policy_says(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--set", "train.epochs=4", "--set", "train.lr=1e-1")
    (run().checkpoints / "000099.weights.pt.tmp").write_bytes(b"torn")
    stale = 4 + sum(path.stat().st_size for path in Path("runs").glob("toy-*/checkpoints/*.optimizer.pt"))
    preview = ablate("gc")
    assert preview.returncode == 0
    assert "000099.weights.pt.tmp" in preview.stdout
    assert f"{stale} B would be freed" in preview.stderr
    assert (run().checkpoints / "000099.weights.pt.tmp").exists()
    assert f"{stale} B freed" in ablate("gc", "--yes").stderr
    assert not (run().checkpoints / "000099.weights.pt.tmp").exists()

    assert ablate("gc", "--keep", "best", "--yes").returncode == 0
    for paths in map(RunPaths, Path("runs").glob("toy-*")):
        store = Checkpoints(paths.checkpoints)
        (manifest,) = [Manifest.read(path) for path in store.manifests()]
        assert manifest.best is not None
        assert set(manifest.stored()) == {manifest.best}
        store.verify(manifest)
        assert {path.name for path in paths.checkpoints.iterdir()} == {
            manifest.best.name,
            f"{manifest.number:06d}.json",
        }
    assert ablate("run", "toys.yaml", "--set", "train.epochs=4", "--set", "train.lr=1e-1").returncode == 0
    assert ablate("gc", "--keep", "worst").returncode == 2


def test_gc_leaves_unfinished_runs_all_that_a_resume_needs(ablate, tmp_path) -> None:
    Path("once.yaml").write_text(
        f"study: once\ntask: toy\nbase: {{train: {{epochs: 3}}, trouble: {{kind: crash, step: 10, once: {tmp_path}/x}}}}\n"
    )
    ablate("run", "once.yaml", "--retries", "0")
    paths = RunPaths(next(Path("runs").glob("toy-*")))
    before = {path.name for path in paths.checkpoints.iterdir()}
    assert len(before) > 4
    assert "0 B freed" in ablate("gc", "--keep", "best", "--yes").stderr
    assert {path.name for path in paths.checkpoints.iterdir()} == before
    assert ablate("resume", paths.name).returncode == 0
    attempts = [line.record.body for line in journal.read(paths.journal) if line.record.type == "attempt"]
    assert attempts[1]["resumed_from"]["epoch"] == 3


def test_gc_removes_what_dead_processes_left(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2")
    old = time.time() - 3600
    for pid, quiet in ((2**22 + 1, True), (2**22 + 2, False), (os.getpid(), True)):
        folder = Path("runs") / f".gone-x.{pid}.tmp"
        folder.mkdir()
        (folder / "file").write_text("12345")
        if quiet:
            os.utime(folder, (old, old))
    assert ablate("gc", "--yes").returncode == 0
    left = sorted(path.name for path in Path("runs").glob(".gone*"))
    assert left == sorted([f".gone-x.{2**22 + 2}.tmp", f".gone-x.{os.getpid()}.tmp"])


def test_verify_certifies_a_run(ablate, toys) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2", "--set", "sleep=0.005")
    paths = run()
    before = (paths.journal.read_bytes(), sorted(paths.checkpoints.iterdir()))
    done = ablate("verify", paths.name[-8:], "--kills", "4", "--steps", "6", "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert "verdict      weights and metrics bit-identical" in done.stdout
    assert "disturbance  4 SIGKILLs in" in done.stdout
    assert "stretch      6 steps" in done.stdout
    assert (paths.journal.read_bytes(), sorted(paths.checkpoints.iterdir())) == before
    assert not list(Path("runs").glob(".verify*"))

    sentence = "verified: 4 kills, bit-identical (6 steps, cpu, "
    assert f"certificate  {sentence}" in ablate("show", paths.name).stdout
    shown = json.loads(ablate("show", paths.name, "--json").stdout)["certificate"]
    stored = json.loads(paths.certificate.read_text())
    assert shown == stored
    assert (stored["kills"], stored["steps"], stored["identical"], stored["differences"]) == (4, 6, True, [])
    assert f"- {paths.name}: {sentence}" in ablate("report").stdout
    data = json.loads(ablate("report", "toys", "--format", "json").stdout)
    assert sum(sentence in str(row["notes"]) for row in data["studies"][0]["runs"]) == 1

    paths.certificate.write_text('{"v": 1, "identical": "yes"}')
    assert ablate("report").returncode == 0


def test_verify_says_what_differs_and_names_the_kernel(ablate, toys, tmp_path) -> None:
    ablate("run", "toys.yaml", "--only", "model.width=2", "--only", "train.lr=1e-1")
    env = sabotage(tmp_path / "noise", NOISE)
    done = ablate("verify", run().name, "--kills", "1", "--no-evaluation", "--json", env=env)
    assert done.returncode == 1, done.stderr
    certificate = json.loads(done.stdout)
    assert certificate["identical"] is False
    assert "SHA-256 of the weights" in certificate["differences"]
    assert any(text.startswith("epoch 1") for text in certificate["differences"])
    assert certificate["nondeterministic"] == ["wobble_cuda"]
    assert "NOT bit-identical" in ablate("report").stdout


def test_verify_of_a_run_that_fails_by_itself(ablate, tmp_path) -> None:
    Path("bad.yaml").write_text("study: bad\ntask: toy\nbase: {trouble: {kind: crash, step: 2}}\n")
    ablate("run", "bad.yaml", "--retries", "0")
    name = next(Path("runs").glob("toy-*")).name
    done = ablate("verify", name, "--kills", "1")
    assert done.returncode == 1
    assert "did not come to its end: RuntimeError: the toy broke" in done.stderr
    assert not list(Path("runs").glob(".verify*"))


TORCH = """
import importlib.metadata
known = importlib.metadata.version
importlib.metadata.version = lambda name: "9.9.9" if name == "torch" else known(name)
"""


def test_another_torch_is_recorded_and_said(ablate, tmp_path) -> None:
    Path("once.yaml").write_text(
        f"study: once\ntask: toy\nbase: {{train: {{epochs: 3}}, trouble: {{kind: crash, step: 10, once: {tmp_path}/x}}}}\n"
    )
    ablate("run", "once.yaml", "--retries", "0")
    paths = RunPaths(next(Path("runs").glob("toy-*")))
    done = ablate("resume", paths.name, env=sabotage(tmp_path / "other", TORCH))
    assert done.returncode == 0, done.stderr
    (event,) = [line.record.body for line in journal.read(paths.journal) if line.record.body.get("name") == "changed"]
    assert event["since"] == 1
    assert len(event["changes"]) == 1 and event["changes"][0].endswith(" → 9.9.9")
    said = "→ 9.9.9 since attempt 1; bit-identity is not promised across this"
    assert said in paths.log.read_text()
    assert f"warning: {paths.name}: torch" in done.stderr and said in done.stderr
    assert said in ablate("show", paths.name).stdout
    assert f"- {paths.name}: attempt 2: torch" in ablate("report").stdout


def change(sql: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'results.duckdb' AS r (TYPE duckdb)")
        connection.execute("USE r")
        connection.execute(sql)


def test_db_verify_finds_a_row_that_no_run_wrote(ablate, toys) -> None:
    missing = ablate("db", "verify")
    assert missing.returncode == 2
    ablate("run", "toys.yaml", "--only", "model.width=2")
    fine = ablate("db", "verify")
    assert (fine.returncode, fine.stdout) == (0, "")
    change("UPDATE base.evaluations SET loss = loss + 1e-12 WHERE epoch = 1 AND split = 'val'")
    change(
        f"DELETE FROM base.epochs WHERE epoch = 2 AND source = (SELECT source FROM base.shown WHERE run_id = '{run().name[-8:]}')"
    )
    wrong = ablate("db", "verify")
    assert wrong.returncode == 1
    assert f"epochs of {run().name[-8:]}: 1 rows, 2 in the runs" in wrong.stdout
    assert f"evaluations of {run(lr='0.01').name[-8:]}: the same number of rows, other values" in wrong.stdout
    assert wrong.stdout.count("\n") == 3
    assert "ablate db rebuild" in wrong.stderr
    assert ablate("db", "rebuild").returncode == 0
    assert ablate("db", "verify").returncode == 0


@pytest.mark.slow
def test_db_verify_while_a_run_writes(ablate, toys) -> None:
    process = start("run", "toys.yaml", "--set", "sleep=0.01", "--set", "train.epochs=40")
    running()
    done = ablate("db", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
