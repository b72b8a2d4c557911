"""What titles of a log say in a few words, Spanish or English: `(10 epochs, ~44k imágenes por epoch) ~17h`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ABOUT = r"(?P<about>~|≈|aprox\.? |ca\. )?\s?"
_EPOCHS = re.compile(r"(?<![\d.,])(\d{1,6})\s?(?:epochs?|épocas?|epocas?)\b", re.IGNORECASE)
_IMAGES = re.compile(
    _ABOUT + r"(?<![\d.,])(?P<number>\d{1,12}(?:[.,]\d{1,3}){0,4})\s?(?P<unit>k|m)?\s?(?:im[áa]genes|images)\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    _ABOUT + r"(?<![\d.,])(?P<number>\d{1,6}(?:[.,]\d{1,3})?)\s?"
    r"(?P<unit>h|hrs?|hours?|horas?|min|minutes?|minutos?|d|days?|d[ií]as?)(?![\w])",
    re.IGNORECASE,
)
_UNITS = {"h": 1.0, "m": 1 / 60, "d": 24.0}


@dataclass(frozen=True)
class Phrases:
    """Epochs of training, images per epoch and hours; None where the title does not say. `about` names rough ones."""

    epochs: int | None = None
    images: int | None = None
    hours: float | None = None
    about: tuple[str, ...] = ()


def read_phrases(title: str) -> Phrases:
    epochs, images = _EPOCHS.search(title), _IMAGES.search(title)
    time = next(iter(_TIME.finditer(title)), None)
    about = [name for name, found in (("images", images), ("hours", time)) if found and found["about"]]
    return Phrases(
        epochs=int(epochs[1]) if epochs else None,
        images=_count(images["number"], images["unit"]) if images else None,
        hours=round(_decimal(time["number"]) * _UNITS[time["unit"][0].lower()], 6) if time else None,
        about=tuple(about),
    )


def _decimal(text: str) -> float:
    return float(text.replace(",", "."))


def _count(number: str, unit: str | None) -> int | None:
    """'44' 'k' -> 44000, '44.000' -> 44000, '1,5' 'k' -> 1500; None for what is no count, such as 1.5 images."""
    groups = re.split("[.,]", number)
    if unit:
        scale = 1000 if unit.lower() == "k" else 1_000_000
        return round(_decimal(number) * scale) if len(groups) <= 2 else None
    if len(groups) == 1 or all(len(group) == 3 for group in groups[1:]):
        return int("".join(groups))
    return None
