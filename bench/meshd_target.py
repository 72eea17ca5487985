"""meshd in the way: an agent, its proxy workers, and capture in the client pod, as on a node."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.network import CLIENT_ADDRESS, SERVER_ADDRESS, VIP, Network
from bench.services import PORT, Service, snapshot
from bench.targets import SERVER_PORT, Target
from meshd.bench.kernel_records import KernelRecords
from tests.support.ads_thread import AdsThread
from tests.support.mesh_node import MeshNode


@contextlib.contextmanager
def agent(
    network: Network, directory: Path, services: Sequence[Service], *options: str
) -> Iterator[MeshNode]:
    """An agent for the network's node, in that node's cgroup, with both pods enrolled and all services in
    force; ``options`` are its command line's. Raises MeshNodeError."""
    if network.cgroup is not None:
        options = ("--cgroup", str(network.cgroup), *options)
    with contextlib.ExitStack() as stack:
        ads = stack.enter_context(AdsThread(directory / f"{network.prefix}-ads.sock"))
        ads.publish(snapshot(services))
        with network.at_home():
            node = stack.enter_context(MeshNode(ads.target, *options))
        node.enrol("client", str(network.client.path), CLIENT_ADDRESS)
        node.enrol("server", str(network.server.path), SERVER_ADDRESS)
        node.wait_for_services({service.name for service in services})
        yield node


@contextlib.contextmanager
def meshd(network: Network, directory: Path) -> Iterator[Target]:
    """The service's VIP, captured in the client pod and served by the slow path."""
    service = Service("web", VIP, (SERVER_ADDRESS, SERVER_PORT))
    with agent(network, directory, [service], "--fast-path", "off") as node:
        yield target("meshd", network, service, node)


def target(name: str, network: Network, service: Service, node: MeshNode) -> Target:
    """A service by its VIP. Raises OSError, KeyError for programs without a fast path."""
    return Target(
        name,
        network,
        f"http://{service.address}:{PORT}/",
        tuple(node.worker_pids()),
        KernelRecords(node.instance).carried,
    )
