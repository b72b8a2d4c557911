"""The campaign's end of the fork server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

from tests.campaign import REPOSITORY, environment
from tests.campaign.moments import FOLDER, Ground


class Forks:
    """A running fork server; its processes end with it."""

    def __init__(self, task: str = "toy", mutation: str = "") -> None:
        command = [sys.executable, "-m", "tests.campaign.zygote", task, mutation]
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stdin=pipe, stdout=pipe, text=True)
        ready = self._read()
        if ready != {"ready": 1}:
            raise RuntimeError(f"the fork server has threads: {ready}")
        self.left = False
        """Whether any process was alive when `reap` was last called."""

    def _read(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError(f"the fork server ended with code {self._server.wait()}")
        return dict(json.loads(line))

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(command) + "\n")
        self._server.stdin.flush()
        return self._read()

    def start(self, role: str, victim: str, ground: Ground, *arguments: str) -> int:
        """A process of the campaign; returns its pid. `rival` is a worker, anything else an `ablate` command."""
        self.left = True
        return int(
            self._ask(
                do="start",
                role=role,
                victim=victim,
                arguments=arguments,
                environment={FOLDER: str(ground.root)},
                log=str(ground.log),
            )["pid"]
        )

    def reap(self) -> dict[int, int]:
        """Exit codes, by pid, of the processes that have ended since the last call; minus the signal that killed."""
        answer = self._ask(do="reap")
        self.left = bool(answer["left"])
        return {int(pid): int(code) for pid, code in answer["ended"]}

    def close(self) -> None:
        for pipe in (self._server.stdin, self._server.stdout):
            assert pipe is not None
            pipe.close()
        if self._server.poll() is None:
            self._server.send_signal(signal.SIGKILL)
        self._server.wait()

    def kill_all(self, pids: list[int]) -> None:
        """Ends the processes and waits until nothing is left of them."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.left = True
        while self.left:
            self.reap()
            time.sleep(0.002)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
