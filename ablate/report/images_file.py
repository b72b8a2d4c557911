"""Per-image results from anybody's code: a CSV file with `image`, perhaps `seed` and `drive`, and a column per metric."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import UsageError
from ablate.task import Metric

_SPECIAL = ("image", "seed", "drive")
HIGHER = ("d1", "d2", "d3", "psnr", "ssim", "accuracy")
"""Metrics of which more is better, for names that no task knows."""


@dataclass
class ImagesFile:
    """`values[metric][seed][image]`; `drives` only if the file names them."""

    path: Path
    metrics: tuple[str, ...]
    values: dict[str, dict[int, dict[str, float | None]]] = field(default_factory=dict)
    drives: dict[str, str] = field(default_factory=dict)


def read_images(path: Path) -> ImagesFile:
    """Raises UsageError, with file, line and remedy, for what cannot be read as it is meant.

    An empty cell, or `nan`, is an image without a value; infinity is refused, since to leave such an image out would
    flatter whoever failed on it. No `seed` means one seed.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            found = ImagesFile(path, _metrics(path, header))
            for row in reader:
                if any(cell.strip() for cell in row):
                    _take(found, header, row, reader.line_num)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: not CSV ({error}); separate columns by commas") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not found.values:
        raise UsageError(f"{path}: line 2: there is no image; write one line per image (and seed)")
    return found


def _metrics(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    metrics = tuple(name for name in header if name not in _SPECIAL)
    if "image" not in header:
        hint = "; separate columns by commas, not by semicolons" if len(header) == 1 and ";" in header[0] else ""
        raise UsageError(f"{path}: line 1: no column is called `image`; name the columns image, seed, abs_rel, …{hint}")
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise UsageError(f"{path}: line 1: the column {twice!r} is there twice; remove one")
    if not metrics or "" in metrics:
        raise UsageError(f"{path}: line 1: a column has no name, or there is no metric; add one such as abs_rel")
    return metrics


def _take(found: ImagesFile, header: Sequence[str], row: Sequence[str], line: int) -> None:
    if len(row) != len(header):
        raise UsageError(
            f"{found.path}: line {line}: {len(row)} cells where the header has {len(header)}; mend the line"
        )
    cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
    image, text = cells["image"], cells.get("seed", "0")
    if not image:
        raise UsageError(f"{found.path}: line {line}: `image` is empty; name the image")
    try:
        seed = int(text)
    except ValueError:
        raise UsageError(f"{found.path}: line {line}: seed {text!r} is no whole number; write 0, 1, 2 …") from None
    drive = cells.get("drive")
    if drive and found.drives.setdefault(image, drive) != drive:
        raise UsageError(f"{found.path}: line {line}: {image} is of drive {found.drives[image]} above; name one")
    for metric in found.metrics:
        values = found.values.setdefault(metric, {}).setdefault(seed, {})
        if image in values:
            raise UsageError(f"{found.path}: line {line}: {image} with seed {seed} is there twice; remove one line")
        values[image] = _number(found.path, line, metric, cells[metric])


def _number(path: Path, line: int, metric: str, text: str) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        raise UsageError(
            f"{path}: line {line}: {metric} {text!r} is no number; use a decimal point, or leave it empty"
        ) from None
    if math.isinf(value):
        raise UsageError(f"{path}: line {line}: {metric} {text!r} is not finite; leave it empty if there is no value")
    return None if math.isnan(value) else value


def metric_named(key: str | None, common: Sequence[str], known: Sequence[Metric], usual: str) -> Metric:
    """The metric of that key among those that both sides have; `usual`, or the only one, if none is asked for.

    Raises UsageError if there is no such metric.
    """
    wanted = key or (usual if usual in common else common[0] if len(common) == 1 else None)
    if wanted is None or wanted not in common:
        asked = f"--metric {key}: " if key else ""
        if not common:
            raise UsageError(f"{asked}the two sides have no metric in common; give them a column of the same name")
        listed = ", ".join(common)
        raise UsageError(f"{asked}the metric must be one that both sides have: {listed}; choose with --metric")
    better: Mapping[str, Metric] = {metric.key: metric for metric in known}
    return better.get(wanted) or Metric(wanted, wanted, "max" if wanted.lower() in HIGHER else "min")
