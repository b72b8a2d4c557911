"""Titles in the manner of the progress log."""

from __future__ import annotations

from typing import Any

import pytest

from ablate.depth import attention
from ablate.depth.config import DepthConfig
from ablate.depth.logged import settings_of_title
from ablate.depth.model import specs
from ablate.depth.task import DepthTask

HYBRID: dict[str, Any] = {"model": {"name": "dpt_hybrid", "weights": "w.pt"}, "data": {"name": "kitti"}}


def of(lang: str = "en", **model: Any) -> str | None:
    found = DepthTask().title({**HYBRID, "model": {**HYBRID["model"], **model}}, lang)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("model", "english", "spanish"),
    [
        ({}, "DPT-Hybrid, fine-tuned on KITTI", "DPT-Hybrid finetuneado en KITTI"),
        (
            {"attention": "performer"},
            "DPT-Hybrid with Performer attention, fine-tuned on KITTI",
            "DPT-Hybrid con Performer Attention finetuneado en KITTI",
        ),
        (
            {"attention": "memory_compressed", "compression": 2},
            "DPT-Hybrid with compressed attention 2, fine-tuned on KITTI",
            "DPT-Hybrid con Compressed Attention 2 finetuneado en KITTI",
        ),
        ({"weights": None}, "DPT-Hybrid, trained on KITTI", "DPT-Hybrid entrenado en KITTI"),
        ({"name": "dpt_dinov2_small"}, "DPT-DINOv2-Small, fine-tuned on KITTI", "DPT-DINOv2-Small finetuneado en KITTI"),
        ({"attention": "my_own"}, "DPT-Hybrid with my_own attention, fine-tuned on KITTI",
         "DPT-Hybrid con my_own attention finetuneado en KITTI"),
    ],
)  # fmt: skip
def test_titles(model: dict[str, Any], english: str, spanish: str) -> None:
    assert (of("en", **model), of("es", **model)) == (english, spanish)


def test_what_was_only_evaluated() -> None:
    found = DepthTask().title({**HYBRID, "train": {"epochs": 0}}, "en")
    assert found is not None and found[0] == "DPT-Hybrid, evaluated on KITTI"


def test_every_network_and_attention_has_a_title_of_its_own() -> None:
    for lang in ("en", "es"):
        networks = [of(lang, name=name) for name in specs.names()]
        assert len(set(networks)) == len(networks)
        kinds = [of(lang, attention=name, compression=2) for name in attention.names() if name != "standard"]
        assert len({*kinds, of(lang)}) == len(kinds) + 1


def test_a_whole_configuration_as_it_is_stored() -> None:
    """The words state what they name, and a log's reader understands them."""
    stored = DepthConfig.model_validate({"model": {"attention": "performer"}}).model_dump(mode="json")
    for lang in ("en", "es"):
        found = DepthTask().title(stored, lang)
        assert found is not None
        assert found[1] == ("model.name", "model.attention", "model.compression", "data.name")
        read = settings_of_title(found[0], None, 3)
        assert (read["model.name"], read["model.attention"], read["data.name"]) == ("dpt_hybrid", "performer", "kitti")


@pytest.mark.parametrize("configuration", [{}, {"model": None}, {"model": {"attention": "x"}}, {"model": {"name": 3}}])
def test_nothing_to_call_it_by(configuration: dict[str, Any]) -> None:
    assert DepthTask().title(configuration, "en") is None
