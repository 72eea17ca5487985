"""A node with a real agent, a client pod, servers in it and on what is another node to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from meshd.bench.kernel_records import KernelRecords
from meshd.datapath.kernel.bpf_map import Map
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Snapshot
from tests.support.ads_thread import AdsThread
from tests.support.mesh_node import MeshNode
from tests.support.netns import Namespace, join, namespace

HERE, ELSEWHERE = ("10.96.0.1", 80), ("10.96.0.2", 80)
"""The two services."""
_POD, _FAR = "10.9.0.1", "10.9.0.2"
_ENDPOINTS = 2
"""Of each service."""
EMPTY_AT_REST = (
    "flows",
    "armed",
    "connections",
    "clients",
    "servers",
    "upstreams",
    "arrivals",
    "owners",
    "kept",
)
"""Maps of which nothing is left when no connection is."""


class ServerProcess:
    """``python -m soak.server`` in a namespace."""

    def __init__(self, where: Namespace, address: str) -> None:
        self.address = address
        command = [sys.executable, "-m", "soak.server", address, str(_ENDPOINTS)]
        with where.entered():
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.ports: list[int] = json.loads(self._process.stdout.readline())

    def end(self) -> tuple[int, list[str]]:
        """End it. How many requests came, and what it found wrong."""
        output, _ = self._process.communicate(timeout=30)
        report = json.loads(output)
        return report["requests"], report["faults"]

    def close(self) -> None:
        """End it if it has not been."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class SoakMesh:
    """What the soak talks to, and looks at."""

    def __init__(self, node: MeshNode, pod: Namespace, servers: list[ServerProcess]) -> None:
        self.node = node
        self.pod = pod
        self.servers = servers
        self._records = KernelRecords(node.instance)
        self._maps: dict[str, Map] = {name: node.open_map(name) for name in EMPTY_AT_REST}

    def entries(self) -> dict[str, int]:
        """How many each of EMPTY_AT_REST has."""
        return {name: sum(1 for _ in self._maps[name]) for name in EMPTY_AT_REST}

    def carried(self) -> int:
        """Requests that the kernel carried to their end."""
        return self._records.carried()

    def worker_files(self) -> int:
        """Descriptors that the proxy workers have open."""
        return sum(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in self.node.worker_pids())

    def worker_megabytes(self) -> float:
        """Their resident size."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.node.worker_pids())
        return pages * os.sysconf("SC_PAGESIZE") / 1e6

    def close(self) -> None:
        """Close the maps."""
        for opened in self._maps.values():
            opened.close()


def _snapshot(servers: list[ServerProcess]) -> Snapshot:
    listeners, configs, clusters, endpoints = {}, {}, {}, {}
    for (address, port), server in zip((HERE, ELSEWHERE), servers, strict=True):
        name = f"soak/{address}:{port}"
        listeners[name] = Listener(
            name=name,
            service=f"soak/{address}",
            addresses=(address,),
            port=port,
            protocol=Protocol.HTTP,
            cluster=name,
            route_config=name,
        )
        route = Route(name=name, action=Forward(clusters=(WeightedCluster(name=name),)))
        configs[name] = RouteConfig(name=name, virtual_hosts=(VirtualHost(name=name, routes=(route,)),))
        clusters[name] = Cluster(name=name)
        found = tuple(Endpoint(address=server.address, port=port) for port in server.ports)
        endpoints[name] = EndpointSet(name=name, endpoints=found)
    return Snapshot(1, listeners, configs, clusters, endpoints)


@contextlib.contextmanager
def soak_mesh() -> Iterator[SoakMesh]:
    """All of it, running."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mt-soak-")))
        pod, far = stack.enter_context(namespace()), stack.enter_context(namespace())
        join(pod, (f"{_POD}/24",), far, (f"{_FAR}/24",))
        pod.ip("route", "add", "default", "via", _FAR)  # connect() needs a way to the VIPs
        servers = []
        for where, address in ((pod, _POD), (far, _FAR)):
            servers.append(ServerProcess(where, address))
            stack.callback(servers[-1].close)
        ads = stack.enter_context(AdsThread(directory / "ads.sock"))
        snapshot = _snapshot(servers)
        ads.publish(snapshot)
        node = stack.enter_context(MeshNode(ads.target))
        node.enrol("client", pod.path, _POD)
        node.wait_for_services(snapshot.listeners)
        mesh = SoakMesh(node, pod, servers)
        stack.callback(mesh.close)
        yield mesh
