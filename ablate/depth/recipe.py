"""How a network is trained: groups of the optimiser, precision, accumulation, clipping, averaging of weights.

A batch is trained in pieces ("micro-batches") whose gradients add up to that of the whole batch: losses are means
over images of per-image losses, so how many pieces there are changes nothing but rounding.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablate.depth import mgda
from ablate.depth.model import audit
from ablate.depth.model.dpt import DPT
from ablate.depth.train_settings import TrainSettings

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}

MicroLoss = Callable[[slice], Tensor]
"""The loss of some images of a batch, as their share of the mean over all its images."""

TaskLoss = Callable[[int, Sequence[int]], Tensor]
"""(task, images) -> the loss of some images of a task, as their share of the mean over all the task's in the batch."""


@dataclass(frozen=True)
class Stepped:
    """What one optimiser step did: the loss over the batch, the norm of its gradient, the learning rate."""

    loss: float
    norm: float
    lr: float


class Recipe:
    """Steps a model by the settings of `train`. Its state is the optimiser's, the scaler's and the average's.

    total_steps: optimiser steps of the stage, which a schedule spans.
    """

    def __init__(self, model: DPT, settings: TrainSettings, device: torch.device, total_steps: int) -> None:
        self.model = model
        self.settings = settings
        self.total_steps = max(1, total_steps)
        self.lr_factor = 1.0
        self._device = device
        self._schedule = settings.schedule.build()
        self.optimizer = _optimizer(model, settings)
        self._base = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        self._parts: dict[str, list[nn.Parameter]] = {}
        for key, parameter in model.named_parameters():
            self._parts.setdefault(audit.part_of(key, model.spec), []).append(parameter)
        self._norms: dict[str, float] = {}

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Half precision where torch deems it safe, if `train.precision` asks for it."""
        half = HALF.get(self.settings.precision)
        return torch.autocast(self._device.type, dtype=half or torch.bfloat16, enabled=half is not None)

    def step(self, images: int, micro_batch: int, loss_of: MicroLoss, done: int) -> Stepped:
        """One optimiser step over a batch of `images`, in pieces of `micro_batch`, after `done` steps of the stage.

        The weights stay as they are if the loss or its gradient is not finite; the caller decides what that means.
        With fp16 such a step is left out, as the scaler must be, and its norm is given as 0.
        """
        pieces = [slice(start, min(start + micro_batch, images)) for start in range(0, images, micro_batch)]
        return self._step(lambda: self._backward(pieces, loss_of), done)

    def step_tasks(self, tasks: Sequence[Sequence[int]], micro_batch: int, loss_of: TaskLoss, done: int) -> Stepped:
        """As `step`, on the shortest convex combination of the tasks' gradients on the encoder (MGDA; see `mgda`).

        tasks: the images of each in the batch. loss_of: the loss of some images, as their share of the mean over their
        task's. The decoder, which all tasks share too, moves by the same combination. The loss that is given is the
        mean of the tasks'. Needs memory for the gradients of every task at once.
        """
        return self._step(lambda: self._backward_tasks(tasks, micro_batch, loss_of), done)

    def _backward(self, pieces: Sequence[Any], loss_of: Callable[[Any], Tensor]) -> float:
        """The sum of the losses; adds its gradient to what there is, and stops at the first that is not finite."""
        value = 0.0
        for piece in pieces:
            loss = loss_of(piece)
            value += float(loss.detach())
            if not math.isfinite(value):
                break
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return value

    def _backward_tasks(self, tasks: Sequence[Sequence[int]], micro_batch: int, loss_of: TaskLoss) -> float:
        named = [(key, parameter) for key, parameter in self.model.named_parameters() if parameter.requires_grad]
        gradients: list[list[Tensor | None]] = []
        value = 0.0
        for number, images in enumerate(tasks):
            pieces = [images[start : start + micro_batch] for start in range(0, len(images), micro_batch)]
            value += self._backward(pieces, partial(loss_of, number)) / len(tasks)
            if not math.isfinite(value):
                return value
            gradients.append([parameter.grad for _, parameter in named])
            self.optimizer.zero_grad(set_to_none=True)
        for (_, parameter), gradient in zip(named, _min_norm(gradients, [key for key, _ in named]), strict=True):
            parameter.grad = gradient
        return value

    def _step(self, backward: Callable[[], float], done: int) -> Stepped:
        lr = self._set_lr(done)
        self.optimizer.zero_grad(set_to_none=True)
        value = backward()
        if not math.isfinite(value):
            return Stepped(value, math.nan, lr)
        self.scaler.unscale_(self.optimizer)
        norm = self._norm()
        if not math.isfinite(norm):
            if self.scaler.is_enabled():
                self.scaler.step(self.optimizer)  # notices it, and leaves the weights alone
                self.scaler.update()
                return Stepped(value, 0.0, lr)
            return Stepped(value, norm, lr)
        self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return Stepped(value, norm, lr)

    def gradient_norms(self) -> dict[str, float]:
        """By part of the network, of the last step whose loss was finite; before clipping."""
        return dict(self._norms)

    def _set_lr(self, done: int) -> float:
        factor = self.lr_factor * self._schedule.factor(min(done, self.total_steps - 1), self.total_steps)
        for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor
        return self._base[0] * factor

    def _norm(self) -> float:
        """Of the whole gradient; those of its parts are kept."""
        found = {part: [one.grad for one in held if one.grad is not None] for part, held in self._parts.items()}
        norms = {part: nn.utils.get_total_norm(gradients) for part, gradients in found.items() if gradients}
        fetched = torch.stack(list(norms.values())).tolist() if norms else []
        self._norms = dict(zip(norms, fetched, strict=True))
        return math.hypot(*fetched)

    def _clip(self) -> None:
        if self.settings.clip_value is not None:
            nn.utils.clip_grad_value_(self.model.parameters(), self.settings.clip_value)
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)


def _min_norm(gradients: Sequence[Sequence[Tensor | None]], keys: Sequence[str]) -> list[Tensor | None]:
    """The combination that MGDA takes; of all tasks alike where a gradient is not finite, which the caller sees.

    A task that has nothing to learn from in this batch is left out: it would make the combination 0.
    """
    encoder = [place for place, key in enumerate(keys) if _is_encoder(key)]
    gram_TT = mgda.gram_matrix([[task[place] for place in encoder] for task in gradients])
    if not np.isfinite(gram_TT).all():
        return mgda.combine(gradients, [1 / len(gradients)] * len(gradients))
    moving = [place for place, square in enumerate(gram_TT.diagonal().tolist()) if square > 0]
    if not moving:
        return mgda.combine(gradients, [1 / len(gradients)] * len(gradients))
    weights_T = mgda.min_norm_weights(gram_TT[np.ix_(moving, moving)])
    return mgda.combine([gradients[place] for place in moving], [float(weight) for weight in weights_T])


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Two groups, encoder and decoder, if they learn at different rates; else one, in the order of the model."""
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    named = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    encoder = [parameter for key, parameter in named if _is_encoder(key)]
    decoder = [parameter for key, parameter in named if not _is_encoder(key)]
    groups: list[dict[str, Any]] = [{"params": [parameter for _, parameter in named], "lr": settings.lr}]
    if settings.decoder_lr is not None:
        groups = [{"params": encoder, "lr": settings.lr}, {"params": decoder, "lr": settings.decoder_lr}]
    return kind(groups, lr=settings.lr, weight_decay=settings.weight_decay or 0.0, fused=True)


def _is_encoder(key: str) -> bool:
    """Whether a parameter is one of those that a pretrained ViT brings; the reassembly starts with the decoder."""
    return key.startswith("pretrained.model.")


class Average:
    """An exponential moving average of a model's weights (Polyak), kept beside it and used for evaluation.

    decay: share that the old average keeps per step; in the first steps less, so that the start is forgotten.
    """

    def __init__(self, model: DPT, decay: float) -> None:
        self._model, self._decay = model, decay
        self.model = copy.deepcopy(model)
        self.model.requires_grad_(False)

    @torch.no_grad()
    def update(self, done: int) -> None:
        """After the step that makes it `done` steps of the run: min(decay, (1 + done) / (10 + done))."""
        decay = min(self._decay, (1 + done) / (10 + done))
        theirs: Mapping[str, Tensor] = self._model.state_dict()
        for key, mine in self.model.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[key].to(mine.dtype), 1 - decay)
            else:
                mine.copy_(theirs[key])
