"""Depth of single images, as isl-org/DPT's `run_monodepth.py` computes it. Importing this loads no torch.

The image, or its KITTI benchmark crop, is resized bicubically to the network's input (`protocol.network_size`), and the
depth bicubically back to the size of the image, or of the crop. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import contextlib
import difflib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ablate.depth.config import DepthConfig, ModelSettings
from ablate.depth.data import datasets
from ablate.depth.data.images import load_image
from ablate.depth.fair import has_no_unit, known_relative
from ablate.depth.memory import is_out_of_memory
from ablate.depth.model import source, specs
from ablate.depth.panels import shades_of
from ablate.depth.protocol import DepthProtocol, kb_crop, network_size, protocol_of
from ablate.errors import DataError, OutOfMemoryError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ablate.depth.model.dpt import DPT
    from ablate.picture import Scale

Format = Literal["png16", "npy", "color"]
FORMATS: tuple[Format, ...] = ("png16", "npy", "color")
Resolution = Literal["full", "reduced"] | tuple[int, int]

SUFFIXES = (".png", ".jpg", ".jpeg")
"""What counts as an image in a folder, in any case."""

ENOUGH = 0.8
"""The share of a network's tensors by which a file is recognised: replaced attentions have others."""
CLASS_TOKEN = "pretrained.model.cls_token"

LARGEST = 65535
"""The largest value of 16 bits: 255.996 m in KITTI's depth PNGs, 65.535 m in NYU's."""


@dataclass(frozen=True)
class Origin:
    """A network with its weights, and the protocol whose scale and shift turn its output into metres."""

    model: ModelSettings
    weights: Path
    protocol: DepthProtocol
    resolution: tuple[int, int]
    """What `reduced` resizes towards."""
    relative: bool
    """Whether the weights predict inverse depth without a unit, as MiDaS does."""


@dataclass(frozen=True)
class Prediction:
    """`values`: HW float32, metres, or inverse depth without a unit if `relative`."""

    values: NDArray[np.float32]
    relative: bool
    network_input: tuple[int, int]


class Predictor:
    """A network in memory. Raises DataError if the weights do not fit, UsageError if the settings do not."""

    def __init__(self, origin: Origin, device: str = "cpu") -> None:
        import torch

        self.origin, self.device = origin, torch.device(device)
        self.stride = specs.load(origin.model.name).stride
        self._model = network_of(origin).to(self.device).eval()

    def __call__(
        self, image: Path, resolution: Resolution, *, crop: bool = False, relative: bool = False
    ) -> Prediction:
        """The depth of one image file.

        resolution: `full` (the image's own size), `reduced` (towards `data.resolution`), or a size to resize towards;
        each is rounded to the network's stride by the published rule. crop: of the KITTI benchmark's crop alone.
        Raises DataError, naming the file, if it cannot be used, and OutOfMemoryError.
        """
        image_HW3 = load_image(image)
        if crop:
            try:
                box = kb_crop(image_HW3.shape[0], image_HW3.shape[1])
            except DataError as error:
                raise DataError(f"{image}: {error}") from None
            image_HW3 = image_HW3[box.rows, box.columns]
        size = self.network_input((image_HW3.shape[0], image_HW3.shape[1]), resolution)
        with _memory_errors(image, size):
            values_HW = self._predict(image_HW3, size, relative)
        if not np.isfinite(values_HW).all():
            raise DataError(f"{image}: the network's output is not finite; its weights may be damaged or diverged")
        return Prediction(values_HW, relative, size)

    def network_input(self, size: tuple[int, int], resolution: Resolution) -> tuple[int, int]:
        """What an image of `size` is resized to."""
        target = self.origin.resolution if resolution == "reduced" else size if resolution == "full" else resolution
        return network_size(*size, target, self.stride)

    def _predict(self, image_HW3: NDArray[np.uint8], size: tuple[int, int], relative: bool) -> NDArray[np.float32]:
        import torch

        protocol = self.origin.protocol
        with torch.inference_mode():
            image_13HW = torch.from_numpy(image_HW3.copy()).permute(2, 0, 1)[None]
            image_13HW = image_13HW.float().div_(127.5).sub_(1)
            input_13HW = _resized(image_13HW.contiguous().to(self.device), size)
            values_11HW = (
                self._model(input_13HW) if relative else self._model.depth(input_13HW, protocol.scale, protocol.shift)
            )
            values_11HW = _resized(values_11HW.float(), (image_HW3.shape[0], image_HW3.shape[1]))
        found: NDArray[np.float32] = values_11HW[0, 0].cpu().numpy()
        return found


def origin_of(
    weights: Path, config: Mapping[str, Any] | None = None, network: str | None = None, dataset: str | None = None
) -> Origin:
    """What a file of weights predicts with: the configuration of the run that it is from, or the network that is named
    or else recognised, and the data set that is named or else the run's or else KITTI.

    Raises UsageError for names that are not known or contradict the run, and DataError if the file cannot be read.
    """
    if dataset is not None and dataset not in datasets.names():
        raise UsageError(f"--dataset {dataset}: expected one of {', '.join(datasets.names())}")
    if config is not None:
        return _of_run(weights, config, network, dataset)
    model = ModelSettings(name=_named(network) if network else recognise(weights))
    relative = known_relative(weights, source.digest(weights))
    return Origin(model, weights, protocol_of(dataset or "kitti"), DepthConfig().data.resolution, relative)


def check_fit(origin: Origin) -> None:
    """Raises DataError, naming the tensors, unless the weights fill the whole network. Reads little of them."""
    import torch

    from ablate.depth.model.weights import survey

    with torch.device("meta"):
        model = _built(origin.model)
    survey(model, origin.weights, origin.model)


def _of_run(weights: Path, config: Mapping[str, Any], network: str | None, dataset: str | None) -> Origin:
    try:
        run = DepthConfig.model_validate(config)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise UsageError(
            f"the run's configuration is none of this version of ablate: {place}: {detail['msg']}"
        ) from None
    if network is not None and network != run.model.name:
        raise UsageError(f"--network {network}: the run's network is {run.model.name}; leave --network out")
    protocol = protocol_of(dataset or run.data.name)
    relative = run.model.output == "relative" or has_no_unit(run.train)
    return Origin(run.model, weights, protocol, run.data.resolution, relative)


def _named(network: str) -> str:
    if network in specs.names():
        return network
    close = difflib.get_close_matches(network, specs.names(), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"--network {network}: expected one of {', '.join(specs.names())}{hint}")


def recognise(path: Path) -> str:
    """The network whose tensors a file holds, by names and shapes.

    Raises DataError if it cannot be read, and UsageError, asking for a name, if no network or several fit.
    """
    from ablate.depth.model.weights import read_weights

    shapes = _our_shapes(read_weights(path, mapped=True))
    shares = {name: _share(name, shapes) for name in specs.names()}
    best = [name for name, share in shares.items() if share > ENOUGH and share == max(shares.values())]
    if len(best) == 1:
        return best[0]
    which = f"it could be {' or '.join(best)}" if best else "its tensors are those of no network here"
    raise UsageError(f"{path}: which network is it? {which}; say --network NAME: {', '.join(specs.names())}")


def _our_shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors under our names, whatever its layout."""
    from ablate.depth.model.layouts import detect

    found, _ = detect(tensors).ours(tensors)
    return {
        name: (sum(tensors[key].shape[0] for key in keys), *tensors[keys[0]].shape[1:])
        if len(keys) > 1
        else tuple(tensors[keys[0]].shape)
        for name, keys in found.items()
    }


def _share(name: str, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """The share of a network's tensors that are there with their shapes."""
    import torch

    from ablate.depth.model.dpt import build

    if shapes.get(CLASS_TOKEN, ())[-1:] != (specs.load(name).embed_dim,):
        return 0.0  # spares building it
    with torch.device("meta"):  # shapes without memory
        wanted = build(ModelSettings(name=name)).state_dict()
    return sum(shapes.get(key) == tuple(value.shape) for key, value in wanted.items()) / len(wanted)


def network_of(origin: Origin) -> DPT:
    """The network with its weights, on the CPU. Raises DataError if they do not fit, UsageError if the settings do not."""
    import torch

    from ablate.depth.model.weights import load_weights

    torch.manual_seed(0)
    model = _built(origin.model)
    load_weights(model, origin.weights, origin.model)
    return model


def _built(settings: ModelSettings) -> DPT:
    from ablate.depth.model.dpt import build

    try:
        return build(settings)
    except ValueError as error:
        raise UsageError(f"{settings.name}: {error}") from error


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic as OpenCV's INTER_CUBIC; what has the size already is left as it is."""
    import torch.nn.functional as F

    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bicubic", align_corners=False)


@contextlib.contextmanager
def _memory_errors(image: Path, size: tuple[int, int]) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{image}: no memory left for a network input of {size[0]}x{size[1]}; take a smaller --resolution, "
            "or another --device"
        ) from error


def encode(prediction: Prediction, form: Format, protocol: DepthProtocol) -> bytes:
    """The file for a prediction. `png16` holds metres x 256 (NYU: x 1000), truncated as published, from 1 to 65535.

    Raises UsageError for relative depth as png16, which would be read as metres.
    """
    if form == "npy":
        file = io.BytesIO()
        np.save(file, prediction.values)
        return file.getvalue()
    if form == "color":
        from ablate.picture import draw

        return _png(draw(prediction.values, _scale(prediction, protocol)))
    if prediction.relative:
        raise UsageError("16-bit PNGs hold metres, and relative depth has none; write npy or color")
    from PIL.Image import fromarray

    units_HW = np.clip(prediction.values.astype(np.float64) * protocol.units_per_metre, 1, LARGEST)
    return _png(fromarray(units_HW.astype(np.uint16)))


def _png(image: Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def _scale(prediction: Prediction, protocol: DepthProtocol) -> Scale:
    """Metres: one scale for all pictures under a protocol, so that a colour means one depth. Relative depth has no scale but the picture's own."""
    from ablate.picture import Scale

    if not prediction.relative:
        shades = shades_of(protocol)
        return Scale(shades.low, shades.high, "depth in metres, log scale")
    low, high = (float(value) for value in np.percentile(prediction.values, (2, 98)))
    high = high if high > low else low + 1.0
    return Scale(low, high, "relative inverse depth, no unit: light is near", unit="", logarithmic=False, near="high")
