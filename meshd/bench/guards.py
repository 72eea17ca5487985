"""What keeps a benchmark from harm: it is alone, it ends early when told, and its commands end with it."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from types import FrameType

from meshd.bench import testbed


class BusyError(Exception):
    """Another benchmark runs."""


class Deadline:
    """After so many minutes nothing more is begun; what is under way has bounds of its own."""

    def __init__(self, minutes: int | None, say: Callable[[str], None]) -> None:
        """None: it never passes."""
        self.has_cut = False
        """Whether something was not begun because of it."""
        self._minutes = minutes
        self._at = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self._say = say

    def passed(self, consequence: str) -> bool:
        """Whether it has; then ``consequence`` is said, and counts as a cut."""
        if time.monotonic() < self._at:
            return False
        self.has_cut = True
        self._say(f"{self._minutes} minutes are over: {consequence}")
        return True


@contextlib.contextmanager
def alone(prefix: str) -> Iterator[None]:
    """Only one benchmark with these labs at a time; the name is gone with its process. Raises BusyError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as name:
        try:
            name.bind(f"\0meshd-bench-{prefix}")
        except OSError as error:
            raise BusyError(
                "another meshd bench runs on this machine: two would measure each other"
            ) from error
        yield


@contextlib.contextmanager
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    """Commands that do not outlive the body."""
    commands: list[subprocess.Popen[str]] = []
    try:
        yield commands
    finally:
        for command in commands:
            if command.poll() is None:
                testbed.end(command)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Once: a second signal must not interrupt the cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM ends the body as Ctrl-C does."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_ignored() -> Iterator[None]:
    """What the body does is bounded in time, and must be done."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
