"""The proxy workers of one node: started, followed, restarted; each change is sent to all of them.

A worker is a process of its own that outlives the agent. So a starting agent first waits for the workers of
its predecessor to come back, and starts only those that do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from meshd import log
from meshd.fdchannel import ChannelError, FdChannel
from meshd.model.wire import (
    Applied,
    Collect,
    Enrolled,
    FromWorker,
    Hello,
    Holding,
    Stats,
    ToWorker,
)

_logger = logging.getLogger("meshd.agent.workers")
_decoder = msgspec.msgpack.Decoder(FromWorker)

RETURN_SECONDS = 3.0
"""How long a living worker has to come back after its channel broke; the worker's own backoff is shorter."""
START_SECONDS = 10.0
"""How long a started worker has to present itself."""
APPLY_SECONDS = 10.0
"""How long a worker has to put a change into force before it counts as stuck and is replaced."""
COLLECT_SECONDS = 2.0
_RESTART_DELAYS = (0.0, 0.2, 1.0, 5.0, 15.0)
"""Seconds before the n-th restart in a row; the last for all further ones."""
_POLL_SECONDS = 0.05
_STEADY_SECONDS = 60.0
"""A worker that ran that long starts the row anew."""


class WorkerState(enum.Enum):
    """Where a worker slot is."""

    STARTING = "starting"
    SERVING = "serving"
    LOST = "lost"


class WorkerSlot:
    """The n-th worker of the node: the process that fills the slot now, and its channel."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.state = WorkerState.LOST
        self.pid = 0
        self.generation = 0
        self.restarts = 0
        self.channel: FdChannel[FromWorker] | None = None
        self.enrolled: set[str] = set()
        self.settled = asyncio.Event()
        """Filled by a worker of an earlier agent, or none is left."""
        self.connected = asyncio.Event()
        self.ready = asyncio.Event()
        """It beats, and has put a config in force."""
        self.disconnected = asyncio.Event()
        self.progress = asyncio.Condition()
        self.stats: dict[int, asyncio.Future[Stats]] = {}

    def send(self, message: ToWorker, fds: Sequence[int] = ()) -> None:
        """Send, if a worker is connected. A broken channel is noticed and mended by the receiving side."""
        if self.channel is not None:
            with contextlib.suppress(ChannelError):
                self.channel.send(message, fds)


class Greeting:
    """What the agent does with a worker that presented itself, as the two callables it needs."""

    def __init__(
        self,
        configure: Callable[[WorkerSlot, Hello], None],
        holding: Callable[[WorkerSlot, Holding, tuple[int, ...]], None],
    ) -> None:
        self.configure = configure
        """Sends Configure, the workloads that the worker lacks, and the snapshot."""
        self.holding = holding
        """Takes over the descriptors of a workload that the worker already serves."""


class Workers:
    """All worker slots of the node. ``run`` owns every task, socket and process start in here."""

    def __init__(self, count: int, run_dir: Path, greeting: Greeting) -> None:
        self.slots = tuple(WorkerSlot(index) for index in range(count))
        self._socket_path = run_dir / "workers.sock"
        self._run_dir = run_dir
        self._greeting = greeting
        self._next_collect = 0

    def listen(self) -> socket.socket:
        """The socket that workers connect to. Raises OSError."""
        self._socket_path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(self._socket_path))
        self._socket_path.chmod(0o600)
        listener.listen(64)
        return listener

    async def run(self, listener: socket.socket) -> None:
        """Accept and supervise workers until cancelled. The workers go on without us."""
        async with asyncio.TaskGroup() as tasks:
            for slot in self.slots:
                tasks.create_task(self._supervise(slot), name=f"worker-{slot.index}")
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
            return await self._progress(slot, lambda: uid in slot.enrolled or slot.channel is None)

        return bool(slots) and all(await asyncio.gather(*map(one, slots)))

    async def collect(self) -> tuple[Stats, ...]:
        """The numbers of all workers that answer in time."""
        return tuple(s for s in await asyncio.gather(*map(self._collect, self._connected())) if s is not None)

    def _connected(self) -> list[WorkerSlot]:
        return [slot for slot in self.slots if slot.channel is not None]

    async def _collect(self, slot: WorkerSlot) -> Stats | None:
        self._next_collect += 1
        request = self._next_collect
        answer: asyncio.Future[Stats]
        answer = slot.stats[request] = asyncio.get_running_loop().create_future()
        try:
            slot.send(Collect(request=request))
            async with asyncio.timeout(COLLECT_SECONDS):
                return await answer
        except TimeoutError:
            return None
        finally:
            del slot.stats[request]

    async def _slot_applied(self, slot: WorkerSlot, generation: int) -> None:
        channel = slot.channel
        ok = await self._progress(slot, lambda: slot.generation >= generation or slot.channel is not channel)
        if not ok and slot.channel is channel:
            log.event(
                _logger, logging.ERROR, "worker stuck", worker=slot.index, pid=slot.pid, generation=generation
            )
            self._kill(slot.pid)

    async def _progress(self, slot: WorkerSlot, reached: Callable[[], bool]) -> bool:
        async with slot.progress:
            try:
                async with asyncio.timeout(APPLY_SECONDS):
                    await slot.progress.wait_for(reached)
            except TimeoutError:
                return False
        return True

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
                await self._disconnect(slot)

    async def _take_holding(self, slot: WorkerSlot, channel: FdChannel[FromWorker]) -> None:
        async with asyncio.timeout(START_SECONDS):
            holding, fds = await channel.receive()
        if not isinstance(holding, Holding) or len(fds) < 2:
            _close(fds)
            raise ChannelError(f"{type(holding).__name__} instead of Holding with its descriptors")
        self._greeting.holding(slot, holding, fds)

    def _connect(self, slot: WorkerSlot, hello: Hello, channel: FdChannel[FromWorker]) -> None:
        slot.channel = channel
        slot.pid = hello.pid
        slot.generation = 0
        slot.enrolled.clear()
        slot.state = WorkerState.SERVING
        (self._run_dir / f"worker-{slot.index}.pid").write_text(f"{hello.pid}\n")
        log.event(
            _logger, logging.INFO, "worker connected", worker=slot.index, pid=hello.pid, version=hello.version
        )
        self._greeting.configure(slot, hello)
        slot.disconnected.clear()
        slot.connected.set()
        slot.settled.set()

    async def _disconnect(self, slot: WorkerSlot) -> None:
        slot.channel = None
        slot.state = WorkerState.LOST
        slot.connected.clear()
        slot.ready.clear()
        slot.disconnected.set()
        async with slot.progress:
            slot.progress.notify_all()

    async def _handle(self, slot: WorkerSlot, message: FromWorker, fds: tuple[int, ...]) -> None:
        match message:
            case Applied(generation=generation):
                slot.generation = generation
                slot.ready.set()
            case Enrolled(uid=uid):
                slot.enrolled.add(uid)
            case Stats(request=request):
                if (waiting := slot.stats.get(request)) is not None and not waiting.done():
                    waiting.set_result(message)
                return
            case Hello() | Holding():
                _close(fds)
                raise ChannelError(f"{type(message).__name__} out of turn")
        _close(fds)
        async with slot.progress:
            slot.progress.notify_all()

    async def _supervise(self, slot: WorkerSlot) -> None:
        """Keep one slot filled."""
        row = 0
        survivor = self._survivor(slot.index)
        process: subprocess.Popen[bytes] | None = None
        while True:
            began = time.monotonic()
            if not (survivor and await self._arrives(slot, process, RETURN_SECONDS)):
                self._kill(survivor)
                await asyncio.sleep(_RESTART_DELAYS[min(row, len(_RESTART_DELAYS) - 1)])
                row += 1
                began = time.monotonic()
                process = self._start(slot)
                if not await self._arrives(slot, process, START_SECONDS):
                    log.event(
                        _logger, logging.ERROR, "worker does not start", worker=slot.index, pid=process.pid
                    )
                    self._kill(process.pid)
            if slot.connected.is_set():
                await slot.disconnected.wait()
            if time.monotonic() - began > _STEADY_SECONDS:
                row = 0
            if process is not None and await _ended(process):
                process = None
            slot.restarts += 1
            survivor = slot.pid if self._is_ours(slot.pid) else 0
            log.event(
                _logger, logging.WARNING, "worker lost", worker=slot.index, pid=slot.pid, alive=bool(survivor)
            )

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
            [
                sys.executable,
                "-P",
                "-m",
                "proxy",
                "--socket",
                str(self._socket_path),
                "--worker",
                str(slot.index),
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        slot.pid = process.pid
        return process

    def _survivor(self, index: int) -> int:
        """The pid of the worker that an earlier agent left in this slot, or 0."""
        try:
            pid = int((self._run_dir / f"worker-{index}.pid").read_text())
        except (OSError, ValueError):
            return 0
        return pid if self._is_ours(pid) else 0

    def _is_ours(self, pid: int) -> bool:
        """Whether that process is a worker of this instance: pids are used again, by other agents' too."""
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"--worker" in command and str(self._socket_path).encode() in command

    def _kill(self, pid: int) -> None:
        if self._is_ours(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether our child has ended; it is given a moment to, and is reaped."""
    for _ in range(10):
        if process.poll() is not None:
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return False


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
