"""`python -m tests.campaign.worker …`: the worker of one run, watched. The same arguments as `ablate.engine.worker`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.campaign.moments import acknowledge, watch


def main(arguments: list[str]) -> int:
    from ablate.engine import worker

    name = Path(arguments[0]).name
    moments = watch("worker", name)
    acknowledge(moments.ledger, name)
    code = worker.main(arguments)
    moments.end()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
