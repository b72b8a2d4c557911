"""What KITTI and NYU have in common: lists of one frame a line, whose files are found by listing folders once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ablate.depth.data.base import Dataset, Split, SplitName, gathered, list_lines, no_repeats


class Entry(Protocol):
    """One line of a list: the frame's name, the same in every format, and whether the list gives it a depth map."""

    @property
    def name(self) -> str: ...

    @property
    def has_depth(self) -> bool: ...


E = TypeVar("E", bound=Entry)
Sought = TypeVar("Sought", contravariant=True)


class Finder(Protocol[Sought]):
    """Finds the files of frames below one folder."""

    def image(self, entry: Sought, /) -> tuple[Path, bool]:
        """The image file, and whether it exists."""
        ...

    def depth(self, entry: Sought, /) -> Path | None: ...


class Listed(Dataset, Generic[E]):
    """A data set whose lists have one frame a line; a malformed or repeated line is named with its number."""

    @abstractmethod
    def entry(self, path: Path, number: int, text: str) -> E:
        """What a line says. Raises DataError, naming `path` and `number`, if it is malformed."""

    @abstractmethod
    def finder(self, root: Path, which: SplitName) -> Finder[E]: ...

    def read_split(self, root: Path, split: Path | None, which: SplitName) -> Split:
        files = self.list_files(root, split)
        if which not in files:
            return Split(())
        find = self.finder(root, which)
        return gathered(
            (entry.name, find.image(entry), find.depth(entry) if entry.has_depth else None)
            for entry in self._entries(files[which])
        )

    def names_of(self, path: Path) -> tuple[str, ...]:
        return tuple(entry.name for entry in self._entries(path))

    def _entries(self, path: Path) -> Iterator[E]:
        found = [(number, self.entry(path, number, text)) for number, text in list_lines(path)]
        no_repeats(path, ((number, entry.name) for number, entry in found), self.example)
        return (entry for _, entry in found)
