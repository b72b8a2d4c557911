"""The proof that nothing is lost: kills, power cuts and contention by the thousand.

`python -m tests.campaign kill|power|contention|ci`, from the root of a checkout. Nothing here is part of the product:
the product has no hook for it. A campaign replaces the functions of `ablate.runs.disk` from outside.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
TOY = REPOSITORY / "tests" / "toy"

for _folder in (str(TOY), str(REPOSITORY)):  # the toy task is found the way any installed task is
    if _folder not in sys.path:
        sys.path.insert(0, _folder)


def environment() -> dict[str, str]:
    """For child processes: one thread each, and the toy task installed."""
    path = os.pathsep.join(filter(None, [str(TOY), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return os.environ | threads | {"PYTHONPATH": path, "PYTHONUNBUFFERED": ""}
