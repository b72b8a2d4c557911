"""What splits share: the same frames, copies of one picture, neighbouring frames, drives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ablate.depth.data.base import Dataset, Frame, Split
from ablate.depth.data.verified import Seen

NAMED = 20
"""How many names one message holds."""

ONE_COLOUR = 1
"""`Seen.distinct` of an image that shows nothing: copies of it say nothing."""

Splits = Mapping[str, Split]


def listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED:,} more"


def number(count: int, what: str) -> str:
    """'1 frame', '1,776 frames'."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def contamination(splits: Splits, seen: Mapping[Path, Seen], lists: Mapping[str, Path]) -> list[str]:
    """A paragraph for every two splits that share frames, by name or as copies of one image, naming the files."""
    found = []
    for first, second in combinations(splits, 2):
        shared = [*_same_frames(splits[first], splits[second]), *_copies(splits[first], splits[second], seen)]
        if not shared:
            continue
        verb = "is" if len(shared) == 1 else "are"
        where = " and ".join(str(path) for path in dict.fromkeys(lists[name] for name in (first, second)))
        lines = [f"{number(len(shared), 'frame')} {verb} in both {first} and {second}:"]
        lines += [f"  {text}" for text in shared[:NAMED]]
        if len(shared) > NAMED:
            lines.append(f"  and {len(shared) - NAMED:,} more")
        lines.append(
            f"frames that were trained on, or selected on, measure nothing afterwards: take them out of one of {where}"
        )
        found.append("\n".join(lines))
    return found


def _same_frames(first: Split, second: Split) -> Iterator[str]:
    known = {frame.name for frame in first.frames}
    known_images = {frame.image for frame in first.frames}
    for frame in second.frames:
        if frame.name in known or frame.image in known_images:
            yield f"{frame.name}: {frame.image}"


def _copies(first: Split, second: Split, seen: Mapping[Path, Seen]) -> Iterator[str]:
    """Images of `second` that are byte for byte one of `first`'s, under another name."""
    originals = {digest: frame for frame, digest in _pictures(first.frames, seen)}
    for frame, digest in _pictures(second.frames, seen):
        original = originals.get(digest)
        if original is not None and original.image != frame.image and original.name != frame.name:
            yield f"{frame.name}: {frame.image} is a copy of {original.image}"


def _pictures(frames: Sequence[Frame], seen: Mapping[Path, Seen]) -> Iterator[tuple[Frame, str]]:
    for frame in frames:
        image = seen.get(frame.image)
        if image is not None and image.distinct != ONE_COLOUR:
            yield frame, image.digest


def duplicates(split: Split, seen: Mapping[Path, Seen]) -> list[str]:
    """'<file> is a copy of <file>', for images and for depth maps that hold depth, within one split."""
    originals: dict[tuple[str, str], Path] = {}
    found = []
    for role in ("image", "depth"):
        for frame in split.frames:
            path: Path = getattr(frame, role)
            shown = seen.get(path)
            if shown is None or (shown.distinct <= ONE_COLOUR):
                continue
            original = originals.setdefault((role, shown.digest), path)
            if original != path:
                found.append(f"{path} is a copy of {original}")
    return found


@dataclass(frozen=True)
class Kinship:
    """What a split has in common with the training frames.

    `neighbours`: its frames that have one of the same sequence and camera within the data set's window in train;
    None where the data set does not tell the place of a frame. `drives`: its own; `shared`: those that train has too.
    """

    frames: int
    neighbours: int | None
    drives: int
    shared: tuple[str, ...]


def kinship(dataset: Dataset, split: Split, train: Split) -> Kinship:
    own, others = drives(dataset, split), drives(dataset, train)
    return Kinship(len(split.frames), _neighbours(dataset, split, train), len(own), tuple(sorted(own & others)))


def drives(dataset: Dataset, split: Split) -> set[str]:
    found = (dataset.drive_of(frame.name) for frame in split.frames)
    return {drive for drive in found if drive is not None}


def _neighbours(dataset: Dataset, split: Split, train: Split) -> int | None:
    places = {dataset.place_of(frame.name) for frame in train.frames} - {None}
    if not places:
        return None
    offsets = [offset for offset in range(-dataset.window, dataset.window + 1) if offset]
    count = 0
    for frame in split.frames:
        place = dataset.place_of(frame.name)
        if place is not None:
            sequence, frame_number = place
            count += any((sequence, frame_number + offset) in places for offset in offsets)
    return count


def kinship_notes(name: str, found: Kinship, window: int) -> Iterator[str]:
    """Sentences for the user; none if the split stands apart."""
    consequence = (
        "early stopping on them cannot see overfitting; data.holdout: drives validates on whole drives"
        if name == "val"
        else "what is measured on them flatters the network"
    )
    if found.neighbours:
        verb = "has" if found.neighbours == 1 else "have"
        yield (
            f"{name}: {found.neighbours:,} of {number(found.frames, 'frame')} {verb} a neighbour in train (±{window} "
            f"frame{'s' * (window > 1)} of one drive and camera): {consequence}"
        )
    if found.shared:
        verb = "is" if len(found.shared) == 1 else "are"
        yield (
            f"{name}: {len(found.shared):,} of {number(found.drives, 'drive')} {verb} in train too: "
            f"{listed(found.shared)}"
        )
