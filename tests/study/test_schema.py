"""The JSON Schema that editors get agrees with what the tool accepts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ablate.depth.config import DepthConfig
from ablate.study import Study, json_schema
from ablate.study.yaml import parse_document, read_document


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema({"depth": DepthConfig})


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


ACCEPTED = [
    "base: {train: {lr: 1e-4}, data.subset.n: 4}",
    "base: {data: {subset: {redraw: true}}}\ngrid: {data.subset.n: [4, 8]}",
    "grid: {data.resolution: [[192, 640], [352, 1216]], model.weights: [null, a.pt]}",
    "zip: {train.lr: [1e-4, 1e-5], train.epochs: [1, 2]}",
    "ablate: [{train: {lr: 1e-4}}, {eval.mask: none}, {data.subset: null}]",
    "grid: {model.attention: [standard, performer]}\nexclude: [{model: {attention: performer}, train.lr: [1e-5]}]",
    "base:\ngrid:\nexclude:\nwandb:\nseeds: [3]",
    "wandb: {mode: online, project: x}\ntask: depth",
]
REFUSED = [
    "bse: {}",
    "base: {train: {lrr: 1e-4}}",
    "base: {train.lrr: 1e-4}",
    "base: {seed: 3}",
    "base: {train: {lr: fast}}",
    "base: {train: {lr: -1}}",
    "base: {model: {attention: perfomer}}",
    "base: {data: {resolution: [192]}}",
    "grid: {train.lr: 1e-4}",
    "grid: {train.lr: []}",
    "grid: {train.lr: [1e-4, 1e-4]}",
    "grid: {lr: [1e-4]}",
    "grid: {seed: [1]}",
    "grid: {data.subset: [null]}",
    "grid: {train.lr: {vales: [1]}}",
    "grid: {train.lr: {values: [1], when: {train.x: 1}}}",
    "grid: {data.resolution: [192, 640]}",
    "zip: {train.lr: {values: [1]}}",
    "ablate: {train.lr: 1}",
    "ablate: [{}]",
    "exclude: [{train.x: 1}]",
    "exclude: [{}]",
    "baseline: {model.atention: x}",
    "baseline: {}",
    "seeds: 3",
    "seeds: []",
    "seeds: [0, 0]",
    "seeds: [-1]",
    "wandb: {mode: onlin}",
    "task: dept",
    "study: ../x",
]


def data(text: str) -> Any:
    return parse_document(text if text.startswith("study:") else f"study: test\n{text}", "f.yaml").data


def test_the_study_of_the_documentation(validator: Any, study_text: str) -> None:
    validator.validate(data(study_text))


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_by_both(validator: Any, text: str, load: Callable[..., Study]) -> None:
    load(text)
    validator.validate(data(text))


@pytest.mark.parametrize("text", REFUSED)
def test_refused_by_both(validator: Any, text: str, refused: Callable[..., Any]) -> None:
    refused(text)
    assert not validator.is_valid(data(text))


def test_it_names_the_draft_and_describes_settings(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["study"]
    assert schema["$defs"]["depth:train.lr"]["description"] == "Learning rate of all parameters."
    assert schema["$defs"]["depth:model.attention"]["enum"][0] == "standard"
    text = json.dumps(schema, allow_nan=False)
    assert '"identity"' not in text


def test_every_setting_can_be_an_axis_and_is_described_where_it_stands(schema: dict[str, Any]) -> None:
    grid = schema["properties"]["grid"]["anyOf"][0]["properties"]
    assert {"train.checkpoint.every", "data.subset.n", "eval.select.metric", "model.compression"} <= grid.keys()
    assert "seed" not in grid


def test_several_tasks(toy_config: Any) -> None:
    validator = jsonschema.Draft202012Validator(json_schema({"depth": DepthConfig, "toy": toy_config}))
    validator.check_schema(validator.schema)
    assert validator.is_valid(data("task: toy\nbase: {knobs: {a: 3}}"))
    assert not validator.is_valid(data("task: toy\nbase: {model: {name: dpt_tiny}}"))
    assert validator.is_valid(data("base: {model: {name: dpt_tiny}}"))
    assert validator.is_valid(data("task: depth\ngrid: {model.name: [dpt_tiny]}"))
    assert not validator.is_valid(data("grid: {knobs.a: [3]}"))
    assert not validator.is_valid(data("task: toy\nbase: {knobs: {a: 100}}"))


def test_shipped_studies_are_accepted(validator: Any) -> None:
    shipped = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))
    if not shipped:
        pytest.skip("studies/ holds no study yet")
    for path in shipped:
        validator.validate(read_document(path).data)
