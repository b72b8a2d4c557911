"""Pictures of a few images in the run directory: layers as PNG and JPEG files, and a manifest per epoch and split.

    panels/000012.val.json                        which images and layers, and the files that hold them
    panels/<first 32 hex digits of SHA-256>.png   8-bit sRGB as JPEG, numbers as 16-bit PNG: value x per_unit, 0 = none

Files are named by their content and written before the manifest that names them, so a training that was killed and
writes an epoch again writes the same names, and layers that are the same at every epoch are there once.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from ablate.errors import RecordError
from ablate.evaluated import Layer, Panel, Shades, Subtracted
from ablate.runs import disk, files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1
LARGEST = 65535
_QUALITY = 92
"""Of the JPEG of an input; numbers are never compressed with loss."""
_MOST_PIXELS = 2**26
_MANIFEST = re.compile(r"(\d{6,})\.([a-z][a-z0-9_-]*)\.json", re.ASCII)
_FILE = r"^[0-9a-f]{32}\.(png|jpg)$"
_STRICT: Any = {"extra": "forbid", "allow_inf_nan": False}


@checked(frozen=True, config=_STRICT)
class StoredLayer:
    name: str
    kind: Literal["image", "scalar"]
    unit: str
    per_unit: Annotated[int, Field(ge=1)]
    shades: Shades | None
    file: Annotated[str, Field(pattern=_FILE)]


@checked(frozen=True, config=_STRICT)
class StoredPanel:
    image: str
    layers: tuple[StoredLayer, ...]
    error: Subtracted | None


@checked(frozen=True, config=_STRICT)
class StoredPanels:
    """The panels of one split after one epoch."""

    epoch: int
    split: str
    resolution: str
    images: tuple[StoredPanel, ...]
    v: int = VERSION


_STORED = TypeAdapter(StoredPanels)


class PanelStore:
    """Writes the panels of one run. Use it only while holding the run's lease."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fixed: dict[tuple[str, str, str], str] = {}
        self._certain = False

    def store(self, epoch: int, split: str, resolution: str, panels: Sequence[Panel]) -> None:
        """Durably: files first, then the manifest. Raises OSError, and RecordError if the folder is a link."""
        _refuse_link(self.folder)
        files.make_folder(self.folder)
        images = tuple(
            StoredPanel(panel.image, tuple(self._layer(split, panel.image, one) for one in panel.layers), panel.error)
            for panel in panels
        )
        if not self._certain:  # a process that was killed may have named a file and not got as far as the fsync
            disk.sync_folder(self.folder)
            self._certain = True
        path = self.folder / f"{epoch:06d}.{split}.json"
        files.write_json(path, asdict(StoredPanels(epoch, split, resolution, images)))

    def _layer(self, split: str, image: str, layer: Layer) -> StoredLayer:
        key = (split, image, layer.name)
        name = self._fixed.get(key) if layer.fixed else None
        if name is None or not (self.folder / name).is_file():
            name = self._write(encode(layer), "jpg" if layer.kind == "image" else "png")
        if layer.fixed:
            self._fixed[key] = name
        return StoredLayer(layer.name, layer.kind, layer.unit, layer.per_unit, layer.shades, name)

    def _write(self, data: bytes, suffix: str) -> str:
        path = self.folder / f"{hashlib.sha256(data).hexdigest()[:32]}.{suffix}"
        if not _holds(path, data):
            files.write_atomic(path, data)
        return path.name

    def tidy(self, keep: Callable[[int], bool]) -> None:
        """Removes the panels of epochs that are not to `keep`, and files that no manifest names.

        Where a manifest cannot be read, the files stay for whoever looks into it.
        """
        if self.folder.is_symlink() or not self.folder.is_dir():
            return
        named: set[str] = set()
        gone = []
        for path in sorted(self.folder.glob("*.json")):
            match = _MANIFEST.fullmatch(path.name)
            if match and not keep(int(match[1])):
                gone.append(path)
                continue
            try:
                named |= {path.name} | {layer.file for panel in read_manifest(path).images for layer in panel.layers}
            except RecordError:
                return
        for path in gone:
            disk.unlink(path)
        if gone:
            disk.sync_folder(self.folder)  # the manifests first: none may name a file that is gone
        for path in self.folder.iterdir():
            if path.name not in named and (path.is_symlink() or path.is_file()):
                disk.unlink(path)


def read_panels(folder: Path) -> tuple[StoredPanels, ...]:
    """All that are stored, by epoch and split; none if there is no folder. Raises RecordError, naming the file."""
    if not folder.is_dir() and not folder.is_symlink():
        return ()
    _refuse_link(folder)
    found = [read_manifest(path) for path in folder.glob("*.json") if _MANIFEST.fullmatch(path.name)]
    return tuple(sorted(found, key=lambda one: (one.epoch, one.split)))


def read_manifest(path: Path) -> StoredPanels:
    """Raises RecordError, naming the file, if it is damaged or of another version."""
    try:
        found = _STORED.validate_json(files.read_plain(path))
    except (OSError, ValidationError) as error:
        detail = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise RecordError(
            f"{path}: not a record of panels ({detail}); delete it, and its pictures are left out"
        ) from None
    if found.v != VERSION:
        raise RecordError(f"{path}: has format {found.v}, but this version of ablate reads {VERSION}")
    return found


def take_over(source: Path, target: Path, wanted: Callable[[StoredPanels], bool]) -> None:
    """Copies panels into the folder of another run, files before the manifests that name them."""
    taken = [one for one in read_panels(source) if wanted(one)]
    if not taken:
        return
    files.make_folder(target)
    for name in sorted({layer.file for one in taken for panel in one.images for layer in panel.layers}):
        files.write_atomic(target / name, files.read_plain(source / name))
    for one in taken:
        files.write_json(target / f"{one.epoch:06d}.{one.split}.json", asdict(one))


def encode(layer: Layer) -> bytes:
    """The file of a layer: a JPEG of HW3 8-bit sRGB, or a 16-bit PNG of HW numbers."""
    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    if layer.kind == "image":
        Image.fromarray(np.ascontiguousarray(layer.values)).save(file, format="JPEG", quality=_QUALITY)
        return file.getvalue()
    values_HW = np.asarray(layer.values, dtype=np.float64)
    steps_HW = np.clip(np.rint(np.nan_to_num(values_HW, nan=1.0) * layer.per_unit), 1, LARGEST)
    steps_HW[np.isnan(values_HW)] = 0
    Image.fromarray(steps_HW.astype(np.uint16)).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def decode(folder: Path, layer: StoredLayer) -> NDArray[np.uint8] | NDArray[np.float32]:
    """HW3 8-bit sRGB, or HW numbers in the layer's unit, NaN where there is none.

    Raises RecordError, naming the file, if it is missing, damaged, or not the picture that its manifest says.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    path = folder / layer.file
    try:
        data = files.read_plain(path)
        if hashlib.sha256(data).hexdigest()[:32] != path.stem:
            raise RecordError(f"{path}: damaged: its content is not what its name says")
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise RecordError(f"{path}: {image.width}x{image.height} pixels are more than a panel has")
            if layer.kind == "image":
                return np.asarray(image.convert("RGB"))
            if image.mode not in ("I;16", "I"):
                raise RecordError(f"{path}: expected 16-bit numbers, found a picture of mode {image.mode}")
            steps_HW = np.asarray(image).astype(np.float32)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise RecordError(f"{path}: not readable as a picture ({error})") from error
    return np.where(steps_HW > 0, steps_HW / layer.per_unit, np.nan).astype(np.float32)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return files.read_plain(path) == data
    except (OSError, RecordError):
        return False


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise RecordError(f"{folder}: is a symbolic link; run directories hold plain folders only")
