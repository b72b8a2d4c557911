"""Which data a run used, as one hash: results on different data must not be compared in silence."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from ablate.depth.data.base import Split
from ablate.depth.data.verified import Seen


def fingerprint(root: Path, splits: Mapping[str, Split], sizes: Mapping[Path, int], lists: Mapping[str, str]) -> str:
    """SHA-256 over the frames of each split, their files' paths below `root` and sizes, and the lists' digests.

    sizes: bytes of each file, -1 for those that are absent. No path of the machine enters it, and no file is opened.
    """
    lines = [f"list {name} {digest}" for name, digest in sorted(lists.items())]
    for name, split in splits.items():
        for frame in split.frames:
            files = [f"{_below(root, path)}\t{sizes.get(path, -1)}" for path in frame.files]
            lines.append("\t".join([name, frame.name, *files]))
        lines += [f"{name}\t{frame}\tno depth" for frame in split.without_depth]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def contents(root: Path, seen: Mapping[Path, Seen]) -> str:
    """SHA-256 over the bytes of all files, from the hashes that were taken when they were decoded."""
    lines = sorted(f"{_below(root, path)}\t{shown.digest}" for path, shown in seen.items())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _below(root: Path, path: Path) -> str:
    """`path` relative to `root`; only its name where it lies elsewhere."""
    text, base = str(path), str(root).rstrip(os.sep) + os.sep
    return text.removeprefix(base).replace(os.sep, "/") if text.startswith(base) else path.name
