"""What a disk may hold after a power cut: a model of files and folders under POSIX's promises, and no others.

* What was written to a file since its last fsync may be there, or not, or in part: any of the later writes, torn
  at any byte or sector, in any order, with zeros where an earlier one is missing; so may cuts of its length.
* A name that was made, changed or removed since the last fsync of its folder may be as before or as after, each
  for itself. What never got a name is gone.

Real file systems are kinder (ext4 keeps the order of names, for one), so what survives here survives there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512


@dataclass(frozen=True)
class Operation:
    """A call of `ablate.runs.disk`, as the recorder has it, or a promise that the product made (`operation` 'mark')."""

    operation: str
    path: Path = Path()
    target: Path | None = None
    descriptor: int = -1
    data: bytes = b""
    size: int = 0
    mark: tuple[str, object] | None = None


@dataclass(eq=False)
class File:
    durable: bytes = b""
    now: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data), or (length, None) for a cut."""

    def write(self, offset: int, data: bytes) -> None:
        self.now = self.now[:offset].ljust(offset, b"\0") + data + self.now[offset + len(data) :]
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        self.now = self.now[:size].ljust(size, b"\0")
        self.pending.append((size, None))

    def sync(self) -> None:
        self.durable = self.now
        self.pending.clear()

    def crashed(self, draw: random.Random, chance: float) -> bytes:
        """Contents after a cut: each later write is there whole with probability `chance`."""
        content = bytearray(self.durable)
        for offset, data in self.pending:
            if data is None:
                if draw.random() < chance:
                    content = content[:offset].ljust(offset, b"\0")
            elif draw.random() < chance:
                _put(content, offset, data)
            else:
                _tear(content, offset, data, draw)
        return bytes(content)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    _lengthen(content, offset)
    content[offset : offset + len(data)] = data


def _lengthen(content: bytearray, size: int) -> None:
    content.extend(bytes(max(0, size - len(content))))


def _tear(content: bytearray, offset: int, data: bytes, draw: random.Random) -> None:
    """A write that is missing, zeros, cut short, or there in some sectors alone."""
    kind = draw.choice(("missing", "missing", "zeros", "short", "sectors", "sectors and zeros"))
    if "zeros" in kind:  # the length reached the disk, the data did not
        _lengthen(content, offset + len(data))
    if kind == "short":
        _put(content, offset, data[: draw.randrange(len(data) + 1)])
    elif "sectors" in kind:
        position = 0
        while position < len(data):
            end = position + SECTOR - (offset + position) % SECTOR
            if draw.random() < 0.5:
                _put(content, offset + position, data[position:end])
            position = end


@dataclass(eq=False)
class Folder:
    durable: dict[str, File | Folder] = field(default_factory=dict)
    now: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[str, File | Folder | None, File | Folder | None]] = field(default_factory=list)
    """(name, what it was, what it is now); None: nothing."""

    def put(self, name: str, node: File | Folder | None) -> None:
        self.pending.append((name, self.now.get(name), node))
        if node is None:
            self.now.pop(name, None)
        else:
            self.now[name] = node

    def sync(self) -> None:
        self.durable = dict(self.now)
        self.pending.clear()

    def crashed(self, draw: random.Random, chance: float) -> dict[str, File | Folder]:
        names = dict(self.durable)
        for name, before, after in self.pending:
            if draw.random() >= chance:
                continue
            if after is not None:
                names[name] = after
            elif name in names and names[name] is before:
                del names[name]
        return names


class Machine:
    """A disk with a page cache. Starts with one empty, durable folder: `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = Folder()
        self._open: dict[int, tuple[File, bool]] = {}
        self._offsets: dict[int, int] = {}

    def _folder(self, path: Path) -> Folder:
        node: File | Folder = self.top
        for part in path.relative_to(self.root).parts:
            assert isinstance(node, Folder)
            node = node.now[part]
        assert isinstance(node, Folder), path
        return node

    def _file(self, path: Path) -> File | None:
        node = self._folder(path.parent).now.get(path.name)
        assert not isinstance(node, Folder), path
        return node

    def content(self, path: Path) -> bytes:
        """What a process would read now. Raises FileNotFoundError."""
        file = self._file(path)
        if file is None:
            raise FileNotFoundError(path)
        return file.now

    def apply(self, call: Operation) -> None:
        """Does to the page cache, and where it syncs to the disk, what the call did."""
        action = getattr(self, f"_{call.operation}", None)
        if action is not None:
            action(call)

    def _opened(self, call: Operation, *, append: bool = False) -> File:
        file = self._file(call.path)
        if file is None:
            file = File()
            self._folder(call.path.parent).put(call.path.name, file)
        self._open[call.descriptor] = file, append
        self._offsets[call.descriptor] = 0
        return file

    def _open_new(self, call: Operation) -> None:
        file = self._opened(call)
        if file.now:
            file.truncate(0)

    def _open_append(self, call: Operation) -> None:
        self._opened(call, append=True)

    def _open_lock(self, call: Operation) -> None:
        self._opened(call)

    def _write(self, call: Operation) -> None:
        file, append = self._open[call.descriptor]
        offset = len(file.now) if append else self._offsets[call.descriptor]
        file.write(offset, call.data)
        self._offsets[call.descriptor] = offset + len(call.data)

    def _truncate(self, call: Operation) -> None:
        self._open[call.descriptor][0].truncate(call.size)

    def _sync(self, call: Operation) -> None:
        self._open[call.descriptor][0].sync()

    _sync_data = _sync

    def _sync_folder(self, call: Operation) -> None:
        if call.path.is_relative_to(self.root):
            self._folder(call.path).sync()

    def _replace(self, call: Operation) -> None:
        assert call.target is not None
        source = self._folder(call.path.parent)
        node = source.now[call.path.name]
        self._folder(call.target.parent).put(call.target.name, node)
        source.put(call.path.name, None)

    _rename_folder = _replace

    def _unlink(self, call: Operation) -> None:
        self._folder(call.path.parent).put(call.path.name, None)

    _remove_tree = _unlink

    def _make_folder(self, call: Operation) -> None:
        self._folder(call.path.parent).put(call.path.name, Folder())

    # After the cut

    def crashed(self, draw: random.Random, chance: float) -> Iterator[tuple[Path, bytes | None]]:
        """Every folder (None) and file that is there, parents first. `chance` 0: nothing unsynced; 1: everything."""
        yield from self._survivors(self.top, Path(), draw, chance)

    def _survivors(
        self, folder: Folder, path: Path, draw: random.Random, chance: float
    ) -> Iterator[tuple[Path, bytes | None]]:
        for name, node in sorted(folder.crashed(draw, chance).items()):
            if isinstance(node, Folder):
                yield path / name, None
                yield from self._survivors(node, path / name, draw, chance)
            elif 0 < chance < 1:
                yield path / name, node.crashed(draw, chance)
            else:
                yield path / name, node.now if chance else node.durable
