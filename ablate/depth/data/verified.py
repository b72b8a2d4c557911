"""Files that were decoded completely once: a cache on disk, so that only new or changed files are decoded again."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablate.runs.files import write_atomic

_VERSION = 2
"""Raised when a file that passed may no longer pass."""


@dataclass(frozen=True)
class Seen:
    """What decoding a file showed."""

    height: int
    width: int
    digest: str
    """A hash of the file's bytes: equal for copies."""
    distinct: int
    """Different depths; of an image, 1 if it is of one colour, else 2."""
    bits: int | None = None
    """Bits per stored value of a depth map."""
    valid: int = 0
    """Pixels with depth; from here on, for depth maps in metres."""
    lowest: float = 0.0
    highest: float = 0.0
    whole: bool = False
    """All depths are whole metres, as labels are that went through 8 bits."""


class VerifiedFiles:
    """Keyed by kind, path, size and modification time in nanoseconds. A cache that is absent or damaged is empty."""

    def __init__(self, cache_dir: Path | None, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self._file = cache_dir / f"verified-{name}.json" if cache_dir is not None else None
        self._seen: dict[str, Seen] = _read(self._file) if self._file is not None else {}
        self._changed = False

    @staticmethod
    def key(kind: str, path: Path, status: os.stat_result) -> str:
        return f"{kind}|{path.absolute()}|{status.st_size}|{status.st_mtime_ns}"

    def get(self, key: str) -> Seen | None:
        return self._seen.get(key)

    def add(self, key: str, seen: Seen) -> None:
        self._seen[key] = seen
        self._changed = True

    def save(self) -> None:
        """Writes the cache if anything was added. One that cannot be written only costs time: no error."""
        if self._file is None or not self._changed:
            return
        body = json.dumps({key: list(asdict(seen).values()) for key, seen in self._seen.items()}, ensure_ascii=True)
        head = json.dumps({"v": _VERSION, "crc32": zlib.crc32(body.encode())})
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, f"{head}\n{body}\n".encode())
        except OSError:
            return
        self._changed = False


def _read(file: Path) -> dict[str, Seen]:
    try:
        head, body = file.read_bytes().rstrip(b"\n").split(b"\n")
        if json.loads(head) != {"v": _VERSION, "crc32": zlib.crc32(body)}:
            return {}
        entries: dict[str, list[Any]] = json.loads(body)
        return {key: Seen(*values) for key, values in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
