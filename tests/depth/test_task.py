from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.depth.config import DepthConfig
from ablate.depth.metrics import KEYS
from ablate.depth.task import DepthTask
from ablate.errors import DataError
from ablate.task import RunSettings

TASK = DepthTask()


def configured(settings: dict[str, Any], **changes: dict[str, Any]) -> DepthConfig:
    """`settings` with some of their parts changed, key by key."""
    merged = {**settings, **{part: {**settings.get(part, {}), **change} for part, change in changes.items()}}
    return DepthConfig.model_validate(merged)


def test_importing_the_task_loads_no_torch() -> None:
    code = (
        "import sys; from ablate.depth.task import DepthTask; t = DepthTask(); t.slug(t.Config()); "
        "bad = {'torch', 'pandas', 'wandb', 'timm'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_identity_check_and_slug_work_without_torch(config: DepthConfig) -> None:
    code = (
        f"import sys; from pathlib import Path; sys.modules['torch'] = None\n"
        f"from ablate.depth.task import DepthTask; t = DepthTask()\n"
        f"c = t.absolute(t.Config(data={{'root': {str(config.data.root)!r}}}), Path('/'))\n"
        f"t.digests(c); t.check(c, None, lambda text: None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_are_the_nine_of_the_log_in_its_order() -> None:
    assert tuple(metric.key for metric in TASK.metrics) == KEYS
    assert [metric.header for metric in TASK.metrics] == [
        "d1", "d2", "d3", "AbsRel", "SqRel", "RMSE", "RMSElog", "SILog", "log10",
    ]  # fmt: skip
    assert [metric.better for metric in TASK.metrics] == ["max"] * 3 + ["min"] * 6


@pytest.mark.parametrize(
    ("settings", "slug"),
    [
        ({}, "standard-lr1e-5"),
        ({"model": {"attention": "memory_compressed"}}, "mem-com-2-lr1e-5"),
        ({"model": {"attention": "memory_compressed", "compression": 3}, "train": {"lr": 1e-4}}, "mem-com-3-lr1e-4"),
        ({"model": {"attention": "performer"}, "train": {"lr": 0.00025, "batch_size": 4}}, "performer-lr2.5e-4-bs4"),
        ({"data": {"resolution": (96, 320)}, "seed": 2}, "standard-lr1e-5-96x320-s2"),
        ({"train": {"lr": 1}, "data": {"root": "/elsewhere", "workers": 4}}, "standard-lr1e0"),
        ({"train": {"epochs": 0, "batch_size": 4}}, "eval-dpt_hybrid-standard"),
    ],
)
def test_slugs(settings: dict[str, Any], slug: str) -> None:
    assert TASK.slug(DepthConfig.model_validate(settings)) == slug


def test_paths_become_absolute_and_the_split_stays_relative(tmp_path: Path) -> None:
    config = DepthConfig.model_validate(
        {"data": {"root": "data/../kitti", "split": "splits/eigen"}, "model": {"weights": "w.pt"}}
    )
    absolute = TASK.absolute(config, tmp_path)
    assert absolute.data.root == tmp_path / "kitti"
    assert absolute.model.weights == tmp_path / "w.pt"
    assert absolute.data.split == Path("splits/eigen")
    assert TASK.absolute(absolute, Path("/elsewhere")) == absolute
    home = DepthConfig.model_validate({"data": {"root": "~/kitti"}})
    assert TASK.absolute(home, tmp_path).data.root == Path.home() / "kitti"
    assert TASK.absolute(home, tmp_path).model.weights is None


def test_digests_are_those_of_the_files(tmp_path: Path, street: Path, settings: dict[str, Any]) -> None:
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"1")
    digests = TASK.digests(configured(settings, model={"weights": weights}))
    assert digests["weights"] == hashlib.sha256(b"1").hexdigest()
    for name in ("train", "val", "test"):
        assert digests[name] == hashlib.sha256((street / f"{name}_files.txt").read_bytes()).hexdigest()
    weights.write_bytes(b"22")
    assert (
        TASK.digests(configured(settings, model={"weights": weights}))["weights"] == hashlib.sha256(b"22").hexdigest()
    )
    assert set(TASK.digests(configured(settings))) == {"train", "val", "test"}


def test_line_ends_and_a_byte_order_mark_do_not_make_another_run(tmp_path: Path, settings: dict[str, Any]) -> None:
    lines = ["2011_09_26/2011_09_26_drive_0001_sync 5 l", "2011_09_26/2011_09_26_drive_0001_sync 6 r"]
    (tmp_path / "val_files.txt").write_text(lines[0])
    found = set()
    spellings = (
        "\n".join(lines),
        "\r\n".join(lines) + "\r\n",
        "\ufeff" + "\n".join(lines),
        "\n\n".join(lines) + "\n \n",
    )
    for text in spellings:
        (tmp_path / "train_files.txt").write_bytes(text.encode())
        found.add(TASK.digests(configured(settings, data={"root": tmp_path}))["train"])
    assert len(found) == 1
    (tmp_path / "train_files.txt").write_text("\n".join(reversed(lines)))
    assert TASK.digests(configured(settings, data={"root": tmp_path}))["train"] not in found


def test_an_absent_test_list_has_no_digest(tmp_path: Path, settings: dict[str, Any]) -> None:
    for name in ("train", "val"):
        (tmp_path / f"{name}_files.txt").write_text("2011_09_26/2011_09_26_drive_0001_sync 5 l\n")
    assert set(TASK.digests(configured(settings, data={"root": tmp_path}))) == {"train", "val"}


def test_missing_files_are_named_with_the_remedy(tmp_path: Path, settings: dict[str, Any]) -> None:
    nowhere = configured(settings, data={"root": tmp_path / "none"})
    with pytest.raises(DataError, match="ablate data sample") as caught:
        TASK.digests(nowhere)
    assert str(tmp_path / "none") in str(caught.value)
    with pytest.raises(DataError, match=r"w\.pt: no such file.*model\.weights"):
        TASK.digests(configured(settings, model={"weights": tmp_path / "w.pt"}))
    with pytest.raises(DataError, match="model\\.weights"):
        TASK.digests(configured(settings, model={"weights": tmp_path}))


def test_check_and_describe(config: DepthConfig, settings: dict[str, Any]) -> None:
    assert TASK.check(config, None, lambda text: None).notes == ()
    described = TASK.describe(config)
    assert described.images == {"train": 7, "val": 3, "test": 2}
    assert described.parameters == sum(part.parameters for part in described.parts)
    assert {part.name for part in described.parts} >= {"backbone", "attention", "mlp", "decoder", "head"}
    assert described.notes == ()
    hybrid = TASK.describe(configured(settings, model={"name": "dpt_hybrid"}, data={"subset": {"n": 3}}))
    assert hybrid.parameters == 123_146_985
    assert hybrid.images["train"] == 3
    assert hybrid.notes == ("3 of 7 training images, the same every epoch",)


def test_frames_without_depth_are_counted(tmp_path: Path, street: Path, settings: dict[str, Any]) -> None:
    for part in ("raw", "data_depth_annotated"):
        (tmp_path / part).symlink_to(street / part)
    for name in ("train", "val"):
        text = (street / f"{name}_files.txt").read_text()
        (tmp_path / f"{name}_files.txt").write_text(text + "2011_09_26/2011_09_26_drive_7777_sync 5 l\n")
    described = TASK.describe(configured(settings, data={"root": tmp_path}))
    assert described.images == {"train": 7, "val": 3, "test": 0}
    assert described.notes[0] == "1 of the 8 frames of the train list has no depth map and is left out"


def test_a_size_written_width_first_is_noted(config: DepthConfig, settings: dict[str, Any]) -> None:
    upright = configured(settings, data={"resolution": [96, 64]})
    for notes in (TASK.check(upright, None, lambda text: None).notes, TASK.describe(upright).notes):
        assert "[96, 64] is higher than wide" in notes[0] and "was [64, 96] meant?" in notes[0]


def test_another_tasks_configuration_is_refused() -> None:
    with pytest.raises(TypeError, match="DepthConfig"):
        TASK.slug(RunSettings())
