"""What a depth study may say: frozen classes that never import torch.

Released defaults never change: run ids hash the settings that differ from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ablate.depth import attention, fair, mixing
from ablate.depth import metrics as measures
from ablate.depth.conflicts import Conflict, refused
from ablate.depth.data import datasets
from ablate.depth.model import fit, specs
from ablate.depth.protocol import protocol_of
from ablate.depth.train_settings import TrainSettings
from ablate.task import NOT_IDENTITY, Json, PanelSettings, RunSettings, SelectSettings, Settings

Size = tuple[int, int]
"""(height, width) in pixels; multiples of the network's stride."""

Start = Literal["pretrained", "scratch"]


class ModelSettings(Settings):
    name: str = Field(
        default="dpt_hybrid", description="Which network.", json_schema_extra={"enum": list(specs.names())}
    )
    weights: Path | None = Field(
        default=None,
        description="Start from these weights: a file (.pt, .pth or .safetensors), or a run.",
        json_schema_extra=NOT_IDENTITY,  # a path; the digest of the file is part of the run id
    )
    output: Literal["metric", "relative"] = Field(
        default="metric",
        description="`relative`: the weights predict inverse depth without a unit, as MiDaS does; only to evaluate.",
    )
    attention: str = Field(
        default="standard",
        description="Which self-attention the encoder's blocks use.",
        json_schema_extra={"enum": list(attention.names())},
    )
    attention_blocks: Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default="all", description="The blocks, from 0, that get `attention`; the others keep `standard`."
    )
    share_attention: bool = Field(
        default=False, description="One attention module for all blocks, as the progress log's rows 5-7 had."
    )
    attention_init: Start = Field(
        default="pretrained", description="`scratch`: the attention starts untrained, whatever the weights hold."
    )
    decoder_init: Start = Field(
        default="pretrained", description="`scratch`: all but the encoder starts untrained, whatever the weights hold."
    )
    heads: int | None = Field(default=None, ge=1, description="Attention heads; the network's own if not given.")
    taps: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, description="The blocks, from 0, that feed the decoder; later ones are not built."
    )
    readout: Literal["ignore", "add", "project"] | None = Field(
        default=None, description="What becomes of the class token; the network's own way if not given."
    )
    decoder_norm: Literal["none", "batch"] = Field(
        default="none", description="Normalisation in the decoder; none, as published."
    )
    compression: int | None = Field(
        default=None, ge=1, le=64, description="Tokens per key and value of the compressed attentions; 2 if not given."
    )
    features: int | None = Field(
        default=None,
        ge=1,
        description="Random features of `performer`; int(d ln d) of the head's width d if not given.",
    )
    redraw_every: int | None = Field(
        default=None, ge=1, description="Steps after which `performer` draws new features; never if not given."
    )
    head_dim: int | None = Field(
        default=None, ge=1, description="Width of a head of `performer`; the network's width / heads if not given."
    )
    landmarks: int | None = Field(default=None, ge=1, description="Landmarks of `nystrom`; 64 if not given.")
    window: int | None = Field(default=None, ge=1, description="Side of `window`'s windows, in tokens; 8 if not given.")
    null_key: bool = Field(
        default=False, description="A learned null key and value in compressed attention, as the reference package has."
    )
    zero_padding: bool = Field(
        default=False, description="Compressed attention averages zero padding in, as the reference package does."
    )

    @field_validator("name")
    @classmethod
    def _known_network(cls, name: str) -> str:
        if name not in specs.names():
            raise ValueError(f"expected one of {', '.join(specs.names())}")
        return name

    @field_validator("attention")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in attention.names():
            raise ValueError(f"expected one of {', '.join(attention.names())}")
        return name

    @model_validator(mode="before")
    @classmethod
    def _without_the_networks_own(cls, values: Any) -> Any:
        """Values that the network has anyway are dropped, so that two spellings of a run are one."""
        return fit.own_spellings(values) if isinstance(values, dict) else values

    @model_validator(mode="before")
    @classmethod
    def _only_what_applies(cls, values: Any) -> Any:
        """Settings that the chosen attention does not use are dropped, so that two spellings of a run are one."""
        if not isinstance(values, dict) or values.get("attention", "standard") not in attention.names():
            return values
        options = attention.options(values.get("attention", "standard"))
        values = {key: value for key, value in values.items() if key not in attention.all_options() or key in options}
        for key, default in options.items():
            if values.get(key) is None:
                values[key] = default
        return values


class SubsetSettings(Settings):
    n: int = Field(ge=1, description="How many training images.")
    seed: int = Field(default=0, ge=0, description="Which ones.")
    redraw: bool = Field(default=False, description="Draw anew every epoch, as the progress log's third row did.")


class MixSettings(Settings):
    name: str = Field(description="Which data set.", json_schema_extra={"enum": list(datasets.names())})
    root: Path = Field(description="Its folder.", json_schema_extra=NOT_IDENTITY)
    split: Path | None = Field(
        default=None, description="The folder of its training list, as `data.split`.", json_schema_extra=NOT_IDENTITY
    )
    label: str | None = Field(default=None, description="What stages and records call it; its name if not given.")

    @field_validator("name")
    @classmethod
    def _known_data_set(cls, name: str) -> str:
        return DataSettings._known_data_set(name)

    @property
    def called(self) -> str:
        return self.label or self.name


class DataSettings(Settings):
    name: str = Field(
        default="kitti", description="Which data set.", json_schema_extra={"enum": list(datasets.names())}
    )
    root: Path = Field(
        default=Path("data/kitti"),
        description="The folder that holds raw/ and data_depth_annotated/.",
        json_schema_extra=NOT_IDENTITY,
    )
    split: Path | None = Field(
        default=None,
        description="The folder of {train,val,test}_files.txt, relative to root; root itself if not given.",
        json_schema_extra=NOT_IDENTITY,  # the lists' digests are part of the run id
    )
    mix: tuple[MixSettings, ...] = Field(
        default=(),
        description="Train on these sets instead, each a task, drawn uniformly; `data` itself is validated on.",
    )
    resolution: Size = Field(default=(192, 640), description="Network input in training: [height, width].")
    subset: SubsetSettings | None = Field(default=None, description="Train on random images instead of all.")
    labels: Literal["metric", "floor_metres"] = Field(
        default="metric",
        description="`floor_metres`: depth rounded down to whole metres, as the progress log's 8-bit reader did.",
    )
    holdout: Literal["none", "drives"] = Field(
        default="none", description="`drives`: validate on whole drives held out of the training list, not on val."
    )
    workers: int = Field(default=0, ge=0, le=64, description="Loader processes.", json_schema_extra=NOT_IDENTITY)
    cache_mb: int = Field(
        default=256,
        ge=0,
        description="Keep this much of resized training images in memory (MiB).",
        json_schema_extra=NOT_IDENTITY,
    )

    @field_validator("name")
    @classmethod
    def _known_data_set(cls, name: str) -> str:
        if name not in datasets.names():
            raise ValueError(f"expected one of {', '.join(datasets.names())}")
        return name


class DepthSelect(SelectSettings):
    metric: str = Field(default="abs_rel", json_schema_extra={"enum": [*measures.names(), "loss"]})
    split: Literal["val"] = "val"
    resolution: Literal["full", "reduced"] = "reduced"

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        known = (*measures.names(), "loss")
        if metric not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return metric


class EvalSettings(Settings):
    resolutions: tuple[Literal["full", "reduced"], ...] = Field(
        default=("full", "reduced"),
        min_length=1,
        description="Network inputs to evaluate at: the unresized crop, or towards data.resolution.",
    )
    mask: Literal["garg", "eigen", "none"] = Field(default="garg", description="Which pixels are scored.")
    align: Literal["none", "median", "scale_shift"] = Field(
        default="none", description="How each prediction is aligned to its ground truth before it is scored."
    )
    flip: bool = Field(default=False, description="Average the prediction with that of the mirrored image.")
    select: DepthSelect = Field(
        default=DepthSelect(),
        description="Which epoch is reported, kept and tested.",
    )
    panels: PanelSettings = PanelSettings()

    @model_validator(mode="after")
    def _selects_what_is_evaluated(self) -> EvalSettings:
        if len(set(self.resolutions)) != len(self.resolutions):
            raise ValueError("resolutions are named twice")
        if self.select.resolution not in self.resolutions:
            raise ValueError(
                f"select.resolution {self.select.resolution!r} is not among resolutions {list(self.resolutions)}"
            )
        return self


class DepthConfig(RunSettings):
    """One run: everything that a cell of a study decides."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()

    paths: ClassVar[tuple[str, ...]] = ("model.weights", "data.root")

    plugins: ClassVar[Mapping[str, str | None]] = {
        "ablate.attention": "model.attention",
        "ablate.models": "model.name",
        "ablate.data": "data.name",
        "ablate.metrics": None,
    }

    @model_validator(mode="after")
    def _one_image_at_a_time_as_logged(self) -> DepthConfig:
        if self.model.attention == "memory_compressed_0_0_3" and self.train.batch_size > 1:
            raise ValueError(
                "memory_compressed_0_0_3 takes one image at a time: version 0.0.3 of its package did not expand the "
                "null key to the batch; set train.batch_size to 1, or use memory_compressed"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _usual_mask(cls, values: Any) -> Any:
        """A mask that is not given is the one that is usual for the data set: `garg`, but `eigen` for NYU."""
        if not isinstance(values, dict) or not isinstance(given := values.get("eval", {}), dict) or "mask" in given:
            return values
        data = values.get("data", {})
        name = data.get("name", "kitti") if isinstance(data, dict) else getattr(data, "name", None)
        if name not in datasets.names():
            return values
        usual = protocol_of(name).usual_mask
        return values if usual == "garg" else {**values, "eval": {**given, "mask": usual}}

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_align(cls, values: Any) -> Any:
        """Without weights `train.alignment` says nothing and is dropped, so that two spellings of a run are one."""
        train = values.get("train") if isinstance(values, dict) else None
        if not isinstance(train, dict) or train.get("alignment") not in ("estimated", "none"):
            return values
        model = values.get("model", {})
        weights = model.get("weights") if isinstance(model, dict) else getattr(model, "weights", None)
        if weights is not None:
            return values
        return {**values, "train": {key: value for key, value in train.items() if key != "alignment"}}

    @model_validator(mode="after")
    def _is_evaluated_fairly(self) -> DepthConfig:
        if error := refused(self, fair.conflicts(self)):
            raise error
        return self

    @model_validator(mode="after")
    def _stops_by_what_is_measured(self) -> DepthConfig:
        stopping, known = self.train.early_stopping, (*measures.names(), "loss")
        if stopping is None or stopping.metric is None or stopping.metric in known:
            return self
        problem = f"expected one of {', '.join(known)}; found {stopping.metric!r}, which would never stop a run"
        error = refused(self, [Conflict("train.early_stopping.metric", stopping.metric, problem)])
        raise error if error else ValueError(problem)

    @model_validator(mode="after")
    def _goes_with_the_data(self) -> DepthConfig:
        if error := refused(self, mixing.conflicts(self)):
            raise error
        return self

    @property
    def select(self) -> SelectSettings:
        return self.eval.select

    @property
    def shown(self) -> PanelSettings:
        return self.eval.panels

    @model_validator(mode="after")
    def _suits_the_network(self) -> DepthConfig:
        if error := refused(self, fit.conflicts(self.model, self.data.resolution)):
            raise error
        return self

    def own_value(self, key: str) -> Json:
        group, _, name = key.rpartition(".")
        return fit.own_value(self.model, name) if group == "model" else None
