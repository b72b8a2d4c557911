"""`ablate doctor`."""

from __future__ import annotations

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS


def doctor(db: options.Db = DEFAULT_DB, runs_dir: options.Runs = DEFAULT_RUNS, as_json: options.Json = False) -> None:
    """Examine the environment, the disk, the database and every run; each finding comes with its remedy.

    Example: ablate doctor
    """
    from ablate.cli.console import emit
    from ablate.cli.findings import show_findings
    from ablate.engine import doctor

    findings = list(doctor.examine(db, runs_dir))
    if as_json:
        emit(doctor.as_json(findings))
    else:
        show_findings(findings)
    raise typer.Exit(any(finding.level is doctor.Level.WRONG for finding in findings))
