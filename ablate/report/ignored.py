"""Settings that the comparability check passes over, each with the reason why it cannot change a result."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

IGNORED: Mapping[str, str] = {
    "model.weights": "a path; the digest of the file is compared",
    "data.root": "a path; the fingerprint of the data is compared",
    "data.split": "a path; the digests of the lists are compared",
    "data.mix.root": "a path; the fingerprint of the data is compared",
    "data.mix.split": "a path; the digests of the lists are compared",
    "data.workers": "who loads an image does not change it",
    "data.cache_mb": "an image from memory is the image from the disk",
    "eval.panels": "pictures that are kept change nothing",
    "train.checkpoint": "saving and keeping what was saved change nothing",
    "train.on_oom": "what was done when memory ran out is compared, as the memory ladder",
}
"""Dotted key of a setting or a group -> reason; keys within a list of mappings like those within one mapping."""


def without(settings: Mapping[str, Any], ignored: Collection[str], prefix: str = "") -> dict[str, Any]:
    """The settings, nested, without those that are ignored."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if key in ignored:
            continue
        if isinstance(value, Mapping):
            inner = without(value, ignored, f"{key}.")
            if inner or not value:
                found[name] = inner
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            found[name] = [without(i, ignored, f"{key}.") if isinstance(i, Mapping) else i for i in value]
        else:
            found[name] = value
    return found
