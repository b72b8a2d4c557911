"""A fork server: `python -m tests.campaign.zygote`, with everything imported, forks processes in milliseconds.

Commands are JSON lines on standard input, answers are JSON lines on standard output. A child behaves as a process that
was started afresh: it has default signals, no descriptors but its log, and no threads to lose, because the server and
the coordinators that fork in turn have one thread each. Without Linux's /proc and prctl there is no campaign.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.campaign import mutations, worker
from tests.campaign.moments import watch, watch_database

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value):
        raise OSError(ctypes.get_errno(), "prctl")


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def fork(run: Callable[[], int], log: int, inherited: Sequence[int] = ()) -> int:
    """A child that runs `run` as a fresh process would, with these descriptors; returns its pid."""
    if threads() != 1:
        raise RuntimeError(f"process {os.getpid()} has {threads()} threads: a fork would not be a fresh process")
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _live(run, log, inherited)
    return pid


def _live(run: Callable[[], int], log: int, inherited: Sequence[int]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for descriptor in {*range(3, 1024)} - {*inherited}:  # what exec would close: above all the parent's leases
            with contextlib.suppress(OSError):
                os.close(descriptor)
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        code = run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Forked:
    """What `subprocess.Popen` gives, for a child that was forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        code = self._wait(0)
        assert code is not None
        return code

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_popen = subprocess.Popen


def popen(command: Any, **options: Any) -> Any:
    """`subprocess.Popen`, but that a worker is forked."""
    if list(command[:3]) == [sys.executable, "-m", "ablate.engine.worker"]:
        arguments = [str(argument) for argument in command[3:]]
        out = options["stdout"]
        log = out if isinstance(out, int) else out.fileno()
        return Forked(fork(lambda: worker.main(arguments), log, options.get("pass_fds", ())))
    return _popen(command, **options)


def command_line(role: str, victim: str, arguments: list[str]) -> int:
    """`ablate …`, as a process of the campaign. It ends with the server, whatever becomes of the campaign."""
    from ablate import cli

    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    moments = watch(role, victim)
    watch_database(moments)
    subprocess.Popen = popen  # type: ignore[assignment,misc]
    sys.argv = ["ablate", *arguments]
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    moments.end()
    return code


def preload(task: str) -> None:
    """Imports what the processes import, and asks once for what no attempt changes."""
    import ablate.cli.app
    import ablate.cli.listing
    import ablate.cli.training
    import ablate.engine.launch
    import ablate.engine.worker
    import ablate.results.open
    from ablate.engine import environment, tasks

    for name in ("git_state", "versions", "_processor"):
        if hasattr(environment, name):
            setattr(environment, name, functools.cache(getattr(environment, name)))
    environment.environment()
    tasks.find_task("toy" if task == "toy" else "depth")
    if task == "real":
        import ablate.depth.session  # noqa: F401


class Server:
    """Answers one command at a time."""

    def start(self, role: str, victim: str, arguments: list[str], environment: dict[str, str], log: str) -> int:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            if role == "rival":
                return fork(lambda: worker.main(arguments), descriptor)
            return fork(lambda: command_line(role, victim, arguments), descriptor)
        finally:
            os.close(descriptor)
            os.environ.clear()
            os.environ.update(before)

    def reap(self) -> tuple[dict[int, int], bool]:
        """Exit codes of the children that have ended since the last time, orphans included; whether any are left."""
        ended: dict[int, int] = {}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended, False
            if pid == 0:
                return ended, True
            ended[pid] = os.waitstatus_to_exitcode(status)

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if command.pop("do") == "start":
            return {"pid": self.start(**command)}
        ended, left = self.reap()
        return {"ended": list(ended.items()), "left": left}


def main(arguments: list[str]) -> int:
    task, mutation = arguments
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    preload(task)
    if mutation:
        mutations.apply(mutation)
    server = Server()
    sys.stdout.write(json.dumps({"ready": threads()}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(server.answer(json.loads(line))) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
