"""How files of weights name a network's tensors, and which name of ours each one has.

Ours are those of the published `main` layout (isl-org/DPT: midas-501f0c75, kitti-cb926ef4, nyu-2ce69ec7). A layout is
a table of renames that is read in both directions; `#` stands for a number. No torch here.

Sources of the names: isl-org/DPT, branches `main` and `dpt_scriptable`; DepthAnything/Depth-Anything-V2;
transformers' DPTForDepthEstimation and DepthAnythingForDepthEstimation; timm's vision transformers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

Rename = tuple[str, str]
"""(ours, theirs): beginnings of keys, whole words between dots."""


@dataclass(frozen=True)
class Layout:
    """One way to name tensors."""

    name: str
    renames: tuple[Rename, ...] = ()
    """The first that matches counts."""
    fused: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(ours, theirs): tensors that are one of ours, joined along their first dimension."""
    aliases: tuple[Rename, ...] = ()
    """Renames of reading alone: other spellings of the same layout."""
    prefix: str | None = None
    """Put before names that no rename matches; None: such names mean nothing here."""

    def ours(self, keys: Collection[str]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """For each tensor of ours the keys of a file that it consists of, and the keys that are none of ours.

        Two keys for one tensor: the first counts and the other is none of ours.
        """
        found: dict[str, tuple[str, ...]] = {}
        pieces: dict[str, dict[int, str]] = {}
        strangers: list[str] = []
        for key in keys:
            piece = self._piece(key)
            name = None if piece else self._ours(key)
            if piece:
                pieces.setdefault(piece[0], {})[piece[1]] = key
            elif name is None or name in found:
                strangers.append(key)
            else:
                found[name] = (key,)
        for name, parts in pieces.items():
            if len(parts) == 3 and name not in found:
                found[name] = tuple(parts[number] for number in sorted(parts))
            else:
                strangers.extend(parts.values())
        return found, tuple(strangers)

    def theirs(self, key: str) -> tuple[str, ...] | None:
        """What a tensor of ours is called; several names if it is several tensors there, None if it has no place."""
        for ours, names in self.fused:
            found = [_renamed(key, ours, theirs) for theirs in names]
            if found[0] is not None:
                return tuple(name for name in found if name is not None)
        for ours, theirs in self.renames:
            if (name := _renamed(key, ours, theirs)) is not None:
                return (name,)
        if self.prefix is None or not key.startswith(self.prefix):
            return None
        return (key.removeprefix(self.prefix),)

    def _ours(self, key: str) -> str | None:
        for ours, theirs in (*self.renames, *self.aliases):
            if (name := _renamed(key, theirs, ours)) is not None:
                return name
        return None if self.prefix is None else self.prefix + key

    def _piece(self, key: str) -> tuple[str, int] | None:
        for ours, names in self.fused:
            for number, theirs in enumerate(names):
                if (name := _renamed(key, theirs, ours)) is not None:
                    return name, number % 3
        return None


@cache
def _pattern(beginning: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(map(re.escape, beginning.split("#"))) + r"(?=\.|$)")


def _renamed(key: str, beginning: str, other: str) -> str | None:
    """`key` with its beginning replaced; None if it begins otherwise."""
    match = _pattern(beginning).match(key)
    if match is None:
        return None
    numbers = iter(match.groups())
    words = other.split("#")
    return words[0] + "".join(next(numbers) + word for word in words[1:]) + key[match.end() :]


def _scriptable() -> Iterator[Rename]:
    for n in range(1, 5):
        stage = f"pretrained.act_postprocess{n}"
        yield f"{stage}.0.project.0", f"pretrained.readout_oper{n}.0.project.0"
        yield f"{stage}.3", f"{stage}.0"
        yield f"{stage}.4", f"{stage}.1"


def _depth_anything() -> Iterator[Rename]:
    for n in range(1, 5):
        yield f"pretrained.act_postprocess{n}.0.project.0", f"depth_head.readout_projects.{n - 1}.0"
        yield f"pretrained.act_postprocess{n}.3", f"depth_head.projects.{n - 1}"
        yield f"pretrained.act_postprocess{n}.4", f"depth_head.resize_layers.{n - 1}"
    yield "scratch.output_conv.0", "depth_head.scratch.output_conv1"
    yield "scratch.output_conv.2", "depth_head.scratch.output_conv2.0"
    yield "scratch.output_conv.4", "depth_head.scratch.output_conv2.2"
    yield "scratch", "depth_head.scratch"
    yield "pretrained.model", "pretrained"


def _hugging_face_neck() -> Iterator[Rename]:
    stages = "neck.reassemble_stage"
    for n in range(1, 5):
        yield f"pretrained.act_postprocess{n}.0.project.0", f"{stages}.readout_projects.{n - 1}.0"
        yield f"pretrained.act_postprocess{n}.3", f"{stages}.layers.{n - 1}.projection"
        yield f"pretrained.act_postprocess{n}.4", f"{stages}.layers.{n - 1}.resize"
        yield f"scratch.layer{n}_rn", f"neck.convs.{n - 1}"
        ours, theirs = f"scratch.refinenet{n}", f"neck.fusion_stage.layers.{4 - n}"
        yield f"{ours}.out_conv", f"{theirs}.projection"
        for unit in (1, 2):
            for layer in (1, 2):
                unit_ours, unit_theirs = f"{ours}.resConfUnit{unit}", f"{theirs}.residual_layer{unit}"
                yield f"{unit_ours}.conv{layer}", f"{unit_theirs}.convolution{layer}"
                yield f"{unit_ours}.bn{layer}", f"{unit_theirs}.batch_norm{layer}"


BLOCK = "pretrained.model.blocks.#"


def _hugging_face_dpt(patches: str) -> Iterator[Rename]:
    layer = "dpt.encoder.layer.#"
    yield "pretrained.model.cls_token", "dpt.embeddings.cls_token"
    yield "pretrained.model.pos_embed", "dpt.embeddings.position_embeddings"
    yield "pretrained.model.patch_embed.proj", f"dpt.embeddings.{patches}projection"
    backbone, bit = "pretrained.model.patch_embed.backbone", "dpt.embeddings.backbone.bit"
    yield f"{backbone}.stem.conv", f"{bit}.embedder.convolution"
    yield f"{backbone}.stem.norm", f"{bit}.embedder.norm"
    yield f"{backbone}.stages.#.blocks.#", f"{bit}.encoder.stages.#.layers.#"
    yield f"{BLOCK}.norm1", f"{layer}.layernorm_before"
    yield f"{BLOCK}.norm2", f"{layer}.layernorm_after"
    yield f"{BLOCK}.attn.proj", f"{layer}.attention.output.dense"
    yield f"{BLOCK}.mlp.fc1", f"{layer}.intermediate.dense"
    yield f"{BLOCK}.mlp.fc2", f"{layer}.output.dense"
    yield "pretrained.model.norm", "dpt.layernorm"
    yield "scratch.output_conv", "head.head"
    yield from _hugging_face_neck()


def _hugging_face_depth_anything() -> Iterator[Rename]:
    layer = "backbone.encoder.layer.#"
    yield "pretrained.model.cls_token", "backbone.embeddings.cls_token"
    yield "pretrained.model.pos_embed", "backbone.embeddings.position_embeddings"
    yield "pretrained.model.patch_embed.proj", "backbone.embeddings.patch_embeddings.projection"
    for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
        yield f"{BLOCK}.{name}", f"{layer}.{name}"
    yield f"{BLOCK}.attn.proj", f"{layer}.attention.output.dense"
    for number in (1, 2):
        yield f"{BLOCK}.ls{number}.gamma", f"{layer}.layer_scale{number}.lambda1"
    yield "pretrained.model.norm", "backbone.layernorm"
    for number, ours in ((1, 0), (2, 2), (3, 4)):
        yield f"scratch.output_conv.{ours}", f"head.conv{number}"
    yield from _hugging_face_neck()


def _projections(layer: str, names: tuple[str, str, str]) -> tuple[str, tuple[str, ...]]:
    return f"{BLOCK}.attn.qkv", tuple(f"{layer}.attention.{name}" for name in names)


_QUERY_KEY_VALUE = ("attention.query", "attention.key", "attention.value")

MAIN = Layout("main", prefix="")
SCRIPTABLE = Layout("scriptable", tuple(_scriptable()), prefix="")
TIMM = Layout("timm", prefix="pretrained.model.")
DEPTH_ANYTHING = Layout("depth_anything", tuple(_depth_anything()))
HF_HYBRID = Layout(
    "hf_dpt_hybrid", tuple(_hugging_face_dpt("")), (_projections("dpt.encoder.layer.#", _QUERY_KEY_VALUE),)
)
HF_DPT = Layout(
    "hf_dpt", tuple(_hugging_face_dpt("patch_embeddings.")), (_projections("dpt.encoder.layer.#", _QUERY_KEY_VALUE),)
)
HF_DEPTH_ANYTHING = Layout(
    "hf_depth_anything",
    tuple(_hugging_face_depth_anything()),
    (
        _projections("backbone.encoder.layer.#", _QUERY_KEY_VALUE),
        # in memory, transformers 5 has shorter names than in the files that it writes
        _projections("backbone.encoder.layer.#", ("q_proj", "k_proj", "v_proj")),
    ),
    ((f"{BLOCK}.attn.proj", "backbone.encoder.layer.#.attention.o_proj"),),
)

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout for layout in (MAIN, SCRIPTABLE, TIMM, DEPTH_ANYTHING, HF_HYBRID, HF_DPT, HF_DEPTH_ANYTHING)
}

_SCRIPTABLE_ONLY = re.compile(r"pretrained\.(readout_oper\d\.|act_postprocess\d\.[01]\.(weight|bias)$)")
_ENCODER = ("blocks.0.", "cls_token", "patch_embed.")


def detect(keys: Collection[str]) -> Layout:
    """The layout of a file with these keys; `main` if nothing speaks for another one."""

    def has(*beginnings: str) -> bool:
        return any(key.startswith(beginnings) for key in keys)

    if has("depth_head."):
        return DEPTH_ANYTHING
    if has("dpt.embeddings."):
        return HF_HYBRID if has("dpt.embeddings.backbone.") else HF_DPT
    if has("backbone.embeddings."):
        return HF_DEPTH_ANYTHING
    if has("pretrained.", "scratch."):
        return SCRIPTABLE if any(map(_SCRIPTABLE_ONLY.match, keys)) else MAIN
    return TIMM if has(*_ENCODER) else MAIN
