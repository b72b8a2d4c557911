"""Training on several data sets, in stages: what is drawn, what a step does, and that stopping anywhere changes nothing."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ablate.depth import mgda
from ablate.depth.config import DepthConfig
from ablate.depth.data.room import make_room
from ablate.depth.data.unitless import make_unitless
from ablate.depth.session import DepthSession
from ablate.depth.task import DepthTask
from ablate.errors import DataError
from ablate.study import identify
from ablate.task import Placement, Position

NAMES = ("redweb", "hrwsi", "blendedmvs")
SIZES = {"redweb": 2, "hrwsi": 5, "blendedmvs": 3}
LOSS = {"ssi_trimmed": 1, "gradient_matching": 0.5}


def quiet(text: str) -> None:
    return


@pytest.fixture(autouse=True)
def _torch_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for name, count in SIZES.items():
        make_unitless(folder / name, name, frames={"train": count, "val": 1}, seed=0, say=quiet)
    make_room(folder / "nyu", frames={"train": 2, "val": 1}, seed=0, say=quiet)
    return folder


def settings(sets: Path, **train: Any) -> dict[str, Any]:
    return {
        "model": {"name": "dpt_tiny"},
        "data": {
            "name": "nyu",
            "root": sets / "nyu",
            "resolution": (32, 32),
            "mix": [{"name": name, "root": sets / name} for name in NAMES],
        },
        "train": {
            "stages": [{"sets": ["redweb", "blendedmvs"], "epochs": 1}, {"sets": "all", "epochs": 2, "lr": 3e-3}],
            "steps_per_epoch": 2,
            "batch_size": 4,
            "lr": 1e-3,
            "loss": LOSS,
            **train,
        },
        "eval": {"resolutions": ("reduced",), "align": "scale_shift"},
    }


def configured(sets: Path, **train: Any) -> DepthConfig:
    return DepthConfig.model_validate(settings(sets, **train))


def saved(session: DepthSession) -> dict[str, bytes]:
    files = {}
    for name, component in session.components.items():
        file = io.BytesIO()
        component.save(file)
        files[name] = file.getvalue()
    return files


def positions(config: DepthConfig) -> list[Position]:
    """Where a checkpoint can be taken: after every step, the borders of epochs and stages included."""
    return [
        Position(config.train.stage_of(epoch), epoch, step)
        for epoch in range(1, config.train.all_epochs() + 1)
        for step in range(2)
    ]


def go_on(session: DepthSession, config: DepthConfig, start: Position, stop: Position | None = None) -> list[float]:
    """As the engine does: a stage is entered before its first step."""
    losses, stage = [], start.stage
    for epoch in range(start.epoch, config.train.all_epochs() + 1):
        if config.train.stage_of(epoch) != stage:
            stage = config.train.stage_of(epoch)
            session.enter(stage)
        first = start.step if epoch == start.epoch else 0
        if stop is not None and (epoch, first) == (stop.epoch, stop.step):
            return losses
        for step, batch in enumerate(session.batches(epoch, first), start=first):
            losses.append(session.step(batch, Position(stage, epoch, step)).loss)
            if stop is not None and (epoch, step + 1) == (stop.epoch, stop.step):
                return losses
    return losses


@pytest.mark.slow
@pytest.mark.parametrize(
    "train",
    [
        {"objective": "mgda", "ema": 0.9},
        {"objective": "mgda", "precision": "fp16", "batch_size": 2, "accumulate": 2},
        {"schedule": {"name": "cosine"}, "augment": {"resize": "shorter", "jitter": {"hue": 0.2}}, "accumulate": 2},
    ],
    ids=["mgda", "mgda in fp16", "augmented"],
)
def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(sets: Path, train: dict[str, Any]) -> None:
    config = configured(sets, **train)
    straight = DepthSession(config, Placement())
    start, *rest = positions(config)
    losses = go_on(straight, config, start)
    assert len(losses) == 6 and all(np.isfinite(losses))
    for stop in rest:
        first = DepthSession(config, Placement())
        before = go_on(first, config, start, stop)
        files = saved(first)
        second = DepthSession(config, Placement())
        second.enter(stop.stage)
        for name, content in files.items():
            second.components[name].load(io.BytesIO(content))
        assert before + go_on(second, config, stop) == losses, stop
        assert saved(second) == saved(straight), stop


def test_a_stage_has_its_sets_its_rate_and_a_fresh_optimiser(sets: Path) -> None:
    config = configured(sets)
    assert [config.train.stage_of(epoch) for epoch in (1, 2, 3, 4)] == [0, 1, 1, 1]
    assert config.train.epochs == config.train.all_epochs() == 3
    session = DepthSession(config, Placement())
    assert session.facts["images"]["train"] == sum(SIZES.values())
    first = [batch.tasks for batch in session.batches(1, 0)]
    assert {task for tasks in first for task in tasks} <= {0, 2}
    seen = [batch.tasks for epoch in (2, 3) for batch in session.batches(epoch, 0)]
    assert {task for tasks in seen for task in tasks} == {0, 1, 2}
    batch = next(session.batches(1, 0))
    assert session.step(batch, Position(0, 1, 0)).lr == 1e-3
    assert session._recipe.optimizer.state
    session.enter(1)
    assert not session._recipe.optimizer.state
    assert session.step(next(session.batches(2, 0)), Position(1, 2, 0)).lr == 3e-3


def test_every_set_is_as_likely_whatever_its_size(sets: Path) -> None:
    config = configured(sets, stages=[], epochs=1, steps_per_epoch=300)
    keys = DepthSession(config, Placement())._stage.keys(1)
    counts = Counter(number for number, _, _ in keys)
    assert all(abs(counts[number] - 400) < 60 for number in range(3))  # more than 3.5 standard deviations
    for number, size in enumerate(SIZES.values()):
        own = [(index, passed) for one, index, passed in keys if one == number]
        assert len(set(own)) == len(own), "no image is augmented alike twice"
        whole = len(own) // size * size
        for start in range(0, whole, size):
            assert sorted(index for index, _ in own[start : start + size]) == list(range(size))


def test_without_a_number_of_steps_an_epoch_has_as_many_images_as_its_sets(sets: Path) -> None:
    session = DepthSession(configured(sets, steps_per_epoch=None), Placement())
    assert [session.steps(epoch) for epoch in (1, 2, 3)] == [2, 3, 3]
    assert [sum(len(batch.names) for batch in session.batches(epoch, 0)) for epoch in (1, 2)] == [5, 10]


@pytest.mark.parametrize(
    ("micro_batch", "precision"), [(1, "fp32"), (2, "fp32"), (8, "fp32"), (8, "bf16"), (8, "fp16")]
)
def test_mgda_moves_along_the_shortest_combination_of_the_sets_gradients(
    sets: Path, micro_batch: int, precision: str
) -> None:
    """In fp16 all tasks' losses are scaled alike, which changes no weight; the gradient is unscaled at the end."""
    config = configured(sets, objective="mgda", batch_size=8, stages=[], epochs=1, precision=precision)
    session = DepthSession(config, Placement())
    session._micro_batch = micro_batch
    if precision == "fp16":  # the scale that it starts with overflows here
        session._recipe.scaler.load_state_dict({**session._recipe.scaler.state_dict(), "scale": 2.0**8})
    batch = next(session.batches(1, 0))
    tasks = sorted(set(batch.tasks))
    assert len(tasks) > 1
    session._model.train()
    named = list(session._model.named_parameters())
    losses, gradients = [], []
    for task in tasks:
        places = [place for place, number in enumerate(batch.tasks) if number == task]
        relative = torch.tensor(batch.relative)[places]
        depth = batch.depth[places]
        loss = session._loss_of(batch.image[places], depth, depth > 0, relative, None)
        session._model.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append([None if value.grad is None else value.grad.clone() for _, value in named])
    encoder = [place for place, (key, _) in enumerate(named) if key.startswith("pretrained.model.")]
    gram = mgda.gram_matrix([[task[place] for place in encoder] for task in gradients])
    weights = mgda.min_norm_weights(gram)
    assert 0 < weights.max() < 1, "a case in which sets compete"
    report = session.step(batch, Position(0, 1, 0))
    assert report.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    for (key, value), *own in zip(named, *gradients, strict=True):
        terms = [weight * one for weight, one in zip(weights, own, strict=True) if one is not None]
        if value.grad is None:
            assert not terms, key
            continue
        scale = max(float(one.abs().max()) for one in own if one is not None)
        # without a scale, small gradients of fp16 are lost on the way
        tolerance = 0.02 if precision == "fp16" else 1e-3
        assert torch.allclose(
            value.grad, sum(terms).float(), atol=tolerance * scale + 1e-6 * (tolerance > 1e-3) + 1e-8
        ), key


def test_mgda_leaves_out_a_step_that_overflows_in_fp16(sets: Path) -> None:
    session = DepthSession(
        configured(sets, objective="mgda", batch_size=8, stages=[], epochs=1, precision="fp16"), Placement()
    )
    session._recipe.scaler.load_state_dict({**session._recipe.scaler.state_dict(), "scale": 2.0**60})
    before = saved(session)["weights"]
    report = session.step(next(session.batches(1, 0)), Position(0, 1, 0))
    assert np.isfinite(report.loss)
    assert saved(session)["weights"] == before
    assert session._recipe.scaler.get_scale() == 2.0**59


def test_relative_truth_is_used_as_it_is_and_metres_are_inverted(sets: Path) -> None:
    raw = settings(sets, stages=[], epochs=1, batch_size=8)
    raw["data"]["mix"] = [{"name": "nyu", "root": sets / "nyu"}, {"name": "redweb", "root": sets / "redweb"}]
    session = DepthSession(DepthConfig.model_validate(raw), Placement())
    batch = next(session.batches(1, 0))
    assert [number == 1 for number in batch.tasks] == list(batch.relative)
    assert set(batch.relative) == {True, False}
    valid = session._valid(batch.depth, batch)
    for depth, mask, relative in zip(batch.depth, valid, batch.relative, strict=True):
        assert torch.equal(mask, depth > 0 if relative else (depth > 1e-3) & (depth < 10))
    seen = {}

    def loss(views: Any, mask: Any, images: Any) -> torch.Tensor:
        seen.update(views)
        return (views["disparity"][0] * 0).sum()

    own, session._loss = (
        session._loss,
        type("Spy", (), {"spaces": session._loss.spaces, "__call__": staticmethod(loss)})(),
    )
    session._loss_of(batch.image, batch.depth, valid, torch.tensor(batch.relative), None)
    for truth, depth, mask, relative in zip(seen["disparity"][1], batch.depth, valid, batch.relative, strict=True):
        assert torch.equal(truth[mask], depth[mask] if relative else 1 / depth[mask])
    assert own.spaces == {"disparity"}


REFUSED = [
    ({"train": {"loss": "silog"}}, "silog compares metres, but redweb has inverse depth"),
    ({"train": {"stages": [{"sets": ["redweb", "megadepth"], "epochs": 1}]}}, "stage 1 trains on megadepth"),
    ({"train": {"epochs": 5}}, "epochs is the sum of the stages' .3."),
    ({"train": {"stages": [{"sets": [], "epochs": 1}]}}, "a list of different sets"),
    ({"eval": {"align": "none"}}, "has no unit and is never scored in metres; set eval.align: scale_shift"),
    ({"data": {"mix": []}, "train": {"stages": [], "objective": "mgda"}}, "name at least two in data.mix"),
    ({"data": {"subset": {"n": 2}}}, "data.subset is for training on one data set"),
    ({"data": {"name": "redweb"}, "eval": {"mask": "none"}}, "no run can be validated on it"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED, ids=[reason[:20] for _, reason in REFUSED])
def test_settings_that_do_not_go_together_are_refused(sets: Path, change: dict[str, Any], reason: str) -> None:
    whole = settings(sets)
    merged = {key: {**whole.get(key, {}), **change.get(key, {})} for key in (*whole, *change)}
    with pytest.raises(ValidationError, match=reason):
        DepthConfig.model_validate(merged)


def test_two_sets_of_one_name_need_labels(sets: Path) -> None:
    whole = settings(sets, stages=[], epochs=1)
    twice = [{"name": "redweb", "root": sets / "redweb"}, {"name": "redweb", "root": sets / "hrwsi"}]
    with pytest.raises(ValidationError, match="two sets are called redweb"):
        DepthConfig.model_validate({**whole, "data": {**whole["data"], "mix": twice}})
    twice[1]["label"] = "other"
    assert DepthConfig.model_validate({**whole, "data": {**whole["data"], "mix": twice}})


def test_gradient_matching_on_lidar_is_refused_unless_forced(street: Path) -> None:
    one = {"data": {"root": street}, "train": {"loss": LOSS}, "eval": {"align": "scale_shift"}}
    with pytest.raises(ValidationError, match="the ground truth of kitti is sparse"):
        DepthConfig.model_validate(one)
    assert DepthConfig.model_validate({**one, "train": {"loss": LOSS, "force_dense_loss": True}})


def test_a_sparse_manifest_is_found_by_its_files(sets: Path, street: Path, tmp_path: Path) -> None:
    frame = next(iter((street / "raw").rglob("*.png"))).relative_to(street)
    depth = next(iter((street / "data_depth_annotated").rglob(frame.name))).relative_to(street)
    (tmp_path / "train.csv").write_text(f"image,depth,scale\n{frame},{depth},0.00390625\n")
    whole = settings(sets, stages=[], epochs=1)
    mixed = {**whole, "data": {**whole["data"], "mix": [{"name": "pairs", "root": street, "split": tmp_path}]}}
    with pytest.raises(DataError, match=r"pairs \(depth at .*%.*sparse.*force_dense_loss"):
        DepthTask().check(DepthConfig.model_validate(mixed), None, quiet)
    forced = {**mixed, "train": {**mixed["train"], "force_dense_loss": True}}
    assert DepthTask().check(DepthConfig.model_validate(forced), None, quiet).facts["mix"]["pairs"]


def test_training_on_what_is_validated_on_is_refused(sets: Path, tmp_path: Path) -> None:
    val = next(iter((sets / "nyu" / "sync" / "room_0002").glob("rgb*.jpg")))
    name = val.relative_to(sets / "nyu")
    (tmp_path / "train.csv").write_text(
        f"image,depth,scale\n{name},{name.parent / val.name.replace('rgb', 'sync_depth').replace('jpg', 'png')},0.001\n"
    )
    whole = settings(sets, stages=[], epochs=1)
    mixed = {**whole, "data": {**whole["data"], "mix": [{"name": "pairs", "root": sets / "nyu", "split": tmp_path}]}}
    with pytest.raises(DataError, match="pairs trains on 1 image that data has in val"):
        DepthTask().check(DepthConfig.model_validate(mixed), None, quiet)


def test_a_run_is_known_by_its_sets_and_not_by_where_they_are(sets: Path, tmp_path: Path) -> None:
    def known(raw: dict[str, Any]) -> str:
        return identify(DepthTask(), DepthConfig.model_validate(raw)).run_id

    whole = settings(sets)
    run = known(whole)
    moved = tmp_path / "moved"
    moved.symlink_to(sets)
    elsewhere = {**whole["data"], "mix": [{"name": name, "root": moved / name} for name in NAMES]}
    assert known({**whole, "data": elsewhere}) == run
    assert known({**whole, "data": {**elsewhere, "mix": elsewhere["mix"][::-1]}}) != run
    fewer = tmp_path / "lists"
    fewer.mkdir()
    listed = (sets / "hrwsi" / "hrwsi_train_files.txt").read_text().splitlines()
    (fewer / "hrwsi_train_files.txt").write_text("\n".join(listed[:2]))
    mix = [{**one, "split": fewer} if one["name"] == "hrwsi" else one for one in elsewhere["mix"]]
    assert known({**whole, "data": {**elsewhere, "mix": mix}}) != run


def test_paths_of_the_mix_become_absolute(sets: Path) -> None:
    config = configured(sets)
    relative = config.data.model_copy(
        update={"mix": tuple(one.model_copy(update={"root": Path(one.name)}) for one in config.data.mix)}
    )
    found = DepthTask().absolute(config.model_copy(update={"data": relative}), sets)
    assert [one.root for one in found.data.mix] == [sets / name for name in NAMES]
