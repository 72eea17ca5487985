"""What the agent answers: gathers its parts' state into the documents of meshd.model.view."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from meshd import __version__
from meshd.agent.admin import Answer, Document, QuestionError
from meshd.agent.ads import AdsClient
from meshd.agent.config_in_force import ConfigInForce
from meshd.agent.enrolment import Enrolment
from meshd.agent.explain import explain
from meshd.agent.explained import CannotExplainError, asked_for
from meshd.agent.flow_views import flow_views
from meshd.agent.health.health import EndpointHealth
from meshd.agent.kernel_counts import KernelCounts
from meshd.agent.metrics import exposition
from meshd.agent.on_demand import OnDemand
from meshd.agent.options import Options
from meshd.agent.processes import resident_bytes
from meshd.agent.shared_limits import SharedLimits
from meshd.agent.totals import Totals
from meshd.agent.views import endpoint_views, left_out_views, route_views, service_views
from meshd.agent.worker_slot import WorkerSlot
from meshd.agent.workers import Workers
from meshd.datapath.datapath import Datapath
from meshd.datapath.flows.listing import FLOW_MAPS, FlowList
from meshd.model.listeners import Protocol
from meshd.model.view import (
    CaptureView,
    CheckView,
    ControlView,
    ExplainedRequest,
    FlowsView,
    HealthView,
    StatusView,
    WorkerView,
)

MAX_FLOWS_SHOWN = 1000
MAX_LEFT_OUT_SHOWN = 10
"""Of the endpoints that are left out, by ``meshd status``; ``meshd endpoints`` shows all."""


class Parts(NamedTuple):
    """What an agent is made of."""

    datapath: Datapath
    workers: Workers
    enrolment: Enrolment
    counts: KernelCounts
    config: ConfigInForce
    ads: AdsClient
    demand: OnDemand
    health: EndpointHealth
    limits: SharedLimits


class Answers:
    """One agent's."""

    def __init__(self, options: Options, parts: Parts) -> None:
        self._options = options
        self._parts = parts
        self._began = time.monotonic()
        self._totals = Totals()
        datapath = parts.datapath
        self._flow_list = FlowList(map(datapath.open_map, FLOW_MAPS), datapath.layout)
        self.documents: dict[str, Document] = {
            "status": self._status_view,
            "workloads": self._workloads_view,
            "services": self._services_view,
            "routes": self._routes_view,
            "endpoints": self._endpoints_view,
            "flows": self._flows_view,
        }
        self.questions: dict[str, Answer] = {"explain": self._explain_view}

    def why_not_ready(self) -> str:
        """Why the node is not ready; empty: it is."""
        if not self._parts.config.snapshot.generation and not self._parts.ads.synced:
            return f"no config yet from {self._options.control}"
        if not any(slot.channel for slot in self._parts.workers.slots):
            return "no proxy worker is connected"
        return ""

    async def metrics(self) -> bytes:
        """In Prometheus' text format."""
        return exposition(await self._status_view(), self._totals, self._parts.counts.upcalls())

    def close(self) -> None:
        """Close the maps' fds."""
        self._flow_list.close()

    async def _refresh(self) -> None:
        self._totals.update(await self._parts.workers.collect())
        self._totals.keep_only(slot.pid for slot in self._parts.workers.all())
        await self._parts.counts.refresh()
        self._totals.kernel = self._parts.counts.requests()

    async def _status_view(self) -> StatusView:
        await self._refresh()
        snapshot = self._parts.config.snapshot
        requests = self._totals.requests()
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
            workloads=sum(1 for workload in self._parts.enrolment.view() if workload.enrolled),
            requests=sum(total.count for total in requests.values()),
            failed_requests=sum(total.count for key, total in requests.items() if key.has_failed),
            control=self._control_view(),
            workers=tuple(map(_worker_view, self._parts.workers.all())),
            capture=self._capture_view(),
            objects=self._parts.ads.status.objects,
            health=self._health_view(),
            demand=self._parts.demand.view(),
            loads=self._parts.limits.loads(),
        )

    def _health_view(self) -> HealthView:
        health = self._parts.health
        marks = health.marks()
        views = left_out_views(self._parts.config.snapshot, marks, time.monotonic())
        return HealthView(
            probed=health.probed_endpoints,
            probes=dict(health.probes),
            ejections={cause.value: count for cause, count in health.ejections.ejections.items()},
            overflows=health.ejections.overflows,
            left_out=sum(map(len, marks.values())),
            examples=tuple(itertools.islice(views, MAX_LEFT_OUT_SHOWN)),
        )

    def _capture_view(self) -> CaptureView:
        fast_path, tested = self._options.fast_path, self._options.fast_path.tested
        counters = self._totals.counters()
        return CaptureView(
            pins=str(self._parts.datapath.pin_dir),
            cgroup=str(self._parts.datapath.cgroup),
            fast_path=fast_path.mode,
            fast_path_reason=fast_path.reason,
            verdict_program_needed=tested.verdict_program_needed if tested else None,
            self_test=tuple(CheckView(name=c.name, reason=c.reason) for c in tested.checks) if tested else (),
            fast_path_requests=sum(total.count for total in self._totals.kernel.values()),
            spliced_connections=counters.get("http2_spliced_connections_total", 0),
            spliced_requests=counters.get("http2_spliced_requests_total", 0),
            upcalls=_by_reason(self._parts.counts.upcalls()),
            counters=self._parts.datapath.counters(),
            flows=self._parts.datapath.flow_count(),
        )

    def _control_view(self) -> ControlView:
        return ControlView(
            target=str(self._options.control),
            connected=self._parts.ads.connected,
            synced=self._parts.ads.synced,
            version=self._parts.ads.version,
            nacks=self._parts.ads.nacks,
            refused=dict(self._parts.ads.refused),
            last_error=self._parts.ads.last_error,
        )

    async def _workloads_view(self) -> object:
        return self._parts.enrolment.view()

    async def _services_view(self) -> object:
        await self._refresh()
        return service_views(
            self._parts.config.snapshot,
            self._totals.requests(),
            self._totals.kernel,
            self._parts.counts.upcalls(),
            self._totals.tcp(),
        )

    async def _flows_view(self) -> FlowsView:
        found = await asyncio.to_thread(self._flow_list.read, MAX_FLOWS_SHOWN)
        views = flow_views(
            found,
            {cookie: f"{w.namespace}/{w.name}" for cookie, w in self._parts.enrolment.cookies().items()},
            {
                (address, listener.port): listener.name
                for listener in self._parts.config.snapshot.listeners.values()
                for address in listener.addresses
            },
            self._parts.counts.rules(),
            time.monotonic(),
        )
        return FlowsView(flows=views, more=max(0, self._parts.datapath.flow_count() - len(views)))

    async def _routes_view(self) -> object:
        await self._refresh()
        return route_views(self._parts.config.snapshot, self._totals.requests(), self._totals.tcp())

    async def _explain_view(self, question: str) -> object:
        options = self._options
        off = "" if options.fast_path.on else options.fast_path.reason
        logged = bool(options.access_log)
        try:
            request = msgspec.json.decode(question, type=ExplainedRequest)
            protocol = Protocol.HTTP if request.method else Protocol.TCP
            listener = asked_for(self._parts.config.snapshot, request.service, protocol)
            if not await self._parts.demand.ensure(listener.name, request.namespace):
                raise CannotExplainError(
                    f"service {listener.name} is not in use on this node, and the control plane did not send "
                    "its routes in time"
                )
            return explain(
                self._parts.config.snapshot,
                request,
                self._parts.datapath.rules_of,
                off,
                all_logged=logged and not options.fast_path.sample,
                logged=logged,
            )
        except (msgspec.MsgspecError, CannotExplainError) as error:
            raise QuestionError(str(error)) from None

    async def _endpoints_view(self) -> object:
        return endpoint_views(self._parts.config.snapshot, self._parts.health.marks(), time.monotonic())


def _by_reason(upcalls: Mapping[tuple[str, str], int]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (_, reason), count in upcalls.items():
        counts[reason] += count
    return dict(counts.most_common())


def _worker_view(slot: WorkerSlot) -> WorkerView:
    return WorkerView(
        worker=slot.place,
        pid=slot.pid,
        state=slot.state.value,
        generation=slot.generation,
        restarts=slot.restarts,
        rss_bytes=resident_bytes(slot.pid),
    )
