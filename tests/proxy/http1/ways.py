"""The two ways in which the HTTP tests run: by the proxy alone, and with the kernel carrying what it can."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from meshd.agent.kernel_counts import rule_names
from meshd.agent.kernel_totals import KernelTotals, RuleNames
from meshd.agent.totals import RequestKey, RequestTotal
from meshd.datapath.counts.carried_requests import CarriedRequests
from meshd.datapath.flows.arming import ArmingFds, ArmingTable
from meshd.datapath.flows.kept_requests import KeptRequests
from meshd.datapath.flows.table import FlowTable
from meshd.datapath.heartbeat import Heartbeat
from meshd.datapath.kernel.bell import Bell
from meshd.datapath.rules.fingerprint import rules_fingerprint
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.routes import Forward, PathExact, Route, RouteMatch, WeightedCluster
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.wire import RequestCounts
from proxy.arrival import Arrival, Destinations
from proxy.fast.path import FastPath as WorkersFastPath
from proxy.routing.listener_rules import listener_rules
from proxy.telemetry.access_log import AccessLogEntry
from proxy.upstream.caller import Marks
from tests.datapath.mesh import Mesh
from tests.support import http_bed
from tests.support.http_bed import (
    SERVICE_PORT,
    VIP,
    Bed,
    Log,
    Script,
    Server,
    get,
    read_response,
)

DATE = b"Date: Sat, 21 Nov 2026 00:00:00 GMT"
WARM_UP = b"/__warm-up"
"""Path of the requests that come before a test's own on each connection, so that its flow is armed."""
_REQUEST = get(WARM_UP)
_ANSWER = http_bed.ok(b"warm", DATE)
_BEGINNING = b"GET " + WARM_UP
_MOST_WARM_UPS = 50
"""On one connection: they are balanced over the endpoints, and each of these takes one to be connected to."""
_CARRIED_WARM_UPS = 2
_NEVER = 1 << 30


def ok(body: bytes = b"hello", *fields: bytes) -> bytes:
    """A response that the kernel can carry: with a date."""
    dated = any(field.lower().startswith(b"date:") for field in fields)
    return http_bed.ok(body, *fields, *(() if dated else (DATE,)))


class Way(Protocol):
    """How servers and the proxy are run."""

    def server(self, script: Script) -> contextlib.AbstractContextManager[Server]:
        """A server of ``script``."""

    def bed(self, delta: Delta) -> contextlib.AbstractContextManager[Bed]:
        """A proxy with a config."""


class Plain:
    """No capture: clients connect to the proxy."""

    @contextlib.contextmanager
    def server(self, script: Script) -> Iterator[Server]:
        with contextlib.closing(Server(script)) as running:
            yield running

    @contextlib.contextmanager
    def bed(self, delta: Delta) -> Iterator[Bed]:
        with contextlib.closing(Bed(delta)) as running:
            yield running


class FastPath:
    """Clients connect to the service, and their connections have had requests carried before the test's own.

    Made, and used, by a thread that is in the pod's namespace.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._ports: set[int] = set()
        self.requests = 0
        """That the kernel carried to their ends, without warm-ups."""

    @contextlib.contextmanager
    def server(self, script: Script) -> Iterator[Server]:
        with contextlib.closing(_WarmServer(script)) as running:
            self._ports.add(running.port)
            yield running

    @contextlib.contextmanager
    def bed(self, delta: Delta) -> Iterator[Bed]:
        with (
            contextlib.closing(_WarmServer(_no_script)) as spare,
            contextlib.closing(_FastBed(delta, self._mesh, frozenset(self._ports), spare.port)) as running,
        ):
            yield running
            self.requests += running.carried()


def _no_script(sock: socket.socket) -> None:
    """Of a server that has warm-ups only."""
    raise AssertionError("a request of the test went to the server for warm-ups")


class _WarmSocket(socket.socket):
    """A server's: answers warm-ups where another one would return their bytes."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.warm_up()
        return super().recv(size, flags)

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        self.warm_up()
        return super().recv_into(*arguments, **more)

    def warm_up(self) -> bool:
        """Answer warm-ups; whether something else came then."""
        while (data := super().recv(len(_BEGINNING), socket.MSG_PEEK)) == _BEGINNING:
            assert super().recv(65536).endswith(b"\r\n\r\n")
            self.sendall(_ANSWER)
        return data != b""


class _WarmServer(Server):
    """Its script knows nothing of warm-ups."""

    def _dressed(self, sock: socket.socket) -> socket.socket:
        return _WarmSocket(fileno=sock.detach())

    def _converse(self, sock: socket.socket) -> None:
        assert isinstance(sock, _WarmSocket)
        if sock.warm_up():
            super()._converse(sock)


class _Log(Log):
    def write(self, entry: AccessLogEntry) -> None:
        if entry.path.encode() != WARM_UP:
            super().write(entry)


class _FastBed(Bed):
    """A proxy that has the kernel's maps, behind real capture. Heartbeats come with ``connect``."""

    def __init__(self, delta: Delta, mesh: Mesh, ports: frozenset[int], spare: int) -> None:
        """``ports``: of servers that answer warm-ups; ``spare``: of one more that does nothing else."""
        datapath = self._datapath = mesh.datapath
        self._mesh = mesh
        self._ports = ports
        self._spare = spare
        *owned, bells = datapath.worker_fds()
        flows, heartbeat, *arming, kept = map(os.dup, owned)
        self._flows = FlowTable(flows, datapath.layout)
        self._heartbeat = Heartbeat(heartbeat)
        self._table = ArmingTable(ArmingFds(*arming), datapath.layout, 0)
        self._kept = KeptRequests(kept, self._flows, datapath.layout)
        self._bell = Bell(bells, 0, datapath.layout)
        self._counts = CarriedRequests(
            datapath.open_map("requests"), datapath.open_map("upcalls"), datapath.layout
        )
        self._names: dict[int, RuleNames] = {}
        super().__init__(delta)
        self.log = _Log()
        self.runtime.access_log = self.log

    def _marks(self) -> Marks:
        return Marks(self._datapath.mark, self._datapath.plain_mark)

    async def _listen(self, delta: Delta) -> asyncio.Server:
        fast_path = WorkersFastPath(self.runtime)
        fast_path.configure(self._flows, self._table, self._kept, self._bell, True, _NEVER)
        self._loop.add_reader(self._bell.fd, fast_path.rung)
        self._put_in_force(delta)
        destinations = Destinations(self._mesh.pod.cookie, lambda: self._flows)
        listener = socket.socket(fileno=os.dup(self._mesh.proxy4.fileno()))
        listener.setblocking(False)
        return await self._loop.create_server(
            lambda: Arrival(self.runtime, self.caller, destinations, fast_path), sock=listener
        )

    def apply(self, delta: Delta) -> None:
        self.call(lambda: self._put_in_force(delta))

    def _put_in_force(self, delta: Delta) -> None:
        config = self.runtime.config
        old = config.snapshot
        config.apply(self._with_warm_up(delta))
        self.caller.config_changed()
        self._datapath.apply(old, config.snapshot)
        for listener in config.snapshot.listeners.values():
            names = rule_names(config.snapshot, listener)
            self._names[rules_fingerprint(config.snapshot, listener)] = names

    def _with_warm_up(self, delta: Delta) -> Delta:
        """Warm-ups go where the test's requests go, if only servers are there that answer them."""
        ports = {endpoint.port for each in delta.endpoints for endpoint in each.endpoints}
        alone = len(delta.endpoints) == 1 and ports and not ports - self._ports
        spare = delta.endpoints[0].name if alone else "spare"
        forward = Forward(clusters=(WeightedCluster(name=spare),))
        route = Route(name="warm-up", match=RouteMatch(path=PathExact(WARM_UP.decode())), action=forward)
        endpoints = EndpointSet(name="spare", endpoints=(Endpoint(address="127.0.0.1", port=self._spare),))
        configs = tuple(
            msgspec.structs.replace(
                config,
                virtual_hosts=tuple(
                    msgspec.structs.replace(host, routes=(route, *host.routes))
                    for host in config.virtual_hosts
                ),
            )
            for config in delta.route_configs
        )
        return msgspec.structs.replace(
            delta,
            route_configs=configs,
            clusters=(*delta.clusters, Cluster(name="spare")),
            endpoints=(*delta.endpoints, endpoints),
        )

    def connect(self, timeout: float = 10.0) -> socket.socket:
        self._heartbeat.beat(0)
        client = socket.create_connection((VIP, SERVICE_PORT), timeout)
        listener = self.runtime.config.listener_at(VIP, SERVICE_PORT, "default")
        assert listener is not None
        can_carry = listener_rules(self.runtime.config.snapshot, listener.listener) is not None
        key = self._flows.key(self._mesh.pod.cookie, *client.getsockname())
        for _ in range(_MOST_WARM_UPS):
            client.sendall(_REQUEST)
            assert read_response(client)[1] == b"warm"
            carried = self._flows.carried(key)
            assert carried is not None
            if carried.requests >= _CARRIED_WARM_UPS or not can_carry:
                return client
        raise AssertionError("the kernel carries no warm-up")

    def rows(self) -> tuple[RequestCounts, ...]:
        """The proxy's and the kernel's, without warm-ups."""
        rows = {
            RequestKey(*(getattr(row, field) for field in RequestKey._fields)): row for row in super().rows()
        }
        for key, total in self._totals().items():
            if key in rows:
                rows[key].count += total.count
            else:
                rows[key] = RequestCounts(
                    **key._asdict(),
                    count=total.count,
                    seconds=total.seconds,
                    buckets=tuple(total.buckets),
                )
        return tuple(row for row in rows.values() if row.route != "warm-up")

    def carried(self) -> int:
        """Requests, without warm-ups, that the kernel carried to their ends."""
        return sum(total.count for key, total in self._totals().items() if key[1] != "warm-up")

    def _totals(self) -> dict[RequestKey, RequestTotal]:
        cookie = self._mesh.pod.cookie
        totals = KernelTotals(self._counts.methods)
        totals.rules_in_force(self._names, 0.0)
        totals.workloads_present({cookie: self.caller.source}, 0.0)
        rows = self._counts.requests()
        return totals.requests({row: count for row, count in rows.items() if row.netns == cookie})

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._datapath.apply(self.runtime.config.snapshot, Snapshot())
            for opened in (self._flows, self._heartbeat, self._table, self._kept, self._bell, self._counts):
                opened.close()
