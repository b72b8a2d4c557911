"""Where a run goes, by its study and by the variables that wandb's users know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ablate.engine import mirror_target
from ablate.engine.mirror_target import Arrived, mode_of, read_mirrored, target_of, write_arrived, write_failure
from ablate.evaluated import Layer, Panel
from ablate.runs.journal import Journal


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("declared", "variable", "mode"),
    [
        ("online", None, "online"),
        ("online", "offline", "offline"),
        ("online", "dryrun", "offline"),
        ("offline", "online", "online"),
        ("offline", "run", "online"),
        ("online", "disabled", "disabled"),
        ("online", "what", "online"),
        ("disabled", "online", "disabled"),
        (None, "online", "disabled"),
    ],
)
def test_the_study_says_whether_and_wandb_mode_says_how(
    monkeypatch: pytest.MonkeyPatch, declared: str | None, variable: str | None, mode: str
) -> None:
    """No variable of somebody's shell sends a study away that does not ask for it."""
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    assert mode_of({"mode": declared}) == mode


def test_projects_and_entities(monkeypatch: pytest.MonkeyPatch) -> None:
    assert target_of({"mode": "online", "group": "study"}).place == "https://api.wandb.ai//study"
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    monkeypatch.setenv("WANDB_BASE_URL", "http://localhost:8080/")
    assert target_of({"mode": "online", "group": "study"}).place == "http://localhost:8080/lab/theirs"
    said = {"mode": "online", "group": "study", "project": "mine", "entity": "me", "log_every": 3}
    assert target_of(said).place == "http://localhost:8080/me/mine"
    assert (target_of(said).group, target_of(said).every) == ("study", 3)


def test_a_failure_is_kept_until_something_arrives(make_run: Any) -> None:
    paths = make_run()
    write_arrived(paths, "here", Arrived(0, "d", 1.0))
    write_failure(paths, "no network\nat all")
    assert (read_mirrored(paths).places["here"].digest, read_mirrored(paths).error) == ("d", "no network\nat all")
    assert mirror_target.lacking(paths) == "no network"
    write_arrived(paths, "there", Arrived(0, "e", 1.0))
    assert (set(read_mirrored(paths).places), read_mirrored(paths).error) == ({"here", "there"}, None)
    assert mirror_target.lacking(paths) is None
    with Journal(paths.journal) as journal:
        journal.append("event", 1, 0, {"name": "x"})
    assert mirror_target.lacking(paths) is None, "nobody asked for a mirror"
    paths.mirror_log.touch()
    assert mirror_target.lacking(paths) == "it was cut off before all was sent"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"v": 1, "offset": 3}', '{"v": 2, "places": {"x": {"y": 1}}}', '{"v": 2, "places": 3, "error": null}'])  # fmt: skip
def test_a_damaged_file_means_that_nothing_arrived(make_run: Any, content: str) -> None:
    paths = make_run()
    paths.mirror.write_text(content)
    assert read_mirrored(paths) == mirror_target.Mirrored()


def test_the_digest_changes_with_whatever_is_sent(make_run: Any) -> None:
    from ablate.runs import notes, states
    from ablate.runs.directory import RunConfig, write_config
    from ablate.runs.panels import PanelStore
    from ablate.runs.states import Outcome, State

    paths = make_run()
    target = target_of({"mode": "online", "group": "g"})
    seen = [mirror_target.digest_of(paths, target)]
    notes.add_tags(paths, ["a"])
    seen.append(mirror_target.digest_of(paths, target))
    states.write_outcome(paths, Outcome(State.FAILED))
    seen.append(mirror_target.digest_of(paths, target))
    PanelStore(paths.panels).store(1, "val", "full", [Panel("a", (Layer("x", "scalar", np.ones((2, 2))),))])
    seen.append(mirror_target.digest_of(paths, target))
    with Journal(paths.journal) as journal:
        journal.append("event", 1, 0, {"name": "x"})
    seen.append(mirror_target.digest_of(paths, target))
    write_config(paths, RunConfig({"seed": 2}, "", {}))
    seen.append(mirror_target.digest_of(paths, target))
    seen.append(mirror_target.digest_of(paths, target_of({"mode": "online", "group": "h"})))
    assert len(set(seen)) == len(seen) == 7
    assert seen[-1] == mirror_target.digest_of(paths, target_of({"mode": "offline", "group": "h"}))
