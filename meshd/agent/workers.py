"""The proxy workers of one node, as the agent talks with them: each change is sent to all.

A worker that presents itself fills a slot if it is of this agent's build and there is one for it. If not, it
is *succeeded*: it serves on until those in the slots do, then it *drains*, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from meshd import log
from meshd.agent.succession import Part, part_of
from meshd.agent.supervision import RETURN_SECONDS, START_SECONDS, Supervision
from meshd.agent.worker_slot import WorkerSlot, WorkerState
from meshd.agent.worker_start import WorkerStart
from meshd.fdchannel import ChannelError, FdChannel
from meshd.model.wire import (
    Applied,
    Demand,
    Drain,
    Enrolled,
    FromWorker,
    Hello,
    Holding,
    Outcomes,
    RemoveWorkload,
    Stats,
    ToWorker,
    Update,
)

_logger = logging.getLogger("meshd.agent.workers")
_decoder = msgspec.msgpack.Decoder(FromWorker)

SUCCESSION_SECONDS = 10.0
"""How long all slots are waited for, before one that serves is taken for enough to succeed others."""
_IDLE_SECONDS = 10.0
"""What an idle connection to a succeeded worker has for one more request."""
_POLL_SECONDS = 0.05
_OVERDUE_SECONDS = 10.0
"""After its drain time a worker that has not ended is ended."""


class Greeting(NamedTuple):
    """What the agent does with a worker that presented itself, and with what it says unasked."""

    configure: Callable[[WorkerSlot, Hello], None]
    """Sends Configure, the workloads that the worker lacks, and the snapshot."""
    replace: Callable[[WorkerSlot], None]
    """Sends the snapshot alone."""
    holding: Callable[[WorkerSlot, Holding, tuple[int, ...]], None]
    """Takes over the descriptors of a workload that the worker already serves."""
    outcomes: Callable[[Outcomes], None]
    """Takes what the worker tells of endpoints."""
    demand: Callable[[WorkerSlot, Demand], None]
    """Sees to a service that a connection waits for, and answers."""


class Workers:
    """All worker slots of the node. ``run`` owns every task, socket and process start in here."""

    def __init__(
        self,
        count: int,
        run_dir: Path,
        greeting: Greeting,
        start: WorkerStart,
        configured: asyncio.Event,
        ended: Callable[[int], None] = lambda index: None,
    ) -> None:
        """``configured``: there is a config to serve by. ``ended``: is told of each worker process that has
        ended, by its slot's index.
        """
        self.slots = tuple(WorkerSlot(index) for index in range(count))
        self.succeeded: dict[int, WorkerSlot] = {}
        """Those that others succeed, by their pids."""
        self.alone = asyncio.Event()
        """There are none of them."""
        self.alone.set()
        self.may_drain = asyncio.Event()
        """Nothing else than ``can_succeed`` keeps them from being told to drain."""
        self._supervision = Supervision(run_dir, start, ended)
        self._greeting = greeting
        self._start = start
        self._configured = configured
        self._awaited: set[int] = set()
        """The pids of an earlier agent's workers that have not come back yet."""
        self._all_back = asyncio.Event()
        """All of them have."""
        self._settled = asyncio.Event()
        """All of them have, or are given up."""

    def listen(self) -> socket.socket:
        """The socket that workers connect to. Raises OSError."""
        path = self._supervision.socket_path
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(64)
        return listener

    async def run(self, listener: socket.socket) -> None:
        """Accept and supervise workers until cancelled. The workers go on without us."""
        self._awaited = self._supervision.survivors()
        if not self._awaited:
            self._all_back.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fill(tasks), name="workers-start")
            loop = asyncio.get_running_loop()
            try:
                while True:
                    sock, _ = await loop.sock_accept(listener)
                    tasks.create_task(self._converse(FdChannel(sock, _decoder), tasks))
            finally:
                listener.close()

    def broadcast(self, message: ToWorker, fds: Sequence[int] = ()) -> None:
        """Send to every connected worker; to those that are succeeded, what they have a use for."""
        for slot in self.slots:
            slot.send(message, fds)
        if isinstance(message, Update | RemoveWorkload):
            for slot in self.succeeded.values():
                if slot.speaks:
                    slot.send(message)

    async def returned(self) -> None:
        """Wait until every worker of an earlier agent came back, or was given up."""
        await self._settled.wait()

    async def ready(self) -> None:
        """Wait until a worker beats and has a config."""
        waiting = [asyncio.create_task(slot.ready.wait()) for slot in self.slots]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def applied(self, generation: int) -> None:
        """Wait until every connected worker has that generation in force; a stuck one is killed."""
        await asyncio.gather(*(self._slot_applied(slot, generation) for slot in self._connected()))

    async def enrolled(self, uid: str) -> bool:
        """Wait until every connected worker accepts for a workload. False: there is none, or one is stuck."""
        slots = self._connected()

        async def one(slot: WorkerSlot) -> bool:
            return await slot.reached(lambda: uid in slot.enrolled or slot.channel is None)

        return bool(slots) and all(await asyncio.gather(*map(one, slots)))

    async def collect(self) -> tuple[Stats, ...]:
        """The numbers of all workers that answer in time."""
        asked = [slot for slot in self.all() if slot.channel is not None and slot.speaks]
        answers = await asyncio.gather(*(slot.collect() for slot in asked))
        return tuple(stats for stats in answers if stats is not None)

    def all(self) -> list[WorkerSlot]:
        """Those in the slots, and those that are succeeded."""
        return [*self.slots, *self.succeeded.values()]

    def _connected(self) -> list[WorkerSlot]:
        return [slot for slot in self.slots if slot.channel is not None]

    async def _slot_applied(self, slot: WorkerSlot, generation: int) -> None:
        channel = slot.channel
        ok = await slot.reached(lambda: slot.generation >= generation or slot.channel is not channel)
        if not ok and slot.channel is channel:
            log.event(
                _logger, logging.ERROR, "worker stuck", worker=slot.place, pid=slot.pid, generation=generation
            )
            self._supervision.kill(slot.pid)

    async def _fill(self, tasks: asyncio.TaskGroup) -> None:
        """Once the workers of an earlier agent have come back, keep the slots filled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETURN_SECONDS):
                await self._all_back.wait()
        for pid in self._awaited:
            log.event(_logger, logging.ERROR, "worker of an earlier agent does not come back", pid=pid)
            self._supervision.kill(pid)
        self._awaited.clear()
        self._settled.set()
        for slot in self.slots:
            tasks.create_task(self._supervision.fill(slot), name=f"worker-{slot.index}")

    async def _converse(self, channel: FdChannel[FromWorker], tasks: asyncio.TaskGroup) -> None:
        """One worker's channel, from its Hello to its end."""
        slot: WorkerSlot | None = None
        try:
            async with asyncio.timeout(START_SECONDS):
                hello, fds = await channel.receive()
            if not isinstance(hello, Hello):
                _close(fds)
                log.event(
                    _logger, logging.WARNING, "stranger on the worker socket", message=type(hello).__name__
                )
                return
            slot = await self._slot_of(hello)
            for _ in hello.workloads:
                await self._take_holding(slot, channel)
            if slot in self.slots:
                self._connect(slot, hello, channel)
            else:
                self._connect_succeeded(slot, hello, channel, tasks)
            self._awaited.discard(hello.pid)
            if not self._awaited:
                self._all_back.set()
            if not slot.speaks:
                await channel.ignore()
            while True:
                message, fds = await channel.receive()
                await self._handle(slot, message, fds)
        except (ChannelError, TimeoutError) as error:
            log.event(
                _logger,
                logging.WARNING if slot is None or slot in self.slots else logging.INFO,
                "worker channel ended",
                worker=slot.place if slot else "unknown",
                reason=error or "no hello",
            )
        finally:
            channel.close()
            if slot is not None and slot.channel is channel:
                await slot.disconnect()

    async def _slot_of(self, hello: Hello) -> WorkerSlot:
        """The one that a worker is in from now on."""
        holder = next((slot for slot in self.slots if slot.pid == hello.pid), None)
        vacant = None if self._settled.is_set() else next((s for s in self.slots if not s.pid), None)
        part = part_of(hello, self._start.build, holder is not None, vacant is not None)
        if part is not Part.FILLS:
            if holder is not None:
                await holder.vacate()
            slot = self.succeeded.setdefault(hello.pid, WorkerSlot(-1))
            self.alone.clear()
            slot.speaks = part is Part.SUCCEEDED
        else:
            found = holder or vacant
            assert found is not None
            slot = found
        slot.pid, slot.place = hello.pid, hello.worker
        if slot.channel is not None:
            slot.channel.close()
        return slot

    async def _take_holding(self, slot: WorkerSlot, channel: FdChannel[FromWorker]) -> None:
        async with asyncio.timeout(START_SECONDS):
            holding, fds = await channel.receive()
        if not isinstance(holding, Holding) or len(fds) < 2:
            _close(fds)
            raise ChannelError(f"{type(holding).__name__} instead of Holding with its descriptors")
        self._greeting.holding(slot, holding, fds)

    def _connect(self, slot: WorkerSlot, hello: Hello, channel: FdChannel[FromWorker]) -> None:
        slot.connect(channel, hello.pid, WorkerState.SERVING)
        self._supervision.note(slot)
        log.event(
            _logger, logging.INFO, "worker connected", worker=slot.place, pid=hello.pid, version=hello.version
        )
        self._greeting.configure(slot, hello)
        slot.disconnected.clear()
        slot.connected.set()

    def _connect_succeeded(
        self, slot: WorkerSlot, hello: Hello, channel: FdChannel[FromWorker], tasks: asyncio.TaskGroup
    ) -> None:
        is_new = slot.state is WorkerState.LOST and not slot.disconnected.is_set()
        slot.connect(channel, hello.pid, WorkerState.DRAINING if hello.draining else WorkerState.SUCCEEDED)
        self._supervision.note(slot)
        log.event(
            _logger,
            logging.INFO,
            "worker is to be succeeded",
            worker=slot.place,
            pid=hello.pid,
            version=hello.version,
            follows_config=slot.speaks,
            draining=hello.draining,
        )
        if slot.speaks:
            self._greeting.replace(slot)
        slot.connected.set()
        if is_new:
            tasks.create_task(self._succeed(slot), name=f"succeed-{slot.pid}")

    async def can_succeed(self) -> None:
        """Wait until the workers in the slots can take the place of those that are to be succeeded."""
        await self._configured.wait()
        await self._settled.wait()
        deadline = time.monotonic() + SUCCESSION_SECONDS
        while not all(slot.serves for slot in self.slots):
            if time.monotonic() > deadline and any(slot.serves for slot in self.slots):
                break
            await asyncio.sleep(_POLL_SECONDS)

    async def _succeed(self, old: WorkerSlot) -> None:
        """Let a worker go on until others serve, then let it drain, and see to its end."""
        await self.can_succeed()
        await self.may_drain.wait()
        seconds = self._start.drain_seconds
        log.event(_logger, logging.INFO, "worker drains", worker=old.place, pid=old.pid, seconds=seconds)
        deadline = time.monotonic() + seconds + _OVERDUE_SECONDS
        while self._supervision.is_ours(old.pid) and time.monotonic() < deadline:
            if old.channel is not None and old.state is not WorkerState.DRAINING:
                old.send(Drain(seconds=seconds, idle_seconds=_IDLE_SECONDS))
                old.state = WorkerState.DRAINING
            await asyncio.sleep(_POLL_SECONDS)
        self._supervision.kill(old.pid)
        self.succeeded.pop(old.pid, None)
        if not self.succeeded:
            self.alone.set()
        log.event(_logger, logging.INFO, "worker has ended", worker=old.place, pid=old.pid)

    async def _handle(self, slot: WorkerSlot, message: FromWorker, fds: tuple[int, ...]) -> None:
        match message:
            case Applied(generation=generation):
                slot.generation = generation
                slot.ready.set()
            case Enrolled(uid=uid):
                slot.enrolled.add(uid)
            case Stats():
                slot.collected(message)
                return
            case Outcomes():
                self._greeting.outcomes(message)
                return
            case Demand():
                self._greeting.demand(slot, message)
                return
            case Hello() | Holding():
                _close(fds)
                raise ChannelError(f"{type(message).__name__} out of turn")
        _close(fds)
        await slot.changed()


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
