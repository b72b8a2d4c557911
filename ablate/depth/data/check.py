"""Every file of a data set is looked at before the first step: nothing is found damaged after hours of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

from ablate.depth.config import DataSettings
from ablate.depth.data.base import Dataset, Split
from ablate.depth.data.datasets import find
from ablate.depth.data.fingerprint import contents, fingerprint
from ablate.depth.data.inspection import File, Inspected, Say, inspect_files
from ablate.depth.data.leaks import (
    NAMED,
    Kinship,
    contamination,
    drives,
    duplicates,
    kinship,
    kinship_notes,
    listed,
    number,
)
from ablate.depth.data.splits import LABELLED, Use, list_digests, list_files, read_splits
from ablate.depth.data.verified import Seen
from ablate.depth.protocol import DepthProtocol, crop_box, protocol_of
from ablate.errors import DataError
from ablate.task import Checked

MOST_WITHOUT_DEPTH = 0.1
"""Share of a split's frames that may lack a depth map; 45 of KITTI's official 697 test frames do (6.5 %)."""

_FEW_VALUES = 8
"""Labels of fewer different depths may be whole metres because somebody made them so: a note, not an error."""


@dataclass(frozen=True)
class Examination:
    """What a look at a data set found: `errors` must be put right before training, `notes` should be known."""

    dataset: str
    kind: str
    root: Path
    lists: Mapping[str, Path]
    splits: Mapping[str, Mapping[str, Any]]
    """Per split, what `_facts` says."""
    fingerprint: str
    contents: str
    errors: tuple[str, ...]
    notes: tuple[str, ...]


def check_dataset(data: DataSettings, cache_dir: Path | None, say: Say, *, use: Use = "everything") -> Checked:
    """Decodes every image and depth map that a run reads, and says what was left out. See `examine`.

    Raises one DataError that names everything that is wrong.
    """
    found = examine(data, cache_dir, say, use=use)
    if found.errors:
        raise DataError("\n".join(found.errors))
    facts = {"splits": found.splits, "dataset": found.dataset, "fingerprint": found.fingerprint}
    return Checked(found.notes, facts | {"contents": found.contents})


def examine(data: DataSettings, cache_dir: Path | None, say: Say, *, use: Use = "everything") -> Examination:
    """Looks at every file of the splits that `data` declares and that are put to this `use`.

    Frames without a depth map are left out, counted and named. Files that passed are remembered in `cache_dir` by
    path, size and modification time. Errors are: missing or damaged images, damaged depth maps, 8-bit metric depth,
    labels of whole metres (unless `data.labels` says so), sizes that differ within a frame, frames that the protocol
    is not defined for in val and test, splits of which more than 10 % have no depth map, or all an empty one, and
    frames that two splits share. Raises DataError as `read_splits`.
    """
    dataset, protocol = find(data.name), protocol_of(data.name)
    listed = read_splits(data, use=use)
    used = {name: split for name, split in listed.items() if use != "evaluation" or name != "train"}
    splits = {name: split for name, split in used.items() if split.frames or split.without_depth}
    lists = list_files(data, use=use)
    lists = {name: lists[name if name in lists else "train"] for name in splits}
    missing = {path: f"{path}: no such file" for split in splits.values() for path in split.without_image}
    found = inspect_files(dataset, _files(splits, missing), data.root, cache_dir, say)
    problems = [*missing.values(), *found.bad, *_eight_bits(dataset, splits, found.seen)]
    for name, split in splits.items():
        problems += _misfits(name, split, found.seen, protocol)
    lacking = [text for name, split in splits.items() for text in _lacks(name, split, found.seen, dataset, protocol)]
    trained = splits.get("train")
    kin = {name: kinship(dataset, split, trained) for name, split in splits.items() if trained and name != "train"}
    facts = {name: _facts(dataset, split, found, kin.get(name)) for name, split in splits.items()}
    errors = [*_complaint(data.root, problems, lacking), *contamination(splits, found.seen, lists)]
    notes = _dropped(splits)
    metric = {name: fact for name, fact in facts.items() if _is_metric(dataset, splits[name])}
    whole_errors, whole_notes = _whole_metres(data, metric)
    return Examination(
        dataset=dataset.name,
        kind=dataset.kind,
        root=data.root,
        lists=lists,
        splits=facts,
        fingerprint=fingerprint(data.root, splits, found.sizes, list_digests(data, use=use)),
        contents=contents(data.root, found.seen),
        errors=(*errors, *whole_errors),
        notes=(*notes, *whole_notes, *_remarks(dataset, splits, found.seen, facts, kin)),
    )


def _files(splits: Mapping[str, Split], missing: Mapping[Path, str]) -> list[File]:
    files: dict[tuple[str, Path], File] = {}
    for split in splits.values():
        for frame in split.frames:
            files.setdefault(("image", frame.image), File("image", frame.image, frame))
            files.setdefault(("depth", frame.depth), File("depth", frame.depth, frame))
    return [file for file in files.values() if file.path not in missing]


def _eight_bits(dataset: Dataset, splits: Mapping[str, Split], seen: Mapping[Path, Seen]) -> Iterator[str]:
    """Metric depth in 8 bits; a relative data set, such as ReDWeb, may well have it."""
    frames = [frame for split in splits.values() for frame in split.frames]
    for path in dict.fromkeys(frame.depth for frame in frames if dataset.kind_of(frame) == frame.stored == "metric"):
        shown = seen.get(path)
        if shown is not None and shown.bits is not None and shown.bits <= 8:
            yield (
                f"{path}: {shown.bits}-bit metric depth with {number(shown.distinct, 'different value')}: in 8 bits depth "
                "became floor(metres) or coarser; use the original files of 16 bits or more"
            )


def _misfits(name: str, split: Split, seen: Mapping[Path, Seen], protocol: DepthProtocol) -> Iterator[str]:
    """Frames whose image and depth do not fit together, or that cannot be evaluated."""
    for frame in split.frames:
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
                crop_box(image.height, image.width, protocol)
            except DataError as error:
                yield f"{frame.image}: {error}"


def _lacks(
    name: str, split: Split, seen: Mapping[Path, Seen], dataset: Dataset, protocol: DepthProtocol
) -> Iterator[str]:
    """Splits that lack too many depth maps, or whose maps hold nothing to learn from or to measure on."""
    lacking, total = len(split.without_depth), len(split.without_depth) + len(split.frames)
    if lacking > MOST_WITHOUT_DEPTH * total:
        yield (
            f"{name}: {lacking} of {total} frames have no depth map "
            f"(at most {MOST_WITHOUT_DEPTH:.0%} may lack one): {listed(split.without_depth)}"
        )
    depths = [seen.get(frame.depth) for frame in split.frames]
    known = [depth for depth in depths if depth is not None]
    if not known or len(known) < len(depths):
        return
    if not any(depth.valid for depth in known):
        yield f"{name}: none of the {len(known)} depth maps holds any depth (0 means: not measured)"
    elif _is_metric(dataset, split) and all(
        depth.lowest >= protocol.max_depth or depth.highest <= protocol.min_depth for depth in known if depth.valid
    ):
        yield (
            f"{name}: no depth lies within the {protocol.cap} that is trained and scored on; "
            f"the least is {min(depth.lowest for depth in known if depth.valid):g} m: is the unit right?"
        )


def _is_metric(dataset: Dataset, split: Split) -> bool:
    return all(dataset.kind_of(frame) == "metric" for frame in split.frames)


def _whole_metres(data: DataSettings, facts: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """(errors, notes) on splits, all of them in metres, whose every depth is a whole number of them."""
    errors, notes = [], []
    for name, fact in facts.items():
        if not fact["whole_metres"]:
            continue
        declared = data.labels == "floor_metres" and name in LABELLED
        text = f"{name}: every depth is a whole number of metres, as if labels had been cut to 8 bits"
        if declared or fact["distinct_values"][1] < _FEW_VALUES:
            notes.append(text)
        else:
            errors.append(
                f"{text}: 8-bit metric labels are floor(metres), so that depth is off by half a metre on average; "
                "use the original 16-bit files, or say data.labels: floor_metres to train on such labels knowingly"
            )
    return errors, notes


def _complaint(root: Path, problems: Sequence[str], lacking: Sequence[str]) -> Iterator[str]:
    if problems:
        files = "file" if len(problems) == 1 else "files"
        yield f"{len(problems)} {files} of the data set {root} cannot be used:"
        yield from (f"  {problem}" for problem in problems[:NAMED])
        if len(problems) > NAMED:
            yield f"  and {len(problems) - NAMED} more"
        yield "fetch these files again, or take their frames out of the split lists"
    if lacking:
        yield from lacking
        yield f"complete the depth maps below {root}, or take these frames out of the split lists"


def _dropped(splits: Mapping[str, Split]) -> list[str]:
    return [
        f"{name}: {len(split.without_depth)} of {len(split.without_depth) + len(split.frames)} frames have no depth map "
        f"and are left out: {listed(split.without_depth)}"
        for name, split in splits.items()
        if split.without_depth
    ]


def _remarks(
    dataset: Dataset,
    splits: Mapping[str, Split],
    seen: Mapping[Path, Seen],
    facts: Mapping[str, Mapping[str, Any]],
    kin: Mapping[str, Kinship],
) -> Iterator[str]:
    for name, fact in facts.items():
        empty = fact["maps_without_a_valid_pixel"]
        if empty:
            yield f"{name}: {number(empty, 'depth map')} {'holds' if empty == 1 else 'hold'} no depth at all"
    for name, split in splits.items():
        copies = duplicates(split, seen)
        if copies:
            yield f"{name}: {number(len(copies), 'file')} repeated: {listed(copies)}"
    for name, found in kin.items():
        yield from kinship_notes(name, found, dataset.window)


def _facts(dataset: Dataset, split: Split, found: Inspected, kin: Kinship | None) -> dict[str, Any]:
    """Counts and ranges of the files that could be read."""
    depths = [found.seen[frame.depth] for frame in split.frames if frame.depth in found.seen]
    measured = [depth for depth in depths if depth.valid]
    pixels = sum(depth.height * depth.width for depth in depths)
    facts: dict[str, Any] = {
        "frames": len(split.frames),
        "without_depth": list(split.without_depth),
        "sizes": _counted(f"{depth.height}x{depth.width}" for depth in depths),
        "depth_metres": [
            min((depth.lowest for depth in measured), default=0.0),
            max((depth.highest for depth in measured), default=0.0),
        ],
        "depth_share": sum(depth.valid for depth in depths) / pixels if pixels else 0.0,
        "whole_metres": bool(measured) and all(depth.whole for depth in measured),
        "maps_without_a_valid_pixel": len(depths) - len(measured),
        "bytes": sum(found.sizes.get(path, 0) for frame in split.frames for path in (frame.image, frame.depth)),
        "distinct_values": _spread([depth.distinct for depth in measured]),
        "bits": _counted(str(depth.bits) for depth in depths if depth.bits is not None),
        "drives": len(drives(dataset, split)),
    }
    if kin is not None:
        facts |= {"neighbours_in_train": kin.neighbours, "drives_in_train": list(kin.shared)}
    return facts


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _spread(values: Sequence[int]) -> list[int]:
    """[median, most] of a map; [0, 0] for none."""
    return [median_low(values), max(values)] if values else [0, 0]
