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
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from meshd import log
from meshd.agent.worker_slot import WorkerSlot, WorkerState

_logger = logging.getLogger("meshd.agent.workers")

RETURN_SECONDS = 3.0
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

    def __init__(self, run_dir: Path, ended: Callable[[int], None]) -> None:
        """``ended``: is told of each process that has ended, by its slot's index."""
        self._run_dir = run_dir
        self._ended = ended
        self.socket_path = run_dir / "workers.sock"
        """Where workers find the agent; names the instance in their command line."""

    async def fill(self, slot: WorkerSlot) -> None:
        """Keep a slot filled, until cancelled."""
        row = 0
        survivor = self._survivor(slot.index)
        process: subprocess.Popen[bytes] | None = None
        while True:
            began = time.monotonic()
            if not (survivor and await self._arrives(slot, process, RETURN_SECONDS)):
                self.kill(survivor)
                await asyncio.sleep(_RESTART_DELAYS[min(row, len(_RESTART_DELAYS) - 1)])
                row += 1
                began = time.monotonic()
                process = self._start(slot)
                if not await self._arrives(slot, process, START_SECONDS):
                    log.event(
                        _logger, logging.ERROR, "worker does not start", worker=slot.index, pid=process.pid
                    )
                    self.kill(process.pid)
            if slot.connected.is_set():
                await slot.disconnected.wait()
            if time.monotonic() - began > _STEADY_SECONDS:
                row = 0
            if process is not None and await _ended(process):
                process = None
            slot.restarts += 1
            survivor = slot.pid if self._is_ours(slot.pid) else 0
            if not survivor:
                self._ended(slot.index)
            log.event(
                _logger, logging.WARNING, "worker lost", worker=slot.index, pid=slot.pid, alive=bool(survivor)
            )

    def note(self, slot: WorkerSlot) -> None:
        """Leave word to the next agent of who fills the slot. Raises OSError."""
        self._pid_file(slot.index).write_text(f"{slot.pid}\n")

    def kill(self, pid: int) -> None:
        """End a worker of this instance at once; nobody else who has its pid by now."""
        if self._is_ours(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _arrives(
        self, slot: WorkerSlot, process: subprocess.Popen[bytes] | None, seconds: float
    ) -> bool:
        """Whether a worker connects in time; a process that ended is not waited for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not slot.connected.is_set():
            if process is not None and process.poll() is not None:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await slot.connected.wait()
        return slot.connected.is_set()

    def _start(self, slot: WorkerSlot) -> subprocess.Popen[bytes]:
        slot.state = WorkerState.STARTING
        slot.settled.set()
        # Not asyncio's: its transport kills the child when the agent's loop ends, and a session of its own,
        # so that what ends the agent from a terminal does not end the workers.
        process = subprocess.Popen(
            (
                *(sys.executable, "-P", "-m", "proxy"),
                *("--socket", str(self.socket_path), "--worker", str(slot.index)),
            ),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        slot.pid = process.pid
        return process

    def _survivor(self, index: int) -> int:
        """The pid of the worker that an earlier agent left in this slot, or 0."""
        try:
            pid = int(self._pid_file(index).read_text())
        except (OSError, ValueError):
            return 0
        return pid if self._is_ours(pid) else 0

    def _is_ours(self, pid: int) -> bool:
        """Whether that process is a worker of this instance: pids are used again, by other agents' too."""
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"--worker" in command and str(self.socket_path).encode() in command

    def _pid_file(self, index: int) -> Path:
        return self._run_dir / f"worker-{index}.pid"


async def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether our child has ended; it is given a moment to, and is reaped."""
    for _ in range(10):
        if process.poll() is not None:
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return False
