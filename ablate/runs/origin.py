"""Where a run that was not trained here came from: a row of somebody's progress log, or wandb's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as checked


@checked(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Origin:
    """The source of an external run, as of the import that made it.

    `file` is a name without folders, `sha256` of its bytes, `row` the number that the log gives the run, and `title`
    what it calls it. `unknown` are dotted keys of settings that the source does not state: they differ from everything,
    also from each other. `facts` is all else that it states: weights, durations, the numbers as they were written.
    """

    kind: Literal["progress log", "wandb"]
    file: str
    sha256: str
    row: int
    title: str
    unknown: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def label(self) -> str:
        """'progress-log.md, row 4': what tables call it."""
        return f"{self.file}, row {self.row}" if self.kind == "progress log" else f"wandb run {self.file}"


def read_origin(value: object) -> Origin | None:
    """From JSON that was read; None stays None. Raises TypeError if it is anything but the origin of a run."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError("external: expected a mapping")
    try:
        listed = value.get("unknown")
        return Origin(**{**value, "unknown": tuple(listed) if isinstance(listed, list) else listed})
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise TypeError(f"external.{'.'.join(map(str, detail['loc']))}: {detail['msg']}") from None
