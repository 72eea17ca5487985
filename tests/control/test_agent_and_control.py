"""From an edited file to a delta at the agent, over real gRPC; and all that can go wrong between."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from meshd.control.server import AdsServer
from meshd.model.listeners import Protocol
from meshd.xds import encode
from meshd.xds.resources import CLUSTER, Resource, ResourceSet, pack
from tests.control.running import Agent, agent, control, until, web
from tests.xds.example import cluster, resources, service

WEB = "default/web:80"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    path = tmp_path / "manifests"
    path.mkdir()
    (path / "web.yaml").write_text(web())
    return path


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


def test_edit_reaches_the_agent_as_what_changed(manifests: Path, socket: Path) -> None:
    async def run() -> None:
        async with control(manifests, socket), agent(socket) as node:
            await until(lambda: node.client.synced and node.status.objects, "the first config")
            assert node.snapshot.listeners[WEB].protocol is Protocol.HTTP
            assert node.endpoints() == ["10.1.0.1"]
            assert node.status.objects[0].parents[0].conditions[0].status
            for n in range(2, 7):
                node.deltas.clear()
                (manifests / "web.yaml").write_text(web(f"10.1.0.{n}"))
                await until(node.has_endpoint(f"10.1.0.{n}"), "the new endpoint")
                (changed,) = node.deltas
                assert [e.name for e in changed.endpoints] == [WEB]
                assert changed.listeners == ()
                assert changed.route_configs == ()
                assert changed.clusters == ()

    asyncio.run(run())


def test_each_node_gets_its_own_priorities(manifests: Path, socket: Path) -> None:
    near = "\n".join(
        f"- {{addresses: [10.1.0.{i}], zone: {zone}, nodeName: node{i}}}"
        for i, zone in enumerate(("a", "a", "b"), start=1)
    )

    def text(preference: str) -> str:
        spec = web().replace("ports: [{port: 80}]", f"ports: [{{port: 80}}], {preference}", 1)
        return spec.replace("endpoints: [{addresses: [10.1.0.1]}]", f"endpoints:\n{near}")

    def priorities(node: Agent) -> list[int]:
        found = node.snapshot.endpoints.get(WEB)
        return [each.priority for each in found.endpoints] if found else []

    async def run() -> None:
        file = manifests / "web.yaml"
        file.write_text(text("trafficDistribution: PreferSameNode"))
        async with control(manifests, socket), agent(socket, "node1") as one, agent(socket, "node3") as three:
            await until(lambda: priorities(one) == [0, 1, 2], "node1's order")
            await until(lambda: priorities(three) == [1, 1, 0], "node3's order")
            file.write_text(text("internalTrafficPolicy: Local"))
            await until(lambda: one.endpoints() == ["10.1.0.1"], "node1's endpoint")
            await until(lambda: three.endpoints() == ["10.1.0.3"], "node3's endpoint")
            file.write_text(text("type: ClusterIP"))
            await until(lambda: priorities(one) == priorities(three) == [0, 0, 0], "no order")

    asyncio.run(run())


def test_services_come_and_go(manifests: Path, socket: Path) -> None:
    async def run() -> None:
        async with control(manifests, socket), agent(socket) as node:
            await until(lambda: node.client.synced, "the first config")
            (manifests / "other.yaml").write_text(web(name="other", vip="10.96.0.2"))
            await until(lambda: len(node.snapshot.listeners) == 2, "the other service")
            (manifests / "web.yaml").unlink()
            await until(lambda: set(node.snapshot.clusters) == {"default/other:80"}, "its end")
            for part in (node.snapshot.listeners, node.snapshot.route_configs, node.snapshot.endpoints):
                assert set(part) == {"default/other:80"}

    asyncio.run(run())


def test_bad_edits_leave_the_good_state_and_are_reported(
    manifests: Path, socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> None:
        async with control(manifests, socket), agent(socket) as node:
            await until(lambda: node.client.synced, "the first config")
            good = node.snapshot.route_configs[WEB]
            file = manifests / "web.yaml"
            for text, problem in (
                ("{", "web.yaml File web.yaml: "),
                (web(path="nonsense"), "web.yaml HTTPRoute web: spec.rules[0].matches[0].path.value"),
                (
                    web().replace("backendRefs", "sessionPersistence: {sessionName: ' '}\n    backendRefs"),
                    "web.yaml HTTPRoute web: spec.rules[0].sessionPersistence.sessionName",
                ),
            ):
                file.write_text(text)
                await until(node.has_problem(problem), problem)
                assert node.snapshot.route_configs[WEB] == good
                assert node.endpoints() == ["10.1.0.1"]
            file.write_text(web(path="/new"))
            await until(lambda: not node.problems(), "no problems")
            assert node.snapshot.route_configs[WEB] != good

    asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records if record.name == "meshd.control"]
    appeared = [line for line in lines if line.startswith("problem file=web.yaml")]
    assert (
        len(appeared) == len(set(appeared)) == 5
    )  # three errors, and of two objects that an older version stays
    assert sum(line.startswith('"problem gone"') for line in lines) == 5


def test_control_plane_goes_and_comes_back(manifests: Path, socket: Path) -> None:
    async def run() -> None:
        async with agent(socket) as node:
            async with control(manifests, socket):
                await until(lambda: node.client.synced and node.status.objects, "the first config")
            await until(lambda: not node.client.connected, "the loss")
            assert node.client.last_error
            assert node.endpoints() == ["10.1.0.1"]
            responses, deltas = node.client.responses, len(node.deltas)
            # Nothing changed meanwhile: nothing is sent.
            async with control(manifests, socket):
                await until(lambda: node.client.connected, "the second stream")
                (manifests / "web.yaml").write_text(web("10.1.0.2"))
                await until(lambda: node.endpoints() == ["10.1.0.2"], "the change")
                assert node.client.responses == responses + 1
                (changed,) = node.deltas[deltas:]
                assert not changed.clusters
                assert not changed.listeners
            # Something changed while it was away: only that is sent.
            (manifests / "web.yaml").write_text(web("10.1.0.3"))
            await until(lambda: not node.client.connected, "the loss")
            async with control(manifests, socket):
                await until(lambda: node.endpoints() == ["10.1.0.3"], "the change made meanwhile")
                assert not node.deltas[-1].clusters

    asyncio.run(run())


def test_several_agents_each_get_all(manifests: Path, socket: Path) -> None:
    async def run() -> None:
        async with control(manifests, socket) as plane, agent(socket) as one, agent(socket) as two:
            await until(lambda: one.client.synced and two.client.synced, "both")
            assert dict(one.snapshot.listeners) == dict(two.snapshot.listeners) != {}
            assert sorted(stream.node for stream in plane.server.streams) == ["node1", "node1"]

    asyncio.run(run())


def tampered() -> ResourceSet:
    """Service a as it is, and b with a cluster that asks for load reports."""
    good = resources(service("a", "b"))
    message = encode.cluster(cluster("b"))
    message.lrs_server.SetInParent()
    bad: dict[str, Resource] = {**good.of(CLUSTER), "b": pack("b", message, cluster("b"))}
    return ResourceSet("v", {**good.by_type, CLUSTER: bad})


def test_unsupported_resource_is_refused_by_name_and_the_rest_taken(socket: Path) -> None:
    async def run() -> None:
        server = AdsServer()
        server.listen(f"unix:{socket}")
        await server.start()
        server.publish(tampered())
        async with agent(socket) as node:
            await until(lambda: server.nacks and node.client.synced, "the refusal")
            assert node.client.refused == {"CDS b": "lrs_server: not supported"}
            assert node.client.nacks == 1
            assert set(node.snapshot.clusters) == {"a"}
            (stream,) = server.streams
            assert stream.rejections["CDS"].message == "b: lrs_server: not supported"
            server.publish(resources(service("a", "b")))
            await until(lambda: set(node.snapshot.clusters) == {"a", "b"}, "the mended cluster")
            assert node.client.refused == {}
            assert stream.rejections == {}
        await server.stop()

    asyncio.run(run())


def test_change_that_cannot_be_applied_is_refused_and_made_good_later(manifests: Path, socket: Path) -> None:
    async def run() -> None:
        async with control(manifests, socket) as plane, agent(socket) as node:
            await until(lambda: node.client.synced, "the first config")
            node.full = True
            (manifests / "web.yaml").write_text(web("10.1.0.2"))
            await until(lambda: plane.server.nacks, "the refusal")
            assert node.endpoints() == ["10.1.0.1"]
            assert "the map is full" in node.client.last_error
            node.full = False
            (manifests / "other.yaml").write_text(web(name="other", vip="10.96.0.2"))
            await until(lambda: node.endpoints() == ["10.1.0.2"], "the change of before")

    asyncio.run(run())


def test_empty_directory_is_a_config(tmp_path: Path, socket: Path) -> None:
    async def run() -> None:
        async with control(tmp_path, socket), agent(socket) as node:
            await until(lambda: node.client.synced, "an empty config")
            assert node.snapshot.as_delta().listeners == ()

    asyncio.run(run())
