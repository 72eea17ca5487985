"""The node agent: puts the parts together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket

from meshd import __version__, heap, log, netns
from meshd.agent.admin import serving_admin
from meshd.agent.ads import AdsClient, NotAppliedError
from meshd.agent.answers import Answers, Parts
from meshd.agent.config_in_force import ConfigInForce, without_cold
from meshd.agent.enrolment import Enrolment
from meshd.agent.handing_over import hand_over
from meshd.agent.health.health import EndpointHealth
from meshd.agent.kernel_counts import KernelCounts
from meshd.agent.on_demand import OnDemand
from meshd.agent.options import Options
from meshd.agent.shared_limits import SharedLimits
from meshd.agent.splicers import Splicers
from meshd.agent.worker_slot import WorkerSlot
from meshd.agent.workers import Greeting, Workers
from meshd.datapath.counts.answers import CarriedAnswers
from meshd.datapath.counts.carried_requests import CarriedRequests
from meshd.datapath.datapath import Datapath
from meshd.datapath.errors import CaptureError
from meshd.datapath.flows.enrolled_sockets import EnrolledSockets
from meshd.datapath.services.uses import ServiceUses
from meshd.datapath.splice_readers.readers import SpliceReaders
from meshd.health_endpoint import serving_health
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.wire import Configure, Hello, Replace

_logger = logging.getLogger("meshd.agent")

HEARTBEAT_SECONDS = 0.25
FIRST_ENROLMENT_SECONDS = 4.0


class Agent:
    """One node's agent."""

    def __init__(self, options: Options, datapath: Datapath) -> None:
        self._options = options
        self._datapath = datapath
        self._home_fd = netns.open_own()
        self._received = Snapshot()
        self._desired = Snapshot()
        """What shall be in force, but for what we know of its endpoints: ``_received``, once it is whole."""
        self._configured = asyncio.Event()
        """There is a config in force: a whole one, or an earlier agent's."""
        self._workers = Workers(
            options.workers,
            options.run_dir,
            Greeting(
                self._greet,
                self._send_snapshot,
                lambda *held: self._enrolment.take_over(*held),
                lambda told: self._health.take(told.endpoints),
                lambda slot, it: slot.send(self._on_demand.demanded(it.address, it.port, it.namespace)),
            ),
            options.worker_start,
            self._configured,
            lambda index: self._limits.worker_ended(index),
        )
        self._limits = SharedLimits(options.workers)
        self._health = EndpointHealth(
            options.run_dir / "health.msgpack",
            CarriedAnswers(datapath.open_map("judged"), datapath.open_map("bells"), datapath.layout),
        )
        self._enrolment = Enrolment(datapath, self._workers, self._home_fd, datapath.handover is not None)
        self._counts = KernelCounts(
            CarriedRequests(datapath.open_map("requests"), datapath.open_map("upcalls"), datapath.layout),
            datapath.service_ids,
            self._enrolment.cookies,
            options.run_dir / "counts.msgpack",
        )
        self._splicers = Splicers(
            SpliceReaders(datapath.open_map("splice_readers"), datapath.open_map("bells"), datapath.layout),
            EnrolledSockets(datapath.open_map, datapath.layout),
            self._enrolment,
            self._workers,
        )
        self._config = ConfigInForce(datapath, self._workers, options.run_dir / "config.journal")
        self._ads = AdsClient(
            options.control,
            options.node,
            {"version": __version__},
            self._on_change,
            options.demand.everything,
        )
        self._uses = ServiceUses(datapath.open_map("services"), datapath.open_map("flows"), datapath.layout)
        self._on_demand = OnDemand(options.demand, self._ads, self._uses)
        self._answers = Answers(
            options,
            Parts(
                datapath,
                self._workers,
                self._enrolment,
                self._counts,
                self._config,
                self._ads,
                self._on_demand,
                self._health,
                self._limits,
            ),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set. Workers and kernel programs stay when it returns.

        Raises OSError when a socket of ours cannot be opened.
        """
        options, answers = self._options, self._answers
        heap.trim_after_start(asyncio.get_running_loop())
        listener = self._workers.listen()
        restored = self._config.restore()
        if restored:
            self._configured.set()
            self._on_demand.restore(self._config.snapshot)
            self._desired = self._health.restore(self._config.snapshot)
            self._limits.follow(self._desired)
            await self._counts.config(self._config.snapshot)
        try:
            async with (
                serving_admin(options.run_dir / "agent.sock", answers.documents, answers.questions),
                serving_health(
                    options.metrics_host, options.metrics_port, answers.metrics, answers.why_not_ready
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
                    control=str(options.control),
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
            self._splicers.close()
            self._health.close()
            self._uses.close()
            answers.close()
            self._limits.close()
            os.close(self._home_fd)
            log.event(_logger, logging.INFO, "agent stopped", node=options.node, left="workers and programs")

    async def _run_parts(self, listener: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._workers.run(listener), name="workers")
            tasks.create_task(self._follow_workloads(), name="workloads")
            tasks.create_task(self._enrolment.retry(), name="enrolment-retry")
            tasks.create_task(self._ads.run(), name="ads")
            tasks.create_task(self._counts.sweep(), name="counts")
            tasks.create_task(self._on_demand.run(), name="demand")
            tasks.create_task(self._health.run(), name="health")
            tasks.create_task(self._follow_health(), name="health-changes")
            tasks.create_task(
                hand_over(self._datapath.handover, self._workers, self._enrolment), name="handover"
            )
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
        async with contextlib.aclosing(self._options.discovery.follow()) as states:
            async for found in states:
                await self._enrolment.reconcile(found)
                self._counts.note_workloads()
                self._on_demand.follow({each.namespace for each in self._enrolment.cookies().values()})
                self._judge_endpoints()

    def _judge_endpoints(self) -> None:
        """Probe and watch the endpoints of what is desired, for the workloads that are enrolled."""
        namespaces = {workload.namespace for workload in self._enrolment.cookies().values()}
        self._health.follow(self._desired, self._config.snapshot, namespaces)

    async def _follow_health(self) -> None:
        while True:
            await self._health.changed.wait()
            self._health.changed.clear()
            try:
                await self._put_into_force()
            except NotAppliedError as error:
                # The config in force stays; the next change of either brings this one too.
                log.event(_logger, logging.WARNING, "endpoints' health", reason=error)

    def _greet(self, slot: WorkerSlot, hello: Hello) -> None:
        slot.send(
            Configure(
                node=self._options.node,
                mark=self._datapath.mark,
                plain_mark=self._datapath.plain_mark,
                heartbeat_interval=HEARTBEAT_SECONDS,
                layout=self._datapath.layout_json,
                access_log=self._options.access_log,
                access_log_format=self._options.access_log_format,
                fast_path=self._options.fast_path.on,
                sample=self._options.fast_path.sample,
            ),
            self._datapath.worker_fds(),
        )
        self._send_limits(slot)
        self._send_snapshot(slot)
        self._enrolment.introduce(slot, hello)

    def _send_snapshot(self, slot: WorkerSlot) -> None:
        slot.send(Replace(snapshot=without_cold(self._config.announced.as_delta(), Snapshot())))

    def _send_limits(self, slot: WorkerSlot) -> None:
        slot.send(self._limits.message(slot.index), self._limits.fds())

    async def _on_change(self, delta: Delta) -> None:
        self._received = self._received.apply(delta)
        self._on_demand.take(delta)
        if not self._ads.synced and self._config.snapshot.generation:
            # What an earlier agent had in force is not given up for the first half of the news.
            return
        self._desired = self._received
        self._judge_endpoints()
        await self._put_into_force()
        if self._ads.synced:
            self._configured.set()

    async def _put_into_force(self) -> None:
        """What is desired, with what we know of its endpoints. Raises NotAppliedError."""
        await self._health.keep()
        if self._limits.follow(self._desired):
            for slot in self._workers.slots:
                self._send_limits(slot)
        try:
            await self._config.change(lambda _: self._health.marked(self._desired))
        except CaptureError as error:
            raise NotAppliedError(str(error)) from error
        finally:
            await self._counts.config(self._config.snapshot)
        await self._on_demand.in_force(self._config.snapshot)
