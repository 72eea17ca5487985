"""From objects on a Kubernetes API server to a delta at the agent, and back to the routes' statuses."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from meshd.control.cluster_source import RESOURCES, ClusterSource
from meshd.gateway.written_status import CONTROLLER
from meshd.kube_api.access import Access
from meshd.kube_api.credentials import Credential, Fixed
from meshd.model.routes import DirectResponse
from tests.control.running import agent, control, until
from tests.kube_api.server import Server

WEB = "default/web:80"
OTHERS = {
    "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"},
    "controllerName": "example.com/other",
    "conditions": [],
}


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def _source(server: Server, identity: str = "one", namespace: str = "") -> ClusterSource:
    access = Access(server.url, "meshd-system", Fixed(Credential(token="t")))
    return ClusterSource(access, identity, namespace)


async def _service(server: Server, name: str = "web", vip: str = "10.96.0.1", *addresses: str) -> None:
    ports = [{"port": 80, "targetPort": 8080, "protocol": "TCP", "name": "http", "appProtocol": "http"}]
    await server.put("services", name, spec={"clusterIP": vip, "clusterIPs": [vip], "ports": ports})
    await _slice(server, name, *(addresses or ("10.1.0.1",)))


async def _slice(server: Server, name: str, *addresses: str) -> None:
    await server.put(
        "endpointslices",
        f"{name}-x",
        labels={"kubernetes.io/service-name": name},
        addressType="IPv4",
        endpoints=[{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
        ports=[{"name": "http", "port": 8080, "protocol": "TCP"}],
    )


async def _route(server: Server, backend: str = "web", status: Any = None) -> None:
    spec = {
        "parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}],
        "rules": [{"backendRefs": [{"name": backend, "port": 80}]}],
    }
    await server.put("httproutes", "r", spec=spec, **({"status": status} if status else {}))


def _conditions(server: Server) -> dict[str, str]:
    parents = server.objects["httproutes", "default", "r"].get("status", {}).get("parents", [])
    ours = [each for each in parents if each["controllerName"] == CONTROLLER]
    return {each["type"]: each["status"] for parent in ours for each in parent["conditions"]}


GOOD = {"Accepted": "True", "ResolvedRefs": "True"}


def test_objects_reach_the_agent_and_statuses_the_objects(socket: Path) -> None:
    async def run() -> None:
        server = Server()
        await _service(server)
        await _route(server, status={"parents": [OTHERS]})
        async with server.running(), control(_source(server), socket), agent(socket) as node:
            await until(node.has_endpoint("10.1.0.1"), "the first config")
            await until(lambda: WEB in node.snapshot.route_configs, "its routes")
            (route,) = node.snapshot.route_configs[WEB].virtual_hosts[0].routes
            assert route.name.startswith("default/r/")
            await until(lambda: _conditions(server) == GOOD, "the status")
            assert server.objects["httproutes", "default", "r"]["status"]["parents"][0] == OTHERS
            node.deltas.clear()
            await _slice(server, "web", "10.1.0.2")
            await until(node.has_endpoint("10.1.0.2"), "the new endpoint")
            (changed,) = node.deltas
            assert [each.name for each in changed.endpoints] == [WEB]
            assert (changed.listeners, changed.clusters, changed.route_configs) == ((), (), ())
            await _route(server, "nowhere")
            await until(lambda: _conditions(server) == {**GOOD, "ResolvedRefs": "False"}, "the new status")
            written = len(server.patches)
            await server.delete("httproutes", "r")
            await until(
                lambda: node.snapshot.route_configs[WEB].virtual_hosts[0].routes[0].name == "default",
                "the route's end",
            )
            assert len(server.patches) == written

    asyncio.run(run())


def test_policies_reach_the_agent_and_their_statuses_the_objects(socket: Path) -> None:
    def told(server: Server, name: str) -> list[tuple[str, str]]:
        status = server.objects["routepolicies", "default", name].get("status", {})
        return [
            (each["ancestorRef"]["name"], condition["reason"])
            for each in status.get("ancestors", [])
            for condition in each["conditions"]
        ]

    async def run() -> None:
        server = Server()
        await _service(server)
        target = {"group": "", "kind": "Service"}
        spec = {"targetRefs": [{**target, "name": "web"}], "directResponse": {"status": 418}}
        await server.put("routepolicies", "teapot", spec=spec)
        spec = {"targetRefs": [{**target, "name": "nowhere"}], "fastPath": "Disabled"}
        await server.put("routepolicies", "lost", spec=spec)
        spec = {"targetRefs": [{**target, "name": "web"}], "limits": {"requests": 5}}
        await server.put("upstreampolicies", "limits", spec=spec)
        async with server.running(), control(_source(server), socket), agent(socket) as node:
            await until(lambda: WEB in node.snapshot.route_configs, "the routes")
            await until(lambda: WEB in node.snapshot.clusters, "the cluster")
            (route,) = node.snapshot.route_configs[WEB].virtual_hosts[0].routes
            assert route.action == DirectResponse(status=418)
            assert route.policies == ("RoutePolicy default/teapot",)
            assert node.snapshot.clusters[WEB].limits.requests == 5
            await until(lambda: told(server, "teapot") == [("web", "Accepted")], "the status")
            await until(lambda: told(server, "lost") == [("nowhere", "TargetNotFound")], "the other's")

    asyncio.run(run())


def test_a_server_that_forgot_and_one_that_is_away_change_nothing(socket: Path) -> None:
    async def run() -> None:
        server = Server()
        await _service(server)
        async with server.running(), control(_source(server), socket) as plane, agent(socket) as node:
            await until(node.has_endpoint("10.1.0.1"), "the first config")
            await until(lambda: WEB in node.snapshot.listeners, "all of it")
            await until(lambda: len(server.open_watches) == len(RESOURCES), "the watches")
            version, lists = plane.resources.version, len(server.lists)
            node.deltas.clear()
            await server.put("namespaces", "default", "")
            await server.forget()
            await until(lambda: len(server.lists) >= lists + 4, "lists anew")
            await until(lambda: len(server.open_watches) == len(RESOURCES), "the watches")
            assert plane.resources.version == version
            assert node.deltas == []
            await _slice(server, "web", "10.1.0.3")
            await until(node.has_endpoint("10.1.0.3"), "a change after it")

    asyncio.run(run())


def test_one_namespace(socket: Path) -> None:
    async def run() -> None:
        server = Server()
        await _service(server)
        async with server.running(), contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(control(_source(server, namespace="default"), socket))
            node = await stack.enter_async_context(agent(socket))
            await until(node.has_endpoint("10.1.0.1"), "the first config")
            assert not any("namespaces" in path.split("/")[-1] for path in server.paths)
            assert all("/namespaces/" in path for path in server.paths)

    asyncio.run(run())


def test_all_replicas_serve_and_one_writes(tmp_path: Path) -> None:
    async def run() -> None:
        server = Server()
        await _service(server)
        await _route(server)
        first, second = tmp_path / "1.sock", tmp_path / "2.sock"
        async with server.running(), control(_source(server, "two"), second), agent(second) as node:
            async with control(_source(server, "one"), first), agent(first) as other:
                for each in (node, other):
                    await until(each.has_endpoint("10.1.0.1"), "the first config")
                await until(lambda: _conditions(server) == GOOD, "the status")
                lease = server.objects["leases", "meshd-system", "meshd-control"]["spec"]
                holder = lease["holderIdentity"]
                written = len(server.patches)
                assert written == 1
            if holder == "one":
                await until(lambda: _holder(server) == "two", "the other to lead")
            await _route(server, "nowhere")
            await until(lambda: _conditions(server) == {**GOOD, "ResolvedRefs": "False"}, "the new status")
        assert _holder(server) == ""

    asyncio.run(run())


def _holder(server: Server) -> str:
    lease = server.objects["leases", "meshd-system", "meshd-control"]["spec"]
    return str(lease.get("holderIdentity", ""))


def test_an_object_that_cannot_be_read_leaves_its_last_good_version(socket: Path) -> None:
    async def run() -> None:
        server = Server()
        await _service(server)
        async with server.running(), control(_source(server), socket), agent(socket) as node:
            await until(node.has_endpoint("10.1.0.1"), "the first config")
            await server.put("services", "web", spec={"clusterIP": "10.96.0.1", "ports": [{"port": 99999}]})
            await until(lambda: node.problems(), "the problem")
            assert node.snapshot.listeners[WEB].addresses == ("10.96.0.1",)

    asyncio.run(run())
