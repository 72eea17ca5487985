"""A worker behind real capture with the fast path on: servers in the same namespace and in another."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from meshd.datapath.counts.carried_requests import CarriedRequests
from meshd.datapath.counts.rows import Count, Row
from meshd.datapath.flows.arming import ArmingFds, ArmingTable
from meshd.datapath.flows.table import Carried, FlowTable
from meshd.datapath.rules.fingerprint import rules_fingerprint
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import HttpOptions, Listener
from meshd.model.listeners import Protocol as PortProtocol
from meshd.model.routes import Route, RouteConfig, VirtualHost
from meshd.model.snapshot import Delta, Snapshot, difference
from tests.datapath.mesh import Mesh
from tests.proxy.worker.agent_end import WORKLOAD, AgentEnd
from tests.support.http_bed import FORWARD, SERVICE_PORT, VIP, Script, Server
from tests.support.netns import Namespace, join, namespace

NAME = "default/web:80"
POD, FAR = "10.9.0.1", "10.9.0.2"
_BEAT_SECONDS = 60.0
"""After which a worker is taken for dead: longer than a busy machine lets it wait."""
DATE = b"Date: Sat, 21 Nov 2026 00:00:00 GMT"


class Listening(Protocol):
    """Who is an endpoint."""

    @property
    def address(self) -> str: ...

    @property
    def port(self) -> int: ...


class FastPathBed:
    """Made by ``fast_path_bed``."""

    def __init__(self, mesh: Mesh, agent: AgentEnd, far: Namespace, stack: contextlib.ExitStack) -> None:
        self.mesh = mesh
        self.agent = agent
        self._far = far
        self._stack = stack
        self._snapshot = Snapshot()
        fds = ArmingFds(*map(os.dup, mesh.datapath.worker_fds()[2:6]))
        self.table = ArmingTable(fds, mesh.datapath.layout, 0)
        stack.callback(self.table.close)
        self.flows: FlowTable = mesh.flows
        self.enrolled = False

    def serve(self, script: Script, far: bool = False) -> Server:
        """A server on the pod's loopback; ``far``: in the other namespace, which is no member."""
        with (self._far if far else self.mesh.pod).entered():
            server = Server(script, FAR if far else "127.0.0.1")
        self._stack.callback(server.close)
        return server

    def configure(
        self,
        servers: Sequence[Listening],
        routes: tuple[Route, ...] = (FORWARD,),
        options: HttpOptions | None = None,
        cluster: Cluster | None = None,
        weights: Sequence[int] = (),
        consumers: Mapping[str, tuple[Route, ...]] | None = None,
        spliced: bool = False,
    ) -> None:
        """Put the service in force: worker, then kernel. ``consumers``: routes by the callers' namespace."""
        tables = {f"{NAME}/from/{namespace}": own for namespace, own in sorted((consumers or {}).items())}
        endpoints = tuple(
            Endpoint(address=server.address, port=server.port, weight=weight)
            for server, weight in zip(servers, weights or [1] * len(servers), strict=True)
        )
        new = Snapshot().apply(
            Delta(
                generation=self._snapshot.generation + 1,
                listeners=(
                    Listener(
                        name=NAME,
                        service="default/web",
                        addresses=(VIP,),
                        port=SERVICE_PORT,
                        protocol=PortProtocol.HTTP,
                        cluster="web",
                        route_config=NAME,
                        consumers=tuple(zip(sorted(consumers or {}), tables, strict=True)),
                        http=options or HttpOptions(),
                        http2_fast_path=spliced,
                    ),
                ),
                route_configs=tuple(
                    RouteConfig(name=name, virtual_hosts=(VirtualHost(name="web", routes=own),))
                    for name, own in {NAME: routes, **tables}.items()
                ),
                clusters=(cluster or Cluster(name="web"),),
                endpoints=(EndpointSet(name="web", endpoints=endpoints),),
            )
        )
        self.agent.update(difference(self._snapshot, new))
        self.mesh.datapath.apply(self._snapshot, new)
        self._snapshot = new
        if not self.enrolled:
            self.agent.enrol(self.mesh, WORKLOAD)
            self.enrolled = True

    def withdraw(self) -> None:
        self.mesh.datapath.apply(self._snapshot, Snapshot())

    def connect(self) -> socket.socket:
        return self.mesh.connect(VIP, SERVICE_PORT)

    def carried(self, client: socket.socket) -> Carried:
        """What the kernel has carried of a client's connection."""
        found = self.flows.carried(self.flows.key(self.mesh.pod.cookie, *client.getsockname()[:2]))
        assert found is not None
        return found

    def counted(self) -> dict[Row, Count]:
        """What the kernel has counted of the rules in force."""
        datapath = self.mesh.datapath
        rules = rules_fingerprint(self._snapshot, self._snapshot.listeners[NAME])
        opened = datapath.open_map("requests"), datapath.open_map("upcalls")
        with contextlib.closing(CarriedRequests(*opened, datapath.layout)) as counts:
            return {row: count for row, count in counts.requests().items() if row.rules == rules}

    def statuses(self) -> dict[int, int]:
        """Requests that the worker has counted, by status."""
        found: dict[int, int] = {}
        for row in self.agent.stats().requests:
            found[row.status] = found.get(row.status, 0) + row.count
        return found


@contextlib.contextmanager
def fast_path_bed(mesh: Mesh, agent: AgentEnd) -> Iterator[FastPathBed]:
    """With a worker that has said hello."""
    datapath = mesh.datapath
    with namespace() as far, contextlib.ExitStack() as stack:
        join(mesh.pod, (f"{POD}/24",), far, (f"{FAR}/24",))
        datapath.configure(_BEAT_SECONDS, fast_path=True)
        stack.callback(datapath.configure, _BEAT_SECONDS, False)
        datapath.set_member(mesh.pod.cookie, mesh.proxy4.getsockname()[1], ipv6=True, fast_path=True)
        agent.configure(mesh, fast_path=True)
        made = FastPathBed(mesh, agent, far, stack)
        stack.callback(made.withdraw)
        yield made
