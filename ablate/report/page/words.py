"""Values as the texts that a page shows."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Mapping
from typing import Any

from ablate.report.tables import show

MISSING = "–"
_LONGEST = 400
"""Characters of a detail; `ablate show --json` has all."""


def clean(text: str) -> str:
    """Text without characters that a browser would obey or refuse: controls, directions of writing, half surrogates."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def shown(value: Any) -> str:
    """A setting, cleaned."""
    return clean(show(value))


def brief(text: str, most: int = _LONGEST) -> str:
    text = clean(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def detail(body: Mapping[str, Any]) -> str:
    """'lr_factor 0.5, to_epoch 3': the body of an event on one line."""
    parts = []
    for key, value in body.items():
        if key != "name" and value not in (None, [], {}, ""):
            text = show(value) if not isinstance(value, dict | list) else json.dumps(value, ensure_ascii=False)
            parts.append(f"{key} {text}")
    return brief(", ".join(parts))


def when(seconds: float | None) -> str:
    """Unix time as the reader's clock shows it."""
    return MISSING if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def brief_number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'train': {'lr': 0.1}} -> {'train.lr': 0.1}."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found |= flat(inner, f"{prefix}{key}.")
        else:
            found[prefix + str(key)] = inner
    return found
