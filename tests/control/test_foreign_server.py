"""The agent's client with an ADS server that is not ours: it knows the state of the world only.

Its resources are written by hand, as such a server's users would. It follows Envoy's rules of the protocol:
stale nonces are not answered, nor is who has all already; of clusters and listeners a response has all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import any_pb2, json_format

from meshd.agent.ads import AdsClient
from meshd.agent.control_plane import ControlPlane
from meshd.xds.interest import Want
from meshd.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG
from tests.control.running import Agent, until

Objects = Mapping[str, object]
_WHOLE = (CLUSTER, LISTENER)


def cluster(name: str) -> Objects:
    ads = {"ads": {}, "resourceApiVersion": "V3"}
    return {"name": name, "type": "EDS", "edsClusterConfig": {"edsConfig": ads}, "connectTimeout": "1s"}


def endpoints(name: str, address: str) -> Objects:
    where = {"address": {"socketAddress": {"address": address, "portValue": 8080}}}
    return {"clusterName": name, "endpoints": [{"lbEndpoints": [{"endpoint": where}]}]}


def listener(name: str, vip: str, port: int = 80) -> Objects:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "statPrefix": name,
        "rds": {"routeConfigName": name, "configSource": {"ads": {}, "resourceApiVersion": "V3"}},
        "httpFilters": [
            {
                "name": "envoy.filters.http.router",
                "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typedConfig": manager}]}
    where = {"socketAddress": {"address": vip, "portValue": port}}
    return {"name": name, "address": where, "bindToPort": False, "filterChains": [chain]}


def routes(name: str, to: str) -> Objects:
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": to}}]}
    return {"name": name, "virtualHosts": [host]}


def service(name: str, number: int) -> dict[str, dict[str, Objects]]:
    """By type and name."""
    return {
        CLUSTER: {name: cluster(name)},
        ENDPOINTS: {name: endpoints(name, f"10.1.0.{number}")},
        LISTENER: {name: listener(name, f"10.96.0.{number}")},
        ROUTE_CONFIG: {name: routes(name, name)},
    }


@dataclass
class _Stream:
    """What a client has asked for, and been given, by type."""

    names: dict[str, frozenset[str]] = field(default_factory=dict)
    nonces: dict[str, str] = field(default_factory=dict)
    given: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)


class StateOfTheWorldOnly(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    """The server. ``publish`` replaces all that it has."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Objects]] = {}
        self.version = 0
        self.asked: dict[str, frozenset[str]] = {}
        """What the client asks for now, by type."""
        self.refusals: list[str] = []
        self.nodes: list[str] = []
        self._changed = asyncio.Condition()
        self._count = 0

    async def publish(self, *services: Mapping[str, Mapping[str, Objects]]) -> None:
        async with self._changed:
            self.version += 1
            self.objects = {}
            for each in services:
                for type_url, objects in each.items():
                    self.objects.setdefault(type_url, {}).update(objects)
            self._changed.notify_all()

    async def StreamAggregatedResources(  # noqa: N802
        self,
        requests: AsyncIterator[discovery_pb2.DiscoveryRequest],
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        stream = _Stream()
        reading = asyncio.create_task(self._read(requests, stream))
        try:
            while not reading.done():
                async with self._changed:
                    responses = [each for each in map(self._response, [stream] * 4, _ORDER) if each]
                    if not responses:
                        await self._changed.wait()
                for response in responses:
                    yield response
        finally:
            reading.cancel()

    async def _read(self, requests: AsyncIterator[discovery_pb2.DiscoveryRequest], stream: _Stream) -> None:
        async for request in requests:
            async with self._changed:
                if request.node.id:
                    self.nodes.append(request.node.id)
                if request.response_nonce != stream.nonces.get(request.type_url, ""):
                    continue  # stale
                if request.HasField("error_detail"):
                    self.refusals.append(request.error_detail.message)
                names = frozenset(request.resource_names)
                stream.names[request.type_url] = self.asked[request.type_url] = names
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    def _response(self, stream: _Stream, type_url: str) -> discovery_pb2.DiscoveryResponse | None:
        if type_url not in stream.names:
            return None
        names = stream.names[type_url]
        if stream.given.get(type_url) == (self.version, names):
            return None
        stream.given[type_url] = self.version, names
        wildcard = type_url in _WHOLE and not names
        objects = self.objects.get(type_url, {})
        self._count += 1
        stream.nonces[type_url] = str(self._count)
        response = discovery_pb2.DiscoveryResponse(
            version_info=str(self.version), type_url=type_url, nonce=stream.nonces[type_url]
        )
        for name, each in objects.items():
            if wildcard or name in names:
                typed = {"@type": type_url, **each}
                response.resources.append(json_format.ParseDict(typed, any_pb2.Any()))
        return response


_ORDER = (CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG)


@contextlib.asynccontextmanager
async def serving(foreign: StateOfTheWorldOnly, socket: Path) -> AsyncIterator[None]:
    server = grpc.aio.server()
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(foreign, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def agent_of(socket: Path, everything: bool) -> AsyncIterator[Agent]:
    control = ControlPlane(targets=(f"unix:{socket}",))
    node = Agent(control)
    if not everything:
        node.client = AdsClient(control, "node1", {"version": "test"}, node._on_change, everything=False)
    task = asyncio.create_task(node.client.run())
    try:
        yield node
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "ads.sock"


def test_all_that_it_has(socket: Path) -> None:
    """Everything comes, changes, and goes; what is refused keeps its last good version."""

    async def run() -> None:
        foreign = StateOfTheWorldOnly()
        await foreign.publish(service("a", 1), service("b", 2))
        async with serving(foreign, socket), agent_of(socket, everything=True) as node:
            await until(lambda: node.client.synced, "all of it")
            assert node.snapshot.listeners.keys() == node.snapshot.clusters.keys() == {"a", "b"}
            assert node.endpoints("a") == ["10.1.0.1"]
            assert foreign.nodes == ["node1"]
            assert foreign.asked[LISTENER] == foreign.asked[CLUSTER] == frozenset()
            assert foreign.asked[ENDPOINTS] == foreign.asked[ROUTE_CONFIG] == {"a", "b"}

            moved = service("a", 1) | {ENDPOINTS: {"a": endpoints("a", "10.1.0.9")}}
            await foreign.publish(moved, service("b", 2))
            await until(lambda: node.endpoints("a") == ["10.1.0.9"], "the change")

            bad = service("b", 2)
            bad[CLUSTER]["b"] = {**cluster("b"), "lbPolicy": "CLUSTER_PROVIDED"}
            await foreign.publish(moved, bad)
            await until(lambda: foreign.refusals, "the refusal")
            assert foreign.refusals[0].startswith("b: ")
            assert node.snapshot.clusters.keys() == {"a", "b"}

            await foreign.publish(service("b", 2))
            await until(lambda: node.snapshot.listeners.keys() == {"b"}, "the removal of the listener")
            await until(lambda: node.snapshot.clusters.keys() == {"b"}, "the removal of the cluster")
            await until(lambda: not node.client.refused, "a good version")

    asyncio.run(run())


def test_what_is_wanted(socket: Path) -> None:
    """On demand: by name, and no more when it is not wanted any more."""

    async def run() -> None:
        foreign = StateOfTheWorldOnly()
        await foreign.publish(service("a", 1), service("b", 2))
        async with serving(foreign, socket), agent_of(socket, everything=False) as node:
            await until(lambda: node.client.synced, "the listeners")
            assert node.snapshot.listeners.keys() == {"a", "b"}
            assert not node.snapshot.clusters
            assert CLUSTER not in foreign.asked

            node.client.want(["a"], Want.USED)
            await until(lambda: node.endpoints("a") == ["10.1.0.1"], "what is wanted")
            assert foreign.asked[CLUSTER] == foreign.asked[ROUTE_CONFIG] == {"a"}
            node.client.want(["b"], Want.USED)
            await until(lambda: node.endpoints("b") == ["10.1.0.2"], "more of it")
            node.client.want(["a"], Want.KNOWN)
            await until(lambda: node.snapshot.clusters.keys() == {"b"}, "less of it")
            await until(lambda: foreign.asked[CLUSTER] == {"b"}, "to be told")

            await foreign.publish(service("a", 1), service("b", 3))
            await until(lambda: node.endpoints("b") == ["10.1.0.3"], "a change of it")

    asyncio.run(run())


def holds(node: Agent, names: set[str]) -> Callable[[], bool]:
    return lambda: node.snapshot.listeners.keys() == node.snapshot.clusters.keys() == names


def test_a_server_that_comes_back(socket: Path) -> None:
    """What has gone meanwhile goes when it is there again; what is still there is not put into force anew."""

    async def run() -> None:
        async with agent_of(socket, everything=True) as node:
            for services, names in (
                ((service("a", 1), service("b", 2)), {"a", "b"}),
                ((service("b", 2),), {"b"}),
            ):
                foreign = StateOfTheWorldOnly()
                await foreign.publish(*services)
                async with serving(foreign, socket):
                    await until(holds(node, names), "them")
            changed = {each.name for delta in node.deltas[-2:] for each in delta.clusters}
            assert "b" not in changed

    asyncio.run(run())
