"""What a verification compares, and what it makes of torch's warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ablate.engine.verify import Result, compare, nondeterministic

CALM = Result(
    {"weights": "a" * 64, "best weights": "b" * 64},
    {
        "epoch 1": {"train_loss": 0.5, "images": 8, "order": "c" * 64},
        "evaluation 1 val full": {"metrics": {"d1": 0.5, "rmse": None}, "loss": 0.1, "images": 4, "skipped": 0},
    },
    8,
)


def test_equal_results() -> None:
    assert list(compare(CALM, replace(CALM))) == []
    assert CALM.metrics == replace(CALM).metrics


def test_the_last_bit_of_anything_counts() -> None:
    loss = CALM.records | {"epoch 1": {**CALM.records["epoch 1"], "train_loss": 0.5000000000000001}}
    assert list(compare(CALM, replace(CALM, records=loss))) == ["epoch 1: train_loss"]
    assert replace(CALM, records=loss).metrics != CALM.metrics
    value = CALM.records["evaluation 1 val full"] | {"metrics": {"d1": 0.5, "rmse": 0.0}}
    changed = CALM.records | {"evaluation 1 val full": value}
    assert list(compare(CALM, replace(CALM, records=changed))) == ["evaluation 1 val full: metrics"]
    weights = {**CALM.weights, "best weights": "d" * 64}
    assert list(compare(CALM, replace(CALM, weights=weights))) == ["SHA-256 of the best weights"]
    fewer = {"epoch 1": CALM.records["epoch 1"]}
    assert list(compare(CALM, replace(CALM, records=fewer, steps=7))) == [
        "7 steps instead of 8",
        "evaluation 1 val full: recorded by only one of the two",
    ]


def test_kernels_are_named_as_torch_names_them(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "/x/functional.py:4: UserWarning: upsample_bilinear2d_backward_out_cuda does not have a deterministic "
        "implementation, but you set 'torch.use_deterministic_algorithms(True, warn_only=True)'.\n"
        "/x/graph.py:8: UserWarning: Memory Efficient attention defaults to a non-deterministic algorithm. To\n"
        "/x/functional.py:4: UserWarning: upsample_bilinear2d_backward_out_cuda does not have a deterministic\n"
    )
    assert nondeterministic(log) == ["upsample_bilinear2d_backward_out_cuda", "Memory Efficient attention"]
    assert nondeterministic(tmp_path / "absent") == []
