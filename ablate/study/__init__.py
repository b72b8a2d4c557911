"""A study file becomes a validated `Study`, then ordered cells, each with a content id."""

from __future__ import annotations

from ablate.study.grid import MAX_CELLS, Cell, Expansion, expand, expansion
from ablate.study.identity import Identity, canonical_json, identify, identity_settings
from ablate.study.load import load_study
from ablate.study.model import Study
from ablate.study.schema import json_schema
from ablate.study.select import select

__all__ = [
    "MAX_CELLS",
    "Cell",
    "Expansion",
    "Identity",
    "Study",
    "canonical_json",
    "expand",
    "expansion",
    "identify",
    "identity_settings",
    "json_schema",
    "load_study",
    "select",
]
