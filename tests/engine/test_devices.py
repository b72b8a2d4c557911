"""What `--device` accepts. This machine's own devices are found for real; GPUs are told from text that drivers print."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ablate.engine.devices import Gpu, find_devices, host_memory, parse_nvidia_smi, visible, visible_gpus
from ablate.errors import UsageError

TWO = """\
GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, 81559
GPU-61c9f2a3-0000-1111-2222-333344445555, [N/A]
"""


def test_the_cpu_is_always_there() -> None:
    (cpu,) = find_devices("cpu")
    assert (cpu.name, cpu.key, cpu.is_cpu) == ("cpu", "cpu", True)
    assert find_devices(" CPU ") == (cpu,)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc/meminfo (Linux)")
def test_memory_of_the_host() -> None:
    found = host_memory()
    assert 2**20 < found["available"] <= found["total"] < 2**50
    assert find_devices("cpu")[0].memory == found["total"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no such device"),
        ("gpu", "expected cpu, cuda, cuda:1, mps or auto"),
        ("cuda:x", "there is no such device"),
        ("cuda:-1", "there is no such device"),
        ("cpu,cpu", "cpu is named twice"),
        ("cpu,", "there is no such device"),
        ("cuda:999", "--device cuda:999"),
    ],
)
def test_what_is_not_there_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_devices(text)


def test_auto_names_what_there_is() -> None:
    found = find_devices("auto")
    assert found
    if not visible_gpus() and sys.platform == "linux":
        assert [device.name for device in found] == ["cpu"]


def test_a_gpu_that_is_missing_is_one_clear_error() -> None:
    if visible_gpus() and not version("torch").endswith("+cpu"):
        pytest.skip("needs a machine without a GPU, or a torch without CUDA")
    with pytest.raises(UsageError, match=r"--device cuda: (no NVIDIA GPU was found|the installed torch)"):
        find_devices("cuda")


def test_finding_devices_loads_no_torch() -> None:
    code = "import sys; from ablate.engine.devices import find_devices; find_devices('auto'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "False"


def test_what_the_driver_says() -> None:
    first, second = parse_nvidia_smi(TWO)
    assert (first.memory, second.memory) == (81559 * 2**20, None)
    assert first.uuid == "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
    assert parse_nvidia_smi("No devices were found\n") == []


@pytest.mark.parametrize(
    ("limited", "expected"),
    [
        (None, "ab"),
        ("0,1", "ab"),
        ("1,0", "ba"),
        ("1", "b"),
        ("GPU-61c9", "b"),
        ("GPU-61c9,GPU-5d5b", "ba"),
        ("0,-1,1", "a"),
        ("5", ""),
        ("", ""),
        ("-1", ""),
        ("0,0", "a"),
        ("nonsense", ""),
        ("GPU-", ""),
    ],
)
def test_visible_devices(limited: str | None, expected: str) -> None:
    gpus = dict(zip("ab", parse_nvidia_smi(TWO), strict=True))
    environ = {} if limited is None else {"CUDA_VISIBLE_DEVICES": limited}
    assert visible(list(gpus.values()), environ) == [gpus[name] for name in expected]


def test_a_part_of_a_gpu_is_a_device_of_its_own() -> None:
    assert visible(parse_nvidia_smi(TWO), {"CUDA_VISIBLE_DEVICES": "MIG-1,MIG-2"}) == [
        Gpu("MIG-1", None),
        Gpu("MIG-2", None),
    ]
