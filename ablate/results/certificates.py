"""Certificates of `ablate verify`, read from the run directories when they are asked for: they are not in the database."""

from __future__ import annotations

from ablate.errors import RecordError
from ablate.results.records import RunRow
from ablate.runs.certificate import Certificate, read_certificate
from ablate.runs.paths import RunPaths

__all__ = ["Certificate", "certificate_of"]


def certificate_of(run: RunRow) -> Certificate | None:
    """None if the run was never verified, or if what lies there cannot be read (`ablate doctor` says why)."""
    if run.directory is None:
        return None
    try:
        return read_certificate(RunPaths(run.directory))
    except (OSError, RecordError):
        return None
