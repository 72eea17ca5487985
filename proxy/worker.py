"""A worker: follows the agent's messages, and serves on when the agent is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

import meshd
from meshd import heap, log, netns
from meshd.datapath.bell import Bell
from meshd.datapath.flows.arming import ArmingFds, ArmingTable
from meshd.datapath.flows.kept_requests import KeptRequests
from meshd.datapath.flows.splices import SpliceFds, SpliceTable
from meshd.datapath.flows.table import FlowTable
from meshd.datapath.heartbeat import Heartbeat
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.kernel.sock_diag import SocketQuestions
from meshd.datapath.loading.layout import Layout
from meshd.fdchannel import ChannelError, FdChannel
from meshd.limit_page import LimitPage
from meshd.model.outcomes import EndpointTally
from meshd.model.snapshot import Delta, Snapshot, difference
from meshd.model.wire import (
    AddWorkload,
    Applied,
    Collect,
    Configure,
    Demand,
    Drain,
    Enrolled,
    Hello,
    Holding,
    Known,
    Outcomes,
    RemoveWorkload,
    Replace,
    ShareLimits,
    Stats,
    ToWorker,
    Unenrol,
    Update,
)
from proxy import node_buckets
from proxy.fast.departure import Departure, OwnEnd
from proxy.fast.departures import Departures
from proxy.fast.path import FastPath
from proxy.node_buckets import NodeBuckets
from proxy.runtime import Runtime
from proxy.served import Served
from proxy.telemetry.access_log_file import FLUSH_SECONDS, AccessLogFile
from proxy.transports.sockets import end_name
from proxy.upstream.caller import Marks
from proxy.waiting import Wanted

_logger = logging.getLogger("meshd.proxy")

TERMINATION_SECONDS = 30.0
"""What requests in flight are given when the process is told to end."""
_RECONNECT_SECONDS = (0.1, 0.5)
_IDLE_SECONDS = 10.0
"""What an idle connection is given when it ends because no agent has come."""


class Start(NamedTuple):
    """What the agent that starts a worker says on its command line."""

    socket_path: Path
    """Of agents: the one that starts it, and those that follow."""
    number: int
    """The worker's on its node, from 0."""
    build: str = ""
    """What Hello has as ``build``; likewise ``wire``."""
    wire: str = ""
    orphaned_after: float = 0.0
    """Seconds without an agent after which it drains and ends; 0: never."""


class Worker:
    """One worker process."""

    def __init__(self, start: Start) -> None:
        self._start = start
        socket_path, self._index = start.socket_path, start.number
        self._socket_path = socket_path
        self._runtime = Runtime(buckets=NodeBuckets(socket_path.with_name(node_buckets.FILE_NAME)))
        self._fast_path = FastPath(self._runtime)
        self._departures = Departures(self._runtime.loop)
        self._home_fd = netns.open_own()
        self._served: dict[str, Served] = {}
        self._marks = Marks()
        self._flows: FlowTable | None = None
        self._heartbeat: Heartbeat | None = None
        self._arming: ArmingTable | None = None
        self._kept: KeptRequests | None = None
        self._bell: Bell | None = None
        self._splices: SpliceTable | None = None
        self._heartbeat_interval = 1.0
        self._access_log: AccessLogFile | None = None
        self._access_log_config = ("", "")
        self._stopping = asyncio.Event()
        self._drain_seconds = TERMINATION_SECONDS

    def stop(self, seconds: float = TERMINATION_SECONDS, idle_seconds: float = 0.0) -> None:
        """End gracefully, within ``seconds``. ``idle_seconds``: as in Drain."""
        if not self._stopping.is_set():
            self._drain_seconds, self._runtime.idle_seconds = seconds, idle_seconds
            self._stopping.set()

    def reopen_access_log(self) -> None:
        """For log rotation."""
        if self._access_log is not None:
            self._access_log.reopen()

    async def run(self) -> None:
        """Serve until ``stop``."""
        log.event(_logger, logging.INFO, "worker started", worker=self._index, pid=os.getpid())
        heap.trim_after_start(self._runtime.loop)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow_agents())
            beating = tasks.create_task(self._beat())
            flushing = tasks.create_task(self._flush())
            await self._stopping.wait()
            beating.cancel()
            await self._drain()
            following.cancel()
            flushing.cancel()
        self._close()
        log.event(_logger, logging.INFO, "worker ended", worker=self._index, pid=os.getpid())

    # -- the agent -----------------------------------------------------------------------------------

    async def _follow_agents(self) -> None:
        shortest, longest = _RECONNECT_SECONDS
        delay = shortest
        alone_since = self._runtime.loop.time()
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                await self._runtime.loop.sock_connect(sock, str(self._socket_path))
            except OSError as error:
                sock.close()
                log.event(_logger, logging.DEBUG, "agent away", reason=error.strerror or str(error))
                self._end_if_orphaned(self._runtime.loop.time() - alone_since)
                await asyncio.sleep(delay * (0.5 + self._runtime.random()))
                delay = min(2 * delay, longest)
                continue
            delay = shortest
            channel = FdChannel(sock, msgspec.msgpack.Decoder(ToWorker))
            try:
                await self._follow(channel)
            except ChannelError as error:
                log.event(_logger, logging.WARNING, "agent lost", reason=str(error))
            finally:
                channel.close()
                alone_since = self._runtime.loop.time()

    def _end_if_orphaned(self, seconds: float) -> None:
        """``seconds``: without an agent."""
        if 0 < self._start.orphaned_after < seconds and not self._stopping.is_set():
            log.event(
                _logger,
                logging.WARNING,
                "no agent has come: ending",
                worker=self._index,
                seconds=round(seconds),
                then="capture does as the services say that it should without a proxy",
            )
            self.stop(idle_seconds=_IDLE_SECONDS)

    async def _follow(self, channel: FdChannel[ToWorker]) -> None:
        """Present ourselves, then do what the agent says. Raises ChannelError."""
        channel.send(
            Hello(
                pid=os.getpid(),
                worker=self._index,
                version=meshd.__version__,
                generation=self._runtime.config.snapshot.generation,
                workloads=tuple(self._served),
                build=self._start.build,
                wire=self._start.wire,
                draining=self._stopping.is_set(),
            )
        )
        self._runtime.outcomes.report = lambda told: _tell(channel, told)
        self._runtime.waiting.ask = lambda wanted: _demand(channel, wanted)
        for served in self._served.values():
            channel.send(Holding(workload=served.workload), served.fds)
        self._runtime.waiting.ask_again()
        log.event(_logger, logging.INFO, "agent connected", holding=len(self._served))
        while True:
            message, fds = await channel.receive()
            try:
                await self._do(channel, message, fds)
            except (OSError, KeyError, ValueError, msgspec.MsgspecError) as error:
                log.event(
                    _logger, logging.ERROR, "message refused", kind=type(message).__name__, reason=str(error)
                )

    async def _do(self, channel: FdChannel[ToWorker], message: ToWorker, fds: Sequence[int]) -> None:
        match message:
            case Update(delta=delta):
                for _ in self._runtime.config.ahead(delta):
                    await asyncio.sleep(0)
                self._apply(delta)
                channel.send(Applied(generation=delta.generation))
            case Replace(snapshot=snapshot):
                self._apply(difference(self._runtime.config.snapshot, Snapshot().apply(snapshot)))
                channel.send(Applied(generation=snapshot.generation))
            case AddWorkload(workload=workload):
                if (served := self._served.get(workload.uid)) and served.workload.netns == workload.netns:
                    for fd in fds:
                        os.close(fd)
                    served.renew(workload)
                else:
                    await self._add(workload.uid, lambda: self._serve(message, fds))
                channel.send(Enrolled(uid=workload.uid))
            case RemoveWorkload(uid=uid):
                self._remove(uid)
            case Known(address=address, port=port, listener=listener):
                self._runtime.waiting.known(address, port, listener)
            case Unenrol():
                self._unenrol(message, fds)
            case Collect(request=request):
                channel.send(self._stats(request))
            case Configure():
                self._configure(message, fds)
            case ShareLimits(workers=workers, rows=rows, cell=cell):
                (fd,) = fds
                try:
                    page = LimitPage(fd, workers)
                finally:
                    os.close(fd)
                self._runtime.loads.share(page, rows, cell if cell >= 0 else self._index)
            case Drain(seconds=seconds, idle_seconds=idle_seconds):
                self.stop(seconds, idle_seconds)

    def _apply(self, delta: Delta) -> None:
        self._runtime.config.apply(delta)
        for served in self._served.values():
            served.caller.config_changed()
        self._runtime.config_changed()
        self._runtime.waiting.config_changed()

    def _configure(self, message: Configure, fds: Sequence[int]) -> None:
        """Take the kernel's maps over. Raises OSError, KeyError, msgspec.MsgspecError, and closes the fds."""
        with contextlib.ExitStack() as undo:
            for fd in fds:
                undo.callback(os.close, fd)
            flows_fd, heartbeat_fd, *arming_fds, kept_fd, bells_fd = fds[:8]
            layout = Layout.from_json(message.layout)
            flows, heartbeat = FlowTable(flows_fd, layout), Heartbeat(heartbeat_fd)
            arming = ArmingTable(ArmingFds(*arming_fds), layout, self._index)
            kept = KeptRequests(kept_fd, flows, layout)
            bell = Bell(bells_fd, self._index, layout)
            splices = SpliceTable(SpliceFds(*fds[8:]), layout)
            undo.pop_all()
        os.close(bells_fd)
        if self._bell is not None:
            self._runtime.loop.remove_reader(self._bell.fd)
        for old in (self._flows, self._heartbeat, self._arming, self._kept, self._bell, self._splices):
            if old is not None:
                old.close()
        self._flows, self._heartbeat, self._arming = flows, heartbeat, arming
        self._kept, self._bell, self._splices = kept, bell, splices
        self._fast_path.configure(flows, arming, kept, bell, splices, message.fast_path, message.sample)
        self._runtime.loop.add_reader(bell.fd, self._fast_path.rung)
        self._heartbeat_interval = message.heartbeat_interval
        self._marks = Marks(message.mark, message.plain_mark)
        if not self._stopping.is_set():
            heartbeat.beat(self._index)
        self._log_to(message.access_log, message.access_log_format)
        self._runtime.config_changed()

    def _log_to(self, path: str, format_name: str) -> None:
        if (path, format_name) == self._access_log_config:
            return
        new = AccessLogFile(path, format_name == "text") if path else None
        if self._access_log is not None:
            self._access_log.close()
        self._access_log = self._runtime.access_log = new
        self._access_log_config = (path, format_name)

    # -- workloads -----------------------------------------------------------------------------------

    def _serve(self, message: AddWorkload, fds: Sequence[int]) -> Served:
        return Served(
            self._runtime,
            message.workload,
            fds,
            self._home_fd,
            self._marks,
            self._fast_path,
            lambda: self._flows,
        )

    async def _add(self, uid: str, make: Callable[[], Served]) -> None:
        served = make()
        self._remove(uid)
        try:
            await served.start()
        except OSError:
            served.close()
            raise
        self._served[uid] = served
        log.event(_logger, logging.INFO, "workload served", workload=served.caller.source, uid=uid)

    def _remove(self, uid: str) -> None:
        served = self._served.pop(uid, None)
        if served is not None:
            served.close()
            log.event(_logger, logging.INFO, "workload removed", workload=served.caller.source, uid=uid)

    def _unenrol(self, message: Unenrol, fds: Sequence[int]) -> None:
        sockets_fd, questions_fd, *app_fd = fds
        departure = Departure(
            Map(sockets_fd),
            message.key,
            SocketQuestions(questions_fd),
            socket.socket(fileno=app_fd[0]) if app_fd else None,
        )
        local, remote = end_name(*message.local), end_name(*message.remote)

        def find() -> OwnEnd | None:
            if not message.server:
                served = self._served.get(message.uid)
                return None if served is None else served.connection_from(local)
            ends = (each.caller.connection_between(remote, message.local) for each in self._served.values())
            return next((each for each in ends if each is not None), None)

        def waits() -> bool:
            served = self._served.get(message.uid)
            return not message.server and served is not None and self._runtime.waiting.has(served.caller)

        self._departures.begin(departure, find, waits)

    # -- tasks ---------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Beats from the loop that serves: a stuck worker stops to beat."""
        while True:
            if self._heartbeat is not None:
                try:
                    self._heartbeat.beat(self._index)
                except OSError as error:
                    log.event(_logger, logging.ERROR, "heartbeat failed", reason=error.strerror)
            await asyncio.sleep(self._heartbeat_interval)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if self._access_log is not None:
                self._access_log.flush()

    def _stats(self, request: int) -> Stats:
        runtime = self._runtime
        counters = runtime.counters.snapshot()
        if runtime.buckets.displaced:
            counters["rate_limit_buckets_displaced_total"] = runtime.buckets.displaced
        if runtime.buckets.unguarded:
            counters["rate_limit_tokens_unguarded_total"] = runtime.buckets.unguarded
        if self._access_log is not None:
            counters["access_log_lines_dropped_total"] = self._access_log.dropped
        return Stats(
            request=request,
            pid=os.getpid(),
            generation=runtime.config.snapshot.generation,
            requests=runtime.stats.snapshot(),
            tcp=runtime.tcp_stats.snapshot(),
            counters=counters,
            gauges={
                "downstream_connections": float(runtime.downstream_connections),
                "upstream_connections": float(sum(s.caller.connections() for s in self._served.values())),
                "workloads": float(len(self._served)),
                "faults_active": float(runtime.active_faults),
                "mirrored_requests": float(runtime.mirrored),
                "demand_waiting": float(len(runtime.waiting)),
            },
        )

    # -- the end -------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Accept no more and let requests in flight end, for a bounded time."""
        runtime = self._runtime
        runtime.draining = True
        if self._heartbeat is not None:
            with contextlib.suppress(OSError):
                self._heartbeat.stop(self._index)
        for served in self._served.values():
            served.stop_accepting()
        for connection in tuple(runtime.connections):
            connection.drain()
        log.event(
            _logger,
            logging.INFO,
            "draining",
            connections=runtime.downstream_connections,
            seconds=self._drain_seconds,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds):
                await runtime.all_closed()

    def _close(self) -> None:
        for uid in tuple(self._served):
            self._remove(uid)
        self._departures.close()
        self._runtime.close()
        if self._access_log is not None:
            self._access_log.close()
        # The maps stay open to the process's end: connections that close now look into them.
        os.close(self._home_fd)


def _tell(channel: FdChannel[ToWorker], told: tuple[EndpointTally, ...]) -> None:
    # Without an agent nobody ejects: what an earlier one was not told is of no use to the next.
    with contextlib.suppress(ChannelError):
        channel.send(Outcomes(endpoints=told))


def _demand(channel: FdChannel[ToWorker], wanted: Wanted) -> None:
    # Without an agent it is asked again as soon as there is one.
    with contextlib.suppress(ChannelError):
        channel.send(Demand(address=wanted.address, port=wanted.port, namespace=wanted.namespace))
