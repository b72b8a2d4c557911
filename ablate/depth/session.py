"""A depth configuration made ready to train: network, data, optimiser. The engine calls it step by step."""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import resource
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import timm
import torch
from torch import Tensor

from ablate.depth import augment
from ablate.depth.alignment import align_start
from ablate.depth.alignment import lines as alignment_lines
from ablate.depth.attention.base import Attention
from ablate.depth.budget import step_of
from ablate.depth.config import DepthConfig
from ablate.depth.cost import peak_memory
from ablate.depth.data.base import Frame
from ablate.depth.data.loader import Batch, Samples, batches
from ablate.depth.data.sets import training_sets
from ablate.depth.data.splits import LABELLED, read_splits, reader, use_of
from ablate.depth.evaluation import Conditions, evaluate
from ablate.depth.fair import marks
from ablate.depth.losses import Loss, count_images, disparity, trainable
from ablate.depth.memory import is_out_of_memory
from ablate.depth.model import audit, specs
from ablate.depth.model.dpt import DPT, build, inverse_to_depth
from ablate.depth.model.loadreport import LoadReport
from ablate.depth.model.weights import load_weights
from ablate.depth.objectives import OBJECTIVES, Option, Space
from ablate.depth.probe import code_of
from ablate.depth.protocol import protocol_of
from ablate.depth.recipe import Average, Recipe, Stepped
from ablate.depth.stages import Stage
from ablate.depth.state import OptimizerState, ScalerState, WeightsState
from ablate.depth.train_settings import AugmentSettings, TrainSettings
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
        self._data = _samples(config)
        self._micro_batch = config.train.batch_size
        self._loss = Loss(config.train.losses, _loss_options(config.train))
        with _memory_errors(config):
            self._model, loaded = _start(config, self._device)
            aligned = align_start(self._model, config, self._frames["train"], self._protocol, placement.cache_dir)
            self._average = Average(self._model, config.train.ema) if config.train.ema else None
        self._lr_factor = 1.0
        self.enter(0)
        self.facts: Mapping[str, Json] = {
            "parameters": audit.count(self._model),
            "shared_modules": [[part.name, *part.shared] for part in audit.shared(self._model)],
            "parts": [vars(part) for part in audit.parts(self._model, loaded.filled if loaded else None)],
            "weights": loaded.facts() if loaded else None,
            "alignment": aligned,
            "notes": [*marks(config), *(loaded.lines() if loaded else []), *alignment_lines(aligned)],
            "marks": list(marks(config)),
            "images": self._image_counts(),
            "code": code_of(config),
            "versions": {"torch": torch.__version__, "timm": timm.__version__, "numpy": np.__version__},
        }
        self.splits: tuple[str, ...] = tuple(name for name, frames in self._frames.items() if frames)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def enter(self, stage: int) -> None:
        self._stage = Stage(self._config, self._sizes(), stage)
        settings = self._config.train.in_stage(stage)
        self._recipe = Recipe(self._model, settings, self._device, self._stage.steps_in_all())
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
        # normalised by the batch, an image would have another gradient in a smaller piece
        halvings = 0 if self._config.model.decoder_norm == "batch" else math.ceil(math.log2(whole))
        self._micro_batch = math.ceil(whole / 2 ** min(rung, halvings))
        count = math.ceil(whole / self._micro_batch)
        pieces = f"{count} pieces of at most {self._micro_batch} of each batch of {whole}"
        if rung <= halvings:
            return f"trained {pieces}, their gradients added up"
        if rung > halvings + 1 or self._config.train.gradient_checkpointing:
            return None
        self._model.recompute = True
        return "activations computed again in the backward pass" + (f", and trained {pieces}" if count > 1 else "")

    def needs(self) -> int:
        micro = self._micro_batch
        pieces = math.ceil(self._config.train.images_per_step / micro)
        step = replace(step_of(self._config), batch_size=micro, pieces=pieces, recompute=self._model.recompute)
        return peak_memory(self._config.model, step)

    def gradient_norms(self) -> Mapping[str, float]:
        return self._recipe.gradient_norms()

    def steps(self, epoch: int) -> int:
        return self._stage_of(epoch).steps()

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        config, keys = self._config, self._stage_of(epoch).keys(epoch)
        with _memory_errors(config):  # a batch of large images may be what does not fit
            yield from batches(self._data, keys, config.train.images_per_step, first_step, config.data.workers)

    def step(self, batch: Batch, position: Position) -> StepReport:
        """Raises DivergedError, all parameters being unchanged, if the loss or its gradient is not finite."""
        _seed_everything(self._config.seed, position)
        self._redraw(position)
        self._model.train()
        stage = self._stage_of(position.epoch)
        done = stage.done(position.epoch) + position.step
        with _memory_errors(self._config):
            truth = batch.depth.to(self._device)
            valid = self._valid(truth, batch)
            image = self._laid_out(batch.image.to(self._device))
            count = len(batch.names)
            stepped = self._trained(image, truth, valid, batch, done)
            _refuse_not_finite("training loss", stepped.loss, position, batch)
            norms = self._recipe.gradient_norms()
            _refuse_not_finite("gradient of the training loss", stepped.norm, position, batch, norms)
            if self._average:
                self._average.update(stage.before() + done)
        return StepReport(loss=stepped.loss, images=count, lr=stepped.lr, samples=batch.names)

    def _trained(self, image: Tensor, truth: Tensor, valid: Tensor, batch: Batch, done: int) -> Stepped:
        relative = torch.tensor(batch.relative, device=self._device)

        def loss_of(part: slice | list[int], images: Tensor | None) -> Tensor:
            return self._loss_of(image[part], truth[part], valid[part], relative[part], images)

        if self._config.train.objective == "mgda":
            tasks = [
                [place for place, number in enumerate(batch.tasks) if number == task] for task in sorted({*batch.tasks})
            ]
            counts = [count_images(valid[places]) for places in tasks]
            return self._recipe.step_tasks(
                tasks, self._micro_batch, lambda task, part: loss_of(list(part), counts[task]), done
            )
        count = len(batch.names)
        images = None if self._micro_batch >= count else count_images(valid)
        return self._recipe.step(count, self._micro_batch, lambda part: loss_of(part, images), done)

    def _valid(self, truth_B1HW: Tensor, batch: Batch) -> Tensor:
        """Where ground truth is trained on: in metres, within the cap of its set's protocol; else wherever it is."""
        protocols = [self._data.sets[number].protocol for number in batch.tasks]
        if not any(batch.relative) and len(set(map(id, protocols))) == 1:
            return trainable(truth_B1HW, protocols[0])
        caps = [
            (0.0, math.inf) if relative else (protocol.min_depth, protocol.max_depth)
            for protocol, relative in zip(protocols, batch.relative, strict=True)
        ]
        caps_B2 = torch.tensor(caps, dtype=truth_B1HW.dtype, device=truth_B1HW.device)
        low_B111, high_B111 = caps_B2[:, :1, None, None], caps_B2[:, 1:, None, None]
        return (truth_B1HW > low_B111) & (truth_B1HW < high_B111)

    def _loss_of(
        self, image_B3HW: Tensor, truth_B1HW: Tensor, valid_B1HW: Tensor, relative_B: Tensor, images: Tensor | None
    ) -> Tensor:
        with self._recipe.autocast():
            output_B1HW = self._model(image_B3HW)
        views: dict[Space, tuple[Tensor, Tensor]] = {}
        if "log_depth" in self._loss.spaces:
            metres_B1HW = inverse_to_depth(output_B1HW, self._protocol.scale, self._protocol.shift)
            views["log_depth"] = (metres_B1HW, truth_B1HW)
        if "disparity" in self._loss.spaces:
            inverse_B1HW = disparity(truth_B1HW, valid_B1HW)
            inverse_B1HW = torch.where(relative_B[:, None, None, None], truth_B1HW, inverse_B1HW)
            views["disparity"] = (output_B1HW.float(), inverse_B1HW)
        return self._loss(views, valid_B1HW, images)

    def _laid_out(self, image_B3HW: Tensor) -> Tensor:
        return (
            image_B3HW.contiguous(memory_format=torch.channels_last) if self._config.train.channels_last else image_B3HW
        )

    def _stage_of(self, epoch: int) -> Stage:
        stage = self._config.train.stage_of(epoch)
        return self._stage if self._stage.number == stage else Stage(self._config, self._sizes(), stage)

    def _sizes(self) -> tuple[int, ...]:
        return tuple(len(one.frames) for one in self._data.sets)

    def _image_counts(self) -> dict[str, int]:
        counts = {name: len(frames) for name, frames in self._frames.items()}
        return counts | ({"train": sum(self._sizes())} if self._config.data.mix else {})

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
        stage = self._stage_of(position.epoch)
        done = stage.before() + stage.done(position.epoch) + position.step
        generator = torch.Generator(device="cpu").manual_seed(_word(self._config.seed, position, ":features"))
        for module in attentions:
            if done and done % cast(int, module.redraw_every) == 0:
                module.redraw(generator)

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


def _samples(config: DepthConfig) -> Samples:
    train, jitter = config.train, config.train.augment.jitter
    recipe = augment.Recipe(
        config.data.resolution,
        train.augment.crop,
        train.augment.resize,
        train.flip,
        augment.Jitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue),
    )
    return Samples(
        training_sets(config),
        recipe,
        config.seed,
        config.data.cache_mb,
        squashed=train.augment == AugmentSettings(),
    )


def _loss_options(settings: TrainSettings) -> dict[str, dict[str, Option]]:
    if settings.variance_focus is None:
        return {}
    options: dict[str, Option] = {"variance_focus": settings.variance_focus}
    return {name: options for name in settings.losses if "variance_focus" in OBJECTIVES[name].options}


def _read_splits(config: DepthConfig) -> dict[str, tuple[Frame, ...]]:
    trains = config.train.epochs > 0
    splits = {name: split.frames for name, split in read_splits(config.data, use=use_of(config.train.epochs)).items()}
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


def _refuse_not_finite(
    what: str, value: float, position: Position, batch: Batch, norms: Mapping[str, float] | None = None
) -> None:
    if not math.isfinite(value):
        raise DivergedError(
            f"the {what} is {value} in epoch {position.epoch}, step {position.step + 1} "
            f"(images: {', '.join(batch.names)}); lower train.lr, or look at these images",
            batch.names,
            norms,
        )


@contextlib.contextmanager
def _memory_errors(config: DepthConfig) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        height, width = config.data.resolution
        raise OutOfMemoryError(
            f"no memory left ({str(error).splitlines()[0] if str(error) else 'MemoryError'}) with batches of "
            f"{config.train.batch_size} at {height}x{width}; lower train.batch_size or data.resolution"
        ) from error
