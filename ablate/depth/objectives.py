"""Which training losses there are and what each needs: a table that the configuration may read (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Space = Literal["log_depth", "disparity"]
"""What a loss compares: logarithms of metres, or inverse depth in any unit."""

Option = float | int | str


@dataclass(frozen=True)
class Objective:
    """`dense`: it compares neighbouring pixels, so it needs ground truth at nearly all of them.

    `options`: keyword arguments of the loss and their defaults.
    """

    space: Space
    dense: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)


OBJECTIVES: Mapping[str, Objective] = {
    "silog": Objective("log_depth", options={"variance_focus": 0.5}),
    "silog_sqrt": Objective("log_depth", options={"variance_focus": 0.85, "weight": 10.0, "form": "bts"}),
    "ssi_trimmed": Objective("disparity", options={"trim": 0.2}),
    "gradient_matching": Objective("disparity", dense=True, options={"scales": 4}),
}


def names() -> tuple[str, ...]:
    return tuple(OBJECTIVES)


def spaces(losses: Iterable[str]) -> frozenset[Space]:
    """What must be computed for these losses. Raises KeyError for a name that is not in `OBJECTIVES`."""
    return frozenset(OBJECTIVES[name].space for name in losses)


def refusal(losses: Iterable[str], *, data: str, dense: bool, metric: bool, forced: bool = False) -> str | None:
    """Why these losses must not be used with this data set, or None.

    data: how to name the data set; dense: it has depth at nearly every pixel (not so: lidar, such as KITTI);
    metric: its depth is in metres (not so: stereo disparity of unknown baseline). `forced` allows a dense loss on
    sparse ground truth; nothing allows a loss in metres on ground truth without unit.
    """
    for name in losses:
        if OBJECTIVES[name].space == "log_depth" and not metric:
            fitting = ", ".join(other for other, row in OBJECTIVES.items() if row.space == "disparity")
            return (
                f"{name} compares metres, but {data} has inverse depth up to an unknown scale and shift; use {fitting}"
            )
        if OBJECTIVES[name].dense and not dense and not forced:
            return (
                f"{name} compares neighbouring pixels, but the ground truth of {data} is sparse, so that few pixels "
                "have a measured neighbour (the reason why DPT leaves this term out on KITTI); "
                f"take {name} out of the losses, or force it"
            )
    return None
