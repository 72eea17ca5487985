"""The processes of the node's workers: each slot is kept filled.

A worker is a process of its own that outlives the agent. So a starting agent first waits for the workers of
its predecessor to come back, and starts only those that do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from meshd import kept_file, log
from meshd.agent.worker_slot import WorkerSlot, WorkerState
from meshd.agent.worker_start import WorkerStart

_logger = logging.getLogger("meshd.agent.workers")

RETURN_SECONDS = 5.0
"""How long a living worker has to come back after its channel broke; the worker's own backoff is shorter."""
START_SECONDS = 10.0
"""How long a started worker has to present itself."""
_RESTART_DELAYS = (0.0, 0.2, 1.0, 5.0, 15.0)
"""Seconds before the n-th restart in a row; the last for all further ones."""
_POLL_SECONDS = 0.05
_STEADY_SECONDS = 60.0
"""A worker that ran that long starts the row anew."""


class Supervision:
    """Starts, follows and ends them. They go on when it ends."""

    def __init__(self, run_dir: Path, start: WorkerStart, ended: Callable[[int], None]) -> None:
        """``ended``: is told of each process that has ended, by its slot's index."""
        self._run_dir = run_dir
        self._how = start
        self._ended = ended
        self._children: set[int] = set()
        """The pids of those that we started and that have not been reaped."""
        self.socket_path = run_dir / "workers.sock"
        """Where workers find the agent; names the instance in their command line."""

    def survivors(self) -> set[int]:
        """The pids of the workers that earlier agents left."""
        return {pid for pid in self._noted().values() if self.is_ours(pid)}

    async def fill(self, slot: WorkerSlot) -> None:
        """Keep a slot filled, until cancelled. It may be filled by a worker of an earlier agent."""
        row = 0
        while True:
            began = time.monotonic()
            if not slot.connected.is_set():
                await asyncio.sleep(_RESTART_DELAYS[min(row, len(_RESTART_DELAYS) - 1)])
                row += 1
                began = time.monotonic()
                self._start(slot)
                if not await self.arrives(slot, START_SECONDS):
                    log.event(
                        _logger, logging.ERROR, "worker does not start", worker=slot.place, pid=slot.pid
                    )
                    self.kill(slot.pid)
                    slot.restarts += 1
            while slot.connected.is_set():
                await slot.disconnected.wait()
                alive = not await self._ended_soon(slot.pid)
                log.event(
                    _logger, logging.WARNING, "worker lost", worker=slot.place, pid=slot.pid, alive=alive
                )
                slot.restarts += 1
                if alive and not await self.arrives(slot, RETURN_SECONDS):
                    self.kill(slot.pid)
            if time.monotonic() - began > _STEADY_SECONDS:
                row = 0
            self._ended(slot.index)

    def note(self, slot: WorkerSlot) -> None:
        """Leave word to the next agent of who has the place. Raises OSError."""
        kept_file.replace(self._pid_file(slot.place), b"%d\n" % slot.pid)

    def kill(self, pid: int) -> None:
        """End a worker of this instance at once; nobody else who has its pid by now."""
        if self.is_ours(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def arrives(self, slot: WorkerSlot, seconds: float) -> bool:
        """Whether the slot's worker connects in time; a process that has ended is not waited for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not slot.connected.is_set() and not self._has_ended(slot.pid):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await slot.connected.wait()
        return slot.connected.is_set()

    def is_ours(self, pid: int) -> bool:
        """Whether that process is a worker of this instance: pids are used again, by other agents' too."""
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"--worker" in command and str(self.socket_path).encode() in command

    def _start(self, slot: WorkerSlot) -> None:
        slot.place = self._free_place()
        slot.state = WorkerState.STARTING
        # Not asyncio's nor subprocess': theirs are not to outlive us. And in a session of its own, so that
        # what ends the agent from a terminal does not end the workers.
        slot.pid = os.posix_spawn(
            sys.executable,
            (
                *(sys.executable, "-P", "-m", "proxy"),
                *("--socket", str(self.socket_path), "--worker", str(slot.place)),
                *self._how.arguments(),
            ),
            os.environ,
            file_actions=((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *self._how.outputs_moved()),
            setsid=True,
        )
        self._children.add(slot.pid)
        self.note(slot)

    async def _ended_soon(self, pid: int) -> bool:
        """Whether a worker has ended; it is given a moment to."""
        for _ in range(10):
            if self._has_ended(pid):
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    def _has_ended(self, pid: int) -> bool:
        """Whether a worker is no more; a child of ours is reaped."""
        if pid not in self._children:
            return not self.is_ours(pid)
        # Not by its command line, which it has only some time after it was made.
        ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        if ended:
            self._children.discard(pid)
        return ended

    def _free_place(self) -> int:
        """The lowest number that no living worker has; if there is none, the first one is made free."""
        noted = self._noted()
        for place in range(self._how.places):
            if self._has_ended(noted.get(place, 0)):
                return place
        self.kill(noted[0])
        return 0

    def _noted(self) -> dict[int, int]:
        """Who has which place, or had it."""
        found = {}
        for path in self._run_dir.glob("worker-*.pid"):
            with contextlib.suppress(OSError, ValueError):
                found[int(path.stem.removeprefix("worker-"))] = int(path.read_text())
        return found

    def _pid_file(self, place: int) -> Path:
        return self._run_dir / f"worker-{place}.pid"
