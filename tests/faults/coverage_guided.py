"""Fuzzing guided by coverage: `python tests/faults/coverage_guided.py journal|study|manifest|list -runs=N`.

Needs atheris, which installs on some platforms only. A target may raise an error of ours and nothing else.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ablate"], enable_loader_override=False):
    from ablate.depth.data.kitti import list_digest
    from ablate.depth.task import DepthTask
    from ablate.errors import AblateError
    from ablate.runs import journal
    from ablate.runs.checkpoint import Manifest
    from ablate.study import expand, load_study

TASK = DepthTask()
PATH = Path(tempfile.mkdtemp()) / "fuzzed"


def _study(path: Path) -> None:
    expand(load_study(path, {"depth": TASK}), TASK, max_cells=1000)


TARGETS: dict[str, Callable[[Path], object]] = {
    "journal": lambda path: list(journal.read(path)),
    "study": _study,
    "manifest": Manifest.read,
    "list": list_digest,
}


def main() -> None:
    # libFuzzer's own limit counts what the parent process needed before it became this one
    resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30, 2 * 2**30))
    target = TARGETS[sys.argv.pop(1)]

    def once(data: bytes) -> None:
        PATH.write_bytes(data)
        with contextlib.suppress(AblateError):
            target(PATH)

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
