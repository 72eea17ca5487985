"""One container of a pod: its process, started again as the restart policy says, and its readiness."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from meshd import log
from meshd.lab.manifests.objects import Container
from meshd.lab.probing import Prober, Verdict
from meshd.lab.system import process
from meshd.lab.system.process import Surroundings

_logger = logging.getLogger("meshd.lab.container")

_FIRST_BACKOFF = 0.5
_MAX_BACKOFF = 30.0
_STEADY = 60.0
"""Seconds of running after which the backoff begins anew.

Kubernetes' times (10 s to 5 min, 10 min) are too long to test with.
"""


class ContainerRun:
    """A container while its pod lives. ``changed`` is called whenever what it shows changes."""

    def __init__(
        self,
        spec: Container,
        restart_policy: str,
        inside: Surroundings,
        prober: Prober | None,
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.restarts = 0
        self.ready = False
        self.exit_code: int | None = None
        """Of its last run; None while it runs for the first time."""
        self.ended = False
        """Has ended and will not be started again."""
        self.reason = "starting"
        self._restart_policy = restart_policy
        self._inside = inside
        self._prober = prober
        self._changed = changed
        self._process: process.Process | None = None
        self._stopping = False
        self._was_ready = asyncio.Event()

    async def run(self) -> None:
        """Keep the container running until its policy or ``stop`` ends it."""
        backoff = _FIRST_BACKOFF
        while not self._stopping:
            began = time.monotonic()
            self.exit_code = await self._run_once()
            if self._stopping or not self._again(self.exit_code):
                break
            backoff = _FIRST_BACKOFF if time.monotonic() - began > _STEADY else backoff
            self._show(False, f"{self.reason}; started again in {backoff:g} s")
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _MAX_BACKOFF)
            self.restarts += 1
        self.ended = True
        self._show(False, self.reason)

    async def until_ready(self) -> None:
        """Wait until it is ready for the first time."""
        await self._was_ready.wait()

    def _again(self, code: int) -> bool:
        return self._restart_policy == "Always" or (self._restart_policy == "OnFailure" and code != 0)

    async def _run_once(self) -> int:
        command = (*self.spec.command, *self.spec.args)
        try:
            self._process = process.start(command, self._inside)
        except process.StartError as error:
            self.reason = str(error)
            return 127
        log.event(
            _logger, logging.DEBUG, "container started", container=self.spec.name, pid=self._process.pid
        )
        probing = None
        if self._prober is None:
            self._show(True, "")
        else:
            self._show(False, "not probed yet")
            probing = asyncio.create_task(self._probe(self._prober))
        try:
            code = await self._process.wait()
        finally:
            if probing is not None:
                probing.cancel()
                await asyncio.gather(probing, return_exceptions=True)
        self._show(False, f"exit code {code}" if code >= 0 else f"killed by signal {-code}")
        log.event(_logger, logging.DEBUG, "container ended", container=self.spec.name, code=code)
        return code

    async def _probe(self, prober: Prober) -> None:
        """Probe until cancelled.

        Until the container is ready for the first time it is probed more often than the period says: a pod
        that starts fast is not kept waiting.
        """
        probe = self.spec.readiness_probe
        if probe is None:
            return
        verdict = Verdict(probe)
        period = float(probe.period_seconds)
        interval = 0.05
        await asyncio.sleep(probe.initial_delay_seconds)
        while True:
            success, seen = await prober.once()
            ready = verdict.take(success)
            self._show(ready, "" if ready else f"readiness probe: {seen or 'too few successes yet'}")
            if ready:
                interval = period
            await asyncio.sleep(min(interval, period))
            interval = min(interval * 1.5, period)

    def _show(self, ready: bool, reason: str) -> None:
        if (ready, reason) != (self.ready, self.reason) or self.ended:
            self.ready, self.reason = ready, reason
            if ready:
                self._was_ready.set()
            self._changed()

    async def pre_stop(self, seconds: float) -> None:
        """The preStop hook, at most so many seconds."""
        hook = self.spec.lifecycle.pre_stop
        if hook is None or self._process is None or not self._process.running:
            return
        if hook.sleep is not None:
            await asyncio.sleep(min(hook.sleep.seconds, seconds))
        elif hook.exec is not None:
            try:
                await process.run(hook.exec.command, self._inside, seconds)
            except process.StartError as error:
                log.event(_logger, logging.WARNING, "preStop failed", container=self.spec.name, reason=error)

    def stop(self) -> None:
        """Ask the process to end and do not start it again."""
        self._stopping = True
        if self._process is not None:
            self._process.terminate()
