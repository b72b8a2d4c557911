"""Which tensor of a file goes where in a network, and what the study has declared about the others. No torch here.

Declared, and therefore no error:

- `model.attention_init: scratch`: the attention (of `model.attention_blocks`, where it replaces another one) starts
  untrained, whatever the file has; `model.decoder_init: scratch`: so does all but the encoder;
- what `model.attention` adds to `qkv` and `proj`, if the file has none of it;
- what `model.decoder_norm: batch` or a chosen `model.readout` adds, and what they have no use for;
- transformer blocks after the last tap, which are not built;
- the classifier and DINOv2's mask token, on which no output depends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ablate.depth.config import ModelSettings
from ablate.depth.model.loadreport import Entry, Shape, named
from ablate.depth.model.specs import NetworkSpec

ENCODER = "pretrained.model."
POSITIONS = f"{ENCODER}pos_embed"

_ATTENTION = re.compile(r"pretrained\.model\.blocks\.(\d+)\.attn\.(.*)")
_BLOCK = re.compile(r"pretrained\.model\.blocks\.(\d+)\.")
_CLASSIFIER = re.compile(r"pretrained\.model\.(head|fc_norm|pre_logits)\.")
_READOUT = re.compile(r"pretrained\.act_postprocess\d\.0\.")
_DECODER_NORM = re.compile(r"scratch\.refinenet\d\.resConfUnit\d\.bn\d\.")
_NORMED_BIAS = re.compile(r"scratch\.refinenet\d\.resConfUnit\d\.conv\d\.bias$")
_MASK_TOKEN = re.compile(r"(pretrained\.(model\.)?|backbone\.embeddings\.)mask_token$")

_UNUSED_CLASSIFIER = "the classifier, which no output depends on"


@dataclass(frozen=True)
class Offer:
    """A tensor that a file has for one of ours: the file's own keys, and the shape that they make."""

    keys: tuple[str, ...]
    shape: Shape

    @property
    def name(self) -> str:
        return " + ".join(self.keys)


@dataclass(frozen=True)
class Matcher:
    """What a network wants, and what its study says of it."""

    wanted: Mapping[str, Shape]
    settings: ModelSettings
    spec: NetworkSpec | None
    """None for a module that is no DPT: nothing of it is declared."""

    def match(self, offers: Mapping[str, Offer], strangers: Mapping[str, Shape]) -> tuple[Entry, ...]:
        """The table. `strangers` are tensors of the file that its layout has no name of ours for."""
        adds = self._attention_adds(offers)
        entries: list[Entry] = []
        for key, shape in self.wanted.items():
            entries.extend(self._filled(key, shape, offers.get(key), adds))
        for key, offer in offers.items():
            if key not in self.wanted:
                entries.append(Entry("unexpected", offer.name, None, offer.shape, self._why_left(key)))
        for key, shape in strangers.items():
            entries.append(Entry("unexpected", key, None, shape, _why_ignored(key)))
        return tuple(entries)

    def _filled(self, key: str, shape: Shape, offer: Offer | None, adds: Collection[str]) -> Iterator[Entry]:
        why = self._why_anew(key)
        if why is None and offer is not None and offer.shape == shape:
            yield Entry("loaded", key, shape, offer.shape)
            return
        if why is None and offer is not None and (old := self._grid(key, shape, offer.shape)):
            yield Entry("reshaped", key, shape, offer.shape, f"interpolated from a grid of {old[0]}x{old[1]}")
            return
        if why is None and _CLASSIFIER.match(key):
            why = _UNUSED_CLASSIFIER
        if why is None and offer is not None:
            yield Entry("reshaped", key, shape, offer.shape)
            return
        yield Entry("missing", key, shape, None, why or self._why_absent(key, adds))
        if offer is not None:
            yield Entry("unexpected", offer.name, None, offer.shape, why)

    def _why_anew(self, key: str) -> str | None:
        """Why a tensor is not taken from the file even if it is there."""
        if self.spec is None:
            return None
        if self.settings.decoder_init == "scratch" and not key.startswith(ENCODER):
            return "model.decoder_init is scratch"
        match = _ATTENTION.match(key)
        if self.settings.attention_init == "scratch" and match and self._is_replaced(int(match[1])):
            return "model.attention_init is scratch"
        return None

    def _is_replaced(self, block: int) -> bool:
        chosen = self.settings.attention_blocks
        return isinstance(chosen, str) or block in chosen

    def _grid(self, key: str, shape: Shape, file_shape: Shape) -> tuple[int, int] | None:
        """The square grid of learned positions that a file has, if ours can be interpolated from it."""
        grid = None if self.spec is None or key != POSITIONS else self.spec.position_grid
        if grid is None or len(file_shape) != 3 or file_shape[::2] != shape[::2]:
            return None
        patches = file_shape[1] - (shape[1] - grid[0] * grid[1])
        side = math.isqrt(max(patches, 0))
        return (side, side) if side > 0 and side * side == patches else None

    def _attention_adds(self, offers: Mapping[str, Offer]) -> frozenset[str]:
        """The attention's own tensors, if the file has none of them: a file with some of them is damaged."""
        own = frozenset(key for key in self.wanted if _is_attentions_own(key))
        return frozenset() if any(key in offers for key in own) else own

    def _why_absent(self, key: str, adds: Collection[str]) -> str | None:
        if key in adds:
            return "the attention's own, which the file has none of"
        if _DECODER_NORM.match(key) and self.settings.decoder_norm == "batch":
            return "model.decoder_norm batch adds it"
        if _READOUT.match(key) and self.settings.readout is not None:
            return f"model.readout {self.settings.readout} adds it"
        return None

    def _why_left(self, key: str) -> str | None:
        """Why a tensor of the file has no place in the network, if that is meant."""
        block = _BLOCK.match(key)
        if self.spec is not None and block and int(block[1]) >= self.spec.built:
            return f"after the last tap, block {self.spec.built - 1}"
        if _CLASSIFIER.match(key):
            return _UNUSED_CLASSIFIER
        if _READOUT.match(key) and self.settings.readout is not None:
            return f"model.readout {self.settings.readout} has no use for it"
        if _NORMED_BIAS.match(key) and self.settings.decoder_norm == "batch":
            return "model.decoder_norm batch has no use for it"
        return self._why_anew(key) or _why_ignored(key)


def _why_ignored(key: str) -> str | None:
    return "DINOv2's mask token, which only its own training uses" if _MASK_TOKEN.match(key) else None


def _is_attentions_own(key: str) -> bool:
    match = _ATTENTION.match(key)
    return match is not None and not match[2].startswith(("qkv.", "proj."))


def refusal(entries: Collection[Entry], wanted: int, offered: int) -> str:
    """What does not fit, tensor by tensor, and the remedy; "" if everything does."""
    problems = [entry for entry in entries if entry.is_problem]
    if not problems:
        return ""
    parts = [
        named("missing", [entry.text for entry in problems if entry.kind == "missing"]),
        named("unexpected", [entry.text for entry in problems if entry.kind == "unexpected"]),
        named("of another shape", [entry.text for entry in problems if entry.kind == "reshaped"]),
    ]
    return (
        f"does not fit this network: {'; '.join(part for part in parts if part)}. "
        f"The network has {wanted} tensors, the file {offered}; {_remedy(problems, entries)}"
    )


def _remedy(problems: Collection[Entry], entries: Collection[Entry]) -> str:
    names = [entry.key for entry in problems]
    if all(".attn." in name or ".attention." in name for name in names):
        return (
            "the attention is another one than the file's: `model.attention_init: scratch` starts it untrained "
            "and takes the rest from the file"
        )
    loaded = [entry.key for entry in entries if entry.kind in ("loaded", "reshaped")]
    if (
        loaded
        and not any(name.startswith(ENCODER) for name in names)
        and all(name.startswith(ENCODER) for name in loaded)
    ):
        return "the file is an encoder alone: `model.decoder_init: scratch` starts the rest untrained"
    return "is model.name right?"
