"""A node with much to do beside what is measured, and one with nothing: services, routes and flows."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import cgroups, load, meshd_target, targets
from bench.network import SERVER_ADDRESS, VIP, Network
from bench.services import Service
from bench.targets import SERVER_PORT, Target
from meshd.bench.kernel_records import KernelRecords
from meshd.model.config import PathExact, PathMatch, PathPrefix
from tests.support.mesh_node import MeshNode

SERVICES, ROUTES_EACH, FLOWS = 1_000, 10, 10_000
PATH = "item/7/of/many"
"""That is asked for on both nodes: by the route of /item/7 where there is one."""
_ITEMS = ROUTES_EACH - 2
_IDLE_PORT = SERVER_PORT + 1
"""Of a second server, so that the first has no more connections on one node than on the other."""
_WORKERS = 2
"""A flow takes two files of its worker's, which commonly may have 20,000."""
_OPEN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ScaleNode:
    """A running node."""

    target: Target
    server: int
    """The pid of the server that is measured."""
    records: KernelRecords


def _vip(i: int) -> str:
    return f"10.78.{i // 200}.{i % 200 + 1}"


def _services() -> list[Service]:
    """SERVICES services of ROUTES_EACH routes, the measured one in their midst."""
    paths: tuple[PathMatch, ...] = (
        *(PathPrefix(f"/item/{i}") for i in range(_ITEMS)),
        PathExact("/health"),
        PathPrefix("/"),
    )
    every = [Service(f"s{i}", _vip(i), (SERVER_ADDRESS, _IDLE_PORT), paths=paths) for i in range(SERVICES)]
    middle = SERVICES // 2
    every[middle] = Service("web", _vip(middle), (SERVER_ADDRESS, SERVER_PORT), paths=paths)
    return every


@contextlib.contextmanager
def _node(directory: Path, name: str, services: Sequence[Service]) -> Iterator[tuple[Network, MeshNode, int]]:
    with contextlib.ExitStack() as stack:
        cgroup = stack.enter_context(cgroups.made(f"mb-{directory.name}-{name}"))
        network = stack.enter_context(Network(cgroup))
        server = stack.enter_context(targets.nginx(network, directory, network.server))
        stack.enter_context(targets.nginx(network, directory, network.server, _IDLE_PORT))
        options = ("--workers", str(_WORKERS))
        node = stack.enter_context(meshd_target.agent(network, directory, services, *options))
        yield network, node, server


@contextlib.contextmanager
def one_of_each(directory: Path) -> Iterator[ScaleNode]:
    """One service with one route, and no flows but those of the measurement."""
    service = Service("web", VIP, (SERVER_ADDRESS, SERVER_PORT))
    with _node(directory, "one", [service]) as (network, node, server):
        target = meshd_target.target("one of each", network, service, node)
        yield ScaleNode(target, server, KernelRecords(node.instance))


@contextlib.contextmanager
def loaded(directory: Path) -> Iterator[ScaleNode]:
    """All of it. The flows are keep-alive connections that have had one answer. Raises LoadError."""
    services = _services()
    measured = services[SERVICES // 2]
    others = [service.address for service in services if service is not measured]
    with _node(directory, "loaded", services) as (network, node, server):
        target = meshd_target.target("loaded", network, measured, node)
        with _idle_flows(network, directory, others):
            yield ScaleNode(target, server, KernelRecords(node.instance))


@contextlib.contextmanager
def _idle_flows(network: Network, directory: Path, addresses: Sequence[str]) -> Iterator[None]:
    file = directory / "addresses"
    file.write_text("\n".join(addresses))
    program = str(Path(__file__).with_name("idle_flows.py"))
    with network.entered(network.client):
        process = subprocess.Popen(
            [sys.executable, program, str(FLOWS), str(_ITEMS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(f"{file}\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], _OPEN_SECONDS)
            if not ready:
                raise load.LoadError(f"{FLOWS} connections were not open after {_OPEN_SECONDS:g} s")
            if process.stdout.readline().strip() != "open":
                raise load.LoadError(f"the extra connections failed: {process.stderr.read()}")
            yield
        finally:
            process.kill()
