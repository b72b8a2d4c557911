"""What a study may say under `train`: optimiser, schedule, precision, losses, augmentation. No torch here."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ablate.depth import objectives
from ablate.depth.schedules import Schedule
from ablate.task import LoopSettings, Settings

DEFAULT_WEIGHT_DECAY = {"adam": 0.0, "adamw": 0.01}
"""torch's own defaults."""


class ScheduleSettings(Settings):
    name: Literal["constant", "cosine", "one_cycle", "poly"] = Field(
        default="constant", description="How the learning rates change from step to step."
    )
    warmup_steps: int = Field(default=0, ge=0, description="Steps in which they rise along a line to their start.")
    floor: float = Field(default=0.0, ge=0, le=1, description="Where `cosine` and `poly` end, as a share of lr.")
    power: float = Field(default=0.9, gt=0, description="The exponent of `poly`.")
    peak: float = Field(default=0.3, ge=0, le=1, description="Share of the steps after which `one_cycle` is highest.")

    def build(self) -> Schedule:
        return Schedule(self.name, self.warmup_steps, self.floor, self.power, self.peak)


class JitterSettings(Settings):
    brightness: float = Field(default=0.0, ge=0, description="The factor is within 1 - s .. 1 + s.")
    contrast: float = Field(default=0.0, ge=0, description="The factor is within 1 - s .. 1 + s.")
    saturation: float = Field(default=0.0, ge=0, description="The factor is within 1 - s .. 1 + s.")
    hue: float = Field(default=0.0, ge=0, le=0.5, description="The shift is within -s .. s of a full turn.")


class AugmentSettings(Settings):
    crop: Literal["none", "fixed", "random"] = Field(
        default="none",
        description="`fixed`: train on the protocol's crop of the frame; `random`: on one of that size from anywhere.",
    )
    resize: Literal["squash", "shorter", "longer"] = Field(
        default="squash",
        description=(
            "How a frame becomes data.resolution: squashed; or its aspect kept, the `shorter` side fitting, and a "
            "random crop taken; or the `longer` side fitting, on padding."
        ),
    )
    jitter: JitterSettings = JitterSettings()


class StageSettings(Settings):
    sets: Literal["all"] | tuple[str, ...] = Field(
        default="all", description="Which sets of `data.mix`, by name or label."
    )
    epochs: int = Field(ge=1, description="Its epochs; their sum is `train.epochs`.")
    lr: float | None = Field(default=None, gt=0, description="Its learning rate; `train.lr` if not given.")
    decoder_lr: float | None = Field(
        default=None, gt=0, description="That of the decoder; `train.decoder_lr` if not given."
    )

    @field_validator("sets")
    @classmethod
    def _some_set(cls, sets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not sets or (len(set(sets)) != len(sets) and sets != "all"):
            raise ValueError("expected `all`, or a list of different sets")
        return sets


class TrainSettings(LoopSettings):
    stages: tuple[StageSettings, ...] = Field(
        default=(), description="Train in stages, each with a fresh optimiser: {sets, epochs, lr}."
    )
    objective: Literal["sum", "mgda"] = Field(
        default="sum",
        description="Of several data sets: the mean over all images, or the weights by which every set's loss falls.",
    )
    batch_size: int = Field(default=1, ge=1, description="Images per step of the network.")
    accumulate: int = Field(default=1, ge=1, description="Batches per optimiser step, whose gradients are averaged.")
    steps_per_epoch: int | None = Field(
        default=None, ge=1, description="Optimiser steps that count as an epoch; one pass over the images if not given."
    )
    optimizer: Literal["adam", "adamw"] = Field(default="adam", description="Adam, or AdamW.")
    lr: float = Field(default=1e-5, gt=0, description="Learning rate of all parameters.")
    decoder_lr: float | None = Field(
        default=None, gt=0, description="Learning rate of the decoder; `lr`, in one group, if not given."
    )
    weight_decay: float | None = Field(default=None, ge=0, description="adamw 0.01, adam 0 if not given.")
    schedule: ScheduleSettings = ScheduleSettings()
    clip_norm: float | None = Field(default=None, gt=0, description="Scale the gradient down to this norm.")
    clip_value: float | None = Field(default=None, gt=0, description="Clamp each element of the gradient to this.")
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="Evaluate a moving average of the weights, with this decay per step."
    )
    loss: str | dict[str, Annotated[float, Field(gt=0)]] = Field(
        default="silog",
        description="One loss, or several with their weights: {ssi_trimmed: 1, gradient_matching: 0.5}.",
        json_schema_extra={"examples": ["silog", {"ssi_trimmed": 1, "gradient_matching": 0.5}]},
    )
    variance_focus: float | None = Field(
        default=None, ge=0, le=1, description="Lambda of the silog losses: 0.5 of `silog`, 0.85 of `silog_sqrt`."
    )
    force_dense_loss: bool = Field(
        default=False, description="Allow a loss that compares neighbouring pixels on sparse ground truth."
    )
    alignment: Literal["published", "estimated", "none"] = Field(
        default="published",
        description=(
            "Scale and shift from the network's output to inverse depth at the start: KITTI's published ones; those "
            "that `ablate align` estimates on the training images; or 1 and 0."
        ),
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="Of the network's activations.")
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations again in the backward pass, to save memory."
    )
    channels_last: bool = Field(default=False, description="Memory format of images and convolutions.")
    compile: bool = Field(default=False, description="Compile the network with torch.compile.")
    flip: float = Field(default=0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    augment: AugmentSettings = AugmentSettings()

    @field_validator("loss", mode="before")
    @classmethod
    def _weights_of_losses(cls, loss: Any) -> Any:
        """In the words of this setting, not of each of the two kinds of value that it takes."""
        for name, weight in loss.items() if isinstance(loss, dict) else ():
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 < weight < math.inf:
                raise ValueError(f"expected a weight greater than 0 for {name}, found {weight!r}")
        return loss

    @field_validator("loss")
    @classmethod
    def _known_losses(cls, loss: str | dict[str, float]) -> str | dict[str, float]:
        """One loss of weight 1 and its name are one setting."""
        names = [loss] if isinstance(loss, str) else list(loss)
        unknown = [name for name in names if name not in objectives.names()]
        if unknown or not names:
            raise ValueError(f"expected one of {', '.join(objectives.names())}, or a mapping of them to weights")
        return names[0] if isinstance(loss, dict) and list(loss.values()) == [1.0] else loss

    @model_validator(mode="before")
    @classmethod
    def _resolve_weight_decay(cls, values: Any) -> Any:
        """What is left out and what is spelled out are one run: adam's 0 is null, adamw's default is 0.01."""
        if not isinstance(values, dict):
            return values
        default = DEFAULT_WEIGHT_DECAY.get(values.get("optimizer", "adam"), 0.0)
        given = values.get("weight_decay")
        if given is None or (given == default and not isinstance(given, bool)):
            return {**values, "weight_decay": default or None}
        return values

    @model_validator(mode="before")
    @classmethod
    def _epochs_of_all_stages(cls, values: Any) -> Any:
        """With stages, `epochs` is the sum of theirs, whether or not it is given."""
        if not isinstance(values, dict) or not (stages := values.get("stages")) or not isinstance(stages, list | tuple):
            return values
        given = [one.get("epochs") if isinstance(one, dict) else getattr(one, "epochs", None) for one in stages]
        counts = [count for count in given if isinstance(count, int) and not isinstance(count, bool)]
        if len(counts) < len(stages):
            return values  # said of the stage
        total, default = sum(counts), LoopSettings.model_fields["epochs"].default
        if values.get("epochs", default) not in (default, total):
            raise ValueError(f"epochs is the sum of the stages' ({total}); change train.stages, or leave epochs out")
        return {**values, "epochs": total}

    def stage_of(self, epoch: int) -> int:
        last = 0
        for number, stage in enumerate(self.stages):
            last += stage.epochs
            if epoch <= last:
                return number
        return max(0, len(self.stages) - 1)

    def epochs_of(self, stage: int) -> range:
        """The epochs of a stage, numbered through."""
        if not self.stages:
            return range(1, self.epochs + 1)
        before = sum(one.epochs for one in self.stages[:stage])
        return range(before + 1, before + self.stages[stage].epochs + 1)

    def in_stage(self, stage: int) -> TrainSettings:
        """With the stage's own learning rates."""
        if not self.stages:
            return self
        given = self.stages[stage]
        decoder_lr = self.decoder_lr if given.decoder_lr is None else given.decoder_lr
        return self.model_copy(update={"lr": given.lr or self.lr, "decoder_lr": decoder_lr})

    @property
    def losses(self) -> dict[str, float]:
        """Weights by name."""
        return {self.loss: 1.0} if isinstance(self.loss, str) else dict(self.loss)

    @property
    def images_per_step(self) -> int:
        """The effective batch: what one optimiser step sees."""
        return self.batch_size * self.accumulate

    def images_per_epoch(self, images: int) -> int:
        return images if self.steps_per_epoch is None else self.steps_per_epoch * self.images_per_step

    def why_not_longer(self) -> str | None:
        if self.stages:
            return "its epochs are those of train.stages"
        if self.schedule.name == "constant":
            return None
        return f"its learning rates followed the schedule {self.schedule.name!r} to its end, which more epochs move"
