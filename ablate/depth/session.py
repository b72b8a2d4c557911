"""A depth configuration made ready to train: network, data, optimiser. The engine calls it step by step."""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from ablate.depth.config import DepthConfig, TrainSettings
from ablate.depth.data.kitti import SPLITS, Frame, read_split
from ablate.depth.data.loader import Batch, TrainingData, batches
from ablate.depth.data.order import epoch_order, flipped
from ablate.depth.evaluation import evaluate
from ablate.depth.losses import silog, trainable
from ablate.depth.model import audit
from ablate.depth.model.dpt import DPT, build
from ablate.depth.model.weights import load_weights
from ablate.depth.state import OptimizerState, WeightsState
from ablate.errors import DataError, DivergedError, OutOfMemoryError
from ablate.task import Component, Evaluation, Json, Placement, Position, StepReport, Tick


class DepthSession:
    """See `ablate.task.Session`. One per process: it sets torch's threads, determinism and random state.

    Raises DataError if the lists or the weights cannot be used and OutOfMemoryError if the network does not fit.
    """

    def __init__(self, config: DepthConfig, placement: Placement) -> None:
        self._config = config
        self._device = torch.device(placement.device)
        _make_deterministic(placement.threads)
        self._frames = _read_splits(config)
        self._data = TrainingData(self._frames["train"], config.data.resolution, config.data.cache_mb)
        with _memory_errors(config):
            self._model, kept = _start(config, self._device)
            self._optimizer = _optimizer(self._model, config.train)
        self.components: Mapping[str, Component] = {
            "weights": WeightsState(self._model),
            "optimizer": OptimizerState(self._optimizer),
        }
        self.facts: Mapping[str, Json] = {
            "parameters": audit.count(self._model),
            "shared_modules": [[part.name, *part.shared] for part in audit.shared(self._model)],
            "weights_not_in_file": list(kept),
            "images": {name: len(frames) for name, frames in self._frames.items()},
            "versions": {"torch": torch.__version__, "timm": timm.__version__, "numpy": np.__version__},
        }
        self.splits: tuple[str, ...] = tuple(name for name, frames in self._frames.items() if frames)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def steps(self, epoch: int) -> int:
        return math.ceil(len(self._order(epoch)) / self._config.train.batch_size)

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        order = self._order(epoch)
        flip = self._config.train.flip
        flips = np.array([flipped(self._config.seed, epoch, int(index), flip) for index in order], dtype=np.bool_)
        with _memory_errors(self._config):  # a batch of large images may be what does not fit
            yield from batches(
                self._data, order, flips, self._config.train.batch_size, first_step, workers=self._config.data.workers
            )

    def step(self, batch: Batch, position: Position) -> StepReport:
        """Raises DivergedError, the weights being unchanged, if the loss or its gradient is not finite."""
        _seed_everything(self._config.seed, position)
        self._model.train()
        with _memory_errors(self._config):
            self._optimizer.zero_grad(set_to_none=True)
            truth = batch.depth.to(self._device)
            prediction = self._model.depth(batch.image.to(self._device))
            loss = silog(prediction, truth, trainable(truth))
            value = float(loss.detach())
            _refuse_not_finite("training loss", value, position, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
            norm = float(nn.utils.get_total_norm(gradients))
            _refuse_not_finite("gradient of the training loss", norm, position, batch)
            self._optimizer.step()
        lr = float(self._optimizer.param_groups[0]["lr"])
        return StepReport(loss=value, images=len(batch.names), lr=lr, samples=batch.names)

    def evaluate(self, split: str, tick: Tick) -> Iterator[Evaluation]:
        self._model.eval()
        with _memory_errors(self._config):
            yield from evaluate(
                self._predict, split, self._frames[split], self._config.eval, self._config.data.resolution, tick
            )

    def peak_memory_mb(self) -> float | None:
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device)) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere

    def close(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _order(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return epoch_order(self._config.seed, epoch, len(self._frames["train"]), self._config.data.subset)

    @torch.inference_mode()
    def _predict(self, image_13HW: Tensor) -> Tensor:
        return self._model.depth(image_13HW.to(self._device)).float().cpu()


def _start(config: DepthConfig, device: torch.device) -> tuple[DPT, tuple[str, ...]]:
    """The network before its first step, and the tensors that its file of weights, if any, does not have."""
    torch.manual_seed(config.seed)
    model = build(config.model)
    kept = load_weights(model, config.model.weights) if config.model.weights else ()
    return model.to(device), kept


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay or 0.0, fused=True)


def _read_splits(config: DepthConfig) -> dict[str, tuple[Frame, ...]]:
    splits: dict[str, tuple[Frame, ...]] = {
        name: read_split(config.data.root, config.data.split, name).frames for name in SPLITS
    }
    for name in ("train", "val"):
        if not splits[name]:
            raise DataError(f"{config.data.root}: no frame of the {name} list has a depth map")
    return splits


def _make_deterministic(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # filling fresh memory finds reads of it; none of these networks does, and it costs a pass over every tensor
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def _seed_everything(seed: int, position: Position) -> None:
    """A step's random numbers depend on where it stands alone, so that a resumed run draws the same."""
    text = f"{seed}:{position.stage}:{position.epoch}:{position.step}"
    word = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    torch.manual_seed(word)
    np.random.seed(word % 2**32)
    random.seed(word)


def _refuse_not_finite(what: str, value: float, position: Position, batch: Batch) -> None:
    if not math.isfinite(value):
        raise DivergedError(
            f"the {what} is {value} in epoch {position.epoch}, step {position.step + 1} "
            f"(images: {', '.join(batch.names)}); lower train.lr, or look at these images"
        )


@contextlib.contextmanager
def _memory_errors(config: DepthConfig) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        height, width = config.data.resolution
        raise OutOfMemoryError(
            f"no memory left ({str(error).splitlines()[0] if str(error) else 'MemoryError'}) with batches of "
            f"{config.train.batch_size} at {height}x{width}; lower train.batch_size or data.resolution"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    """torch says so in a class of its own on a GPU and in the text of a RuntimeError on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return not isinstance(error, OutOfMemoryError)
    text = str(error)
    return "out of memory" in text or "can't allocate memory" in text
