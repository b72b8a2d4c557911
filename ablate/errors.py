"""Every error that a user can meet, as one tree.

AblateError
  · UsageError (ValueError)               what was asked for cannot be done as written        exit 2
    · StudyError                          a study file, with line, column, key and remedy     exit 2
    · UnknownRunError (LookupError)       no run, or several, by that name                    exit 2
  · DataError (ValueError)                a data set or weights file is missing or damaged    exit 2
  · HeldError                             another process holds the run, study or database    exit 75
  · RecordError (ValueError)              a file of a run directory is damaged                exit 1
    · JournalError
    · CheckpointError
  · DatabaseError                         results.duckdb cannot be read or written            exit 1
  · TrainingError                         a run cannot go on                                  exit 1
    · DivergedError (ArithmeticError)     the loss is not finite
    · OutOfMemoryError (MemoryError)      the device or the host has no memory left
    · DiskError                           the disk is full, read-only or failing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class AblateError(Exception):
    """Base of all errors that are meant for the user: the text says what, where and the remedy."""

    exit_code: ClassVar[int] = 1


class UsageError(AblateError, ValueError):
    """What was asked for cannot be done as written."""

    exit_code = 2


class StudyError(UsageError):
    """A study file that cannot be used.

    `line` and `column` count from 1, as editors do; `key` is the offending dotted key.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.problem, self.file, self.line, self.column = problem, file, line, column
        self.key, self.hint = key, hint
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        text = ": ".join(part for part in (place, key, problem) if part)
        super().__init__(f"{text}\n  hint: {hint}" if hint else text)


class UnknownRunError(UsageError, LookupError):
    """No run has that name, or the prefix names several."""


class DataError(AblateError, ValueError):
    """A data set or a weights file that is missing, damaged or not what it claims to be."""

    exit_code = 2


class HeldError(AblateError):
    """Another process holds what is needed; the text says which, where and since when."""

    exit_code = 75


class RecordError(AblateError, ValueError):
    """A file of a run directory that cannot be trusted."""


class JournalError(RecordError):
    """A journal that is damaged before its last line."""


class CheckpointError(RecordError):
    """No checkpoint of a run is whole."""


class DatabaseError(AblateError):
    """The results database cannot be read or written."""


class TrainingError(AblateError):
    """A run that cannot go on."""


class DivergedError(TrainingError, ArithmeticError):
    """The training loss is not finite, negative, or far above what it was; `samples` were in the batch.

    `norms`: of the step's gradient, by part of the network; None if it has none, as of a loss that is not finite.
    """

    def __init__(self, problem: str, samples: Sequence[str] = (), norms: Mapping[str, float] | None = None) -> None:
        super().__init__(problem)
        self.samples = tuple(samples)
        self.norms = norms


class OutOfMemoryError(TrainingError, MemoryError):
    """No memory was left, on the device or on the host."""


class DiskError(TrainingError):
    """The disk is full, read-only or failing."""
