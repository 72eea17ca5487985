"""A captured connection whose proxy is the test: it passes on the first request, and arms the flow."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from meshd.datapath.bell import Bell
from meshd.datapath.datapath import Datapath
from meshd.datapath.flows.arming import ArmingFds, ArmingTable, Upstream
from meshd.datapath.flows.kept_requests import KeptRequests
from meshd.datapath.flows.table import Carried, FlowTable
from meshd.datapath.rules.fingerprint import cluster_id, rules_fingerprint
from meshd.model.cluster_policies import Outlier
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Snapshot
from tests.datapath.mesh import Mesh
from tests.support.netns import Namespace, join, namespace

NAME = "demo/web:80"
VIP = "10.96.0.1"
CLIENT_ADDRESS, SERVER_ADDRESS = "10.9.0.1", "10.9.0.2"
FORWARD = Route(name="demo/web/0", action=Forward(clusters=(WeightedCluster(name=NAME),)))
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"
WORKER = 3
QUIET = 0.15
"""Seconds in which what does not come would have come."""


class Bed:
    """Two namespaces, joined, members both; one service; the maps as the proxy has them."""

    def __init__(self, datapath: Datapath, mesh: Mesh, far: Namespace) -> None:
        self.datapath = datapath
        self.mesh = mesh
        self.far = far
        flows, _, *arming, kept, bells = datapath.worker_fds()[:8]
        self.table = ArmingTable(ArmingFds(*map(os.dup, arming)), datapath.layout, WORKER)
        self.flows = FlowTable(os.dup(flows), datapath.layout)
        self.kept = KeptRequests(os.dup(kept), self.flows, datapath.layout)
        self.bell = Bell(bells, WORKER, datapath.layout)
        self.snapshot = Snapshot()
        self.opened: list[socket.socket] = []
        self.listener = mesh.listen(SERVER_ADDRESS, in_netns=far)
        self.configure()

    def configure(self, routes: tuple[Route, ...] = (FORWARD,), outlier: Outlier | None = None) -> None:
        """Put routes of the service in force. ``outlier``: of all clusters."""
        port = self.listener.getsockname()[1]
        names = {s.name for r in routes if isinstance(r.action, Forward) for s in r.action.clusters}
        new = Snapshot(
            self.snapshot.generation + 1,
            {
                NAME: Listener(
                    name=NAME,
                    service="demo/web",
                    addresses=(VIP,),
                    port=80,
                    protocol=Protocol.HTTP,
                    cluster=NAME,
                    route_config=NAME,
                )
            },
            {NAME: RouteConfig(name=NAME, virtual_hosts=(VirtualHost(name=NAME, routes=routes),))},
            {name: Cluster(name=name, outlier=outlier) for name in names | {NAME}},
            {
                name: EndpointSet(name=name, endpoints=(Endpoint(address=SERVER_ADDRESS, port=port),))
                for name in names | {NAME}
            },
        )
        self.datapath.apply(self.snapshot, new)
        self.snapshot = new

    @property
    def rules(self) -> int:
        """What names the rules in force."""
        return rules_fingerprint(self.snapshot, self.snapshot.listeners[NAME])

    def close(self) -> None:
        for each in self.opened:
            each.close()
        self.datapath.apply(self.snapshot, Snapshot())
        self.table.close()
        self.flows.close()
        self.kept.close()
        self.bell.close()


class Connection:
    """C, A, U and S, after one request has gone the slow way."""

    def __init__(self, bed: Bed, remote: bool = False) -> None:
        """``remote``: the server is taken for one of another node."""
        self.bed = bed
        mesh = bed.mesh
        self.client = mesh.connect(VIP, 80)
        self.proxy = mesh.accept(mesh.proxy4)
        with mesh.pod.entered():
            self.upstream = socket.socket()
        bed.opened.append(self.upstream)
        self.upstream.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, bed.datapath.mark)
        self.upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.upstream.connect(bed.listener.getsockname())
        self.server = mesh.accept(bed.listener)
        for each in (self.client, self.proxy, self.upstream, self.server):
            each.settimeout(60)
        self.flow = bed.flows.key(mesh.pod.cookie, *self.proxy.getpeername())
        ends = self.upstream.getsockname(), self.upstream.getpeername()
        self.connection = bed.table.connection_keys.pack(*ends)
        self.remote = remote
        self.consumed = self.written = self.to_server = self.from_server = self.adopted = 0
        if remote:
            bed.table.enter(self.connection, self.upstream.fileno())
        self.slow()

    def slow(self, request: bytes = GET, answer: bytes = OK) -> None:
        """One exchange by the slow path, all of it as it comes."""
        self.client.sendall(request)
        got = exactly(self.proxy, len(request))
        assert got == request
        self.consumed += len(got)
        self.upstream.sendall(got)
        self.to_server += len(got)
        assert exactly(self.server, len(got)) == got
        self.server.sendall(answer)
        back = exactly(self.upstream, len(answer))
        self.from_server += len(back)
        self.proxy.sendall(back)
        self.written += len(back)
        assert exactly(self.client, len(back)) == answer

    def arm(
        self,
        *,
        flags: int = 0,
        forwarded_for: bytes = b"",
        weight: int = 1,
        upstreams: tuple[Upstream, ...] = (),
    ) -> None:
        """What the proxy does after an exchange. ``upstreams``: beside the connection's own."""
        table = self.bed.table
        kind = table.kinds["UPSTREAM_REMOTE" if self.remote else "UPSTREAM_HERE"]
        own = Upstream(self.connection, cluster_id(NAME), weight, self.to_server, self.from_server, kind)
        table.arm(
            self.flow,
            table.codec.pack(
                self.bed.rules,
                self.consumed,
                self.written,
                self.adopted,
                flags,
                forwarded_for,
                (*((own,) if weight else ()), *upstreams),
            ),
        )

    def exchange(self, request: bytes = GET, answer: bytes = OK) -> None:
        """One request and its answer, carried."""
        self.client.sendall(request)
        assert exactly(self.server, len(request)) == request
        self.server.sendall(answer)
        assert exactly(self.client, len(answer)) == answer

    def carried(self) -> Carried:
        """The kernel's record."""
        found = self.bed.flows.carried(self.flow)
        assert found is not None
        return found

    def response(self) -> str:
        """Who has the next byte of the answer."""
        found = self.bed.table.connection(self.connection)
        assert found is not None
        names = {value: name for name, value in self.bed.table.responses.items()}
        return names[found.response].removeprefix("RESPONSE_").lower()


def exactly(sock: socket.socket, count: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def is_quiet(sock: socket.socket) -> bool:
    """Whether nothing comes for a while."""
    before = sock.gettimeout()
    sock.settimeout(QUIET)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(before)
    return False


@contextlib.contextmanager
def bed(datapath: Datapath, mesh: Mesh) -> Iterator[Bed]:
    """A bed for the body."""
    with namespace() as far:
        join(mesh.pod, (f"{CLIENT_ADDRESS}/24",), far, (f"{SERVER_ADDRESS}/24",))
        datapath.set_member(mesh.pod.cookie, mesh.proxy4.getsockname()[1], ipv6=True, fast_path=True)
        datapath.set_member(far.cookie, 0, ipv6=False, fast_path=True)
        made = Bed(datapath, mesh, far)
        try:
            yield made
        finally:
            made.close()
            datapath.remove_member(far.cookie)
