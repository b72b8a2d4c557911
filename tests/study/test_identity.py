"""Which runs are the same run. The literal ids below are a promise to everyone who has results."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.depth.config import DepthConfig
from ablate.study import canonical_json, identify, identity_settings
from ablate.study.identity import cell_key

# Changing any of these orphans every user's runs: a study would train all of them again. If one of these
# tests fails, a default, a validator or the recipe of the hash changed; change it back.
PINNED: list[tuple[dict[str, Any], str]] = [
    ({}, "u647ncz2"),
    ({"model": {"name": "dpt_tiny"}}, "l46uww5h"),
    ({"model": {"attention": "memory_compressed", "compression": 3}, "train": {"lr": 1e-4}}, "wrs4wfb2"),
    ({"model": {"attention": "performer"}, "train": {"optimizer": "adamw", "max_steps": 3}, "seed": 2}, "kbmszyy3"),
    (
        {"data": {"resolution": [352, 1216], "subset": {"n": 500, "redraw": True}}, "eval": {"mask": "eigen"}},
        "my6tbl4s",
    ),
]


@pytest.mark.parametrize(("settings", "run_id"), PINNED, ids=[run_id for _, run_id in PINNED])
def test_ids_of_released_configurations(settings: dict[str, Any], run_id: str, tasks: Any) -> None:
    assert identify(tasks["depth"], DepthConfig.model_validate(settings)).run_id == run_id


def test_the_recipe(tasks: Any) -> None:
    config = DepthConfig.model_validate({"train": {"lr": 1e-4}, "data": {"subset": {"n": 4}}, "seed": 1})
    text = (
        '{"digests":{"train_files.txt":"' + "ab" * 32 + '"},"recipe":1,'
        '"settings":{"data.subset.n":4,"seed":1,"train.lr":0.0001},"task":"depth"}'
    )
    digest = hashlib.sha256(text.encode())
    found = identify(tasks["depth"], config)
    assert found.hash == digest.hexdigest()
    assert found.run_id == base64.b32encode(digest.digest()).decode().lower()[:8]
    assert found.name == f"seed-1-x-{found.run_id}"
    assert found.settings == {"data.subset.n": 4, "seed": 1, "train.lr": 1e-4}
    assert found.digests == {"train_files.txt": "ab" * 32}


def test_task_recipe_and_files_are_part_of_it(make_task: Callable[..., Any]) -> None:
    config = DepthConfig()
    variants = [make_task("depth", DepthConfig, {}), make_task("other", DepthConfig, {}), make_task("depth", DepthConfig, {"weights": "00"})]  # fmt: skip
    newer = make_task("depth", DepthConfig, {})
    newer.recipe = 2
    assert len({identify(task, config).hash for task in [*variants, newer]}) == 4


@pytest.mark.parametrize(
    ("slug", "start"),
    [
        ("mem-com-2-lr1e-5", "mem-com-2-lr1e-5-"),
        ("../../Etc/ä", "etc-"),
        ("", "run-"),
        ("a..b", "a.b-"),
        ("x" * 300, "x" * 60 + "-"),
    ],
)
def test_names_are_safe_directories(slug: str, start: str, tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks["toy"], "slug", lambda config: slug)
    found = identify(tasks["toy"], tasks["toy"].Config())
    assert found.name == start + found.run_id


def test_what_cannot_change_a_result_is_left_out(toy_config: Any) -> None:
    config = toy_config.model_validate(
        {"knobs": {"file": "x.pt", "workers": 5}, "train": {"checkpoint": {"every": "90s"}}}
    )
    assert identity_settings(config) == {}
    assert cell_key(config) != cell_key(toy_config())  # but another file may hold something else
    assert cell_key(toy_config.model_validate({"knobs": {"workers": 5}})) == cell_key(toy_config())


def test_defaults_are_those_of_the_field_that_holds_them(toy_config: Any) -> None:
    assert identity_settings(toy_config.model_validate({"turned": {"a": 7}})) == {}
    assert identity_settings(toy_config.model_validate({"turned": {"a": 0}})) == {"turned.a": 0}
    assert identity_settings(toy_config.model_validate({"knobs": {"a": 7}})) == {"knobs.a": 7}


def test_a_group_that_is_present_differs_from_none(toy_config: Any) -> None:
    assert identity_settings(toy_config.model_validate({"lenient": {}})) == {"lenient": {}}
    assert identity_settings(toy_config.model_validate({"lenient": {"depth": 1}})) == {"lenient": {}}
    assert identity_settings(toy_config.model_validate({"lenient": {"depth": 2}})) == {"lenient.depth": 2}
    assert identity_settings(toy_config.model_validate({"extra": {"n": 1}})) == {"extra.n": 1}


def test_what_is_derived_from_other_settings_has_one_spelling() -> None:
    derived = DepthConfig.model_validate({"model": {"attention": "memory_compressed"}, "train": {"optimizer": "adamw"}})
    spelled = DepthConfig.model_validate(
        {
            "model": {"attention": "memory_compressed", "compression": 2},
            "train": {"optimizer": "adamw", "weight_decay": 0.01},
        }
    )
    assert identity_settings(derived) == identity_settings(spelled)
    unused = DepthConfig.model_validate({"model": {"compression": 5}})
    assert identity_settings(unused) == {}


numbers = st.floats(allow_nan=False, allow_infinity=False)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(trees)
def test_canonical_json_is_one_text_that_reads_back(tree: Any) -> None:
    text = canonical_json(tree)
    assert text.isascii()
    assert json.loads(text) == tree
    assert canonical_json(json.loads(text)) == text
    assert "\n" not in text


def test_canonical_json_in_letters() -> None:
    tree = {"b": (1, 2.0, 1e-5), "a": {"ü": None, "Path": Path("x/y")}, "c": -0.0, "d": [True, False]}
    assert canonical_json(tree) == '{"a":{"Path":"x/y","\\u00fc":null},"b":[1,2.0,1e-05],"c":0.0,"d":[true,false]}'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_canonical_json_refuses_what_is_not_a_number(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        canonical_json({"a": [number]})


@pytest.mark.parametrize("odd", [{1: 2}, object(), b"x", 1j])
def test_canonical_json_refuses_what_json_cannot_hold(odd: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json([odd])


chosen = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(0, 9),
        "b": st.integers(0, 9),
        "d": st.floats(-5, 5),
        "on": st.booleans(),
        "label": st.text(max_size=5),
    },
)


@given(chosen, st.randoms(use_true_random=False), st.integers(0, 9), st.text("abc/", min_size=1))
def test_identity_ignores_order_spelled_defaults_and_exempt_settings(
    toy_config: Any, tasks: Any, knobs: dict[str, Any], random: Any, workers: int, file: str
) -> None:
    plain = toy_config.model_validate({"knobs": knobs})
    spelled = [*(plain.knobs.model_dump() | {"workers": workers, "file": file}).items()]
    random.shuffle(spelled)
    other = toy_config.model_validate({"train": {"epochs": 10}, "turned": {"a": 7}, "knobs": dict(spelled), "seed": 0})
    assert identify(tasks["toy"], other) == identify(tasks["toy"], plain)


@given(chosen, chosen)
def test_identity_tells_different_settings_apart(toy_config: Any, tasks: Any, one: Any, two: Any) -> None:
    first, second = (toy_config.model_validate({"knobs": knobs}) for knobs in (one, two))
    same = identify(tasks["toy"], first).hash == identify(tasks["toy"], second).hash
    assert same == (first == second)


def test_panels_are_no_part_of_it(tasks: Any) -> None:
    """Which pictures are kept changes no result."""
    plain = identify(tasks["depth"], DepthConfig())
    asked = DepthConfig.model_validate({"eval": {"panels": {"images": 9, "epochs": "every"}}})
    assert identify(tasks["depth"], asked) == plain
