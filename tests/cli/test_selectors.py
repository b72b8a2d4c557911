"""The same words on every command: which runs it shows, stops, trains, notes and removes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate.cli.chosen import complete
from ablate.runs import states
from ablate.runs.notes import read_notes
from ablate.runs.paths import RunPaths
from ablate.runs.states import State

MIXED = """\
study: mixed
task: toy
base: {train: {epochs: 1, lr: 0.3}, model: {width: 6}}
ablate:
  - {model.width: 4, trouble.kind: crash, trouble.step: 2, trouble.once: FLAG}
  - {model.width: 5}
"""


def run(width: int = 2, lr: str = "0.1") -> RunPaths:
    return RunPaths(next(Path("runs").glob(f"toy-{width}-lr{lr}-*")))


def names(text: str) -> list[str]:
    return sorted({line.split()[0].rpartition("-")[0] for line in text.splitlines()[1:]})


@pytest.fixture
def two(ablate, toys, tmp_path: Path) -> None:
    """A finished study of four runs, and one in which a run crashed."""
    Path("mixed.yaml").write_text(MIXED.replace("FLAG", f"{tmp_path}/flag"))
    assert ablate("run", "toys.yaml").returncode == 0
    assert ablate("run", "mixed.yaml", "--retries", "0").returncode == 1


@pytest.mark.slow
def test_commands_that_look(ablate, here, two) -> None:
    def listed(*words: str) -> list[str]:
        done = here("ls", *words)
        assert done.returncode == 0, done.stderr
        return names(done.stdout)

    everything = sorted({path.name.rpartition("-")[0] for path in Path("runs").glob("toy-*")})
    assert listed() == everything and len(everything) == 7
    assert listed("toys") == listed("toys.yaml") == listed("study=toys") and len(listed("toys")) == 4
    assert listed("toys", "width=3") == ["toy-3-lr0.01", "toy-3-lr0.1"]
    assert listed("toys", "model.width=2", "lr=1e-2") == ["toy-2-lr0.01"]
    assert listed("status=failed") == ["toy-4-lr0.3"] == listed("reason=crash")
    assert listed("toys", "status=failed") == []
    assert listed("toy-2*", "toy-5") == listed("width=2,5")
    assert json.loads(here("ls", "status=failed", "--json").stdout)[0]["reason"] == "crash"
    (status,) = json.loads(here("status", "mixed", "--json").stdout)
    assert (status["study"], status["runs"], status["failed"]) == ("mixed", 3, 1)
    assert "toy-4" in here("show", "mixed", "status=failed").stdout.splitlines()[0]
    several = here("show", "toys")
    assert several.returncode == 2 and "names 4 runs, and one is meant here" in several.stderr
    wrong = here("ls", "wdith=3")
    assert wrong.returncode == 2 and "did you mean model.width?" in wrong.stderr
    for word in ("status=fialed", "tois", "seed=7", "tag=x"):
        assert here("ls", word).returncode == 2


@pytest.mark.slow
def test_commands_that_change(ablate, here, two) -> None:
    assert "no run fits" in here("rm", "toys", "status=failed", "--yes").stderr
    ambiguous = here("rm", "toy-2", "--yes")
    assert ambiguous.returncode == 2 and "names 2 runs" in ambiguous.stderr
    preview = here("rm", "toys", "width=3")
    assert preview.returncode == 0 and "--yes removes 2 runs" in preview.stderr
    assert names(preview.stdout) == ["toy-3-lr0.01", "toy-3-lr0.1"] and run(3).identity.exists()
    assert here("rm", "toys", "width=3", "--yes").returncode == 0
    assert not list(Path("runs").glob("toy-3*")) and len(list(Path("runs").glob("toy-2*"))) == 2

    assert here("tag", "width=2", "small").stderr.count(": small") == 2
    assert here("tag", "tag=small").stdout.count("small") == 2
    assert here("note", "status=failed", "it was hot").returncode == 0
    assert [note.text for note in read_notes(run(4, "0.3")).notes] == ["it was hot"]
    assert run(4, "0.3").name in here("note", "mixed", "--list").stdout
    assert here("note", "tag=small", "--remove", "1").returncode == 2
    assert here("gc", "tag=small", "--keep", "best").returncode == 0
    assert "toy-5" not in here("gc", "tag=small", "--keep", "best").stdout

    assert "names 2 runs" in here("verify", "tag=small").stderr
    assert "no run failed" in ablate("retry", "toys", "--failed").stderr
    assert "say which runs" in here("retry", "mixed").stderr
    done = ablate("retry", "mixed", "status=failed")
    assert done.returncode == 0 and done.stderr.count("retry     ") == 1, done.stderr
    assert states.status(run(4, "0.3")).state is State.COMPLETE
    again = ablate("resume", "tag=small")
    assert again.returncode == 0 and again.stderr.count("complete, nothing left to do") == 2
    longer = ablate("extend", "tag=small", "--epochs", "3")
    assert longer.returncode == 0, longer.stderr
    assert len(list(Path("runs").glob("toy-2*"))) == 4
    halted = here("stop", "tag=small")
    assert (halted.returncode, "tag=small: nothing is running" in halted.stderr) == (0, True)
    assert "toys mixed: nothing is running" in here("stop", "toys", "mixed").stderr


@pytest.mark.slow
def test_several_runs_are_resumed_one_after_the_other(ablate, here, two) -> None:
    """What is wrong with one keeps no other from it."""
    run(5, "0.3").config.write_text("{")
    run(5, "0.3").outcome.unlink()
    run(4, "0.3").outcome.unlink()
    done = ablate("resume", "toy-[45]*")
    assert done.returncode == 1
    assert "config.json" in done.stderr and states.status(run(4, "0.3")).state is State.COMPLETE


@pytest.mark.slow
def test_words_are_completed(here, two) -> None:
    assert "toys" in complete("to") and run().name in complete("toy-2")
    assert complete("status=f") == ["status=failed"]
    assert complete("zzz") == []


@pytest.mark.slow
def test_a_run_whose_state_changed_meanwhile_is_left_alone(here, two) -> None:
    """The database is busy and says `failed`; the run's own files say that it is complete by now."""
    from ablate.results.lock import hold

    assert here("ls", "status=failed").returncode == 0
    states.write_outcome(run(4, "0.3"), states.Outcome(State.COMPLETE))
    with hold(Path("results.duckdb"), exclusive=False, wait=1):  # readers may read, nobody may write
        done = here("rm", "status=failed", "--yes")
    assert "left alone" in done.stderr and "is complete by now" in done.stderr
    assert run(4, "0.3").identity.exists()
