"""The node agent: puts the parts together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from meshd import __version__, heap, log, netns
from meshd.agent.admin import QuestionError, serving_admin, serving_metrics
from meshd.agent.ads import AdsClient, NotAppliedError
from meshd.agent.config_in_force import ConfigInForce
from meshd.agent.discovery import watch_workloads
from meshd.agent.enrolment import Enrolment
from meshd.agent.explain import CannotExplainError, explain
from meshd.agent.fast_path import FastPath
from meshd.agent.flow_views import flow_views
from meshd.agent.kernel_counts import KernelCounts
from meshd.agent.metrics import exposition
from meshd.agent.processes import resident_bytes
from meshd.agent.splicers import Splicers
from meshd.agent.totals import Totals
from meshd.agent.views import endpoint_views, route_views, service_views
from meshd.agent.workers import Greeting, Workers, WorkerSlot
from meshd.datapath.captured_sockets import CapturedSockets
from meshd.datapath.carried_requests import CarriedRequests
from meshd.datapath.datapath import Datapath
from meshd.datapath.errors import CaptureError
from meshd.datapath.flow_list import FlowList
from meshd.datapath.service_ids import ServiceIds
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.view import (
    CaptureView,
    CheckView,
    ControlView,
    ExplainedRequest,
    FlowsView,
    StatusView,
    WorkerView,
)
from meshd.model.wire import Configure, Hello, Replace

_logger = logging.getLogger("meshd.agent")

HEARTBEAT_SECONDS = 0.25
FIRST_ENROLMENT_SECONDS = 4.0
MAX_FLOWS_SHOWN = 1000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line decides."""

    node: str
    instance: str
    control: str
    """host:port or unix:PATH of the control plane."""
    run_dir: Path
    workloads: Path
    workers: int
    metrics_host: str
    metrics_port: int
    access_log: str
    access_log_format: str
    fast_path: FastPath


class Agent:
    """One node's agent."""

    def __init__(self, options: Options, datapath: Datapath) -> None:
        self._options = options
        self._datapath = datapath
        self._home_fd = netns.open_own()
        self._began = time.monotonic()
        self._totals = Totals()
        self._received = Snapshot()
        self._configured = asyncio.Event()
        """There is a config in force: a whole one, or an earlier agent's."""
        self._workers = Workers(
            options.workers,
            options.run_dir,
            Greeting(self._greet, lambda *held: self._enrolment.take_over(*held)),
        )
        self._enrolment = Enrolment(datapath, self._workers, self._home_fd)
        self._counts = KernelCounts(
            CarriedRequests(datapath.open_map("requests"), datapath.open_map("upcalls"), datapath.layout),
            ServiceIds(datapath.open_map("services"), datapath.layout),
            self._enrolment.cookies,
            options.run_dir / "counts.msgpack",
        )
        self._flow_list = FlowList(datapath.open_map("flows"), datapath.open_map("armed"), datapath.layout)
        self._splicers = Splicers(
            CapturedSockets(datapath.open_map("flows"), datapath.open_map("connections"), datapath.layout),
            self._enrolment,
            datapath.flow_count,
        )
        self._config = ConfigInForce(datapath, self._workers, options.run_dir / "config.msgpack")
        self._ads = AdsClient(options.control, options.node, {"version": __version__}, self._on_change)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set. Workers and kernel programs stay when it returns.

        Raises OSError when a socket of ours cannot be opened.
        """
        options = self._options
        heap.trim_after_start(asyncio.get_running_loop())
        listener = self._workers.listen()
        restored = self._config.restore()
        if restored:
            self._configured.set()
            await self._counts.config(self._config.snapshot)
        try:
            async with (
                serving_admin(
                    options.run_dir / "agent.sock",
                    {
                        "status": self._status_view,
                        "workloads": self._workloads_view,
                        "services": self._services_view,
                        "routes": self._routes_view,
                        "endpoints": self._endpoints_view,
                        "flows": self._flows_view,
                    },
                    {"explain": self._explain_view},
                ),
                serving_metrics(
                    options.metrics_host, options.metrics_port, self._metrics, self._why_not_ready
                ),
            ):
                tasks = asyncio.create_task(self._run_parts(listener))
                stopping = asyncio.create_task(stop.wait())
                log.event(
                    _logger,
                    logging.INFO,
                    "agent started",
                    node=options.node,
                    instance=options.instance,
                    control=options.control,
                    workers=options.workers,
                    restored=restored,
                    fast_path=options.fast_path.mode,
                    reason=options.fast_path.reason,
                )
                if options.fast_path.warning:
                    log.event(_logger, logging.WARNING, "fast path", reason=options.fast_path.warning)
                await asyncio.wait({tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                tasks.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await tasks
        finally:
            self._enrolment.close()
            self._counts.close()
            self._flow_list.close()
            self._splicers.close()
            os.close(self._home_fd)
            log.event(_logger, logging.INFO, "agent stopped", node=options.node, left="workers and programs")

    async def _run_parts(self, listener: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._workers.run(listener), name="workers")
            tasks.create_task(self._follow_workloads(), name="workloads")
            tasks.create_task(self._enrolment.retry(), name="enrolment-retry")
            tasks.create_task(self._ads.run(), name="ads")
            tasks.create_task(self._counts.sweep(), name="counts")
            if self._options.fast_path.on:
                tasks.create_task(self._splicers.run(), name="splicers")

    async def _follow_workloads(self) -> None:
        # A worker of an earlier agent holds listeners: to open them anew would move the pod's port.
        await self._workers.returned()
        # A pod that is started once it is enrolled must find proxy and routes: without them its first
        # connections would go past both. Pods that run already do not wait for longer than this.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ENROLMENT_SECONDS):
                await self._workers.ready()
                await self._configured.wait()
        async for workloads in watch_workloads(self._options.workloads):
            await self._enrolment.reconcile(workloads)
            self._counts.note_workloads()

    def _greet(self, slot: WorkerSlot, hello: Hello) -> None:
        slot.send(
            Configure(
                node=self._options.node,
                mark=self._datapath.mark,
                heartbeat_interval=HEARTBEAT_SECONDS,
                layout=self._datapath.layout_json,
                access_log=self._options.access_log,
                access_log_format=self._options.access_log_format,
                fast_path=self._options.fast_path.on,
                sample=self._options.fast_path.sample,
            ),
            self._datapath.worker_fds(),
        )
        slot.send(Replace(snapshot=self._config.announced.as_delta()))
        self._enrolment.introduce(slot, hello)

    async def _on_change(self, delta: Delta) -> None:
        self._received = self._received.apply(delta)
        if not self._ads.synced and self._config.snapshot.generation:
            # What an earlier agent had in force is not given up for the first half of the news.
            return
        try:
            await self._config.change(lambda _: self._received)
        except CaptureError as error:
            raise NotAppliedError(str(error)) from error
        finally:
            await self._counts.config(self._config.snapshot)
        if self._ads.synced:
            self._configured.set()

    def _why_not_ready(self) -> str:
        if not self._config.snapshot.generation and not self._ads.synced:
            return f"no config yet from {self._options.control}"
        if not any(slot.channel for slot in self._workers.slots):
            return "no proxy worker is connected"
        return ""

    async def _refresh(self) -> None:
        self._totals.update(await self._workers.collect())
        self._totals.keep_only(slot.pid for slot in self._workers.slots)
        await self._counts.refresh()
        self._totals.kernel = self._counts.requests()

    async def _metrics(self) -> bytes:
        return exposition(await self._status_view(), self._totals, self._counts.upcalls())

    async def _status_view(self) -> StatusView:
        await self._refresh()
        snapshot = self._config.snapshot
        requests = self._totals.requests()
        counters = self._datapath.counters()
        fast_path, tested = self._options.fast_path, self._options.fast_path.tested
        return StatusView(
            node=self._options.node,
            instance=self._options.instance,
            version=__version__,
            pid=os.getpid(),
            rss_bytes=resident_bytes(os.getpid()),
            uptime_seconds=round(time.monotonic() - self._began, 3),
            generation=snapshot.generation,
            services=len(snapshot.listeners),
            endpoints=sum(len(endpoints.endpoints) for endpoints in snapshot.endpoints.values()),
            workloads=sum(1 for workload in self._enrolment.view() if workload.enrolled),
            requests=sum(total.count for total in requests.values()),
            failed_requests=sum(total.count for key, total in requests.items() if key[5] >= 500),
            control=self._control_view(),
            workers=tuple(map(_worker_view, self._workers.slots)),
            capture=CaptureView(
                pins=str(self._datapath.pin_dir),
                cgroup=str(self._datapath.cgroup),
                fast_path=fast_path.mode,
                fast_path_reason=fast_path.reason,
                verdict_program_needed=tested.verdict_program_needed if tested else None,
                self_test=tuple(CheckView(name=c.name, reason=c.reason) for c in tested.checks)
                if tested
                else (),
                fast_path_requests=sum(total.count for total in self._totals.kernel.values()),
                upcalls=_by_reason(self._counts.upcalls()),
                splice_watch=self._splicers.state if fast_path.on else "off",
                counters=counters,
                flows=self._datapath.flow_count(),
            ),
            objects=self._ads.status.objects,
        )

    def _control_view(self) -> ControlView:
        return ControlView(
            target=self._options.control,
            connected=self._ads.connected,
            synced=self._ads.synced,
            version=self._ads.version,
            nacks=self._ads.nacks,
            refused=dict(self._ads.refused),
            last_error=self._ads.last_error,
        )

    async def _workloads_view(self) -> object:
        return self._enrolment.view()

    async def _services_view(self) -> object:
        await self._refresh()
        return service_views(
            self._config.snapshot, self._totals.requests(), self._totals.kernel, self._counts.upcalls()
        )

    async def _flows_view(self) -> FlowsView:
        found = await asyncio.to_thread(self._flow_list.read, MAX_FLOWS_SHOWN)
        views = flow_views(
            found,
            {cookie: f"{w.namespace}/{w.name}" for cookie, w in self._enrolment.cookies().items()},
            {
                (address, listener.port): listener.name
                for listener in self._config.snapshot.listeners.values()
                for address in listener.addresses
            },
            self._counts.rules(),
            time.monotonic(),
        )
        return FlowsView(flows=views, more=max(0, self._datapath.flow_count() - len(views)))

    async def _routes_view(self) -> object:
        await self._refresh()
        return route_views(self._config.snapshot, self._totals.requests())

    async def _explain_view(self, question: str) -> object:
        options = self._options
        logged = options.access_log and not options.fast_path.sample
        off = options.fast_path.reason if logged or not options.fast_path.on else ""
        try:
            request = msgspec.json.decode(question, type=ExplainedRequest)
            return explain(self._config.snapshot, request, self._datapath.rules_of, off)
        except (msgspec.MsgspecError, CannotExplainError) as error:
            raise QuestionError(str(error)) from None

    async def _endpoints_view(self) -> object:
        return endpoint_views(self._config.snapshot)


def _by_reason(upcalls: Mapping[tuple[str, str], int]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (_, reason), count in upcalls.items():
        counts[reason] += count
    return dict(counts.most_common())


def _worker_view(slot: WorkerSlot) -> WorkerView:
    return WorkerView(
        worker=slot.index,
        pid=slot.pid,
        state=slot.state.value,
        generation=slot.generation,
        restarts=slot.restarts,
        rss_bytes=resident_bytes(slot.pid),
    )
