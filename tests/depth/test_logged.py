"""What words of logs and settings of scripts mean here; whatever could mean two things means nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.depth import logged
from ablate.depth.config import DepthConfig
from ablate.study.settings import catalogue

KNOWN = catalogue(DepthConfig)

TITLES: dict[str, dict[str, Any]] = {
    "DPT-Hybrid base": {"model.name": "dpt_hybrid", "model.attention": "standard"},
    "DPT Large con Performer Attention": {"model.name": "dpt_large", "model.attention": "performer"},
    "DPT-Hybrid with Compressed Attention 3": {
        "model.name": "dpt_hybrid", "model.attention": "memory_compressed", "model.compression": 3,
    },
    "dpt_hybrid, atención comprimida": {"model.name": "dpt_hybrid", "model.attention": "memory_compressed"},
    "DPT-Hybrid, Nyströmformer": {"model.name": "dpt_hybrid", "model.attention": "nystrom"},
    "DPT-Hybrid with linear attention, bs 4, seed 7, lr=3e-5 on KITTI": {
        "model.name": "dpt_hybrid", "model.attention": "linear", "train.batch_size": 4, "seed": 7, "train.lr": 3e-5,
        "data.name": "kitti",
    },
    "DPT-Hybrid with some new attention": {"model.name": "dpt_hybrid"},
    "DPT-Hybrid: performer or compressed attention 2?": {"model.name": "dpt_hybrid"},
    "DPT-Hybrid lr1e-4 and lr1e-5": {"model.name": "dpt_hybrid", "model.attention": "standard"},
    "A network of ours": {},
    "color 1e-4, clr1e-4": {},
}  # fmt: skip


@pytest.mark.parametrize("title", TITLES)
def test_titles(title: str) -> None:
    assert logged.settings_of_title(title, None, None) == TITLES[title]


def test_epochs_and_names_in_wandb() -> None:
    found = logged.settings_of_title("Modelo base DPT-Hybrid sin finetuning", "test/mem-com-2-lr1e-5", None)
    assert (found["train.epochs"], found["train.lr"]) == (0, 1e-5)
    assert logged.settings_of_title("DPT-Hybrid", None, 20)["train.epochs"] == 20
    assert logged.settings_of_title("DPT-Hybrid lr 1e-4", "lr1e-5", 20).get("train.lr") is None


@given(st.text(), st.none() | st.text(), st.none() | st.integers(0, 10**6))
def test_whatever_is_said_could_be_a_setting(title: str, name: str | None, epochs: int | None) -> None:
    for key in logged.settings_of_title(title, name, epochs):
        assert key in KNOWN.settings


@pytest.mark.parametrize(
    ("weights", "epochs", "epoch"),
    [("a_006.pt", 13, 6), ("a_006.pt", 5, None), ("a_006.pt", None, None), ("a-012.safetensors", 20, 12),
     ("a_000.pt", 5, None), ("midas-501f0c75.pt", 20, None), (None, 5, None)],
)  # fmt: skip
def test_the_epoch_of_a_file(weights: str | None, epochs: int | None, epoch: int | None) -> None:
    assert logged.checkpoint_epoch(weights, epochs) == epoch


def test_protocols() -> None:
    flags = "python eval_with_pngs.py --min_depth_eval 1e-3 --max_depth_eval 80 --garg_crop --do_kb_crop"
    found = logged.protocol_of_commands(["python run.py", flags])
    assert (found["mask"], found["crop"], found["cap"]) == ("garg", "kb", "0.001-80 m")
    assert found["alignment"] == found["network_input"] == "unknown"
    assert logged.protocol_of_commands([flags.replace("--garg_crop", "--eigen_crop")])["mask"] == "eigen"
    assert logged.protocol_of_commands(["python eval_with_pngs.py --max_depth_eval nan"])["cap"] == "unknown"
    assert set(logged.protocol_of_commands(["./eval.sh --garg_crop"]).values()) == {"unknown"}


def test_what_an_attention_does_not_have_is_not_unknown() -> None:
    assert "model.compression" in logged.excluded({"model.attention": "performer"})
    assert "model.features" not in logged.excluded({"model.attention": "performer"})
    assert logged.excluded({}) == frozenset()


def test_settings_of_scripts() -> None:
    config = {
        "learning_rate": 1e-4, "Epochs": 10.0, "bs": 2, "optim": "AdamW", "dataset": "KITTI", "arch": "dpt-hybrid",
        "attention": "sparse", "wd": "none", "nested": {"seed": 3}, "notes": "x",
    }  # fmt: skip
    assert logged.settings_of_script(config, KNOWN.settings) == {
        "train.lr": 1e-4, "train.epochs": 10, "train.batch_size": 2, "train.optimizer": "adamw", "data.name": "kitti",
        "model.name": "dpt_hybrid", "seed": 3,
    }  # fmt: skip
    own = DepthConfig().model_dump(mode="json")
    found = logged.settings_of_script(own, KNOWN.settings)
    assert found["train.lr"] == DepthConfig().train.lr and found["eval.mask"] == "garg"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["lr", "epochs", "bs", "model", "seed", "train", "optimizer"]), json_values))
def test_any_configuration_of_a_script(config: dict[str, Any]) -> None:
    assert logged.settings_of_script(config, KNOWN.settings).keys() <= KNOWN.settings.keys()
