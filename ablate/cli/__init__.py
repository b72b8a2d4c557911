"""The command line. Importing this package loads no torch, pandas or wandb, so that `--help` answers at once."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the `ablate` command and exits with the code that `docs/cli.md` lists."""
    from ablate.cli.app import app
    from ablate.cli.console import fail, of_the_system
    from ablate.errors import AblateError

    try:
        app(prog_name="ablate")
    except AblateError as error:
        fail(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `ablate ls | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        said = of_the_system(error)
        if said is None:
            raise
        fail(said)
        sys.exit(said.exit_code)
