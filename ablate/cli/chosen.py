"""The run directories that a command's words choose. Plain names of runs need no database, filters do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ablate.cli.console import say
from ablate.engine.halt import study_names
from ablate.errors import RecordError, UnknownRunError
from ablate.report.selection import is_study_file, select, split, study_in
from ablate.results.open import open_results
from ablate.results.records import RunRow
from ablate.runs import states
from ablate.runs.directory import find_run
from ablate.runs.paths import RunPaths, RunsDir

_PATTERN = "*?"


def chosen_paths(words: Sequence[str], db: Path, runs_dir: Path, *, current: bool = False) -> list[RunPaths]:
    """The directories of the runs that `words` choose, each once; those of cells that were never started are not there.

    The start of a name must fit one run. current: without runs that only an earlier version of a study declared. Raises
    UsageError, UnknownRunError as `selection.select`.
    """
    runs = RunsDir(runs_dir)
    if are_runs(words, runs):
        return list({paths.root: paths for paths in (find_run(runs, word) for word in words)}.values())
    with open_results(db, runs_dir) as results:
        rows = select(results, words, exact=True, current=current)
        problems = results.unreadable
    for problem in problems:
        say(f"warning: not readable, and so not chosen by these words: {problem}")
    judged = any(key in ("status", "reason") for _, key, _, _ in split(words)[1])
    found = {row.run_id: runs.run(row.directory.name) for row in rows if row.directory and _stands(row, judged)}
    return [paths for paths in found.values() if paths.identity.is_file()]


def _stands(row: RunRow, judged: bool) -> bool:
    """Whether a run that was chosen by its status still has it: the database may lag, the run's own files do not."""
    if not judged or row.directory is None:
        return True
    try:
        now = states.status(RunPaths(row.directory))
    except RecordError:
        return True  # what is wrong with it is said where it is used
    if (now.state, now.reason) == (row.status, row.reason):
        return True
    say(f"left alone: {row.name} is {now.state} by now")
    return False


def one_path(words: Sequence[str], db: Path, runs_dir: Path) -> RunPaths:
    """The directory of the one run that `words` choose. Raises UnknownRunError for none or several."""
    found = chosen_paths(words, db, runs_dir)
    if len(found) == 1:
        return found[0]
    said = " ".join(words)
    if not found:
        raise UnknownRunError(f"no run that was started fits {said!r}; `ablate ls` lists all")
    names = ", ".join(paths.name for paths in found[:10]) + (", …" if len(found) > 10 else "")
    raise UnknownRunError(f"{said!r} names {len(found)} runs, and one is meant here: {names}")


def are_runs(words: Sequence[str], runs: RunsDir) -> bool:
    """Whether all words are names of runs, or the starts of such, and nothing else."""
    names, filters = split(words)
    studies = study_names(runs)
    return not filters and not any(
        word in studies or is_study_file(word) or any(char in word for char in _PATTERN) for word in names
    )


def studies_only(words: Sequence[str], runs: RunsDir) -> list[str] | None:
    """The names of the studies if all words are studies or their files; None otherwise."""
    names, filters = split(words)
    known = study_names(runs)
    found = [study_in(Path(word)) if is_study_file(word) else word for word in names]
    fits = all(name in known or is_study_file(word) for name, word in zip(found, names, strict=True))
    return found if fits and not filters else None


def nothing_fits(words: Sequence[str]) -> str:
    return f"{' '.join(words)}: no run fits"


def complete(incomplete: str) -> list[str]:
    """What a word on the command line may become: names of runs and studies, and the filters of a fixed kind."""
    import os

    from ablate.cli.options import DEFAULT_RUNS
    from ablate.runs.states import Reason, State

    runs = RunsDir(Path(os.environ.get("ABLATE_RUNS_DIR", DEFAULT_RUNS)))
    filters = [*(f"status={state}" for state in State), *(f"reason={reason}" for reason in Reason), "seed=", "tag="]
    try:
        names = [*sorted(study_names(runs)), *(paths.name for paths in runs.runs())]
    except OSError:
        names = []
    return [word for word in (*names, *filters) if word.startswith(incomplete)]
