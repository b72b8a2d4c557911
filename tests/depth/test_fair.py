"""The first row of the progress log cannot happen again: inverse depth is never read as metres."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ablate.depth import fair
from ablate.depth.config import DepthConfig
from ablate.depth.task import DepthTask
from ablate.errors import DataError, StudyError
from ablate.study import expand, identity_settings, load_study


def config(**sections: Any) -> DepthConfig:
    return DepthConfig.model_validate(sections)


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        ("dpt_hybrid-midas-501f0c75.pt", True),
        ("weights/dpt_large-midas-2f21e586.pt", True),
        ("MiDaS_v21.pth", True),
        ("depth_anything_v2_vits.pth", True),
        ("Depth-Anything-V2-Small-hf/model-dir", False),
        ("hub/Depth-Anything-V2-Small-hf", True),
        ("depth_anything_v2_metric_vkitti_vits.pth", False),
        ("dpt_hybrid_kitti-cb926ef4.pt", False),
        ("dpt_hybrid-midas-finetuned-kitti.pt", False),
        ("midas/weights.pt", False),
        ("midas-lr1e-5-k3v9q2xa", False),  # a run
    ],
)
def test_published_relative_weights_are_known_by_their_names(name: str, relative: bool) -> None:
    assert fair.known_relative(Path(name)) is relative


def test_published_relative_weights_are_known_by_their_content() -> None:
    assert fair.known_relative(Path("a.pt"), "501f0c75" + "0" * 56)
    assert not fair.known_relative(Path("a.pt"), "cb926ef4" + "0" * 56)


def test_a_run_is_relative_if_it_was_evaluated_as_such(tmp_path: Path) -> None:
    for name, output in (("midas-aaaaaaaa", "metric"), ("plain-bbbbbbbb", "relative")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
        stored = {"v": 1, "config": {"model": {"output": output}}, "command": "", "wandb": {}}
        (tmp_path / name / "config.json").write_text(json.dumps(stored))
        assert fair.known_relative(tmp_path / name) is (output == "relative")


ALIGNED = {"align": "scale_shift"}
MIDAS = {"weights": "w/dpt_hybrid-midas-501f0c75.pt"}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"output": "relative"}, "train": {"epochs": 0}}, "never read as metres; set eval.align"),
        ({"model": {"output": "relative"}, "eval": ALIGNED}, "training makes them metric; set train.epochs: 0"),
        ({"train": {"loss": "ssi_trimmed"}}, "ssi_trimmed teach.* has no unit and is never scored in metres"),
        ({"model": MIDAS, "train": {"epochs": 0}}, "is known to predict inverse depth without a unit"),
        ({"model": MIDAS, "train": {"epochs": 0}, "eval": ALIGNED}, "set model.output: relative"),
        ({"data": {"name": "nyu"}, "eval": {"mask": "garg"}}, "NYU protocol has no mask 'garg'"),
    ],
)
def test_what_would_mislead_is_refused(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(**sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"output": "relative", **MIDAS}, "train": {"epochs": 0}, "eval": ALIGNED},
        {"model": {"output": "relative"}, "train": {"epochs": 0}, "eval": {"align": "median"}},
        {"model": MIDAS, "train": {"epochs": 1}},
        {"model": {"weights": "w/dpt_hybrid_kitti-cb926ef4.pt"}, "train": {"epochs": 0}},
        {"eval": ALIGNED},
        {"train": {"loss": "ssi_trimmed"}, "eval": ALIGNED},
        {"train": {"loss": {"ssi_trimmed": 1, "silog": 0.1}}},
        {"train": {"loss": "ssi_trimmed", "epochs": 0}},
    ],
)
def test_what_says_what_it_is_is_accepted(sections: dict[str, Any]) -> None:
    assert config(**sections)


def test_new_settings_change_no_id_of_a_run_without_them() -> None:
    spelled = config(model={"output": "metric"}, eval={"align": "none", "flip": False, "mask": "garg"})
    assert identity_settings(spelled) == identity_settings(config())
    for change in ({"eval": {"flip": True}}, {"eval": ALIGNED}):
        assert identity_settings(config(**change)) != identity_settings(config())


def test_nyu_has_its_usual_mask_whether_it_is_spelled_or_not() -> None:
    named = {"data": {"name": "nyu"}}
    assert config(**named).eval.mask == "eigen"
    assert identity_settings(config(**named)) == identity_settings(config(**named, eval={"mask": "eigen"}))
    assert config(**named, eval={"mask": "none"}).eval.mask == "none"


def test_a_study_says_where_the_fault_is(tmp_path: Path) -> None:
    study = tmp_path / "s.yaml"
    study.write_text(
        "study: s\nbase:\n  model: {name: dpt_tiny, weights: w/dpt_hybrid-midas-501f0c75.pt}\n"
        "grid:\n  train.epochs: [0, 5]\n"
    )
    task = DepthTask()
    with pytest.raises(StudyError, match=r"s\.yaml:3:.*model\.output.*in the cell train\.epochs=0"):
        expand(load_study(study, {"depth": task}), task)


def test_content_is_looked_at_before_anything_runs(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file under another name: its digest tells."""
    file = tmp_path / "innocent.pt"
    file.write_bytes(b"whatever")
    task = DepthTask()
    chosen = {**settings, "model": {"name": "dpt_tiny", "weights": file}, "train": {"epochs": 0}}
    digest = task.digests(config(**chosen))["weights"]
    monkeypatch.setattr(fair, "RELATIVE_SHA256", (digest[:8],))
    with pytest.raises(DataError, match=r"innocent\.pt: model\.output: .*set model\.output: relative"):
        task.check(config(**chosen), None, lambda text: None)
