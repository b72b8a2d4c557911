"""Settings that do not suit each other, as errors that a study finds the place of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from ablate.task import Json, RunSettings


@dataclass(frozen=True)
class Conflict:
    """A value that does not suit other settings: the dotted `key` is to blame, `others` could mend it too."""

    key: str
    value: Json
    problem: str
    others: tuple[str, ...] = ()


def refused(config: RunSettings, conflicts: Iterable[Conflict]) -> ValidationError | None:
    """The conflicts as an error for a validator of the whole configuration to raise; None if there are none.

    Studies find the place of each by its key, and leave those alone whose `others` an axis changes.
    """
    details = [
        InitErrorDetails(
            type=PydanticCustomError("value_error", "{problem}", {"problem": one.problem, "others": list(one.others)}),
            loc=tuple(one.key.split(".")),
            input=one.value,
        )
        for one in conflicts
    ]
    return ValidationError.from_exception_data(type(config).__name__, details) if details else None
