"""One pod of a mesh, as capture sees it: a member namespace, its in-pod listeners, services, endpoints."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from meshd.datapath.datapath import Datapath
from meshd.datapath.flows.table import FlowTable, OriginalDestination
from meshd.datapath.heartbeat import Heartbeat
from meshd.model.clusters import Endpoint, EndpointSet
from meshd.model.listeners import FailurePolicy, Listener, Protocol
from meshd.model.snapshot import Snapshot
from meshd.model.tcp_routes import TcpRoute
from tests.support.netns import Namespace

PORT = 15001


class Mesh:
    """Everything that a capture test talks to. Leaves the datapath without members and services."""

    def __init__(self, datapath: Datapath, pod: Namespace) -> None:
        self.datapath = datapath
        self.pod = pod
        flows, heartbeat, *_ = datapath.worker_fds()
        self.flows = FlowTable(os.dup(flows), datapath.layout)
        self._heartbeat = Heartbeat(os.dup(heartbeat))
        self._snapshot = Snapshot()
        self._open: list[socket.socket] = []
        self._alive = False

    def __enter__(self) -> Mesh:
        self.proxy4 = self.listen("127.0.0.1", PORT)
        self.proxy6 = self.listen("::1", PORT)
        self.datapath.set_member(self.pod.cookie, PORT, ipv6=True)
        self.alive(True)
        return self

    def __exit__(self, *_: object) -> None:
        self.datapath.remove_member(self.pod.cookie)
        self.datapath.apply(Snapshot(), Snapshot())
        for opened in self._open:
            opened.close()
        self.flows.close()
        self._heartbeat.close()

    def alive(self, alive: bool) -> None:
        """Whether the proxy beats: now, and before each ``client``."""
        self._alive = alive
        if alive:
            self._heartbeat.beat(3)
        else:
            self._heartbeat.stop(3)

    def service(
        self,
        addresses: Iterable[str],
        port: int,
        protocol: Protocol,
        endpoints: Iterable[tuple[str, int] | tuple[str, int, int]] = (),
        policy: FailurePolicy = FailurePolicy.OPEN,
        name: str = "demo/web",
        tcp_routes: tuple[TcpRoute, ...] = (),
        joined: bool = False,
    ) -> None:
        """Add or replace a service; endpoints are address, port and, if it is not 1, weight."""
        full = f"{name}:{port}"
        listener = Listener(
            name=full,
            service=name,
            addresses=tuple(addresses),
            port=port,
            protocol=protocol,
            cluster=full,
            failure_policy=policy,
            tcp_routes=tcp_routes,
            tcp_fast_path=joined,
        )
        found = tuple(
            Endpoint(address=each[0], port=each[1], weight=each[2] if len(each) == 3 else 1)
            for each in endpoints
        )
        old = self._snapshot
        self._snapshot = Snapshot(
            old.generation + 1,
            {**old.listeners, full: listener},
            endpoints={**old.endpoints, full: EndpointSet(name=full, endpoints=found)},
        )
        self.datapath.apply(old, self._snapshot)

    def listen(self, address: str, port: int = 0, *, in_netns: Namespace | None = None) -> socket.socket:
        """A listening socket in the pod (or elsewhere); closed with the mesh."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with (in_netns or self.pod).entered():
            listener = socket.create_server((address, port), family=family, backlog=512)
        listener.settimeout(60)
        self._open.append(listener)
        return listener

    def client(
        self, family: socket.AddressFamily = socket.AF_INET, kind: int = socket.SOCK_STREAM
    ) -> socket.socket:
        """A client's socket in the pod; closed with the mesh."""
        if self._alive:
            self._heartbeat.beat(3)
        with self.pod.entered():
            made = socket.socket(family, kind)
        made.settimeout(60)
        self._open.append(made)
        return made

    def connect(self, address: str, port: int) -> socket.socket:
        """A client's connection from the pod."""
        made = self.client(socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.connect((address, port))
        return made

    def accept(self, listener: socket.socket) -> socket.socket:
        """The next connection of a listener; closed with the mesh."""
        accepted, _ = listener.accept()
        self._open.append(accepted)
        return accepted

    def record(self, accepted: socket.socket) -> OriginalDestination | None:
        """What the kernel recorded for a connection that an in-pod listener accepted."""
        address, port = accepted.getpeername()[:2]
        return self.flows.original_destination(self.pod.cookie, address, port)

    def counted(self, name: str) -> int:
        """One of capture's counters."""
        return self.datapath.counters()[name]
