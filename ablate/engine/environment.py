"""What an attempt ran on: stored with it, because results depend on it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ablate

_PACKAGES = ("torch", "timm", "numpy", "duckdb", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python, ablate and the packages that decide numbers, without importing them."""
    found = {"python": platform.python_version(), "ablate": ablate.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that the code lies in, and whether it has edits; None outside of one."""
    # Without --no-optional-locks a killed attempt could leave a lock behind in the user's repository.
    command = ["git", "--no-optional-locks", "-C", str(folder)]
    command += ["status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def environment() -> dict[str, Any]:
    """For the journal's attempt record."""
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "processor": _processor(),
        "executable": sys.executable,
        "versions": versions(),
        "git": git_state(Path(ablate.__file__).parent),
    }


def _processor() -> str:
    """The processor's model: another one may round differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part")))
    return next(names, platform.machine())


def default_threads(workers: int) -> int:
    """CPU threads of each of `workers` runs that share this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, workers))
