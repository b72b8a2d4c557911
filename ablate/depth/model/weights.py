"""Files of weights: read without executing anything, and loaded only if they fit exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate.errors import DataError

SHOWN = 5
"""Keys that an error names of each kind."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` / `.pth` or `.safetensors` file, on the CPU.

    Raises DataError, naming the file and the remedy, if it is missing, damaged or holds anything but named tensors.
    """
    try:
        content = _read(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; set model.weights to a file of weights, or leave it out") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # unpickling damaged bytes raises anything from EOFError to UnicodeDecodeError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a readable file of weights ({reason}); is the download complete?") from error
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected tensors by name (a torch state_dict)")
    return dict(content)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # timm brings it

        return load_file(path, device="cpu")
    return torch.load(path, map_location="cpu", weights_only=True)


def load_weights(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Fills `model` with the weights of a file, and names the tensors that keep their start.

    Keys and shapes must be the model's, except that a file without any of an attention's own tensors (those besides
    `qkv` and `proj`) fits: weights of the published network fit every attention. Raises DataError, changing nothing,
    if the file cannot be read or does not fit.
    """
    given, wanted = read_weights(path), model.state_dict()
    own = tuple(key for key in wanted if _is_attentions_own(key))
    kept = () if any(key in given for key in own) else own
    missing = [key for key in wanted if key not in given and key not in kept]
    unexpected = [key for key in given if key not in wanted]
    reshaped = [
        f"{key} ({_size(given[key])} instead of {_size(wanted[key])})"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    parts = [_named("missing", missing), _named("unexpected", unexpected), _named("of another shape", reshaped)]
    problems = [part for part in parts if part]
    if problems:
        raise DataError(
            f"{path}: does not fit this network: {'; '.join(problems)}. "
            f"The network has {len(wanted)} tensors, the file {len(given)}; is model.name right?"
        )
    model.load_state_dict(given, strict=False)
    return kept


def _is_attentions_own(key: str) -> bool:
    _, found, rest = key.partition(".attn.")
    return bool(found) and not rest.startswith(("qkv.", "proj."))


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _named(kind: str, keys: Iterable[str]) -> str:
    names = list(keys)
    if not names:
        return ""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {kind}: {', '.join(names[:SHOWN])}{rest}"
