"""What a data set is to the rest of the tool: lists of frames, and files that become pixels and metres. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from ablate.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

Kind = Literal["metric", "relative"]
"""`metric`: depth in metres; `relative`: inverse depth in any unit, known up to a scale and a shift."""


@dataclass(frozen=True)
class Frame:
    """One image and its depth map; `name` is unique in the data set and the same whatever a list's format.

    mask: an image of the depth map's size; where it is 0, the depth is not to be used. `kind`, `stored` and `scale` are
    for data sets whose frames differ in what their depth maps hold: see `pairs`.
    """

    name: str
    image: Path
    depth: Path
    mask: Path | None = None
    kind: Kind = "metric"
    stored: Literal["metric", "inverse", "disparity"] = "metric"
    scale: float = 1.0

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read of it."""
        return (self.image, self.depth) if self.mask is None else (self.image, self.depth, self.mask)


@dataclass(frozen=True)
class Split:
    """The frames of one list, in its order.

    `without_depth` names those that have no depth map; `without_image` holds the image files that are expected and
    do not exist, whether or not the frame has depth.
    """

    frames: tuple[Frame, ...]
    without_depth: tuple[str, ...] = ()
    without_image: tuple[Path, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Of all frames, those without a depth map last."""
        return (*(frame.name for frame in self.frames), *self.without_depth)


class Reader(Protocol):
    """What turns the files of a frame into pixels and depth; every `Dataset` is one."""

    def load_image(self, path: Path) -> NDArray[np.uint8]: ...

    def load_depth(self, path: Path) -> NDArray[np.float32]: ...

    def truth(self, frame: Frame) -> NDArray[np.float32]: ...


class Dataset:
    """A data set: see `ablate.depth.data.datasets` for what a subclass must and may define. It holds no state."""

    name: ClassVar[str]
    """The value of `data.name`."""
    protocol: ClassVar[Any]
    """How it is evaluated: a row of `ablate.depth.protocol`'s table by name, or a row object of one's own."""
    kind: ClassVar[Kind] = "metric"
    """Whether frames have depth in metres, or inverse depth that is known only up to a scale and a shift."""
    dense: ClassVar[bool | None] = False
    """Whether nearly every pixel has depth, as gradient losses need; None: the files say."""
    lists: ClassVar[Mapping[str, tuple[str, ...]]] = {name: (f"{name}_files.txt",) for name in SPLITS}
    """File names of each split's list; the first that exists is read."""
    example: ClassVar[str] = ""
    """A line of a list, for messages."""
    sample: ClassVar[str] = ""
    """The command that makes a small one, if any; `{root}` is the folder."""
    window: ClassVar[int] = 1
    """Frames of one sequence whose numbers differ by at most this much are neighbours: nearly the same picture."""

    def read_split(self, root: Path, split: Path | None, which: SplitName) -> Split:
        """The frames of one list, without opening any image; an absent list gives an empty split.

        Raises DataError for a list that cannot be read, with its line. Must be defined.
        """
        raise NotImplementedError

    def load_depth(self, path: Path) -> NDArray[np.float32]:
        """A depth map: HW, metres, 0 = none (`kind` relative: inverse depth > 0 in any unit). Raises DataError.

        Must be defined.
        """
        raise NotImplementedError

    def truth(self, frame: Frame) -> NDArray[np.float32]:
        """What is trained on: the depth map of a frame (see `load_depth`), 0 where its mask is. Raises DataError."""
        values_HW = self.load_depth(frame.depth)
        if frame.mask is None:
            return values_HW
        from ablate.depth.data.images import load_mask, masked

        return masked(values_HW, load_mask(frame.mask), frame)

    def kind_of(self, frame: Frame) -> Kind:
        return "relative" if self.kind == "relative" else frame.kind

    def load_image(self, path: Path) -> NDArray[np.uint8]:
        """The pixels of an image: HW3, RGB, 8 bits. Raises DataError, naming the file."""
        from ablate.depth.data.images import load_image

        return load_image(path)

    def depth_bits(self, path: Path) -> int | None:
        """Bits per value of a stored depth map; None for a file that is no image. Raises DataError."""
        from ablate.depth.data.images import stored_bits

        return stored_bits(path)

    def names_of(self, path: Path) -> tuple[str, ...]:
        """The names of all frames that a list holds, in its order; they decide the run id. Raises DataError.

        By default the lines themselves, spaces aside.
        """
        return tuple(" ".join(text.split()) for _, text in list_lines(path))

    def drive_of(self, name: str) -> str | None:
        """The drive, scene or sequence of the frame called so; None if there is no such thing."""
        return None

    def place_of(self, name: str) -> tuple[str, int] | None:
        """(sequence and camera, frame number) of the frame called so, to find neighbours; None if there is none."""
        return None

    def list_files(self, root: Path, split: Path | None) -> dict[str, Path]:
        """The list files that exist, by split name.

        split: their folder, relative to root or absolute; root itself if None. Raises DataError, naming the path and
        the remedy, if there is none.
        """
        folder = root / split if split is not None else root
        found: dict[str, Path] = {}
        for which, names in self.lists.items():
            existing = [folder / name for name in names if (folder / name).is_file()]
            if existing:
                found[which] = existing[0]
        if not found:
            raise DataError(self.lacks(root, split, "train"))
        return found

    def lacks(self, root: Path, split: Path | None, which: str) -> str:
        """What to say and to do where a list is absent."""
        folder = root / split if split is not None else root
        path = folder / self.lists[which][0]
        if not root.is_dir():
            make = f", or make one with `{self.sample.format(root=root)}`" if self.sample else ""
            return f"{path}: no such file; set data.root to a data set (there is no folder {root}){make}"
        lines = f", with lines such as `{self.example}`" if self.example else ""
        names = " and ".join(self.lists[name][0] for name in ("train", "val"))
        return f"{path}: no such file; set data.split to the folder (now {folder}) that holds {names}{lines}"

    def list_digest(self, path: Path) -> str:
        """SHA-256 of the frames that a list names, in order, whatever its format and spaces. Raises DataError."""
        status = path.stat()
        return _digest_of_version(self, path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_of_version(dataset: Dataset, path: Path, size: int, mtime_ns: int) -> str:
    """Read once per process: the cells of a study share their lists."""
    return hashlib.sha256("".join(f"{name}\n" for name in dataset.names_of(path)).encode()).hexdigest()


def list_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not blank, without surrounding spaces, and their numbers. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def gathered(rows: Iterable[tuple[str, tuple[Path, bool], Path | None]]) -> Split:
    """A split of (name, (image, whether it exists), depth map if any)."""
    frames: list[Frame] = []
    without_depth: list[str] = []
    without_image: list[Path] = []
    for name, (image, exists), depth in rows:
        if not exists:
            without_image.append(image)
        if depth is None:
            without_depth.append(name)
        else:
            frames.append(Frame(name, image, depth))
    return Split(tuple(frames), tuple(without_depth), tuple(without_image))


def no_repeats(path: Path, entries: Iterable[tuple[int, str]], example: str) -> None:
    """Raises DataError if a list names a frame twice, or none. entries: line numbers and names."""
    lines: dict[str, int] = {}
    for number, name in entries:
        if name in lines:
            raise DataError(f"{path}:{number}: {name} is already on line {lines[name]}; delete one of the two lines")
        lines[name] = number
    if not lines:
        raise DataError(f"{path}: names no frame; expected lines such as `{example}`")


def folder_names(folder: Path) -> frozenset[str]:
    """The names in a folder, none if it does not exist: one system call, not one per frame. Raises DataError."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error
