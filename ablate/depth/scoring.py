"""Scores a folder of depth maps against a folder of ground truth, as BTS's `eval_with_pngs.py` does. No torch.

Predictions are 16-bit PNGs in one folder, named as that evaluator expects:

    kitti    <drive>_<frame>.png              metres x 256    2011_09_26_drive_0002_sync_0000000069.png
    nyu      <scene>_rgb_<frame>.png          millimetres     bathroom_rgb_00045.png

and the ground truth lies at <drive>/proj_depth/groundtruth/image_02/<frame>.png or <scene>/sync_depth_<frame>.png under
its folder, or under the folders in it that the data set has (`train`, `val`; `test`, `train`). Files with `cmap` or `gt`
in their names are not predictions, as published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.depth.data.images import load_raw_depth
from ablate.depth.metrics import AllMetrics, mean_metrics
from ablate.depth.protocol import PROTOCOLS, Crop, DepthProtocol, Mask, check_mask, crop_box, score
from ablate.errors import DataError, UsageError
from ablate.task import Metric

_MOST = 10
"""So many bad files are named in an error."""


@dataclass(frozen=True)
class _Naming:
    """How a data set's files are called: `{0}` is the drive or scene, `{1}` the frame."""

    prediction: re.Pattern[str]
    example: str
    truth: str
    folders: tuple[str, ...]
    """Where the drives or scenes may be under the folder of the ground truth."""


_NAMING: Mapping[str, _Naming] = {
    "kitti": _Naming(
        re.compile(r"(.+)_([0-9]+)"),
        "2011_09_26_drive_0002_sync_0000000069.png",
        "{0}/proj_depth/groundtruth/image_02/{1}.png",
        (".", "val", "train", "data_depth_annotated/val", "data_depth_annotated/train"),
    ),
    "nyu": _Naming(
        re.compile(r"(.+)_rgb_([0-9]+)"),
        "bathroom_rgb_00045.png",
        "{0}/sync_depth_{1}.png",
        (".", "test", "train", "official_splits/test", "official_splits/train"),
    ),
}


@dataclass(frozen=True)
class FileScore:
    """The metrics of one prediction, by the name of its file."""

    file: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FolderScore:
    """`mean` over `images`; `skipped` says which predictions were not scored, and why."""

    metrics: tuple[Metric, ...]
    mean: Mapping[str, float]
    images: tuple[FileScore, ...]
    skipped: tuple[str, ...]
    protocol: Mapping[str, str]


def rules(
    dataset: str, mask: Mask | None, *, kb_crop: bool, min_depth: float | None, max_depth: float | None
) -> tuple[DepthProtocol, Mask]:
    """The data set's protocol with what the caller changes in it, and the mask; None: as usual for the data set.

    Without `kb_crop` predictions cover whole frames, and all of a frame counts. Raises UsageError for what cannot be.
    """
    row = PROTOCOLS.get(dataset)
    if row is None:
        raise UsageError(f"--dataset {dataset}: expected one of {', '.join(PROTOCOLS)}")
    if kb_crop and (row.crop is None or row.crop.name != "kb"):
        raise UsageError(f"--kb-crop is KITTI's benchmark crop, which {dataset} does not have")
    low = row.min_depth if min_depth is None else min_depth
    high = row.max_depth if max_depth is None else max_depth
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low < high):
        raise UsageError(f"--min-depth {low:g} and --max-depth {high:g}: expected 0 < min < max, in metres")
    crop: Crop | None = row.crop if kb_crop else None
    protocol = replace(row, crop=crop, min_depth=low, max_depth=high)
    chosen = protocol.usual_mask if mask is None else mask
    check_mask(chosen, protocol)
    return protocol, chosen


def score_folder(predictions: Path, truths: Path, protocol: DepthProtocol, mask: Mask) -> FolderScore:
    """The metrics of every prediction that has ground truth, in the order of their names.

    Raises DataError if a folder is missing, has nothing to score, or holds files that cannot be scored; it names them.
    """
    naming = _NAMING[protocol.name]
    images: list[FileScore] = []
    skipped: list[str] = []
    bad: list[str] = []
    for path in _predictions(predictions, naming):
        expected = _truth(path, truths, naming)
        if isinstance(expected, str):
            skipped.append(f"{path.name}: {expected}")
            continue
        try:
            metrics = _score_file(path, expected, protocol, mask)
        except DataError as error:
            bad.append(str(error))
            continue
        if metrics is None:
            skipped.append(f"{path.name}: its ground truth has no pixel within the mask and the cap")
        else:
            images.append(FileScore(path.name, metrics))
    if bad:
        raise DataError(_listed(f"{len(bad)} predictions cannot be scored" if len(bad) > 1 else "", bad))
    if not images:
        raise DataError(_listed(f"{predictions}: none of {len(skipped)} predictions can be scored", skipped))
    shown = {"dataset": protocol.name, "crop": protocol.crop.name if protocol.crop else "none", "mask": mask}
    mean = mean_metrics(image.metrics for image in images)
    return FolderScore(
        tuple(AllMetrics()),
        {key: value for key, value in mean.items() if value is not None},
        tuple(images),
        tuple(skipped),
        {**shown, "cap": protocol.cap},
    )


def _predictions(folder: Path, naming: _Naming) -> list[Path]:
    """The PNGs of a folder that are predictions, by name."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one of 16-bit PNGs such as {naming.example}")
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png" and path.is_file())
    found = {path.stem: path for path in pictures if "cmap" not in path.name and "gt" not in path.name}
    if not found:
        deeper = next((path.parent for path in sorted(folder.rglob("*.png"))), None)
        hint = f"; there are some in {deeper}" if deeper else ""
        raise DataError(f"{folder}: holds no prediction, that is, no PNG such as {naming.example}{hint}")
    for path in pictures:
        other = found.get(path.stem, path)
        if other != path:
            raise DataError(f"{folder}: {path.name} and {other.name} are the same frame; remove one of them")
    return list(found.values())


def _truth(prediction: Path, truths: Path, naming: _Naming) -> Path | str:
    """The file of the ground truth, or why there is none."""
    if not truths.is_dir():
        raise DataError(f"{truths}: no such folder; expected the ground truth, such as {_example(naming)}")
    match = naming.prediction.fullmatch(prediction.stem)
    if match is None:
        return f"not named as {naming.example} is"
    place = naming.truth.format(match[1], match[2])
    found = next((truths / folder / place for folder in naming.folders if (truths / folder / place).is_file()), None)
    return found or f"no ground truth {truths / place}"


def _example(naming: _Naming) -> str:
    match = naming.prediction.fullmatch(Path(naming.example).stem)
    return naming.truth.format(*match.groups()) if match else naming.truth


def _score_file(path: Path, truth: Path, protocol: DepthProtocol, mask: Mask) -> dict[str, float] | None:
    """Raises DataError, naming the file, if either is not what it should be."""
    unit = f"metres x {protocol.units_per_metre}"
    gt = _metres(load_raw_depth(truth, unit, "8 bits ground truth is no longer in metres"), protocol)
    lost = "8 bits a prediction is a picture: write metres (DPT's --absolute_depth)"
    predicted = _metres(load_raw_depth(path, unit, lost), protocol)
    try:
        box = crop_box(gt.shape[0], gt.shape[1], protocol)
    except DataError as error:
        raise DataError(f"{truth}: {error}") from None
    if predicted.shape != (box.height, box.width):
        raise DataError(f"{path}: {_wrong_size(predicted.shape, gt.shape, (box.height, box.width), protocol)}")
    frame = np.zeros_like(gt)
    frame[box.rows, box.columns] = predicted
    return score(frame, gt, mask, protocol)


def _metres(units: NDArray[np.uint16], protocol: DepthProtocol) -> NDArray[np.float32]:
    return units.astype(np.float32) / np.float32(protocol.units_per_metre)


def _wrong_size(
    got: tuple[int, ...], frame: tuple[int, ...], expected: tuple[int, int], protocol: DepthProtocol
) -> str:
    usual = PROTOCOLS[protocol.name].crop
    text = f"is {_size(got)}, but {_size(expected)} (height x width) is expected"
    if protocol.crop is None and usual is not None and got == (usual.height, usual.width):
        return f"{text}, the size of its ground truth; if predictions cover the KITTI benchmark's crop, add --kb-crop"
    if protocol.crop is not None and got == frame:
        return f"{text}, the KITTI benchmark's crop; if predictions cover the whole frame, leave out --kb-crop"
    return f"{text}; predictions must have the ground truth's resolution"


def _size(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape)


def _listed(headline: str, lines: Sequence[str]) -> str:
    shown = [*lines[:_MOST], *([f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else [])]
    return "\n  ".join([headline, *shown] if headline else shown)


def unscored(result: FolderScore) -> Iterator[str]:
    """What to tell about the predictions that were not scored."""
    if result.skipped:
        number = len(result.skipped)
        yield f"{number} prediction{'s' * (number > 1)} not scored:"
        yield from (f"  {reason}" for reason in result.skipped)
