"""What a task says of a configuration without training it: its data, its network, its cost. Part of `ablate.task`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ablate.evaluated import Json


@dataclass(frozen=True)
class Checked:
    """What `Task.check` found in data that is good enough to train on."""

    notes: tuple[str, ...] = ()
    """Sentences for the user: frames that were dropped, and why."""
    facts: Mapping[str, Json] = field(default_factory=dict)
    """Stored with every attempt: counts, names of dropped frames, …"""


@dataclass(frozen=True)
class Part:
    """A part of a network: `shared` lists the other names under which the same module is used.

    `pretrained` is the share of its parameters that a file of weights gives (0 to 1); None if there is no file.
    """

    name: str
    parameters: int
    shared: tuple[str, ...] = ()
    pretrained: float | None = None


@dataclass(frozen=True)
class Description:
    """What `plan` and `show` say of a configuration, without training it."""

    parameters: int
    parts: tuple[Part, ...]
    images: Mapping[str, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Share:
    """A `part` (0 to 1) of a forward pass's operations that `settings` (dotted keys) decide, and what it is called."""

    name: str
    settings: tuple[str, ...]
    part: float

    @property
    def ceiling(self) -> float:
        """How many times faster a forward pass is at most, if this part takes no time (Amdahl)."""
        return 1 / (1 - self.part) if self.part < 1 else float("inf")


@dataclass(frozen=True)
class Cost:
    """What training needs, estimated without running it: peak bytes on the device, and operations (2 per multiply-add)
    of a forward pass of one image, and of it and its backward pass."""

    peak_bytes: int
    forward_flops: int
    step_flops: int
    shares: tuple[Share, ...] = ()
