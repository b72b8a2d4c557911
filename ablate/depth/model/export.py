"""Weights for other programs: the published key layouts, safetensors, and Hugging Face's folders.

What a program would load and compute something else with is refused, not written.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import torch
from torch import Tensor

from ablate.depth.config import ModelSettings
from ablate.depth.model import huggingface, layouts
from ablate.depth.model.dpt import DPT, build
from ablate.depth.model.loadreport import named
from ablate.depth.model.matching import ENCODER
from ablate.depth.model.specs import NetworkSpec, load
from ablate.depth.model.weights import load_weights
from ablate.errors import UsageError
from ablate.runs import disk, files

Target = Literal["main", "scriptable", "safetensors", "hf"]
TARGETS: tuple[Target, ...] = get_args(Target)

SUFFIXES = (".pt", ".pth", ".safetensors")


def export(settings: ModelSettings, weights: Path, target: Target, output: Path, *, force: bool) -> list[str]:
    """Writes the network of `settings` with the weights of a file; returns what its user must know.

    A file appears whole or not at all; of a Hugging Face folder `config.json` comes last. Raises UsageError, with the
    reason, if the target cannot say what the network computes, or if something is there and `force` is not given.
    """
    _refuse_suffix(target, output)
    _refuse_overwriting(target, output, force)
    torch.manual_seed(0)
    model = build(settings)
    load_weights(model, weights)
    model = model.eval()
    if problems := list(obstacles(settings, model, target)):
        raise UsageError(
            f"{weights}: cannot be exported as {target}: {'; '.join(problems)}. `--layout safetensors` keeps everything"
        )
    tensors, left_out = converted(model, target)
    if target == "hf":
        write_folder(model.spec, tensors, output)
    else:
        _write_file(output, tensors)
    notes = [f"{key}: left out, no output depends on it" for key in left_out]
    return notes + (list(_reference_notes(model.spec, load(settings.name))) if target in ("main", "scriptable") else [])


def obstacles(settings: ModelSettings, model: DPT, target: Target) -> Iterator[str]:
    """Why a target cannot say what the network computes, if it cannot."""
    if target == "safetensors":
        return
    blocks = settings.attention_blocks
    if settings.attention != "standard" and blocks:
        own = [
            key
            for key in model.state_dict()
            if ".attn." in key and ".attn.qkv." not in key and ".attn.proj." not in key
        ]
        lost = f" and loses {named('tensors', own)}" if own else ""
        yield f"its attention is {settings.attention}, which whoever loads the file takes for standard attention{lost}"
    if target == "hf":
        yield from huggingface.obstacles(model.spec)
        return
    published = load(settings.name)
    if published.rotary or published.tap_norm:
        yield f"the published code has no {settings.name}; --layout hf may"
    if model.spec.heads != published.heads:
        yield f"the published code computes {published.heads} heads, and this network {model.spec.heads}"


def _reference_notes(spec: NetworkSpec, published: NetworkSpec) -> Iterator[str]:
    """What the published code must be told in its constructor, because no tensor says it."""
    arguments = []
    if spec.taps != published.taps:
        arguments.append(f"hooks whose last are {list(spec.taps)}")
    if spec.readout != published.readout:
        arguments.append(f'readout="{spec.readout}"')
    if spec.decoder_norm != published.decoder_norm:
        arguments.append("use_bn=True")
    if arguments:
        yield f"the published code needs {', '.join(arguments)} to compute this network"
    if spec.built < published.blocks:
        yield f"blocks {spec.built} to {published.blocks - 1} come after the last tap and are not in the file"


def converted(model: DPT, target: Target) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the target's names, and those of ours that are left out. Raises UsageError for any other."""
    layout = _layout(model.spec, target)
    tensors: dict[str, Tensor] = {}
    left_out, lost = [], []
    for key, value in model.state_dict().items():
        names = layout.theirs(key)
        if names is not None:
            whole = value.detach().cpu()
            pieces = [whole] if len(names) == 1 else whole.chunk(len(names))
            tensors |= {name: piece.clone().contiguous() for name, piece in zip(names, pieces, strict=True)}
        elif key.startswith(f"{ENCODER}head."):
            left_out.append(key)
        else:
            lost.append(key)
    if lost:
        raise UsageError(f"the {layout.name} layout has no place for {named('tensors', lost)}")
    if layout is layouts.HF_DEPTH_ANYTHING:  # transformers asks for it; only DINOv2's own training uses it
        tensors["backbone.embeddings.mask_token"] = torch.zeros(1, model.spec.embed_dim)
    return tensors, left_out


def _layout(spec: NetworkSpec, target: Target) -> layouts.Layout:
    if target == "hf":
        return huggingface.layout_of(spec)
    return layouts.SCRIPTABLE if target == "scriptable" else layouts.MAIN


def _refuse_suffix(target: Target, output: Path) -> None:
    wanted = () if target == "hf" else SUFFIXES if target in ("main", "scriptable") else SUFFIXES[2:]
    if wanted and output.suffix not in wanted:
        raise UsageError(f"{output}: expected a name ending in {' or '.join(wanted)} for --layout {target}")
    if not wanted and output.suffix in SUFFIXES:
        raise UsageError(f"{output}: --layout hf writes a folder, name one: {output.with_suffix('')}")


FOLDER = ("model.safetensors", "preprocessor_config.json", "config.json")


def _refuse_overwriting(target: Target, output: Path, force: bool) -> None:
    if target == "hf" and output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file, and --layout hf writes a folder; name another place")
    if target != "hf" and output.is_dir():
        raise UsageError(f"{output}: is a folder; name a file in it")
    present = [output / name for name in FOLDER if (output / name).exists()] if target == "hf" else [output]
    if not force and any(path.exists() for path in present):
        raise UsageError(f"{present[0]}: exists already; --force overwrites it")


def write_folder(spec: NetworkSpec, tensors: Mapping[str, Tensor], output: Path) -> None:
    """A folder for `from_pretrained`, which gets its `config.json` last."""
    files.make_folder(output.absolute())
    for name in FOLDER[1:]:  # an old configuration and new weights must never lie side by side
        if (output / name).exists():
            disk.unlink(output / name)
    _write_file(output / FOLDER[0], tensors)
    for name, content in zip(FOLDER[1:], (huggingface.preprocessor(spec), huggingface.config(spec)), strict=True):
        text = json.dumps(content, indent=2) + "\n"
        _written(output / name, partial(_put, text.encode()))


def _write_file(path: Path, tensors: Mapping[str, Tensor]) -> None:
    files.make_folder(path.absolute().parent)
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        _written(path, partial(_put, save(dict(tensors), metadata={"format": "pt"})))
    else:
        _written(path, lambda file: torch.save(dict(tensors), file))


def _put(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _written(path: Path, save: Callable[[BinaryIO], None]) -> None:
    """Whole or not at all."""
    try:
        files.write_aside(path, save)
    except BaseException:
        with contextlib.suppress(OSError):
            path.with_name(path.name + files.TEMPORARY).unlink(missing_ok=True)
        raise
