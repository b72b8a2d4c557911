"""A judgement as JSON, with stable names: what `ablate report --format json` has under `judgement`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ablate.report.judgement import Judgement


def judgement_data(judgement: Judgement | None) -> dict[str, Any] | None:
    """Every field of the dataclasses by its name, and the headline; infinite numbers are null."""
    if judgement is None:
        return None
    found = {"headline": list(judgement.headline), **plain(judgement)}
    for pair, said in zip(judgement.pairs, found["pairs"], strict=True):
        for one, entry in zip(pair.discrepancies, said["discrepancies"], strict=True):
            entry["text"] = one.text
    return found


def plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences in terms of JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
