"""What a checkpoint of a depth run holds: the weights and the optimiser, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from ablate.errors import CheckpointError


class WeightsState:
    """The `state_dict` of a network. Equal weights give equal bytes, whatever happened before."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def save(self, file: BinaryIO) -> None:
        # a plain dict of dense CPU tensors: no metadata, strides or shared storages that could differ
        torch.save({key: _plain(value) for key, value in self._model.state_dict().items()}, file)

    def load(self, file: BinaryIO) -> None:
        """Raises CheckpointError, changing nothing, if the file does not hold this network's tensors."""
        given, wanted = _read(file, "weights"), self._model.state_dict()
        if not isinstance(given, dict) or given.keys() != wanted.keys():
            raise CheckpointError("the weights of the checkpoint are those of another network (other names)")
        for key, tensor in wanted.items():
            if not _same_kind(given[key], tensor):
                raise CheckpointError(f"the weights of the checkpoint are those of another network ({key} differs)")
        self._model.load_state_dict(given)


class OptimizerState:
    """Moments, step counts and settings of a torch optimiser."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def save(self, file: BinaryIO) -> None:
        torch.save(_mapped(self._optimizer.state_dict()), file)

    def load(self, file: BinaryIO) -> None:
        """Raises CheckpointError, changing nothing, if the file does not hold this optimiser's state."""
        given = _read(file, "optimiser")
        self._refuse_another(given)
        try:
            self._optimizer.load_state_dict(given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the optimiser of the checkpoint cannot be used: {error}") from error
        self._lay_out()

    def _lay_out(self) -> None:
        """Gives moments the strides of their parameters: the fused kernels walk through both as they lie in memory."""
        for parameter, state in self._optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def _refuse_another(self, given: Any) -> None:
        wanted = self._optimizer.state_dict()["param_groups"]
        groups = given.get("param_groups") if isinstance(given, dict) else None
        if (
            not isinstance(groups, list)
            or not isinstance(given.get("state"), dict)
            or not all(isinstance(group, dict) for group in groups)
            or [group.get("params") for group in groups] != [group["params"] for group in wanted]
        ):
            raise CheckpointError("the optimiser of the checkpoint is that of another network")
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        for number, state in given["state"].items():
            shape = parameters[number].shape if number in range(len(parameters)) else None
            moments = [value for key, value in state.items() if key != "step"] if isinstance(state, dict) else [state]
            if shape is None or any(not isinstance(moment, Tensor) or moment.shape != shape for moment in moments):
                raise CheckpointError(
                    f"the optimiser of the checkpoint is that of another network (parameter {number})"
                )


class ScalerState:
    """The scale of a `GradScaler` and its count of steps without an overflow."""

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        self._scaler = scaler

    def save(self, file: BinaryIO) -> None:
        torch.save(self._scaler.state_dict(), file)

    def load(self, file: BinaryIO) -> None:
        """Raises CheckpointError, changing nothing, if the file does not hold a scaler's state."""
        given = _read(file, "gradient scaler")
        if not isinstance(given, dict) or given.keys() != self._scaler.state_dict().keys():
            raise CheckpointError("the gradient scaler of the checkpoint cannot be used: other names")
        self._scaler.load_state_dict(given)


def _plain(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _mapped(value: Any) -> Any:
    """The same nested containers with plain CPU tensors."""
    if isinstance(value, Mapping):
        return {key: _mapped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(inner) for inner in value)
    return _plain(value)


def _same_kind(given: Any, wanted: Any) -> bool:
    return isinstance(given, Tensor) and given.shape == wanted.shape and given.dtype == wanted.dtype


def _read(file: BinaryIO, what: str) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # unpickling damaged bytes raises anything from EOFError to UnicodeDecodeError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"the {what} of the checkpoint cannot be read: {reason}") from error
