"""Places on devices: counted across processes, given back by the kernel, reserved by memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablate.engine.devices import Device, find_devices
from ablate.engine.slots import Busy, Pool, Slot, Slots, shared_folder, show_size
from ablate.errors import UsageError

GPU = Device("cuda:0", "GPU-1", 10 * 10**9)
CPU = Device("cpu", "cpu", 10 * 10**9)


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path / "devices")


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended after the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def sleep_in(slot: Slot, sleepers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A process that holds the place, as a worker does."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=slot.inherited)
    slot.hand_over()
    sleepers.append(process)
    return process


def take(slots: Slots, limit: int | None = 1, memory: int = 0, run: str = "toy") -> Slot:
    slot = slots.take(GPU, limit, memory, run)
    assert isinstance(slot, Slot)
    return slot


def test_a_place_lasts_as_long_as_its_process(slots: Slots, sleepers: list[subprocess.Popen[bytes]]) -> None:
    process = sleep_in(take(slots), sleepers)
    busy = slots.take(GPU, 1, 0, "other")
    assert isinstance(busy, Busy)
    assert f"1 of 1 places taken: toy (of process {os.getpid()})" in busy.why
    process.send_signal(signal.SIGSTOP)
    assert isinstance(slots.take(GPU, 1, 0, "other"), Busy), "a stopped process still has its memory"
    process.kill()
    process.wait()
    assert len(list(slots.folder.rglob("*.slot"))) == 1
    take(slots).hand_over()
    assert len(list(slots.folder.rglob("*.slot"))) == 1, "the dead one's file was removed"


def test_a_killed_owner_frees_its_place_only_with_its_worker(slots: Slots) -> None:
    code = (
        "import subprocess, sys, os, signal\nfrom pathlib import Path\nfrom ablate.engine.slots import Slots\n"
        "from ablate.engine.devices import Device\n"
        f"slot = Slots(Path({str(slots.folder)!r})).take(Device('cuda:0', 'GPU-1'), 1, 0, 'toy')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],\n"
        "    pass_fds=slot.inherited, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(owner.communicate(timeout=30)[0])
    assert owner.returncode == -signal.SIGKILL
    assert isinstance(slots.take(GPU, 1, 0, "other"), Busy)
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while isinstance(found := slots.take(GPU, 1, 0, "other"), Busy):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert isinstance(found, Slot)
    found.hand_over()


def test_many_processes_at_once_never_take_one_too_many(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom ablate.engine.slots import Slots, Slot\n"
        "from ablate.engine.devices import Device\n"
        f"folder = Path({str(tmp_path)!r})\nslots, end = Slots(folder / 'devices'), time.monotonic() + 2\ntook = 0\n"
        "while time.monotonic() < end:\n"
        "    slot = slots.take(Device('cuda:0', 'GPU-1'), 2, 0, 'toy')\n"
        "    if not isinstance(slot, Slot):\n        continue\n"
        "    assert slot.descriptor is not None\n    took += 1\n"
        "    mark = folder / f'{slot.path.stem}.busy'\n    mark.touch()\n"
        "    assert len(list(folder.glob('*.busy'))) <= 2\n"
        "    mark.unlink()\n    slot.hand_over()\n"
        "print(took)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    taken = [process.communicate(timeout=30)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert all(int(number) > 0 for number in taken)


def test_memory_is_reserved(slots: Slots) -> None:
    first = take(slots, None, 6 * 10**9, "big")
    busy = slots.take(GPU, None, 5 * 10**9, "other")
    assert isinstance(busy, Busy)
    assert "no 5 GB left; 6 GB of 10 GB are reserved: big" in busy.why
    take(slots, None, 4 * 10**9).hand_over()
    take(slots, None, 0).hand_over()
    first.hand_over()
    take(slots, None, 5 * 10**9).hand_over()


def test_a_cpu_needs_free_memory_too(slots: Slots) -> None:
    (cpu,) = find_devices("cpu")
    if cpu.memory is None:
        pytest.skip("the host's memory is not known here")
    busy = slots.take(Device("cpu", "cpu", 2**60), None, 2**50, "huge")
    assert isinstance(busy, Busy)
    assert "this machine has no" in busy.why


def test_a_reservation_that_never_fits_is_refused_at_once(slots: Slots) -> None:
    pool = Pool.of((GPU, Device("cuda:1", "GPU-2", 5 * 10**9)), None, None, slots)
    pool.check(10 * 10**9, "toy")
    with pytest.raises(UsageError, match=r"toy: reserves 11 GB, and cuda:0, cuda:1 has 10 GB"):
        pool.check(11 * 10**9, "toy")
    Pool.of((Device("mps", "mps"),), None, None, slots).check(10**15, "toy")


@pytest.mark.parametrize(
    ("devices", "workers", "per_device", "each", "total"),
    [
        (1, None, None, 1, 1),
        (2, None, None, 1, 2),
        (2, None, 2, 2, 4),
        (1, 3, None, 3, 3),
        (2, 3, None, 2, 3),
        (2, 3, 1, 1, 2),
        (2, 1, 2, 2, 1),
    ],
)
def test_how_many_at_once(
    slots: Slots, devices: int, workers: int | None, per_device: int | None, each: int, total: int
) -> None:
    pool = Pool.of((GPU, Device("cuda:1", "GPU-2"))[:devices], workers, per_device, slots)
    assert (pool.per_device, pool.workers) == (each, total)


def test_a_pool_fills_its_devices_evenly(slots: Slots) -> None:
    pool = Pool.of((GPU, Device("cuda:1", "GPU-2")), None, 2, slots)
    places = [pool.take(0, "toy") for _ in range(4)]
    assert all(isinstance(place, Slot) for place in places)
    names = [place.device.name for place in places if isinstance(place, Slot)]
    assert names == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert isinstance(pool.take(0, "toy"), Busy)
    third = places[2]
    assert isinstance(third, Slot)
    third.hand_over()
    pool.give_back(third)
    again = pool.take(0, "toy")
    assert isinstance(again, Slot)
    assert again.device.name == "cuda:0"
    assert isinstance(pool.take(0, "toy", alone=True), Busy)


def test_cpu_places_count_across_processes_only_if_asked_for(slots: Slots) -> None:
    for asked, expected in ((None, Slot), (1, Busy)):
        first, second = (Pool.of((CPU,), 1, asked, slots) for _ in range(2))
        held = first.take(0, "one")
        assert isinstance(held, Slot)
        other = second.take(0, "two")
        assert isinstance(other, expected)
        for place in (held, other):
            if isinstance(place, Slot):
                place.hand_over()


def test_a_damaged_file_is_a_place_all_the_same(slots: Slots) -> None:
    held = take(slots)
    held.path.write_bytes(b"\xff[" * 5000)
    assert isinstance(slots.take(GPU, 1, 0, "other"), Busy)
    held.hand_over()


def test_without_a_folder_runs_are_trained_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "devices").write_text("a file is in the way")
    place = Slots(tmp_path / "devices").take(GPU, 1, 0, "toy")
    assert isinstance(place, Slot)
    assert place.inherited == ()
    place.hand_over()
    place.clear()


def test_the_shared_folder_is_mine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = shared_folder(tmp_path / "fallback")
    assert folder == tmp_path / f"ablate-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert shared_folder(tmp_path / "fallback") == tmp_path / "fallback"


@pytest.mark.parametrize(
    ("size", "text"), [(6 * 10**9, "6 GB"), (1_500_000, "1.5 MB"), (999, "999 B"), (2**31, "2.15 GB")]
)
def test_sizes_as_people_write_them(size: int, text: str) -> None:
    assert show_size(size) == text
