"""The proxy workers of one node, as the agent talks with them: each change is sent to all."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from meshd import log
from meshd.agent.supervision import START_SECONDS, Supervision
from meshd.agent.worker_slot import WorkerSlot
from meshd.fdchannel import ChannelError, FdChannel
from meshd.model.wire import (
    Applied,
    Demand,
    Enrolled,
    FromWorker,
    Hello,
    Holding,
    Outcomes,
    Stats,
    ToWorker,
)

_logger = logging.getLogger("meshd.agent.workers")
_decoder = msgspec.msgpack.Decoder(FromWorker)


class Greeting(NamedTuple):
    """What the agent does with a worker that presented itself, and with what it says unasked."""

    configure: Callable[[WorkerSlot, Hello], None]
    """Sends Configure, the workloads that the worker lacks, and the snapshot."""
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
        ended: Callable[[int], None] = lambda index: None,
    ) -> None:
        """``ended``: is told of each worker process that has ended, by its place."""
        self.slots = tuple(WorkerSlot(index) for index in range(count))
        self._supervision = Supervision(run_dir, ended)
        self._greeting = greeting

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
        async with asyncio.TaskGroup() as tasks:
            for slot in self.slots:
                tasks.create_task(self._supervision.fill(slot), name=f"worker-{slot.index}")
            loop = asyncio.get_running_loop()
            try:
                while True:
                    sock, _ = await loop.sock_accept(listener)
                    tasks.create_task(self._converse(FdChannel(sock, _decoder)))
            finally:
                listener.close()

    def broadcast(self, message: ToWorker, fds: Sequence[int] = ()) -> None:
        """Send to every connected worker."""
        for slot in self.slots:
            slot.send(message, fds)

    async def returned(self) -> None:
        """Wait until every worker of an earlier agent came back, or was given up."""
        for slot in self.slots:
            await slot.settled.wait()

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
        answers = await asyncio.gather(*(slot.collect() for slot in self._connected()))
        return tuple(stats for stats in answers if stats is not None)

    def _connected(self) -> list[WorkerSlot]:
        return [slot for slot in self.slots if slot.channel is not None]

    async def _slot_applied(self, slot: WorkerSlot, generation: int) -> None:
        channel = slot.channel
        ok = await slot.reached(lambda: slot.generation >= generation or slot.channel is not channel)
        if not ok and slot.channel is channel:
            log.event(
                _logger, logging.ERROR, "worker stuck", worker=slot.index, pid=slot.pid, generation=generation
            )
            self._supervision.kill(slot.pid)

    async def _converse(self, channel: FdChannel[FromWorker]) -> None:
        """One worker's channel, from its Hello to its end."""
        slot: WorkerSlot | None = None
        try:
            async with asyncio.timeout(START_SECONDS):
                hello, fds = await channel.receive()
            if not isinstance(hello, Hello) or not 0 <= hello.worker < len(self.slots):
                _close(fds)
                log.event(
                    _logger, logging.WARNING, "stranger on the worker socket", message=type(hello).__name__
                )
                return
            slot = self.slots[hello.worker]
            if slot.channel is not None:
                slot.channel.close()
            for _ in hello.workloads:
                await self._take_holding(slot, channel)
            self._connect(slot, hello, channel)
            while True:
                message, fds = await channel.receive()
                await self._handle(slot, message, fds)
        except (ChannelError, TimeoutError) as error:
            log.event(
                _logger,
                logging.WARNING,
                "worker channel ended",
                worker=slot.index if slot else "unknown",
                reason=error or "no hello",
            )
        finally:
            channel.close()
            if slot is not None and slot.channel is channel:
                await slot.disconnect()

    async def _take_holding(self, slot: WorkerSlot, channel: FdChannel[FromWorker]) -> None:
        async with asyncio.timeout(START_SECONDS):
            holding, fds = await channel.receive()
        if not isinstance(holding, Holding) or len(fds) < 2:
            _close(fds)
            raise ChannelError(f"{type(holding).__name__} instead of Holding with its descriptors")
        self._greeting.holding(slot, holding, fds)

    def _connect(self, slot: WorkerSlot, hello: Hello, channel: FdChannel[FromWorker]) -> None:
        slot.connect(channel, hello.pid)
        self._supervision.note(slot)
        log.event(
            _logger, logging.INFO, "worker connected", worker=slot.index, pid=hello.pid, version=hello.version
        )
        self._greeting.configure(slot, hello)
        slot.disconnected.clear()
        slot.connected.set()
        slot.settled.set()

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
