"""The pictures of a run that its mirror shows."""

from __future__ import annotations

import re
from pathlib import Path

from ablate.runs.paths import RunPaths

_FOLDER = "panels"


def pictures(paths: RunPaths, split: str | None = None, epoch: int | None = None) -> dict[str, Path]:
    """PNG files in `panels/` of the run's directory by their names there; those of one split and epoch, or all.

    A file belongs to the split and the epoch that folders on its way, or the parts of its name between dots and
    dashes, name: `panels/val/6/street.png` and `panels/epoch-6.val.png` are of the sixth epoch's validation.
    """
    root = paths.root / _FOLDER
    if root.is_symlink() or not root.is_dir():
        return {}
    found = {}
    for path in sorted(root.rglob("*.png")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink() and _is_of(name, split, epoch):
            found[name.removesuffix(".png")] = path
    return found


def _is_of(name: str, split: str | None, epoch: int | None) -> bool:
    parts = re.split(r"[/.-]", name.removesuffix(".png"))
    numbers = [
        int(part) for part in (part.removeprefix("epoch") for part in parts) if part.isascii() and part.isdigit()
    ]
    return (split is None or split in parts) and (epoch is None or epoch in numbers)
