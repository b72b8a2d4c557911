"""What a run is called in the sections of a report, as the progress log does: network, attention, data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NETWORKS = {"dpt_hybrid": "DPT-Hybrid", "dpt_large": "DPT-Large"}
_DATA = {
    "kitti": "KITTI", "nyu": "NYU Depth v2", "redweb": "ReDWeb", "hrwsi": "HR-WSI", "blendedmvs": "BlendedMVS",
}  # fmt: skip
_ATTENTIONS = {
    "performer": ("Performer attention", "Performer Attention"),
    "nystrom": ("Nyström attention", "Nyström Attention"),
    "linear": ("linear attention", "Linear Attention"),
    "window": ("windowed attention", "Window Attention"),
    "memory_compressed": ("compressed attention", "Compressed Attention"),
    "memory_compressed_2d": ("2D compressed attention", "Compressed Attention 2D"),
    "memory_compressed_0_0_3": ("compressed attention as logged", "Compressed Attention"),
}
_DOING = {
    "evaluated": ("evaluated on {}", "evaluado en {}"),
    "fine-tuned": ("fine-tuned on {}", "finetuneado en {}"),
    "scratch": ("trained on {}", "entrenado en {}"),
}


def title(configuration: Mapping[str, Any], lang: str) -> tuple[str, tuple[str, ...]] | None:
    """'DPT-Hybrid with compressed attention 2, fine-tuned on KITTI', and the settings that these words state.

    None without a network: then there is nothing to call it by.
    """
    place = ("en", "es").index(lang)
    model, data = _group(configuration, "model"), _group(configuration, "data")
    if not isinstance(name := model.get("name"), str):
        return None
    text, states = _network(name), ["model.name", "model.attention", "model.compression"]
    attention = model.get("attention")
    if isinstance(attention, str) and attention != "standard":
        known = _ATTENTIONS.get(attention, (f"{attention} attention", f"{attention} attention"))[place]
        ratio = model.get("compression")
        text += f" {('with', 'con')[place]} {known}{f' {ratio}' if ratio else ''}"
    if isinstance(on := data.get("name"), str):
        text += (", ", " ")[place] + _DOING[_done(configuration, model)][place].format(_DATA.get(on, on))
        states.append("data.name")
    return text, tuple(states)


def _group(configuration: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    group = configuration.get(name)
    return group if isinstance(group, Mapping) else {}


def _network(name: str) -> str:
    """'dpt_dinov2_small' -> 'DPT-DINOv2-Small'."""
    parts = [f"DINOv{part[5:]}" if part.startswith("dinov") else part.capitalize() for part in name.split("_")[1:]]
    return _NETWORKS.get(name) or ("DPT-" + "-".join(parts) if name.startswith("dpt_") else name)


def _done(configuration: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    if _group(configuration, "train").get("epochs") == 0:
        return "evaluated"
    return "fine-tuned" if model.get("weights") else "scratch"
