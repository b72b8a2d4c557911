"""Data sets by name: the values of `data.name`, ours and those of other packages.

A data set of your own is a subclass of `Dataset` and an entry point of the group `ablate.data`, whose value is the
class or an instance of it. It must define

* `name`       the value of `data.name`, the same as the entry point's;
* `protocol`   how it is evaluated: "kitti", "nyu", or a row of your own (see `ablate.depth.protocol`);
* `read_split(root, split, which) -> Split`   the frames of the list `which` (train, val, test) with their files, in the
               list's order; those without a depth map by name; an empty `Split(())` if there is no such list;
* `load_depth(path)`   HW float32 metres, 0 where nothing was measured.

and it may define `kind` ("relative": `load_depth` gives inverse depth > 0 up to a scale and a shift, to train on with
losses that need no unit, never to validate on), `dense` (true where nearly every pixel has depth, as gradient losses
need), `truth` (what `load_depth` gives, where a frame's mask lets it through), `lists` (the names of the list files), `load_image`
(8-bit PNG and JPEG are read by default), `depth_bits`, `names_of`, `drive_of`, `place_of`, `window`, `example` and
`sample`; `Dataset` says what each means and does by default. Whatever `drive_of` and `place_of` tell gives the checks
for shared drives and neighbouring frames, and `data.holdout: drives`.

    from ablate.depth.data.datasets import Dataset, Frame, Split

    class Garden(Dataset):
        name, protocol = "garden", "nyu"

        def read_split(self, root, split, which):
            file = self.list_files(root, split).get(which)
            names = self.names_of(file) if file else ()
            return Split(tuple(Frame(name, root / f"{name}.jpg", root / f"{name}.png") for name in names))

        def load_depth(self, path):
            return load_raw_depth(path).astype(np.float32) / 1000

`find("garden")` gives the object. `ablate.depth.data.splits` gives what a run uses of it: `read_splits(config.data)` for
the frames (with `data.holdout`), and `reader(config.data, split)` for what loads their files (with `data.labels`): the
loader and the evaluation take that `Reader`, never a data set's functions.

A data set keeps no state; a run opens it in several processes. `DataError` (`ablate.errors`) is what it raises for
files that are absent or damaged. Nothing here imports torch, and nothing is imported because a study names it: only
installed entry points and folders given by `--plugins` count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ablate import plugins
from ablate.depth.data.base import SPLITS, Dataset, Frame, Kind, Reader, Split, SplitName
from ablate.errors import UsageError

__all__ = ["SPLITS", "Dataset", "Frame", "Kind", "Reader", "Split", "SplitName", "find", "names"]

GROUP = "ablate.data"


def _kitti() -> Dataset:
    from ablate.depth.data.kitti import KITTI

    return KITTI


def _nyu() -> Dataset:
    from ablate.depth.data.nyu import NYU

    return NYU


def _redweb() -> Dataset:
    from ablate.depth.data.relative import REDWEB

    return REDWEB


def _hrwsi() -> Dataset:
    from ablate.depth.data.relative import HRWSI

    return HRWSI


def _blendedmvs() -> Dataset:
    from ablate.depth.data.relative import BLENDEDMVS

    return BLENDEDMVS


def _pairs() -> Dataset:
    from ablate.depth.data.pairs import PAIRS

    return PAIRS


_BUILT_IN: dict[str, Callable[[], Dataset]] = {
    "kitti": _kitti,
    "nyu": _nyu,
    "redweb": _redweb,
    "hrwsi": _hrwsi,
    "blendedmvs": _blendedmvs,
    "pairs": _pairs,
}


def names() -> tuple[str, ...]:
    """All values of `data.name`, those of other packages last. Imports none of them."""
    return tuple(dict.fromkeys([*_BUILT_IN, *plugins.entries(GROUP)]))


def find(name: str) -> Dataset:
    """The data set called so. Raises UsageError for an unknown name, or for an entry point that is not a data set."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    points = plugins.entries(GROUP)
    if name not in points:
        raise UsageError(f"no data set called {name!r}; expected one of {', '.join(names())}")
    return _loaded(name, points[name].value)


@lru_cache(maxsize=32)
def _loaded(name: str, value: str) -> Dataset:
    """Loaded once per process, so that digests of its lists are cached. value: the entry point's, so that tests and
    `--plugins` may put another in its place."""
    point = plugins.entries(GROUP)[name]
    try:
        found = point.load()
    except Exception as error:  # whatever a module of somebody else raises
        raise UsageError(f"data set {name!r} ({value}) cannot be imported: {type(error).__name__}: {error}") from error
    dataset = found() if isinstance(found, type) else found
    if not isinstance(dataset, Dataset) or getattr(dataset, "name", None) != name:
        raise UsageError(
            f"the entry point {name!r} of {GROUP} ({value}) must be a subclass of ablate.depth.data.datasets.Dataset, "
            f"or an instance, whose `name` is {name!r}"
        )
    return dataset
