"""What the code computes, as a few hashes: so that two runs can be told to have run the same code, whatever the commit.

Each part that a run uses (its kind of network, attention, losses, optimiser, metrics) is run on a small fixed input
with fixed weights, in double precision on the CPU. So the hashes depend on the code alone, torch's and timm's included:
not on the run's seed, weights, sizes, device, threads or precision. They are of results rounded to six digits, which is
nine more than rounding changes. What they cannot see is code that has no part in these: the data pipeline (see the
fingerprint of the data) and how untrained weights are drawn.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ablate.depth import attention as family
from ablate.depth.attention.base import load
from ablate.depth.config import DepthConfig
from ablate.depth.losses import Loss
from ablate.depth.model import specs
from ablate.depth.model.dpt import DPT, inverse_to_depth
from ablate.depth.protocol import protocol_of, score_crop
from ablate.depth.recipe import Recipe
from ablate.depth.train_settings import TrainSettings

_DIGITS = 6
_KEPT = 64
"""Numbers of each result that are hashed, evenly spread."""
_STEPS = 3


def code_of(config: DepthConfig) -> dict[str, str]:
    """Part -> hash, of the parts that a run of this configuration uses. Changes no state of torch's generators."""
    train = config.train
    wanted: dict[str, Callable[[], Iterable[Tensor]]] = {
        f"network {config.model.name}": functools.partial(_network, config.model.name),
        f"attention {config.model.attention}": functools.partial(_attention, config.model.attention),
        **{f"loss {name}": functools.partial(_loss, name) for name in train.losses},
        f"optimizer {train.optimizer}": functools.partial(_optimizer, train.optimizer, train.schedule.name),
        f"metrics {config.data.name}": functools.partial(_metrics, config.data.name),
    }
    return {part: _hashed(part, probe) for part, probe in wanted.items()}


_KNOWN: dict[str, str] = {}
"""A session may be opened several times in a process; its code stays the same."""


def _hashed(part: str, probe: Callable[[], Iterable[Tensor]]) -> str:
    if part not in _KNOWN:
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _KNOWN[part] = digest(probe())
        except Exception as error:  # a plug-in may not be made for such inputs: that must not stop its training
            _KNOWN[part] = f"cannot be probed ({type(error).__name__})"
    return _KNOWN[part]


def digest(results: Iterable[Tensor]) -> str:
    """Ten hexadecimal digits of results that are equal up to rounding: each relative to its largest number."""
    found = hashlib.sha256()
    for result in results:
        values = result.detach().double().flatten().cpu().numpy()
        values = values[:: max(1, len(values) // _KEPT)]
        largest = float(np.abs(values).max()) if len(values) else 0.0
        shares = values / largest if np.isfinite(largest) and largest > 0 else values
        rounded = np.nan_to_num(np.round(shares * 10**_DIGITS), nan=-(10**12), posinf=10**12, neginf=-(10**11)).astype(
            np.int64
        )
        found.update(f"{largest:.{_DIGITS - 1}e}:".encode() + rounded.tobytes())
    return found.hexdigest()[:10]


def _filled(*shape: int, start: float = 1.0) -> Tensor:
    """Numbers in [-1, 1] that repeat nowhere and need no generator."""
    count = int(np.prod(shape))
    return torch.from_numpy(np.sin(start + 0.7 * np.arange(count) + 1e-3 * np.arange(count) ** 1.5)).reshape(shape)


def _fixed(module: nn.Module) -> nn.Module:
    """The module in double precision, with weights that no generator drew; statistics of norms stay as they begin."""
    module = module.double().train()
    with torch.no_grad():
        for number, (key, tensor) in enumerate(sorted(module.state_dict().items())):
            if tensor.is_floating_point() and "running_" not in key:
                scale = max(1, tensor.numel() // max(1, tensor.shape[0])) ** -0.5 if tensor.dim() > 1 else 0.5
                tensor.copy_(scale * _filled(*tensor.shape, start=float(number)))
    return module


def _small(name: str) -> specs.NetworkSpec:
    """The network of that name, as narrow and shallow as can be: the same code on fewer numbers."""
    spec = specs.load(name)
    taps = (0, 1) if spec.stem else (0, 1, 2, 3)
    tiny = specs.SPECS["dpt_tiny"].stem
    return replace(
        spec,
        embed_dim=32,
        blocks=len(taps),
        heads=2,
        taps=taps,
        stem=tiny if spec.stem else None,
        position_grid=None if spec.rotary else (3, 4),
        classes=0,
        map_channels=(8,) * len(taps),
        features=8,
        head_channels=(4, 4),
        mlp_ratio=2.0,
    )


def _network(name: str) -> Iterable[Tensor]:
    spec = _small(name)
    model = _fixed(DPT(spec))
    assert isinstance(model, DPT)
    image = _filled(1, 3, 2 * spec.stride, 3 * spec.stride)
    yield from model.pretrained(model.normalised(image))
    with torch.no_grad():  # or rectified linear units hide what came before them
        for number, amount in ((2, 1.0), (4, 10.0)):
            cast(Tensor, model.scratch.output_conv[number].bias).add_(amount)
    yield model(image)


def _attention(name: str) -> Iterable[Tensor]:
    module = _fixed(load(name)(32, 4, True, **family.options(name)))
    rows, columns = 10, 12  # more than the windows and landmarks of the approximations
    x_1ND = _filled(1, 1 + rows * columns, 32).requires_grad_()
    mixed_1ND = module(x_1ND, grid=(rows, columns), prefix=1)
    yield mixed_1ND
    mixed_1ND.square().sum().backward()
    if x_1ND.grad is not None:
        yield x_1ND.grad


def _loss(name: str) -> Iterable[Tensor]:
    truth = 20 + 15 * _filled(2, 1, 16, 24)
    prediction = (truth * (1.2 + 0.3 * _filled(2, 1, 16, 24, start=5.0))).requires_grad_()
    valid = _filled(2, 1, 16, 24, start=9.0) > -0.5
    loss = Loss({name: 1.0})
    views = {
        space: (prediction, truth) if space == "log_depth" else (1 / prediction, 1 / truth) for space in loss.spaces
    }
    value = loss(views, valid)
    yield value
    value.backward()  # type: ignore[no-untyped-call]
    if prediction.grad is not None:
        yield prediction.grad


def _optimizer(name: str, schedule: str) -> Iterable[Tensor]:
    """The weights after a few steps of training."""
    settings = TrainSettings.model_validate({"optimizer": name, "lr": 1e-3, "schedule": {"name": schedule}})
    model = _fixed(DPT(_small("dpt_tiny")))
    assert isinstance(model, DPT)
    recipe = Recipe(model, settings, torch.device("cpu"), 2 * _STEPS)
    image = _filled(1, 3, 32, 64)
    for step in range(_STEPS):
        recipe.step(1, 1, lambda _: (recipe.model(image) / 1e3).square().mean(), step)
    for parameter in model.parameters():
        yield parameter.flatten()[:4]


def _metrics(data: str) -> Iterable[Tensor]:
    protocol = protocol_of(data)
    truth = (20 + 15 * _filled(16, 24)).numpy()
    inverse = torch.from_numpy(1 / truth) * 2e3 * (1 + 0.2 * _filled(16, 24, start=3.0))
    metres = inverse_to_depth(inverse, 1 / 2e3, 0.0).numpy()
    for score in (score_crop(metres, truth, truth > 10, protocol) or {}).values():
        yield torch.tensor(score, dtype=torch.float64)
