"""A control plane and an agent's client, in this process and over real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from meshd.agent.ads import AdsClient, NotAppliedError
from meshd.agent.control_plane import ControlPlane
from meshd.control.control import Control, Options
from meshd.control.directory import Directory
from meshd.control.source import Source
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.status import ConfigStatus

DEADLINE = 60.0


async def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition. Raises AssertionError when it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def control(source: Path | Source, socket: Path) -> AsyncIterator[Control]:
    """A running control plane, of manifests in a folder or of another source."""
    stop = asyncio.Event()
    plane = Control(Options(Directory(source) if isinstance(source, Path) else source, (f"unix:{socket}",)))
    task = asyncio.create_task(plane.run(stop))
    try:
        await until(lambda: plane.resources.version or task.done(), "the first version")
        yield plane
    finally:
        stop.set()
        await task


class Agent:
    """What an agent does with its client: keeps all it is told."""

    def __init__(self, control: ControlPlane, node: str = "node1") -> None:
        self.client = AdsClient(control, node, {"version": "test"}, self._on_change)
        self.deltas: list[Delta] = []
        self.snapshot = Snapshot()
        self.full = False
        """Refuse changes."""

    async def _on_change(self, delta: Delta) -> None:
        if self.full:
            raise NotAppliedError("the map is full")
        self.deltas.append(delta)
        self.snapshot = self.snapshot.apply(delta)

    @property
    def status(self) -> ConfigStatus:
        return self.client.status

    def problems(self) -> list[str]:
        return [f"{o.source} {o.kind} {o.name}: {p.field}" for o in self.status.objects for p in o.problems]

    def has_problem(self, problem: str) -> Callable[[], bool]:
        return lambda: problem in self.problems()

    def has_endpoint(self, address: str) -> Callable[[], bool]:
        return lambda: self.endpoints() == [address]

    def endpoints(self, name: str = "default/web:80") -> list[str]:
        found = self.snapshot.endpoints.get(name)
        return [e.address for e in found.endpoints] if found else []


@contextlib.asynccontextmanager
async def agent(control: Path | str | ControlPlane, name: str = "node1") -> AsyncIterator[Agent]:
    """A running client of a control plane on a socket or an address, or one that is reached as told."""
    if not isinstance(control, ControlPlane):
        control = ControlPlane(targets=(f"unix:{control}" if isinstance(control, Path) else control,))
    node = Agent(control, name)
    task = asyncio.create_task(node.client.run())
    try:
        yield node
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def web(address: str = "10.1.0.1", path: str = "/", name: str = "web", vip: str = "10.96.0.1") -> str:
    """A Service, its EndpointSlice and an HTTPRoute, as YAML."""
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: {vip}, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{{addresses: [{address}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{group: "", kind: Service, name: {name}}}]
  rules:
  - matches: [{{path: {{value: {path}}}}}]
    backendRefs: [{{name: {name}, port: 80}}]
"""
