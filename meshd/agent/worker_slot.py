"""A worker's place on the node, and the channel to who fills it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Sequence

from meshd.fdchannel import ChannelError, FdChannel
from meshd.model.wire import Collect, FromWorker, Stats, ToWorker

APPLY_SECONDS = 10.0
"""How long a worker has to put a change into force before it counts as stuck and is replaced."""
COLLECT_SECONDS = 2.0


class WorkerState(enum.Enum):
    """Where a worker slot is."""

    STARTING = "starting"
    SERVING = "serving"
    LOST = "lost"
    SUCCEEDED = "succeeded"
    """It is of another version, or too many: it serves until others do, by the config that it has if it
    cannot be told of another."""
    DRAINING = "draining"
    """It accepts no more, and ends when its connections have."""


class WorkerSlot:
    """The n-th worker of the node, or one that is succeeded: its process, and the channel to it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.place = -1
        """Its process' number on the node: that of its beats, bells and pid file."""
        self.state = WorkerState.LOST
        self.speaks = True
        """It understands every message, not only those that versions have in common."""
        self.pid = 0
        self.generation = 0
        self.restarts = 0
        self.channel: FdChannel[FromWorker] | None = None
        self.enrolled: set[str] = set()
        """uids of the workloads that it accepts for; of ``introduced``, those that it was told of first."""
        self.introduced: frozenset[str] = frozenset()
        self.connected = asyncio.Event()
        self.ready = asyncio.Event()
        """It beats, and has put a config in force."""
        self.disconnected = asyncio.Event()
        self._progress = asyncio.Condition()
        self._collects = 0
        self._asked: dict[int, asyncio.Future[Stats]] = {}

    def send(self, message: ToWorker, fds: Sequence[int] = ()) -> None:
        """Send, if a worker is connected. A broken channel is noticed and mended by the receiving side."""
        if self.channel is not None:
            with contextlib.suppress(ChannelError):
                self.channel.send(message, fds)

    async def collect(self) -> Stats | None:
        """Its numbers; None: it does not answer in time."""
        self._collects += 1
        request = self._collects
        answer: asyncio.Future[Stats]
        answer = self._asked[request] = asyncio.get_running_loop().create_future()
        try:
            self.send(Collect(request=request))
            async with asyncio.timeout(COLLECT_SECONDS):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[request]

    def collected(self, stats: Stats) -> None:
        """Its answer has come."""
        if (waiting := self._asked.get(stats.request)) is not None and not waiting.done():
            waiting.set_result(stats)

    async def reached(self, state: Callable[[], bool]) -> bool:
        """Wait until ``state`` holds, which is asked whenever something changed. False: not in time."""
        async with self._progress:
            try:
                async with asyncio.timeout(APPLY_SECONDS):
                    await self._progress.wait_for(state)
            except TimeoutError:
                return False
        return True

    async def changed(self) -> None:
        """Wake those who wait in ``reached``."""
        async with self._progress:
            self._progress.notify_all()

    @property
    def serves(self) -> bool:
        """Whether it has the config, and accepts for all workloads that it was told of when it came."""
        return self.ready.is_set() and self.introduced <= self.enrolled

    def connect(self, channel: FdChannel[FromWorker], pid: int, state: WorkerState) -> None:
        """A worker presented itself: messages go to it from now on."""
        self.channel = channel
        self.pid = pid
        self.generation = 0
        self.enrolled.clear()
        self.state = state

    async def vacate(self) -> None:
        """Who filled it no longer does: it is to be filled anew."""
        if self.channel is not None:
            self.channel.close()
        self.pid = 0
        await self.disconnect()

    async def disconnect(self) -> None:
        """Its channel has ended."""
        self.channel = None
        self.state = WorkerState.LOST
        self.connected.clear()
        self.ready.clear()
        self.disconnected.set()
        await self.changed()
