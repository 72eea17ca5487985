"""Sees which processes call splice(2), which is blind to redirected bytes.

While it is on each system call on the node takes some 100 ns longer: so it is on for moments only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf_map import Map

_LOAD_SECONDS = 30.0
_PROCESS = struct.Struct("=I")


class SpliceWatch:
    """The loaded program, not attached but inside ``on``. Owns its fds."""

    def __init__(self, program: int, callers: Map) -> None:
        self._program = program
        self._callers = callers

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Watch meanwhile. Raises OSError."""
        link = bpf.attach_raw_tracepoint(self._program, "sys_enter")
        try:
            yield
        finally:
            os.close(link)

    def take(self) -> frozenset[int]:
        """The ids, in the first pid namespace, of the processes that called since the last time.

        Raises OSError.
        """
        found = list(self._callers)
        for key in found:
            self._callers.discard(key)
        return frozenset(_PROCESS.unpack(key)[0] for key in found)

    def close(self) -> None:
        """Free the program."""
        os.close(self._program)
        self._callers.close()


def load() -> SpliceWatch:
    """Load the program in a short-lived child. Raises DatapathError."""
    own, childs = socket.socketpair()
    with own, childs:
        command = [sys.executable, "-m", "meshd.datapath.splicing.load"]
        try:
            done = subprocess.run(
                command,
                stdin=childs.fileno(),
                capture_output=True,
                text=True,
                timeout=_LOAD_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DatapathError(
                f"loading the watch on splice did not end in {_LOAD_SECONDS:.0f} s"
            ) from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise DatapathError(lines[-1])
        _, (program, callers), _, _ = socket.recv_fds(own, 1, 2)
    watch = SpliceWatch(program, Map(callers))
    try:
        with watch.on():
            pass
    except OSError as error:
        watch.close()
        raise DatapathError(f"the tracepoint sys_enter cannot be used: {error}") from error
    return watch
