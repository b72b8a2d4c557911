"""Which devices `--device` names, found out without importing torch: by asking the driver, before anything is written."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ablate.errors import UsageError

_NAMES = "expected cpu, cuda, cuda:1, mps or auto, or several with commas between them"


@dataclass(frozen=True)
class Device:
    """`name` is what a task is given; `key` tells one piece of hardware from another, whatever it is called."""

    name: str
    key: str
    memory: int | None = None
    """Bytes in all, if that is known."""

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it; `memory` is in bytes."""

    uuid: str
    memory: int | None


def find_devices(text: str) -> tuple[Device, ...]:
    """The devices of `--device`, in the order given. Raises UsageError if one is not there."""
    devices: list[Device] = []
    for name in (part.strip().lower() for part in text.split(",")):
        for device in _find(name):
            if any(device.key == other.key for other in devices):
                raise UsageError(f"--device {text}: {device.name} is named twice")
            devices.append(device)
    return tuple(devices)


def _find(name: str) -> Sequence[Device]:
    if name == "cpu":
        return [_cpu()]
    if name == "mps":
        if not _has_mps():
            raise UsageError("--device mps: this machine has no Apple GPU; use cpu")
        return [Device("mps", "mps")]
    if name == "auto":
        return _auto()
    if match := re.fullmatch(r"cuda(?::(\d{1,3}))?", name):
        return [_cuda(int(match[1] or 0), name)]
    raise UsageError(f"--device {name or repr(name)}: there is no such device; {_NAMES}")


def _auto() -> Sequence[Device]:
    """Every GPU that torch can use, or else the CPU."""
    found = [] if _torch_lacks_cuda() else visible_gpus() or []
    if found:
        return [Device(f"cuda:{index}", gpu.uuid, gpu.memory) for index, gpu in enumerate(found)]
    return [Device("mps", "mps")] if _has_mps() else [_cpu()]


def _cuda(index: int, name: str) -> Device:
    if _torch_lacks_cuda():
        raise UsageError(f"--device {name}: the installed torch ({_torch()}) is built for CPUs only; use --device cpu")
    gpus = visible_gpus()
    if gpus is None:  # AMD: torch calls its GPUs cuda as well, and knows best how many there are
        return Device(f"cuda:{index}", f"cuda-{index}")
    if index < len(gpus):
        return Device(f"cuda:{index}", gpus[index].uuid, gpus[index].memory)
    limited = os.environ.get("CUDA_VISIBLE_DEVICES")
    because = "" if limited is None else f" (CUDA_VISIBLE_DEVICES is {limited!r})"
    if not gpus:
        raise UsageError(f"--device {name}: no NVIDIA GPU was found{because}; use --device cpu")
    there = "cuda:0" if len(gpus) == 1 else f"cuda:0 to cuda:{len(gpus) - 1}"
    raise UsageError(f"--device {name}: there is no such GPU{because}; there is {there}")


def _torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _torch_lacks_cuda() -> bool:
    return _torch().endswith("+cpu")


def _has_mps() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def visible_gpus() -> list[Gpu] | None:
    """The GPUs that a worker will see, in torch's order; None if that cannot be known (AMD)."""
    gpus = _from_driver()
    if gpus is None:
        gpus = _from_proc()
        if not gpus and Path("/dev/kfd").exists():
            return None
    return visible(gpus, os.environ)


def _from_driver() -> list[Gpu] | None:
    command = ["nvidia-smi", "--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_nvidia_smi(done.stdout)


def parse_nvidia_smi(text: str) -> list[Gpu]:
    """Lines such as `GPU-5c2f…, 81559`, memory in MiB; it may be `[N/A]`."""
    gpus = []
    for line in text.splitlines():
        uuid, _, memory = (part.strip() for part in line.partition(","))
        if uuid.startswith("GPU-"):
            gpus.append(Gpu(uuid, int(memory) * 2**20 if memory.isdecimal() else None))
    return gpus


def _from_proc() -> list[Gpu]:
    """What the driver's kernel module says, where `nvidia-smi` is not installed (containers)."""
    gpus = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"GPU UUID:\s*(\S+)", path.read_text(encoding="utf-8", errors="replace"))
        gpus.append(Gpu(match[1] if match else path.parent.name, None))
    return gpus


def visible(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> list[Gpu]:
    """What CUDA_VISIBLE_DEVICES leaves, in its order; as CUDA does, up to the first entry that is not there."""
    limited = environ.get("CUDA_VISIBLE_DEVICES")
    if limited is None:
        return list(gpus)
    found: list[Gpu] = []
    for entry in (part.strip() for part in limited.split(",")):
        if entry.startswith("MIG-"):
            found.append(Gpu(entry, None))
            continue
        match = [gpu for gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
        if entry.isdecimal() and int(entry) < len(gpus):
            match = [gpus[int(entry)]]
        if len(match) != 1 or match[0] in found:
            break
        found += match
    return found


def worker_environment() -> dict[str, str]:
    """The environment of workers: CUDA is to number GPUs as the driver does."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | os.environ


def _cpu() -> Device:
    return Device("cpu", "cpu", host_memory().get("total"))


_CGROUP = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def host_memory() -> dict[str, int]:
    """Bytes of memory of this host or container, `total` and `available`; empty where that is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    table = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    found = {"total": table["MemTotal"], "available": table.get("MemAvailable", table["MemTotal"])}
    for limit, usage in _CGROUP:
        try:
            total, used = int(Path(limit).read_text()), int(Path(usage).read_text())
        except (OSError, ValueError):  # another kind of cgroup, or `max`
            continue
        found = {"total": min(found["total"], total), "available": min(found["available"], max(0, total - used))}
    return found
