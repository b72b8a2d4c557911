"""Signals: a handler only sets a flag; the loop looks at it between two steps."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

SAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""Each asks to finish the step, save and end. SIGUSR2 is what Slurm is commonly told to send."""

_PR_SET_PDEATHSIG = 1


class Stopped(BaseException):
    """Raised inside an evaluation that was asked to stop. Not an Exception: no `except Exception` may eat it."""


class StopFlag:
    """Whether to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.at_once: Callable[[], None] = lambda: None
        """Called before the process ends because of a second Ctrl-C."""
        self.last_words: Callable[[], None] = lambda: None
        """Called after it, inside the signal handler: may only write to a file descriptor."""

    def __bool__(self) -> bool:
        return self.signal is not None

    def install(self) -> None:
        """The first signal sets the flag. A second Ctrl-C ends the process at once."""
        for number in SAVING:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self and number == signal.SIGINT:
            self.at_once()
            self.last_words()
            os._exit(130)
        self.signal = signal.Signals(number)

    def check(self) -> None:
        """Raises Stopped if the flag is set."""
        if self:
            raise Stopped


def end_with_parent(parent: int | None = None) -> None:
    """Asks the kernel for SIGTERM when the parent dies, so that no worker is orphaned (Linux).

    `parent` is who started this process: it may have died before this process could ask who its parent is.
    """
    if sys.platform.startswith("linux"):
        known = os.getppid() if parent is None else parent
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        parent = known
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
