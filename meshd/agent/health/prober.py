"""When each endpoint is probed, and how many at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from random import Random

import aiohttp

from meshd.agent.health.probe_state import ProbeResult
from meshd.agent.health.probing import Target, new_session, probe

MAX_AT_A_TIME = 128
"""Probes that are out; those that are due beyond them wait."""
EndpointKey = tuple[str, str, int]
"""Cluster, address and port."""


class _Watch:
    """An endpoint that is probed again and again: it waits for its time, then for its turn, then is asked."""

    __slots__ = ("key", "probes", "target", "task", "timer")

    def __init__(self, key: EndpointKey, target: Target) -> None:
        self.key = key
        self.target = target
        self.probes = 0
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class Prober:
    """One for each node."""

    def __init__(self, took: Callable[[EndpointKey, ProbeResult], None]) -> None:
        """``took``: is told how each probe ended."""
        self._took = took
        self._random = Random().random
        self._watches: dict[EndpointKey, _Watch] = {}
        self._due: deque[_Watch] = deque()
        self._running = 0
        self._session: aiohttp.ClientSession | None = None

    def follow(self, targets: Mapping[EndpointKey, tuple[Target, bool]]) -> None:
        """Probe these, and no others. True: if it is new, at once; else at a random time of its interval."""
        for key in self._watches.keys() - targets.keys():
            self._drop(self._watches.pop(key))
        for key, (target, at_once) in targets.items():
            watch = self._watches.get(key)
            if watch is None:
                watch = self._watches[key] = _Watch(key, target)
                self._wait(watch, 0.0 if at_once else target.check.interval * self._random())
            elif watch.target != target and watch.timer is not None:
                watch.timer.cancel()
                self._wait(watch, target.check.interval * self._random())
            watch.target = target

    async def run(self) -> None:
        """Probe, until cancelled."""
        async with new_session() as self._session:
            try:
                self._start()
                await asyncio.Event().wait()
            finally:
                self.follow({})
                self._session = None

    def _wait(self, watch: _Watch, seconds: float) -> None:
        watch.timer = asyncio.get_running_loop().call_later(seconds, self._is_due, watch)

    def _is_due(self, watch: _Watch) -> None:
        watch.timer = None
        self._due.append(watch)
        self._start()

    def _start(self) -> None:
        """Ask who is due, as far as there is room."""
        while self._session is not None and self._due and self._running < MAX_AT_A_TIME:
            watch = self._due.popleft()
            if self._watches.get(watch.key) is watch:
                self._running += 1
                watch.task = asyncio.create_task(self._ask(watch, self._session))
                watch.task.add_done_callback(self._ended)

    async def _ask(self, watch: _Watch, session: aiohttp.ClientSession) -> None:
        result = await probe(session, watch.target)
        watch.task = None
        watch.probes += 1
        interval = watch.target.check.interval
        # Who was asked as soon as he came was so by all nodes at once.
        self._wait(watch, interval * self._random() if watch.probes == 1 else interval)
        self._took(watch.key, result)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running -= 1
        self._start()

    def _drop(self, watch: _Watch) -> None:
        if watch.timer is not None:
            watch.timer.cancel()
        if watch.task is not None:
            watch.task.cancel()
