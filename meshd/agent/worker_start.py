"""How the node's workers are started: of what build, where, and what becomes of what they write."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import NamedTuple

from meshd.build import Build

_STDOUT, _STDERR = 1, 2
_BLOCK = 64 * 1024
_PIPE_BYTES = 1024 * 1024


class WorkerStart(NamedTuple):
    """The same for all of them."""

    build: Build
    places: int
    """Worker processes that the kernel's maps have room for at one time."""
    orphaned_after: float = 0.0
    """Seconds without an agent after which a worker drains and ends; 0: never."""
    drain_seconds: float = 300.0
    """What a worker that is succeeded by another has for its connections."""
    homes: tuple[Path, ...] = ()
    """The cgroups that they live in; empty: the agent's."""
    outputs: Outputs | None = None
    """Where they write to; None: where the agent does."""

    def arguments(self) -> tuple[str, ...]:
        """Of ``python -m proxy``."""
        return (
            *("--build", self.build.code, "--wire", self.build.wire),
            *("--orphaned-after", f"{self.orphaned_after:g}"),
            *(text for home in self.homes for text in ("--join", str(home))),
        )

    def outputs_moved(self) -> tuple[tuple[int, int, int], ...]:
        """For posix_spawn(3): their standard output and error in their places."""
        fds = self.outputs.fds if self.outputs else ()
        return tuple((os.POSIX_SPAWN_DUP2, fd, to) for fd, to in zip(fds, (_STDOUT, _STDERR), strict=False))


class Outputs:
    """Standard output and error of workers that outlive whoever reads the agent's: named pipes.

    What they write goes on to the agent's. A pipe holds 1 MiB while no agent is there; what is more is lost.
    """

    def __init__(self, run_dir: Path) -> None:
        """Raises OSError. Reads for as long as this process lives."""
        self.fds = tuple(_open(run_dir / name) for name in ("workers.out", "workers.err"))
        """To be inherited. They are open for reading, too, lest they break when no agent reads."""
        for name, to in (("workers.out", _STDOUT), ("workers.err", _STDERR)):
            source = os.open(run_dir / name, os.O_RDONLY | os.O_CLOEXEC)
            threading.Thread(target=_pass_on, args=(source, to), name=name, daemon=True).start()


def _open(path: Path) -> int:
    if not path.is_fifo():
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
    # Not blocking: a worker does not wait for a reader.
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return fd


def _pass_on(source: int, to: int) -> None:
    while True:
        data = os.read(source, _BLOCK)
        try:
            while data:
                data = data[os.write(to, data) :]
        except OSError:
            return  # nobody reads what we write, either
