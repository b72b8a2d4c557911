"""What `ablate verify` found out about a run: `certificate.json`, a side file that no training reads or writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from ablate.errors import RecordError
from ablate.runs import files
from ablate.runs.paths import RunPaths

VERSION = 1


@checked(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Certificate:
    """A short stretch of a run, trained undisturbed and with kills.

    `steps` optimiser steps, `kills` SIGKILLs over `runs` disturbed trainings, each resumed until it was complete.
    `weights` and `metrics` are SHA-256 of the undisturbed one. `seconds` is how long all of it took; `made` is Unix
    time.
    """

    identical: bool
    kills: int
    resumes: int
    runs: int
    steps: int
    seed: int
    evaluated: bool
    """Whether validation and test took part, or only training."""
    weights: str
    metrics: str
    differences: tuple[str, ...]
    nondeterministic: tuple[str, ...]
    """Kernels of which torch said that they are not deterministic."""
    device: str
    threads: int
    processor: str
    versions: Mapping[str, str]
    commit: str | None
    seconds: float
    made: float
    v: int = VERSION

    @property
    def sentence(self) -> str:
        """'verified: 20 kills, bit-identical (20 steps, cpu, 2 threads, torch 2.14.1)'."""
        where = [f"{self.steps} steps", self.device, f"{self.threads} thread{'s' * (self.threads != 1)}"]
        if "torch" in self.versions:
            where.append(f"torch {self.versions['torch']}")
        if not self.evaluated:
            where.append("without evaluation")
        found = "bit-identical" if self.identical else f"NOT bit-identical ({'; '.join(self.differences[:3])})"
        text = f"verified: {self.kills} kill{'s' * (self.kills != 1)}, {found} ({', '.join(where)})"
        if self.nondeterministic:
            text += f"; not deterministic: {', '.join(self.nondeterministic)}"
        return text


_CERTIFICATE = TypeAdapter(Certificate)


def write_certificate(paths: RunPaths, certificate: Certificate) -> None:
    files.write_json(paths.certificate, asdict(certificate))


def read_certificate(paths: RunPaths) -> Certificate | None:
    """None if the run was never verified. Raises RecordError, naming the file, if it holds anything else."""
    try:
        text = files.read_plain(paths.certificate)
    except FileNotFoundError:
        return None
    try:
        found = _CERTIFICATE.validate_json(text)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise RecordError(f"{paths.certificate}: damaged: {place or 'certificate'}: {detail['msg']}") from None
    if found.v != VERSION:
        raise RecordError(f"{paths.certificate}: has format {found.v}, but this version of ablate reads {VERSION}")
    return found
