"""What `ablate predict` does: sorts out what was asked for, before anything is loaded; then image by image."""

from __future__ import annotations

import contextlib
import errno
import glob
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ablate.cli.checkpoints import Source, find_source
from ablate.cli.console import escape, say, talk
from ablate.depth.predict import SUFFIXES, Format, Origin, Prediction, Predictor, Resolution, encode, origin_of
from ablate.engine.devices import find_devices
from ablate.errors import DataError, DiskError, UsageError
from ablate.runs import files
from ablate.runs.paths import RunsDir

_PLAIN_EVERY = 30.0
"""Seconds between two progress lines in a pipe or a CI log."""
_MOST = 5
"""Files that an error names."""
_WRITTEN: dict[Format, str] = {
    "png16": "16-bit PNG, metres x {units}",
    "npy": "float32, metres",
    "color": "pictures with a scale bar in metres",
}


@dataclass(frozen=True)
class Wanted:
    """The command line of `ablate predict`."""

    source: str
    images: tuple[str, ...]
    output: Path
    resolution: str
    crop: bool
    form: Format | None
    network: str | None
    dataset: str | None
    relative: bool
    force: bool


def predict_all(wanted: Wanted, device: str, runs_dir: Path) -> None:
    """Raises UsageError, DataError and their like before the first image is written if that can be known; DataError at
    the end, naming them, for images that could not be used; DiskError.
    """
    resolution, form = parse_resolution(wanted.resolution), _format(wanted)
    if wanted.output.exists() and not wanted.output.is_dir():
        raise UsageError(f"{wanted.output}: is a file; name a folder with -o")
    found = images_of(wanted.images)
    jobs = outputs(found, wanted.output, _suffix(form, wanted.relative))
    _refuse_overwriting(jobs, wanted.force)
    name = one_device(device)
    source = find_source(wanted.source, RunsDir(runs_dir))
    if source.note:
        say(f"warning: {source.note}")
    origin = origin_of(source.weights, source.config, wanted.network, wanted.dataset)
    if origin.relative and not wanted.relative:
        raise UsageError(
            f"{source.name} predicts inverse depth without a unit, as MiDaS does; there are no metres to be had from it. "
            "--relative writes what it predicts"
        )
    predictor = Predictor(origin, name)
    files.make_folder(wanted.output)
    ran = _Ran()
    for image, path in _shown(jobs):
        try:
            prediction = predictor(image, resolution, crop=wanted.crop)
        except DataError as error:
            ran.problems.append(str(error))
            continue
        _write(path, encode(prediction, form, origin.protocol))
        ran.note(prediction)
    _say_what_was_done(wanted, form, source, origin, ran)
    if ran.problems:
        raise DataError(_several(f"{len(ran.problems)} of {len(jobs)} images not predicted", ran.problems))


class _Ran:
    def __init__(self) -> None:
        self.written = 0
        self.inputs: dict[str, int] = {}
        self.problems: list[str] = []

    def note(self, prediction: Prediction) -> None:
        self.written += 1
        size = "x".join(map(str, prediction.network_input))
        self.inputs[size] = self.inputs.get(size, 0) + 1


def _say_what_was_done(wanted: Wanted, form: Format, source: Source, origin: Origin, ran: _Ran) -> None:
    if not ran.written:
        return
    sizes = list(ran.inputs)
    shown = sizes[0] if len(sizes) == 1 else ", ".join(f"{size} ({count})" for size, count in ran.inputs.items())
    what = "relative inverse depth, no unit" if wanted.relative else _WRITTEN[form]
    what = what.format(units=origin.protocol.units_per_metre)
    count = f"{ran.written} image{'s' * (ran.written != 1)}"
    say(f"{count} in {wanted.output}: {what}; {origin.model.name} with {source.name}, network input {shown}")


def parse_resolution(text: str) -> Resolution:
    """'full', 'reduced' or '192x640'. Raises UsageError."""
    if text in ("full", "reduced"):
        return text  # type: ignore[return-value]
    match = re.fullmatch(r"([0-9]{1,5})[x×]([0-9]{1,5})", text.strip().lower())
    if not match or not int(match[1]) or not int(match[2]):
        raise UsageError(f"--resolution {text}: expected full, reduced, or height x width in pixels, such as 192x640")
    return int(match[1]), int(match[2])


def _format(wanted: Wanted) -> Format:
    if wanted.relative and wanted.form == "png16":
        raise UsageError("--format png16 holds metres, and relative depth has none; take --format npy or color")
    return wanted.form or ("npy" if wanted.relative else "png16")


def _suffix(form: Format, relative: bool) -> str:
    """What follows an image's name: a picture must not look like the measurement, nor relative depth like metres."""
    return ("-relative" if relative else "") + {"png16": ".png", "npy": ".npy", "color": "-color.png"}[form]


def one_device(text: str) -> str:
    devices = find_devices(text)
    if len(devices) > 1 and "," in text:
        raise UsageError(f"--device {text}: one device predicts; name one")
    return devices[0].name


def images_of(inputs: Sequence[str]) -> list[Path]:
    """The image files that arguments name, in order, each once: files, folders' own images, and patterns.

    Raises DataError if an argument names none.
    """
    found: dict[Path, Path] = {}
    for text in inputs:
        for path in _matched(text):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _matched(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = _images_in(path)
        if not inside:
            raise DataError(f"{path}: no image in this folder; expected files ending in {', '.join(SUFFIXES)}")
        return inside
    if glob.has_magic(text):
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207  (Path.glob takes no absolute patterns)
        matched = sorted(map(Path, names))
        if chosen := [name for name in matched if name.is_file() and name.suffix.lower() in SUFFIXES]:
            return chosen
        raise DataError(f"{text}: no image matches this pattern")
    raise DataError(f"{path}: no such file or folder")


def _images_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error


def name_of(image: Path) -> str:
    """What a prediction is called: after its image, and for frames that lie as KITTI and NYU have them as the published
    evaluator and `ablate score` look for them, with the drive or the scene.
    """
    *_, drive, camera, data, _ = ("", "", "", *image.absolute().parts)
    if re.fullmatch(r"\d{4}_\d\d_\d\d_drive_\d{4}_\w+", drive) and camera.startswith("image_") and data == "data":
        return f"{drive}_{image.stem}" if camera == "image_02" else f"{drive}_{camera}_{image.stem}"
    return f"{data}_{image.stem}" if re.fullmatch(r"rgb_\d{5}", image.stem) else image.stem


def outputs(images: Sequence[Path], folder: Path, suffix: str) -> list[tuple[Path, Path]]:
    """Images and what is written for each. Raises UsageError if two would share a file, or an image would be lost."""
    jobs = [(image, folder / f"{name_of(image)}{suffix}") for image in images]
    owners: dict[Path, Path] = {}
    for image, path in jobs:
        other = owners.setdefault(path, image)
        if other != image:
            raise UsageError(
                f"{other} and {image} would both be written to {path}; predict them into different folders"
            )
    inputs = {image.resolve() for image in images}
    for image, path in jobs:
        if path.resolve() in inputs:
            raise UsageError(f"{path} is itself an image to predict ({image} would overwrite it); name another folder")
    return jobs


def _refuse_overwriting(jobs: Sequence[tuple[Path, Path]], force: bool) -> None:
    present = [] if force else [str(path) for _, path in jobs if path.exists()]
    if present:
        raise UsageError(
            _several(f"{len(present)} of {len(jobs)} outputs exist already; --force overwrites them", present)
        )


def _several(head: str, lines: Sequence[str]) -> str:
    rest = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return "\n  ".join([f"{head}:", *lines[:_MOST], *rest])


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    try:
        files.write_atomic(path, data)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(path.name + files.TEMPORARY).unlink(missing_ok=True)
        reason = (error.strerror or str(error)).lower()
        if files.is_disk_error(error) or error.errno == errno.EFBIG:
            raise DiskError(f"{path}: {reason}; make room, or name another folder with -o") from error
        raise UsageError(f"{path}: {reason}; name another folder with -o") from error


def _shown(jobs: Sequence[tuple[Path, Path]]) -> Iterator[tuple[Path, Path]]:
    """The jobs, with a progress line on stderr as they are taken."""
    if talk.is_terminal and not talk.is_dumb_terminal:
        columns = (
            TextColumn("predict"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=talk, transient=True) as progress:
            task = progress.add_task("", total=len(jobs))
            for image, path in jobs:
                progress.update(task, description=escape(image.name))
                yield image, path
                progress.advance(task)
        return
    spoken = time.monotonic()
    for number, job in enumerate(jobs):
        if time.monotonic() - spoken > _PLAIN_EVERY:
            spoken = time.monotonic()
            say(f"predicted {number} of {len(jobs)}")
        yield job
