"""What a training step needs, counted without running it: memory and floating-point operations.

The network runs on fake tensors, which have shapes and no data, under torch's own `MemTracker` and
`FlopCounterMode`. Memory is what the allocator hands out at its peak within the second step, when Adam's moments
exist; a CUDA context (about 0.5 GB) and fragmentation come on top.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ablate.depth.model.dpt import DPT

VERSION = 1
"""Raised when the same network would be counted otherwise: part of the cache's keys."""


@dataclass(frozen=True)
class Cost:
    """Of one training step: `peak_bytes`; operations (2 per multiply-add) of a forward pass and of a whole step.

    `attention_flops` is the forward part between `qkv` and `proj`, which is all that swapping an attention changes.
    """

    peak_bytes: int
    forward_flops: int
    step_flops: int
    attention_flops: int

    @property
    def ceiling(self) -> float:
        """How many times faster a forward pass could be if attention cost nothing (Amdahl), counted in operations."""
        return 1 / (1 - self.attention_flops / self.forward_flops)


def training_cost(
    model: DPT, size: tuple[int, int], batch_size: int, *, optimizer: str = "adam", precision: str = "fp32"
) -> Cost:
    """The cost of a step of `batch_size` images of `size` (height, width).

    model: on the `meta` device, as `torch.device("meta")` builds it; it is used up. Takes 10 to 60 s for a hybrid.
    """
    with warnings.catch_warnings(), FakeTensorMode():
        warnings.simplefilter("ignore")  # the trackers warn of what fake tensors cannot do and we do not need
        _materialise(model)
        step_flops, forward_flops, attention_flops = _count_operations(model, size, batch_size, precision)
        _unshare(model)
        peak = _peak_memory(model, size, batch_size, optimizer, precision)
    return Cost(peak, forward_flops, step_flops, attention_flops)


def cached_cost(key: Mapping[str, Any], cache_dir: Path | None, compute: Callable[[], Cost]) -> Cost:
    """`compute()`, or what it gave before for this key (architecture, shape, precision) and this torch."""
    if cache_dir is None:
        return compute()
    text = json.dumps([VERSION, torch.__version__, key], sort_keys=True)
    path = cache_dir / "cost" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):  # a cache that cannot be read is none
        return Cost(**json.loads(path.read_text(encoding="utf-8")))
    cost = compute()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(asdict(cost)), encoding="utf-8")
        aside.replace(path)
    return cost


def _materialise(model: nn.Module) -> None:
    """Replaces meta tensors by fake ones on the CPU; what is shared stays shared."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                made.setdefault(id(parameter), nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype)))
                module._parameters[name] = made[id(parameter)]  # type: ignore[assignment]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _unshare(model: nn.Module) -> None:
    """Gives a module that is used under several names a copy for each, with the same parameters.

    MemTracker refuses a module that is called twice in one step; the memory is the same.
    """
    seen: set[int] = set()
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if not name:
            continue
        if id(module) in seen:
            twin = copy.copy(module)
            twin._modules = {key: copy.copy(inner) for key, inner in module._modules.items() if inner is not None}
            model.set_submodule(name, twin)
        seen.add(id(module))


def _peak_memory(model: DPT, size: tuple[int, int], batch_size: int, optimizer: str, precision: str) -> int:
    kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.Adam
    # one parameter at a time, like the fused kernel: foreach would count temporary lists that training never makes
    stepper = kind(model.parameters(), lr=1e-4, foreach=False)
    tracker = MemTracker()
    tracker.track_external(model, stepper)
    with tracker:
        for _ in range(2):
            tracker.reset_mod_stats()
            _loss(model, size, batch_size, precision).backward()  # type: ignore[no-untyped-call]
            stepper.step()
            stepper.zero_grad(set_to_none=True)
    return int(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


def _attention_flop(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward_flop(grad: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


_FUSED = {
    # torch knows the operations of the fused kernels of GPUs alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flop,
}


def _count_operations(model: DPT, size: tuple[int, int], batch_size: int, precision: str) -> tuple[int, int, int]:
    with FlopCounterMode(display=False, custom_mapping=_FUSED) as forward, torch.no_grad():
        _loss(model, size, batch_size, precision)
    with FlopCounterMode(display=False, custom_mapping=_FUSED) as step:
        _loss(model, size, batch_size, precision).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    counts = {name: sum(by_operator.values()) for name, by_operator in forward.get_flop_counts().items()}
    attention = sum(value for name, value in counts.items() if name.endswith(".attn"))
    linear = sum(value for name, value in counts.items() if name.endswith((".attn.qkv", ".attn.proj")))
    return int(step.get_total_flops()), int(forward.get_total_flops()), int(attention - linear)


def _loss(model: DPT, size: tuple[int, int], batch_size: int, precision: str) -> Tensor:
    """As in training: depth in the network's precision, its logarithm in float32, one number."""
    image_B3HW = torch.empty(batch_size, 3, *size)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
        depth_B1HW = model.depth(image_B3HW)
    error_B1HW = depth_B1HW.float().log() - torch.empty(batch_size, 1, *size).log()
    return error_B1HW.square().mean() - 0.5 * error_B1HW.mean() ** 2
