"""What a training step needs, counted without running it: memory and floating-point operations.

The network runs on fake tensors, which have shapes and no data, while storages are counted as they come and go, and
operations by torch's `FlopCounterMode`. Memory is what the allocator hands out at its peak within the second step, when Adam's moments
exist; a CUDA context (about 0.5 GB), workspaces of its libraries and fragmentation come on top.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ablate.depth.budget import Operations, Step
from ablate.depth.config import ModelSettings
from ablate.depth.losses import Loss, count_images, disparity, trainable
from ablate.depth.model.dpt import DPT, build, inverse_to_depth
from ablate.depth.objectives import Space

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def peak_memory(settings: ModelSettings, step: Step) -> int:
    """Bytes at the peak of the second optimiser step, weights and the optimiser's state included.

    Takes some seconds.
    """
    model = _on_meta(settings)
    with _fake():
        _materialise(model)
        model.recompute = step.recompute
        peak = _tracked(model, step)
        weights = _bytes(model)
        if step.tasks > 1:  # weights, Adam's moments, each task's gradient and their combination are there together
            peak = max(peak + (step.tasks - 1) * weights, (step.tasks + 4) * weights)
        return peak + int(step.average) * weights


def operations(settings: ModelSettings, size: tuple[int, int]) -> Operations:
    """Of one image of `size` (height, width); nothing is computed twice, as `gradient_checkpointing` would."""
    model, step = _on_meta(settings), Step(size=size)
    with _fake():
        _materialise(model)
        with FlopCounterMode(display=False, custom_mapping=_FUSED) as forward, torch.no_grad():
            _loss(model, step, _batch(step))
        with FlopCounterMode(display=False, custom_mapping=_FUSED) as whole:
            _backward(_loss(model, step, _batch(step)))
    counts = {name: sum(by_operator.values()) for name, by_operator in forward.get_flop_counts().items()}
    attention = sum(value for name, value in counts.items() if name.endswith(".attn"))
    linear = sum(value for name, value in counts.items() if name.endswith((".attn.qkv", ".attn.proj")))
    return Operations(int(forward.get_total_flops()), int(whole.get_total_flops()), int(attention - linear))


@contextmanager
def _fake() -> Iterator[None]:
    with warnings.catch_warnings(), FakeTensorMode():
        warnings.simplefilter("ignore")  # the trackers warn of what fake tensors cannot do and we do not need
        yield


def _on_meta(settings: ModelSettings) -> DPT:
    """The network without memory; timm cannot be built on fake tensors."""
    with torch.device("meta"):
        return build(settings)


def _materialise(model: nn.Module) -> None:
    """Replaces meta tensors by fake ones on the CPU; what is shared stays shared."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype))
                module._parameters[name] = made.setdefault(id(parameter), fake)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations make, until they are freed.

    torch's own `MemTracker` finds the same figures; it also keeps books for every module, which takes 20 times as
    long and refuses modules that are used twice in a step.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now: int = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.note, made)
        return made

    def note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return

        def freed(_: Any) -> None:
            del self._alive[key]
            self._now -= size

        self._alive[key] = weakref.ref(storage, freed)
        self._now += size
        self.peak = max(self.peak, self._now)


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])


def _tracked(model: DPT, step: Step) -> int:
    kind = torch.optim.AdamW if step.optimizer == "adamw" else torch.optim.Adam
    # one parameter at a time, like the fused kernel: foreach would count temporary lists that training never makes
    stepper = kind(model.parameters(), lr=1e-4, foreach=False)
    pieces = min(step.pieces, 2)  # from the second piece on, gradients and activations are there together
    with _Allocations() as allocations:
        for tensor in [*model.parameters(), *model.buffers()]:
            allocations.note(tensor)
        for _ in range(2):
            waiting = [_batch(step) for _ in range(step.pieces)]
            for batch in waiting[:pieces]:
                _backward(_loss(model, step, batch))
            stepper.step()
            stepper.zero_grad(set_to_none=True)
    return int(allocations.peak)


def _attention_flop(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward_flop(grad: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


_FUSED = {
    # torch knows the operations of the fused kernels of GPUs alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flop,
}


def _batch(step: Step) -> tuple[Tensor, Tensor]:
    """Images and their depth."""
    return torch.empty(step.batch_size, 3, *step.size), torch.empty(step.batch_size, 1, *step.size)


def _loss(model: DPT, step: Step, batch: tuple[Tensor, Tensor]) -> Tensor:
    """As in training: the network in its precision, losses in float32."""
    image_B3HW, truth_B1HW = batch
    half = HALF.get(step.precision)
    with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
        output_B1HW = model(image_B3HW)
    loss = Loss(dict.fromkeys(step.losses, 1.0))
    valid_B1HW = trainable(truth_B1HW)
    views: dict[Space, tuple[Tensor, Tensor]] = {}
    if "log_depth" in loss.spaces:
        views["log_depth"] = (inverse_to_depth(output_B1HW), truth_B1HW)
    if "disparity" in loss.spaces:
        views["disparity"] = (output_B1HW.float(), disparity(truth_B1HW, valid_B1HW))
    return loss(views, valid_B1HW, count_images(valid_B1HW))


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
