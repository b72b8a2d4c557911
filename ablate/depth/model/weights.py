"""Files of weights: read without executing anything, and loaded only if every tensor is accounted for."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate.depth.config import ModelSettings
from ablate.depth.model import layouts, positions
from ablate.depth.model.dpt import DPT
from ablate.depth.model.loadreport import LoadReport, named
from ablate.depth.model.matching import Matcher, Offer, refusal
from ablate.depth.model.source import by_version, weights_file
from ablate.errors import DataError

_WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the tensors, beside an optimiser and the like."""
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and Lightning put before every key."""


def read_weights(path: Path, *, mapped: bool = False) -> dict[str, Tensor]:
    """The tensors of a `.pt` / `.pth` or `.safetensors` file, unwrapped, on the CPU.

    `mapped`: leave them in the file until they are used, where its format allows.

    Raises DataError, naming the file and the remedy, if it is missing, damaged or holds anything but named tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about pickles that it is going to refuse
            content = _unwrapped(_read(path, mapped))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; set model.weights to a file of weights, or leave it out") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # unpickling damaged bytes raises anything from EOFError to UnicodeDecodeError
        raise DataError(f"{path}: {_reason(error)}") from error
    if not isinstance(content, Mapping) or not _are_tensors(content):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected tensors by name (a torch state_dict)")
    return _without_prefix(content)


def _read(path: Path, mapped: bool) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # timm brings it

        return load_file(path, device="cpu")
    if mapped:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # a file from before torch 1.6, or damage, which the other way of reading explains
            pass
    return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    found = re.search(r"(?:GLOBAL|class|function)\s+`?([\w.]+)|(operand \d+)", text)
    if "weights_only" in text and found and re.search(r"Unsupported|unrecognized function", text):
        what = found[1] or f"pickle {found[2]}"
        return (
            f"refused: it holds more than tensors ({what}), and reading that could run code. Ask for a .safetensors "
            "file, or save the tensors alone where you trust it: torch.save(model.state_dict(), FILE)"
        )
    return f"not a readable file of weights ({text.splitlines()[0]}); is the download complete?"


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _unwrapped(content: Any) -> Any:
    while isinstance(content, Mapping) and not _are_tensors(content):
        inner = next((content[key] for key in _WRAPPINGS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = dict(tensors)
    while prefix := next((prefix for prefix in _PREFIXES if found and all(k.startswith(prefix) for k in found)), None):
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


@dataclass(frozen=True)
class _File:
    """The tensors of a file, by their own keys, and what they are called here."""

    path: Path
    tensors: Mapping[str, Tensor]
    layout: layouts.Layout
    offers: Mapping[str, Offer]
    strangers: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, tensors: Mapping[str, Tensor]) -> _File:
        layout = layouts.detect(tensors)
        ours, strangers = layout.ours(tensors)
        offers = {key: Offer(keys, _joined_shape([tensors[name] for name in keys])) for key, keys in ours.items()}
        return cls(path, tensors, layout, offers, strangers)

    def tensor(self, key: str) -> Tensor:
        pieces = [self.tensors[name] for name in self.offers[key].keys]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _joined_shape(pieces: Iterable[Tensor]) -> tuple[int, ...]:
    first, *rest = pieces
    return (sum(piece.shape[0] for piece in (first, *rest)), *first.shape[1:]) if rest else tuple(first.shape)


def load_weights(model: nn.Module, path: Path, settings: ModelSettings | None = None) -> LoadReport:
    """Fills `model` with the weights of a file or run, in whichever of `layouts` it is, and reports on every tensor.

    `settings` say what is meant to be missing (see `matching`); by default nothing but what an attention adds.
    Learned positions of another square grid are interpolated as the network does it at run time. Raises DataError,
    changing nothing and naming the tensors, if the file cannot be read or anything else does not fit.
    """
    path = weights_file(path)
    file = _File.of(path, read_weights(path))
    report = _report(model, file, settings or ModelSettings())
    state = {key: file.tensor(key) for key in (entry.key for entry in report.of("loaded"))}
    for entry in report.of("reshaped"):
        assert isinstance(model, DPT)  # only learned positions are
        state[entry.key] = _resized(model, file.tensor(entry.key))
    model.load_state_dict(state, strict=False)
    return report


def survey(model: nn.Module, path: Path, settings: ModelSettings | None = None) -> LoadReport:
    """What `load_weights` would report; `model` may be on the meta device. Reads little more than names and shapes.

    Raises DataError as `load_weights` does.
    """
    path = weights_file(path)
    try:
        file = by_version(path, _mapped)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; check model.weights") from error
    return _report(model, file, settings or ModelSettings())


def _mapped(path: Path) -> _File:
    with torch.device("cpu"):
        return _File.of(path, read_weights(path, mapped=True))


def _report(model: nn.Module, file: _File, settings: ModelSettings) -> LoadReport:
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    spec = model.spec if isinstance(model, DPT) else None
    strangers = {key: tuple(file.tensors[key].shape) for key in file.strangers}
    entries = Matcher(wanted, settings, spec).match(file.offers, strangers)
    if problem := refusal(entries, len(wanted), len(file.tensors)):
        raise DataError(f"{file.path}: {problem}")
    report = LoadReport(str(file.path), file.layout.name, entries)
    _refuse_different_blocks_for_one(model, file, report)
    return report


def _refuse_different_blocks_for_one(model: nn.Module, file: _File, report: LoadReport) -> None:
    """One module under several names can hold one of the file's tensors; whichever it were, the others would be lost."""
    groups: dict[int, list[str]] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if key in report.filled:
            groups.setdefault(id(value), []).append(key)
    lost = [
        key
        for first, *others in groups.values()
        for key in others
        if not torch.equal(file.tensor(key), file.tensor(first))
    ]
    if lost:
        raise DataError(
            f"{file.path}: has tensors of their own for blocks that share one module here: {named('lost', lost)}; "
            "set model.attention_init to scratch, or model.share_attention to false"
        )


def _resized(model: DPT, positions_1ND: Tensor) -> Tensor:
    new = model.spec.position_grid
    assert new is not None
    prefix = model.pretrained.model.pos_embed.shape[1] - new[0] * new[1]
    side = round((positions_1ND.shape[1] - prefix) ** 0.5)
    return positions.resized(positions_1ND, (side, side), new, model.spec.interpolation)
