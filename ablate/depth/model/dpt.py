"""DPT (Ranftl, Bochkovskiy & Koltun 2021, arXiv 2103.13413), for every row of `specs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ablate.depth import attention as family
from ablate.depth.config import ModelSettings
from ablate.depth.model import specs
from ablate.depth.model.decoder import Decoder
from ablate.depth.model.encoder import Blocks, Encoder
from ablate.depth.model.specs import INVERSE_FLOOR, NetworkSpec
from ablate.depth.protocol import KITTI_SCALE, KITTI_SHIFT

START_INVERSE = 1000.0
"""Output of an untrained network: with KITTI's constants 15 m, about the median of a street; with NYU's 2.3 m."""
START_SPREAD = 1000.0
"""Factor on torch's initial weights of the last convolution."""


class DPT(nn.Module):
    """Image -> scaled inverse depth.

    The keys of its `state_dict` with `standard` attention are those of the published checkpoints' `main` layout:
    for `dpt_hybrid` 368. `forward` gives x >= 0 (B1HW, no unit); `depth` turns it into metres.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        attention: str = "standard",
        options: Mapping[str, Any] | None = None,
        *,
        blocks: Blocks = "all",
        share: bool = False,
    ) -> None:
        """`attention` with its `options` for `blocks` ("all", or numbers from 0), one module for all if `share`."""
        super().__init__()
        self.spec = spec
        self.pretrained = Encoder(spec, attention, options, blocks=blocks, share=share)
        self.scratch = Decoder(self.pretrained.channels, spec.features, spec.head_channels, spec.decoder_norm)
        _scale_head(self.scratch)

    @property
    def recompute(self) -> bool:
        """Whether activations within blocks are computed again in the backward pass instead of kept (Chen 2016)."""
        return self.pretrained.recompute

    @recompute.setter
    def recompute(self, wanted: bool) -> None:
        self.pretrained.recompute = self.scratch.recompute = wanted

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """RGB in [-1, 1], H and W multiples of `spec.stride` -> B1HW."""
        return cast(Tensor, self.scratch(self.pretrained(self.normalised(image_B3HW)), image_B3HW.shape[-2:]))

    def normalised(self, image_B3HW: Tensor) -> Tensor:
        """RGB in [-1, 1] -> by the mean and standard deviation that the encoder was trained with."""
        if set(self.spec.mean) == set(self.spec.std) == {0.5}:
            return image_B3HW
        mean, std = (image_B3HW.new_tensor(of_rgb).view(3, 1, 1) for of_rgb in (self.spec.mean, self.spec.std))
        return (image_B3HW / 2 + 0.5 - mean) / std

    def depth(self, image_B3HW: Tensor, scale: float = KITTI_SCALE, shift: float = KITTI_SHIFT) -> Tensor:
        """RGB in [-1, 1] -> B1HW in metres. `scale` and `shift` are the data set's, in 1/m; KITTI's if not given."""
        return inverse_to_depth(self(image_B3HW), scale, shift)


def build(settings: ModelSettings) -> DPT:
    """The network of `model`, untrained; weights come from torch's global generator.

    Raises ValueError if the settings do not suit the network.
    """
    spec = specs.load(settings.name).tailored(
        heads=settings.heads, taps=settings.taps, readout=settings.readout, decoder_norm=settings.decoder_norm
    )
    options = {key: getattr(settings, key) for key in family.options(settings.attention)}
    return DPT(spec, settings.attention, options, blocks=settings.attention_blocks, share=settings.share_attention)


def inverse_to_depth(inverse: Tensor, scale: float = KITTI_SCALE, shift: float = KITTI_SHIFT) -> Tensor:
    """Network output >= 0 -> metres, in single precision at least: half precision would round 80 m to 1/16 m."""
    exact = inverse.to(torch.promote_types(inverse.dtype, torch.float32))
    return 1 / (scale * exact + shift).clamp(min=INVERSE_FLOOR)


def _scale_head(decoder: Decoder) -> None:
    """Puts an untrained head into the range that KITTI's constants expect: 112 (80 m) to 3228 (5 m).

    Weights that are loaded later replace it. With torch's own initialisation it starts at 0 (172 m) with weights that
    Adam moves by no more than the learning rate per step. Measured on the generated street (dpt_tiny, 64x224,
    batches of 4, two seeds): AbsRel 0.24 instead of 0.45 after 48 steps, 0.18 instead of 0.23 after 240.
    """
    last = cast(nn.Conv2d, decoder.output_conv[4])
    with torch.no_grad():
        last.weight.mul_(START_SPREAD)
        cast(Tensor, last.bias).fill_(START_INVERSE)
