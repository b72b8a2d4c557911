"""Pictures in the run directory: written whole or not at all, the same again after a kill, and no more than wanted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ablate.errors import RecordError
from ablate.evaluated import Layer, Panel, Shades, Subtracted, chosen
from ablate.runs import disk
from ablate.runs.panels import PanelStore, decode, encode, read_panels, take_over

CALLS = ("open_new", "write", "sync", "close", "replace", "sync_folder", "unlink", "make_folder")


class Killed(BaseException):
    """Stands for SIGKILL: nothing that runs after it may change anything."""


def panel(image: str = "a", depth: float = 10.0) -> Panel:
    truth = np.full((4, 6), 12.0, np.float32)
    truth[::2] = np.nan
    layers = (
        Layer("input", "image", np.full((4, 6, 3), 90, np.uint8), fixed=True),
        Layer("truth", "scalar", truth, "m", 256, Shades(2, 80, True), fixed=True),
        Layer("prediction", "scalar", np.full((4, 6), depth, np.float32), "m", 256, Shades(2, 80, True)),
    )
    return Panel(image, layers, Subtracted("prediction", "truth", 10))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


@contextlib.contextmanager
def killed_before(call: int) -> Iterator[list[int]]:
    """Ends everything before the `call`-th change of the disk; yields how many there were."""
    seen = [0]
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(disk, name, _counted(getattr(disk, name), seen, call))
        with contextlib.suppress(Killed):
            yield seen


def _counted(change: Callable[..., Any], seen: list[int], call: int) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        if seen[0] >= call:
            raise Killed
        seen[0] += 1
        return change(*arguments)

    return counted


def epochs(folder: Path) -> None:
    """What a run does whose second epoch is better than the first, and the third the last."""
    store = PanelStore(folder)
    store.store(1, "val", "full", [panel(depth=9), panel("b", 8)])
    store.tidy(lambda epoch: epoch == 1)
    store.store(2, "val", "full", [panel(depth=10), panel("b", 9)])
    store.tidy(lambda epoch: epoch == 2)
    store.store(3, "val", "full", [panel(depth=11), panel("b", 10)])
    store.tidy(lambda epoch: epoch in (2, 3))


def test_killed_before_every_change_of_the_disk_and_done_again_it_is_what_it_would_have_been(tmp_path: Path) -> None:
    with killed_before(10**9) as seen:
        epochs(tmp_path / "calm")
    calm = content(tmp_path / "calm")
    assert {name for name in calm if name.endswith(".json")} == {"000002.val.json", "000003.val.json"}
    for call in range(seen[0]):
        folder = tmp_path / f"killed-{call}"
        with killed_before(call):
            epochs(folder)
        for stored in read_panels(folder):  # nothing is torn: what a manifest names is there and whole
            for one in stored.images:
                for layer in one.layers:
                    decode(folder, layer)
        epochs(folder)
        assert content(folder) == calm, call


def test_layers_that_stay_the_same_are_there_once_and_what_is_not_kept_is_gone(tmp_path: Path) -> None:
    store = PanelStore(tmp_path)
    for epoch in (1, 2, 3):
        store.store(epoch, "val", "full", [panel(depth=epoch)])
    assert len(list(tmp_path.glob("*.jpg"))) == 1
    assert len(list(tmp_path.glob("*.png"))) == 1 + 3
    (tmp_path / "000003.val.json.tmp").write_bytes(b"torn")
    store.tidy(lambda epoch: epoch == 2)
    (kept,) = read_panels(tmp_path)
    assert kept.epoch == 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".jpg", ".png"}
    assert len(list(tmp_path.iterdir())) == 4
    store.tidy(lambda epoch: False)
    assert not list(tmp_path.iterdir())


@given(
    values=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.one_of(st.floats(0.0625, 255, width=32), st.just(float("nan"))),
    ),
    per_unit=st.sampled_from([1, 256, 1000]),
)
@settings(max_examples=40, deadline=None)
def test_numbers_come_back_within_half_a_step(tmp_path_factory: Any, values: np.ndarray, per_unit: int) -> None:
    folder = tmp_path_factory.mktemp("panels")
    layer = Layer("depth", "scalar", values, "m", per_unit)
    PanelStore(folder).store(1, "val", "full", [Panel("a", (layer,))])
    (found,) = read_panels(folder)
    back = decode(folder, found.images[0].layers[0])
    assert (np.isnan(back) == np.isnan(values)).all()
    expected = np.clip(values[~np.isnan(values)], 1 / per_unit, 65535 / per_unit)
    assert np.abs(back[~np.isnan(back)] - expected).max(initial=0) <= 0.5 / per_unit * (1 + 1e-3)


def test_the_same_numbers_are_the_same_bytes() -> None:
    layers = panel().layers
    assert [encode(layer) for layer in layers] == [encode(layer) for layer in panel().layers]


def damage(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        manifest["images"][0]["layers"][0][name] = value

    return apply


@pytest.mark.parametrize(
    "change",
    [
        damage("file", "../../run.json"),
        damage("file", "/etc/passwd"),
        damage("kind", "html"),
        damage("per_unit", 0),
        damage("extra", 1),
        lambda manifest: manifest.update(v=2),
        lambda manifest: manifest.update(epoch="soon"),
    ],
)
def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    PanelStore(tmp_path).store(1, "val", "full", [panel()])
    path = tmp_path / "000001.val.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(RecordError, match=r"000001\.val\.json"):
        read_panels(tmp_path)


@pytest.mark.parametrize("what", ["cut", "missing", "other"])
def test_a_damaged_picture_is_refused_by_name(tmp_path: Path, what: str) -> None:
    PanelStore(tmp_path).store(1, "val", "full", [panel()])
    layer = read_panels(tmp_path)[0].images[0].layers[1]
    path = tmp_path / layer.file
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-20] if what == "cut" else b"GIF89a")
    with pytest.raises(RecordError, match=layer.file):
        decode(tmp_path, layer)


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "panels").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="symbolic link"):
        PanelStore(tmp_path / "panels").store(1, "val", "full", [panel()])
    with pytest.raises(RecordError, match="symbolic link"):
        read_panels(tmp_path / "panels")
    PanelStore(tmp_path / "panels").tidy(lambda epoch: False)
    assert (tmp_path / "panels").is_symlink()


def test_a_longer_run_takes_the_panels_of_a_shorter_one_over(tmp_path: Path) -> None:
    source, target = tmp_path / "short", tmp_path / "long"
    epochs(source)
    PanelStore(source).store(3, "test", "full", [panel("c", 3)])
    take_over(source, target, lambda one: one.split != "test")
    assert [(one.epoch, one.split) for one in read_panels(target)] == [(2, "val"), (3, "val")]
    for stored in read_panels(target):
        assert [decode(target, layer).shape[:2] for one in stored.images for layer in one.layers] == [(4, 6)] * 6


@given(images=st.integers(0, 1000), wanted=st.integers(0, 64))
def test_the_images_are_spread_over_the_list(images: int, wanted: int) -> None:
    places = list(chosen(images, wanted))
    assert len(places) == min(images, wanted) == len(set(places))
    assert all(0 <= place < images for place in places)
    assert places == sorted(places)
