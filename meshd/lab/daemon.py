"""A daemon that the lab keeps running: a node's agent, the control plane."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from meshd import log
from meshd.lab.system import process
from meshd.lab.system.sandbox import Sandbox

_logger = logging.getLogger("meshd.lab.daemon")

_FIRST_BACKOFF = 0.2
_MAX_BACKOFF = 10.0
_STEADY = 30.0
_STOP_SECONDS = 5.0


class Daemon:
    """A process that is started again, with growing waits, whenever it ends."""

    def __init__(self, name: str, command: Sequence[str], sandbox: Sandbox, log_file: Path) -> None:
        self._name = name
        self._command = command
        self._inside = process.Surroundings(sandbox, log_file, os.environ)
        self._log_file = log_file
        self._process: process.Process | None = None
        self._task = asyncio.create_task(self._run(), name=name)

    @property
    def running(self) -> bool:
        """Whether the process is there now."""
        return self._process is not None and self._process.running

    async def _run(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            began = time.monotonic()
            try:
                self._process = process.start(self._command, self._inside)
                log.event(_logger, logging.INFO, "daemon started", daemon=self._name, pid=self._process.pid)
                ended = f"exit code {await self._process.wait()}"
            except process.StartError as error:
                ended = str(error)
            backoff = _FIRST_BACKOFF if time.monotonic() - began > _STEADY else backoff
            log.event(
                _logger,
                logging.WARNING,
                "daemon ended",
                daemon=self._name,
                reason=ended,
                log=self._log_file,
                again_in_seconds=backoff,
            )
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _MAX_BACKOFF)

    async def stop(self) -> None:
        """SIGTERM, and a bounded wait; what remains is killed with its cgroup."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
