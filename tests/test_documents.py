"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ablate.depth import attention
from ablate.depth.config import DepthConfig
from ablate.depth.task import DepthTask
from ablate.study import expand, load_study
from ablate.study.settings import catalogue

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_studies_in_documents_are_valid(path: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(path, "yaml")):
        study = tmp_path / f"{number}.yaml"
        study.write_text(text)
        assert expand(load_study(study, {"depth": DepthTask()}), DepthTask())


def test_shipped_studies_expand_to_what_they_say() -> None:
    task = DepthTask()
    sizes = {
        path.stem: len(expand(load_study(path, {"depth": task}), task)) for path in (ROOT / "studies").glob("*.yaml")
    }
    assert sizes == {
        "base-training": 2,
        "quickstart": 4,
        "compressed": 24,
        "explosion": 12,
        "heads-and-taps": 27,
        "performer": 9,
        "progress-log": 12,
        "resolution": 6,
        "trouble": 4,
    }


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8").split("\n## Settings\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([\w.]+)` \*? ?\| (.*?) \|", text, re.MULTILINE))
    known = {key for key in catalogue(DepthConfig).settings if key != "seed"}
    groups = {"eval.select", "data.subset", "train.early_stopping"}
    leaves = {key for key in known if not any(key.startswith(f"{group}.") for group in groups)}
    assert set(rows) == leaves | groups
    for key in leaves:
        value = catalogue(DepthConfig).default(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and key != "train.weight_decay":
            assert float(rows[key].split(";")[0]) == value, key


def test_the_attention_in_the_document_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file dropped into the folder is a value of `model.attention`, and passes as one."""
    import importlib.util
    import sys

    import torch

    from ablate.depth.attention.base import load

    (code,) = blocks(ROOT / "docs" / "studies.md", "python")
    path = tmp_path / "mean.py"
    path.write_text("from __future__ import annotations\n" + code)
    name = "ablate.depth.attention.mean"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(attention, "names", lambda: ("standard", "mean"))
    layer = load("mean")(24, 3, True)
    assert layer(torch.randn(2, 7, 24), (2, 3), 1).shape == (2, 7, 24)
