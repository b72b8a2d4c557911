"""What `ablate doctor` asks this machine: packages, devices, processes. Never imports torch in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.engine import halt
from ablate.runs import lease
from ablate.runs.paths import RunPaths, RunsDir

_PROBE = """
import importlib, json
found = {"missing": {}, "versions": {}, "devices": ["cpu"]}
for name in ("torch", "timm", "numpy", "PIL", "duckdb", "pandas", "pydantic", "ruamel.yaml"):
    try:
        found["versions"][name] = str(getattr(importlib.import_module(name), "__version__", ""))
    except Exception as error:
        found["missing"][name] = f"{type(error).__name__}: {error}"
if "torch" in found["versions"]:
    import torch
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(i)
        name = torch.cuda.get_device_name(i)
        found["devices"].append(f"cuda:{i} ({name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free)")
    if torch.backends.mps.is_available():
        found["devices"].append("mps")
    found["cuda_built"] = torch.version.cuda
print("\\n" + json.dumps(found))
"""
_PROBE_SECONDS = 120.0


def probe() -> dict[str, Any]:
    """Packages that can be imported, and devices, from a process of its own; `error` if even that fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"importing torch took longer than {_PROBE_SECONDS:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"error": f"a process that imports torch ended with code {error.returncode}: {error.stderr[-300:]}"}
    except (OSError, ValueError, IndexError) as error:
        return {"error": str(error)}
    return found


@dataclass(frozen=True)
class Worker:
    """A process that trains, or pretends to."""

    pid: int
    parent: int
    run: Path
    stopped: bool


def workers(runs: RunsDir) -> Iterator[Worker]:
    """The worker processes of runs in this folder (Linux; nothing elsewhere)."""
    root = runs.root.resolve()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = (folder / "cwd").readlink()
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended, or is somebody else's
            continue
        if "ablate.engine.worker" in command[:-1]:
            run = (here / command[command.index("ablate.engine.worker") + 1]).resolve()
            if run.parent == root:
                yield Worker(int(folder.name), int(fields[1]), run, fields[0] in "Tt")


def strays(runs: RunsDir) -> Iterator[tuple[Worker, str]]:
    """Workers that something is wrong with, and what."""
    for worker in workers(runs):
        if not worker.run.is_dir():
            yield worker, f"process {worker.pid} trains {worker.run.name}, whose directory is gone"
        elif worker.stopped:
            yield worker, f"process {worker.pid} trains {worker.run.name}, but has been stopped (SIGSTOP)"
        elif worker.parent == 1 and holds(worker):
            yield worker, f"process {worker.pid} trains {worker.run.name}, but who started it is gone"


def holds(worker: Worker) -> bool:
    holder = lease.holder(RunPaths(worker.run).lease)
    return holder is not None and halt.is_here(holder) and holder.pid == worker.pid
