"""Reading a study file: the only thing in this room that touches the disk, and it only reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ablate.study.model import Study
from ablate.study.overrides import override
from ablate.study.parse import parse
from ablate.study.settings import catalogue
from ablate.study.yaml import read_document
from ablate.task import Task


def load_study(path: Path | str, tasks: Mapping[str, Task], overrides: Sequence[str] = ()) -> Study:
    """The validated study in a YAML file, with `--set` overrides applied. Raises StudyError."""
    study = parse(read_document(Path(path)), tasks)
    return override(study, overrides, catalogue(tasks[study.task].Config))
