"""What the words of people's logs, and the settings of their scripts, are called here.

Only what is said counts: a word that could mean two things means nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablate.depth import attention
from ablate.depth.data import datasets
from ablate.depth.model import specs

_ATTENTION = re.compile(r"attention|atenci[oó]n", re.IGNORECASE)
_COMPRESSED = re.compile(
    r"compressed[ _-]attention\b[ _-]?(\d{1,2})?|atenci[oó]n comprimida\b ?(\d{1,2})?", re.IGNORECASE
)
_KINDS = {
    "performer": re.compile(r"\bperformer\b", re.IGNORECASE),
    "nystrom": re.compile(r"\bnystr[öo]m", re.IGNORECASE),
    "linear": re.compile(r"\blinear attention\b|\batenci[oó]n lineal\b", re.IGNORECASE),
    "window": re.compile(r"\bwindow(?:ed)? attention\b|\batenci[oó]n por ventanas\b", re.IGNORECASE),
    "standard": re.compile(r"\bstandard attention\b|\batenci[oó]n est[áa]ndar\b", re.IGNORECASE),
}
_UNTRAINED = re.compile(r"\b(?:sin|without|no) fine-?tun(?:ing|ear)\b", re.IGNORECASE)
_LR = re.compile(r"(?<![a-z])lr[ =_:-]{0,3}(\d{1,3}(?:\.\d{1,9})?(?:e-?\d{1,2})?)(?![\w.])", re.IGNORECASE)
_BATCH = re.compile(r"(?<![a-z])(?:bs|batch(?:[ _-]?size)?)[ =_:-]{0,3}(\d{1,5})\b", re.IGNORECASE)
_SEED = re.compile(r"(?<![a-z])(?:seed|semilla)[ =_:-]{0,3}(\d{1,9})\b", re.IGNORECASE)
_EPOCH_OF_FILE = re.compile(r"[_-](\d{2,4})\.(?:pt|pth|ckpt|safetensors)")

UNKNOWN = "unknown"
_RULES = ("network_input", "crop", "mask", "cap", "resize", "alignment", "flip")
"""What an evaluation here stores of its protocol."""

_SCRIPT = {
    **dict.fromkeys(("lr", "learning_rate", "learningrate", "base_lr"), "train.lr"),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "max_epochs"), "train.epochs"),
    **dict.fromkeys(("batch_size", "batchsize", "bs"), "train.batch_size"),
    **dict.fromkeys(("optimizer", "optim"), "train.optimizer"),
    **dict.fromkeys(("weight_decay", "wd"), "train.weight_decay"),
    **dict.fromkeys(("seed", "random_seed"), "seed"),
    **dict.fromkeys(("attention", "attention_type"), "model.attention"),
    **dict.fromkeys(("model", "model_type", "arch", "backbone"), "model.name"),
    **dict.fromkeys(("dataset", "data_set"), "data.name"),
}
"""Names that training scripts use, without prefixes."""


def settings_of_title(title: str, name: str | None, epochs: int | None) -> dict[str, Any]:
    """The settings that a run's title and its name in wandb state, by dotted key."""
    found: dict[str, Any] = {}
    network = next((known for known in specs.names() if _word(known).search(title)), None)
    if network:
        found["model.name"] = network
    found |= _attention(title, network)
    if data := next((known for known in datasets.names() if _word(known).search(title)), None):
        found["data.name"] = data
    if epochs is not None or _UNTRAINED.search(title):
        found["train.epochs"] = epochs or 0
    said = f"{title} {name or ''}"
    for key, pattern, number in (("train.lr", _LR, float), ("train.batch_size", _BATCH, int), ("seed", _SEED, int)):
        if values := {number(match) for match in pattern.findall(said)}:
            found |= {key: min(values)} if len(values) == 1 and (key == "seed" or min(values) > 0) else {}
    return found


def excluded(stated: Mapping[str, Any]) -> frozenset[str]:
    """Settings that the stated attention does not have: they are not unknown, they do not apply."""
    kind = stated.get("model.attention")
    if kind not in attention.names():
        return frozenset()
    return frozenset(f"model.{option}" for option in {*attention.all_options()} - {*attention.options(kind)})


def _word(name: str) -> re.Pattern[str]:
    return re.compile(r"(?<![a-z0-9])" + re.escape(name).replace("_", "[-_ ]?") + r"(?![a-z0-9])", re.IGNORECASE)


def _attention(title: str, network: str | None) -> dict[str, Any]:
    kinds = [kind for kind, pattern in _KINDS.items() if pattern.search(title)]
    compressed = _COMPRESSED.search(title)
    if compressed and not kinds:
        ratio = compressed[1] or compressed[2]
        return {"model.attention": "memory_compressed"} | ({"model.compression": int(ratio)} if ratio else {})
    if len(kinds) == 1 and not compressed:
        return {"model.attention": kinds[0]}
    named = kinds or compressed or _ATTENTION.search(title)
    return {"model.attention": "standard"} if network and not named else {}


def short_name(settings: Mapping[str, Any]) -> str | None:
    """'mem-com-2-lr1e-5', as runs are called here; None if the attention is not stated."""
    kind = settings.get("model.attention")
    if kind is None:
        return None
    words = kind.split("_")
    parts = [word[:3] for word in words] if len(words) > 1 else words
    parts += [str(settings["model.compression"])] if "model.compression" in settings else []
    if lr := settings.get("train.lr"):
        mantissa, exponent = f"{lr:e}".split("e")
        parts.append(f"lr{float(mantissa):g}e{int(exponent)}")
    return "-".join(parts)


def checkpoint_epoch(weights: str | None, epochs: int | None) -> int | None:
    """The epoch that the name of a weights file ends with (`…_006.pt`), if the run had as many; None if it says none."""
    found = _EPOCH_OF_FILE.search(weights or "")
    number = int(found[1]) if found else 0
    return number if epochs is not None and 0 < number <= epochs else None


def protocol_of_commands(commands: Sequence[str]) -> dict[str, str]:
    """How the numbers were made, as far as the flags of BTS's `eval_with_pngs.py` and DPT's script say."""
    found = dict.fromkeys(_RULES, UNKNOWN)
    words = " ".join(commands).split()
    if not any("eval_with_pngs" in word and word.endswith(".py") for word in words):
        return found
    given = {word.lstrip("-"): following for word, following in zip(words, [*words[1:], ""], strict=True)}
    found["mask"] = "garg" if "garg_crop" in given else "eigen" if "eigen_crop" in given else "none"
    found["crop"] = "kb" if "do_kb_crop" in given or "kitti_crop" in given else "none"
    limits = [_limit(given.get(key)) for key in ("min_depth_eval", "max_depth_eval")]
    if None not in limits:
        found["cap"] = f"{limits[0]:g}-{limits[1]:g} m"
    return found


def _limit(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is None or 0 <= value < 1e6 else None


def settings_of_script(config: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What a script's own configuration states of the settings `known` here, by dotted key.

    Our own names are taken as they are; of others only those whose value is one that could stand here.
    """
    found: dict[str, Any] = {}
    for key, value in _flat(config):
        if key in known:
            found[key] = value
    for key, value in _flat(config):
        name = _SCRIPT.get(key.rpartition(".")[2].lower().replace("-", "_"))
        if name and name in known and name not in found and (fitting := _fitting(name, value)) is not None:
            found[name] = fitting
    return found


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _fitting(name: str, value: Any) -> Any:
    """The value as it would stand here; None if it could not."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    if name in ("train.lr", "train.weight_decay"):
        return float(value) if number else None
    if name in ("train.epochs", "train.batch_size", "seed"):
        return int(value) if number and value == int(value) else None
    text = str(value).lower().replace("-", "_")
    choices = {"model.attention": attention.names(), "model.name": specs.names(), "data.name": datasets.names()}
    if name in choices:
        return text if text in choices[name] else None
    return text if text in ("adam", "adamw", "sgd") else None
