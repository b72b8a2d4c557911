"""A depth configuration made ready to train: network, data, optimiser. The engine calls it step by step."""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import timm
import torch
from torch import Tensor

from ablate.depth.attention.base import Attention
from ablate.depth.config import DepthConfig
from ablate.depth.data.base import Frame
from ablate.depth.data.loader import Batch, TrainingData, batches
from ablate.depth.data.order import epoch_order, flipped
from ablate.depth.data.splits import LABELLED, read_splits, reader
from ablate.depth.evaluation import Conditions, evaluate
from ablate.depth.fair import marks
from ablate.depth.losses import Loss, count_images, disparity, trainable
from ablate.depth.model import audit, specs
from ablate.depth.model.dpt import DPT, build, inverse_to_depth
from ablate.depth.model.loadreport import LoadReport
from ablate.depth.model.weights import load_weights
from ablate.depth.objectives import OBJECTIVES, Option, Space
from ablate.depth.protocol import protocol_of
from ablate.depth.recipe import Average, Recipe
from ablate.depth.state import OptimizerState, ScalerState, WeightsState
from ablate.depth.train_settings import TrainSettings
from ablate.errors import DataError, DivergedError, OutOfMemoryError
from ablate.task import Component, Evaluation, Json, Placement, Position, StepReport, Tick


class DepthSession:
    """See `ablate.task.Session`. One per process: it sets torch's threads, determinism and random state.

    Raises DataError if the lists or the weights cannot be used and OutOfMemoryError if the network does not fit.
    """

    def __init__(self, config: DepthConfig, placement: Placement) -> None:
        self._config = config
        self._device = torch.device(placement.device)
        self._protocol = protocol_of(config.data.name)
        _make_deterministic(placement.threads)
        self._frames = _read_splits(config)
        self._data = TrainingData(
            self._frames["train"], config.data.resolution, config.data.cache_mb, reader(config.data, "train")
        )
        self._micro_batch = config.train.batch_size
        self._loss = Loss(config.train.losses, _loss_options(config.train))
        with _memory_errors(config):
            self._model, loaded = _start(config, self._device)
            self._average = Average(self._model, config.train.ema) if config.train.ema else None
        self._lr_factor = 1.0
        self.enter(0)
        self.facts: Mapping[str, Json] = {
            "parameters": audit.count(self._model),
            "shared_modules": [[part.name, *part.shared] for part in audit.shared(self._model)],
            "parts": [vars(part) for part in audit.parts(self._model, loaded.filled if loaded else None)],
            "weights": loaded.facts() if loaded else None,
            "notes": [*marks(config), *(loaded.lines() if loaded else [])],
            "marks": list(marks(config)),
            "images": {name: len(frames) for name, frames in self._frames.items()},
            "versions": {"torch": torch.__version__, "timm": timm.__version__, "numpy": np.__version__},
        }
        self.splits: tuple[str, ...] = tuple(name for name, frames in self._frames.items() if frames)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def enter(self, stage: int) -> None:
        self._recipe = Recipe(self._model, self._config.train, self._device, self._steps_of_stage())
        self._recipe.lr_factor = self._lr_factor
        shown = self._average.model if self._average else self._model
        components: dict[str, Component] = {"weights": WeightsState(shown)}
        if self._average:
            components["online"] = WeightsState(self._model)
        components["optimizer"] = OptimizerState(self._recipe.optimizer)
        if self._recipe.scaler.is_enabled():
            components["scaler"] = ScalerState(self._recipe.scaler)
        self.components: Mapping[str, Component] = components

    def scale_lr(self, factor: float) -> None:
        self._lr_factor = self._recipe.lr_factor = factor

    def lighten(self, rung: int) -> str | None:
        whole = self._config.train.batch_size
        halvings = math.ceil(math.log2(whole))
        self._micro_batch = max(1, math.ceil(whole / 2**rung))
        pieces = (
            f"{math.ceil(whole / self._micro_batch)} pieces of at most {self._micro_batch} of each batch of {whole}"
        )
        if rung <= halvings:
            return f"trained {pieces}, their gradients added up"
        if rung > halvings + 1 or self._config.train.gradient_checkpointing:
            return None
        self._model.recompute = True
        return "activations computed again in the backward pass" + (f", and trained {pieces}" if whole > 1 else "")

    def gradient_norms(self) -> Mapping[str, float]:
        return self._recipe.gradient_norms()

    def steps(self, epoch: int) -> int:
        train = self._config.train
        return train.steps_per_epoch or math.ceil(self._images_per_pass() / train.images_per_step)

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        config = self._config
        draws = self._draws(epoch)
        flips = [flipped(config.seed, passed, index, config.train.flip) for passed, index in draws]
        order = np.array([index for _, index in draws], dtype=np.int64)
        with _memory_errors(config):  # a batch of large images may be what does not fit
            yield from batches(
                self._data,
                order,
                np.array(flips, dtype=np.bool_),
                config.train.images_per_step,
                first_step,
                workers=config.data.workers,
            )

    def step(self, batch: Batch, position: Position) -> StepReport:
        """Raises DivergedError, all parameters being unchanged, if the loss or its gradient is not finite."""
        _seed_everything(self._config.seed, position)
        self._redraw(position)
        self._model.train()
        done = (position.epoch - 1) * self.steps(position.epoch) + position.step  # all epochs have as many steps
        with _memory_errors(self._config):
            truth = batch.depth.to(self._device)
            valid = trainable(truth, self._protocol)
            image = self._laid_out(batch.image.to(self._device))
            count = len(batch.names)
            images = None if self._micro_batch >= count else count_images(valid)

            def loss_of(part: slice) -> Tensor:
                return self._loss_of(image[part], truth[part], valid[part], images)

            stepped = self._recipe.step(count, self._micro_batch, loss_of, done)
            _refuse_not_finite("training loss", stepped.loss, position, batch)
            _refuse_not_finite("gradient of the training loss", stepped.norm, position, batch)
            if self._average:
                self._average.update(done)
        return StepReport(loss=stepped.loss, images=count, lr=stepped.lr, samples=batch.names)

    def _loss_of(self, image_B3HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor, images: Tensor | None) -> Tensor:
        with self._recipe.autocast():
            output_B1HW = self._model(image_B3HW)
        views: dict[Space, tuple[Tensor, Tensor]] = {}
        if "log_depth" in self._loss.spaces:
            metres_B1HW = inverse_to_depth(output_B1HW, self._protocol.scale, self._protocol.shift)
            views["log_depth"] = (metres_B1HW, truth_B1HW)
        if "disparity" in self._loss.spaces:
            views["disparity"] = (output_B1HW.float(), disparity(truth_B1HW, valid_B1HW))
        return self._loss(views, valid_B1HW, images)

    def _laid_out(self, image_B3HW: Tensor) -> Tensor:
        return (
            image_B3HW.contiguous(memory_format=torch.channels_last) if self._config.train.channels_last else image_B3HW
        )

    def _images_per_pass(self) -> int:
        subset = self._config.data.subset
        return subset.n if subset else len(self._frames["train"])

    def _steps_of_stage(self) -> int:
        train = self._config.train
        total = train.epochs * self.steps(1)
        return total if train.max_steps is None else min(total, train.max_steps)

    def _draws(self, epoch: int) -> list[tuple[int, int]]:
        """(pass over the images, image) of every sample of an epoch. A pass is an epoch unless epochs count steps."""
        train = self._config.train
        if train.steps_per_epoch is None:
            return [(epoch, int(index)) for index in self._order(epoch)]
        size, count = self._images_per_pass(), train.steps_per_epoch * train.images_per_step
        places = range((epoch - 1) * count, epoch * count)
        orders = {number: self._order(number + 1) for number in range(places[0] // size, places[-1] // size + 1)}
        return [(place // size + 1, int(orders[place // size][place % size])) for place in places]

    def evaluate(self, split: str, tick: Tick) -> Iterator[Evaluation]:
        (self._average.model if self._average else self._model).eval()
        with _memory_errors(self._config):
            yield from evaluate(
                self._predict,
                split,
                self._frames[split],
                self._config.eval,
                self._config.data.resolution,
                tick,
                self._conditions(split),
            )

    def peak_memory_mb(self) -> float | None:
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device)) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere

    def close(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _redraw(self, position: Position) -> None:
        """New features for `performer` each `redraw_every` steps of the whole run, before the step that uses them.

        They depend on the position alone, and a checkpoint has those in use: a resumed run has the same ones.
        """
        attentions = [m for m in self._model.modules() if isinstance(m, Attention) and m.redraw_every]
        if not attentions:
            return
        done = (position.epoch - 1) * self.steps(1) + position.step
        generator = torch.Generator(device="cpu").manual_seed(_word(self._config.seed, position, ":features"))
        for module in attentions:
            if done and done % cast(int, module.redraw_every) == 0:
                module.redraw(generator)

    def _order(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return epoch_order(self._config.seed, epoch, len(self._frames["train"]), self._config.data.subset)

    def _conditions(self, split: str) -> Conditions:
        model, data = self._config.model, self._config.data
        return Conditions(
            protocol=self._protocol,
            reader=reader(data, split),
            multiple=specs.load(model.name).stride,
            relative=model.output == "relative",
            labels=data.labels if split in LABELLED else "metric",
        )

    @torch.inference_mode()
    def _predict(self, image_13HW: Tensor) -> Tensor:
        """Metres, or what the network predicts as it is where that has no unit."""
        model = self._average.model if self._average else self._model
        with self._recipe.autocast():
            output_11HW: Tensor = model(self._laid_out(image_13HW.to(self._device)))
        if self._config.model.output == "relative":
            return output_11HW.float().cpu()
        return inverse_to_depth(output_11HW, self._protocol.scale, self._protocol.shift).float().cpu()


def _start(config: DepthConfig, device: torch.device) -> tuple[DPT, LoadReport | None]:
    """The network before its first step, and what became of every tensor of its file of weights, if it has one."""
    torch.manual_seed(config.seed)
    model = build(config.model)
    weights = config.model.weights
    loaded = load_weights(model, weights, config.model) if weights else None
    model.recompute = config.train.gradient_checkpointing
    model = model.to(device)
    if config.train.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if config.train.compile:
        model.compile()
    return model, loaded


def _loss_options(settings: TrainSettings) -> dict[str, dict[str, Option]]:
    if settings.variance_focus is None:
        return {}
    options: dict[str, Option] = {"variance_focus": settings.variance_focus}
    return {name: options for name in settings.losses if "variance_focus" in OBJECTIVES[name].options}


def _read_splits(config: DepthConfig) -> dict[str, tuple[Frame, ...]]:
    trains = config.train.epochs > 0
    splits = {name: split.frames for name, split in read_splits(config.data, trains=trains).items()}
    for name in ("train", "val") if trains else ():
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
    word = _word(seed, position)
    torch.manual_seed(word)
    np.random.seed(word % 2**32)
    random.seed(word)


def _word(seed: int, position: Position, purpose: str = "") -> int:
    text = f"{seed}:{position.stage}:{position.epoch}:{position.step}{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


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
