"""What is best in several respects at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablate.task import Direction


def pareto_front(
    rows: Mapping[str, Sequence[float | None]], better: Sequence[Direction]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that no other row beats, and those left out for want of a value, both in the order given.

    One row beats another if it is at least as good in every column and better in one, so equal rows are all on the
    front. `better` says which way is better, column by column. Raises ValueError if a row has another length.
    """
    signed: dict[str, tuple[float, ...]] = {}
    left_out = []
    for name, row in rows.items():
        values = [value for value in row if value is not None and value == value]
        if len(row) != len(better):
            raise ValueError(f"{name}: {len(row)} values for {len(better)} columns")
        if len(values) < len(row):
            left_out.append(name)
        else:
            signed[name] = tuple(-v if way == "max" else v for v, way in zip(values, better, strict=True))
    front = [name for name, row in signed.items() if not any(_beats(other, row) for other in signed.values())]
    return tuple(front), tuple(left_out)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
