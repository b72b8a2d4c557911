"""Every file of a data set is looked at before the first step: nothing is found damaged after hours of training."""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ablate.depth.data.images import METRES_PER_UNIT, load_image, load_raw_depth
from ablate.depth.data.kitti import SPLITS, Frame, Split, list_files, read_split
from ablate.depth.data.verified import Seen, VerifiedFiles
from ablate.depth.protocol import kb_crop
from ablate.errors import DataError
from ablate.task import Checked

MOST_WITHOUT_DEPTH = 0.1
"""Share of a split's frames that may lack a depth map; 45 of KITTI's official 697 test frames do (6.5 %)."""

_NAMED = 20
"""How many names one message holds."""

_PROGRESS_SECONDS = 5.0

Say = Callable[[str], None]
Kind = Literal["image", "depth"]


@dataclass(frozen=True)
class _File:
    kind: Kind
    path: Path


def check_dataset(root: Path, split: Path | None, cache_dir: Path | None, say: Say) -> Checked:
    """Decodes every image and depth map that the split lists name, and says what was left out.

    Frames without a depth map are left out, counted and named. Files that passed are remembered in `cache_dir` by
    path, size and modification time. Raises one DataError that names all that is wrong: missing or damaged images,
    damaged depth maps or ones that are not 16-bit PNGs, sizes that differ within a frame, frames that are smaller
    than the crop they are to be evaluated on, and splits of which more than 10 % have no depth map, or all an empty one. Raises DataError as
    `read_split`.
    """
    listed = list_files(root, split)
    splits: dict[str, Split] = {name: read_split(root, split, name) for name in SPLITS if name in listed}
    files = dict.fromkeys(
        file
        for frames in splits.values()
        for frame in frames.frames
        for file in (_File("image", frame.image), _File("depth", frame.depth))
    )
    missing = {path: f"{path}: no such file" for frames in splits.values() for path in frames.without_image}
    seen, bad = _look_at([file for file in files if file.path not in missing], root, cache_dir, say)
    problems = [*missing.values(), *bad]
    for name, frames in splits.items():
        problems += _misfits(name, frames.frames, seen)
    lacking = [
        text for name, frames in splits.items() for text in (*_too_few(name, frames), *_all_empty(name, frames, seen))
    ]
    if problems or lacking:
        raise DataError(_complaint(root, problems, lacking))
    overlaps = _overlaps(splits)
    facts = {name: _facts(frames, seen) for name, frames in splits.items()}
    notes = [*_dropped(splits), *_suspicions(facts), *(_overlap_note(*item) for item in overlaps.items())]
    return Checked(tuple(notes), {"splits": facts, "in_two_splits": overlaps})


def _look_at(
    files: Sequence[_File], root: Path, cache_dir: Path | None, say: Say
) -> tuple[dict[Path, Seen], list[str]]:
    """What each readable file showed, and a sentence for each that is not."""
    cache = VerifiedFiles(cache_dir, root)
    seen: dict[Path, Seen] = {}
    bad: list[str] = []
    unknown: list[tuple[_File, str]] = []
    for file in files:
        try:
            key = _key(file)
        except DataError as error:
            bad.append(str(error))
            continue
        known = cache.get(key)
        if known is None:
            unknown.append((file, key))
        else:
            seen[file.path] = known
    try:
        for (file, key), result in zip(unknown, _decoded([file for file, _ in unknown], say), strict=True):
            if isinstance(result, DataError):
                bad.append(str(result))
            else:
                seen[file.path] = result
                cache.add(key, result)
    finally:  # an interrupted check goes on where it stopped
        cache.save()
    return seen, bad


def _key(file: _File) -> str:
    try:
        status = file.path.stat()
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{file.path}: not a plain file")
    return VerifiedFiles.key(file.kind, file.path, status)


def _decoded(files: Sequence[_File], say: Say) -> Iterator[Seen | DataError]:
    """In the order of `files`; decoding releases the interpreter's lock, so threads do."""
    pool = ThreadPoolExecutor(os.cpu_count())
    told = time.monotonic()
    try:
        for done, result in enumerate(pool.map(_decode, files), 1):
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                say(f"checking the data: {done:,} of {len(files):,} files")
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(file: _File) -> Seen | DataError:
    try:
        if file.kind == "image":
            height, width, _ = load_image(file.path).shape
            return Seen(height, width)
        units = load_raw_depth(file.path)
    except DataError as error:
        return error
    height, width = units.shape
    found = units[units > 0]
    if not found.size:
        return Seen(height, width)
    whole = not np.any(found % 256)
    return Seen(height, width, int(found.size), int(found.min()), int(found.max()), whole)


def _misfits(name: str, frames: Iterable[Frame], seen: Mapping[Path, Seen]) -> Iterator[str]:
    """Frames whose image and depth do not fit together, or that are too small to be evaluated."""
    for frame in frames:
        image, depth = seen.get(frame.image), seen.get(frame.depth)
        if image is None or depth is None:
            continue  # named already
        if (image.height, image.width) != (depth.height, depth.width):
            yield (
                f"{frame.image} is {image.height}x{image.width}, but its depth map {frame.depth} is "
                f"{depth.height}x{depth.width} (height x width)"
            )
        elif name != "train":
            try:
                kb_crop(image.height, image.width)
            except DataError as error:
                yield f"{frame.image}: {error}"


def _too_few(name: str, frames: Split) -> Iterator[str]:
    lacking = len(frames.without_depth)
    total = lacking + len(frames.frames)
    if lacking > MOST_WITHOUT_DEPTH * total:
        yield (
            f"{name}: {lacking} of {total} frames have no depth map in data_depth_annotated/train or /val "
            f"(at most {MOST_WITHOUT_DEPTH:.0%} may lack one): {_listed(frames.without_depth)}"
        )


def _all_empty(name: str, split: Split, seen: Mapping[Path, Seen]) -> Iterator[str]:
    """A split whose depth maps are all empty: nothing could be learned from it, nor measured on it."""
    depths = [seen.get(frame.depth) for frame in split.frames]
    if depths and all(depth is not None and not depth.valid for depth in depths):
        yield f"{name}: none of the {len(depths)} depth maps holds any depth (0 means: not measured)"


def _complaint(root: Path, problems: Sequence[str], lacking: Sequence[str]) -> str:
    parts = []
    if problems:
        files = "file" if len(problems) == 1 else "files"
        parts.append(f"{len(problems)} {files} of the data set {root} cannot be used:")
        parts += [f"  {problem}" for problem in problems[:_NAMED]]
        if len(problems) > _NAMED:
            parts.append(f"  and {len(problems) - _NAMED} more")
        parts.append("fetch these files again, or take their frames out of the split lists")
    if lacking:
        parts += lacking
        parts.append(f"complete {root / 'data_depth_annotated'}, or take these frames out of the split lists")
    return "\n".join(parts)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _dropped(splits: Mapping[str, Split]) -> Iterator[str]:
    for name, frames in splits.items():
        lacking = frames.without_depth
        if lacking:
            total = len(lacking) + len(frames.frames)
            yield f"{name}: {len(lacking)} of {total} frames have no depth map and are left out: {_listed(lacking)}"


def _suspicions(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, fact in facts.items():
        if fact["whole_metres"]:
            yield f"{name}: every depth is a whole number of metres, as if labels had been cut to 8 bits"
        if fact["maps_without_a_valid_pixel"]:
            yield f"{name}: {fact['maps_without_a_valid_pixel']} depth maps hold no depth at all"


def _facts(split: Split, seen: Mapping[Path, Seen]) -> dict[str, Any]:
    depths = [seen[frame.depth] for frame in split.frames]
    measured = [depth for depth in depths if depth.valid]
    pixels = sum(depth.height * depth.width for depth in depths)
    sizes = Counter(f"{depth.height}x{depth.width}" for depth in depths)
    return {
        "frames": len(split.frames),
        "without_depth": list(split.without_depth),
        "sizes": dict(sorted(sizes.items())),
        "depth_metres": [
            min((depth.lowest for depth in measured), default=0) * METRES_PER_UNIT,
            max((depth.highest for depth in measured), default=0) * METRES_PER_UNIT,
        ],
        "depth_share": sum(depth.valid for depth in depths) / pixels if pixels else 0.0,
        "whole_metres": bool(measured) and all(depth.whole for depth in measured),
        "maps_without_a_valid_pixel": len(depths) - len(measured),
        "bytes": sum(path.stat().st_size for frame in split.frames for path in (frame.image, frame.depth)),
    }


def _overlaps(splits: Mapping[str, Split]) -> dict[str, list[str]]:
    """Names of frames that are in two splits, by `train and val` etc."""
    names = {name: {frame.name: None for frame in split.frames} for name, split in splits.items()}
    shared = {
        f"{first} and {second}": [name for name in names[first] if name in names[second]]
        for first, second in combinations(names, 2)
    }
    return {pair: both for pair, both in shared.items() if both}


def _overlap_note(pair: str, names: Sequence[str]) -> str:
    frames = "1 frame is" if len(names) == 1 else f"{len(names)} frames are"
    return f"{frames} in both {pair}: {_listed(names)}"
