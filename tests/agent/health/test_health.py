"""Probes of real servers and reports of workers, and what they make of the config."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshd.agent.health.health import EndpointHealth
from meshd.agent.health.marks import By
from meshd.agent.health.prober import MAX_AT_A_TIME
from meshd.model.cluster_policies import GrpcProbe, HealthCheck, HttpProbe, Outlier, TcpProbe
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.listeners import Listener, Protocol
from meshd.model.outcomes import EndpointTally, Tally
from meshd.model.snapshot import Delta, Snapshot
from tests.control.running import until
from tests.support.moody_server import Mood, MoodyServer, moody_server

HTTP = HealthCheck(
    probe=HttpProbe(path="/healthz", host="web.test"),
    interval=0.02,
    timeout=1.0,
    unhealthy_after=2,
    healthy_after=2,
)
NAMESPACES = frozenset(("shop",))


def _snapshot(
    check: HealthCheck | None, *ports: int, outlier: Outlier | None = None, health: Health = Health.HEALTHY
) -> Snapshot:
    listener = Listener(
        name="ns/web:80", service="ns/web", addresses=("10.96.0.1",), port=80, protocol=Protocol.TCP,
        cluster="ns/web:80",
    )  # fmt: skip
    endpoints = tuple(Endpoint(address="127.0.0.1", port=port, health=health) for port in ports)
    return Snapshot(
        1,
        {"ns/web:80": listener},
        {},
        {"ns/web:80": Cluster(name="ns/web:80", health_check=check, outlier=outlier)},
        {"ns/web:80": EndpointSet(name="ns/web:80", endpoints=endpoints)},
    )


class Node:
    """An EndpointHealth, and the config that follows from it, as an agent puts it into force."""

    def __init__(self, health: EndpointHealth) -> None:
        self.health = health
        self.received = Snapshot()
        self.in_force = Snapshot()

    def take(self, received: Snapshot) -> None:
        self.received = received
        self.health.follow(received, self.in_force, NAMESPACES)
        self.apply()

    def apply(self) -> None:
        self.in_force = self.health.marked(self.received)

    def usable(self) -> set[int]:
        if self.health.changed.is_set():
            self.health.changed.clear()
            self.apply()
        found = self.in_force.endpoints["ns/web:80"].endpoints
        return {each.port for each in found if each.health is Health.HEALTHY}

    def reason(self, port: int) -> str:
        mark = self.health.marks().get("ns/web:80", {}).get(("127.0.0.1", port))
        return mark.reason if mark is not None else ""

    def report(self, port: int, *statuses: int) -> None:
        tally = Tally()
        for status in statuses:
            tally.count(status, 0.01)
        self.health.take((EndpointTally("ns/web:80", "127.0.0.1", port, tally),))


@contextlib.asynccontextmanager
async def _node(folder: Path) -> AsyncIterator[Node]:
    health = EndpointHealth(folder / "health.msgpack")
    running = asyncio.create_task(health.run())
    try:
        yield Node(health)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _run(scenario: Callable[[Node, MoodyServer], Awaitable[None]], folder: Path) -> None:
    async def main() -> None:
        async with moody_server() as server, _node(folder) as node:
            await scenario(node, server)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        (503, "HTTP status 503"),
        (301, "HTTP status 301"),
        (Mood.SILENT, "no answer within 1 s"),
        (Mood.HANGS_UP, "the connection was closed before an answer came"),
        (Mood.RUDE, "the answer is not HTTP"),
    ],
)
def test_an_endpoint_that_fails_is_left_out_until_it_is_well(
    tmp_path: Path, mood: Mood | int, reason: str
) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        node.take(_snapshot(HTTP, server.port))
        assert node.usable() == {server.port}
        server.mood = mood
        await until(lambda: not node.usable(), "left out")
        assert node.reason(server.port).startswith(reason)
        server.mood = 200
        await until(lambda: node.usable() == {server.port}, "taken back")
        assert node.health.probes["failed"] > 0
        assert node.health.probes["passed"] > 1

    _run(scenario, tmp_path)


def test_what_a_probe_asks(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        node.take(_snapshot(HTTP, server.port))
        await until(lambda: server.heads, "a probe")
        lines = server.heads[0].lower().split("\r\n")
        assert lines[0] == "get /healthz http/1.1"
        assert {"host: web.test", "user-agent: meshd-probe"} <= set(lines)

    _run(scenario, tmp_path)


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Says of each service what it is told to, of others that it does not know them."""

    def __init__(self) -> None:
        self.statuses: dict[str, health_pb2.HealthCheckResponse.ServingStatus] = {}
        self.metadata: dict[str, str | bytes] = {}
        """Of the last call."""

    async def Check(  # noqa: N802 - gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        self.metadata = dict(context.invocation_metadata() or ())
        if request.service not in self.statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "who?")
        return health_pb2.HealthCheckResponse(status=self.statuses[request.service])


@contextlib.asynccontextmanager
async def _grpc_server() -> AsyncIterator[tuple[int, _Health]]:
    servicer, server = _Health(), grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, servicer
    finally:
        await server.stop(None)


def test_grpc_probes_ask_for_the_health_of_a_service(tmp_path: Path) -> None:
    status = health_pb2.HealthCheckResponse

    async def scenario(node: Node, _: MoodyServer) -> None:
        probe = GrpcProbe(service="demo.Echo", authority="web.test")
        async with _grpc_server() as (port, servicer):
            node.take(_snapshot(HealthCheck(probe=probe, interval=0.02, timeout=5.0), port))
            await until(lambda: not node.usable(), "left out")
            assert node.reason(port).startswith("gRPC status NOT_FOUND: who?")
            servicer.statuses["demo.Echo"] = status.SERVING
            await until(lambda: node.usable() == {port}, "taken back")
            servicer.statuses["demo.Echo"] = status.NOT_SERVING
            await until(lambda: not node.usable(), "left out again")
            assert node.reason(port) == "it says NOT_SERVING"
            assert "meshd-probe" in str(servicer.metadata["user-agent"])
            servicer.statuses["demo.Echo"] = status.SERVING
            await until(lambda: node.usable() == {port}, "taken back again")
        await until(lambda: not node.usable(), "gone")
        assert node.reason(port).startswith("gRPC status UNAVAILABLE")

    _run(scenario, tmp_path)


def test_a_server_without_grpc_fails_its_probe(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        node.take(_snapshot(HealthCheck(probe=GrpcProbe(), interval=0.02, timeout=0.5), server.port))
        await until(lambda: not node.usable(), "left out")

    _run(scenario, tmp_path)


def test_a_cluster_whose_name_is_no_host_is_asked_by_address(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        node.take(_snapshot(HealthCheck(probe=HttpProbe(path="/?a=%20"), interval=0.02), server.port))
        await until(lambda: server.heads, "a probe")
        assert server.heads[0].startswith("GET /?a=%20 HTTP/1.1\r\n")
        assert f"host: 127.0.0.1:{server.port}\r\n" in server.heads[0].lower()

    _run(scenario, tmp_path)


def test_a_probe_that_changes_is_made_in_its_new_time(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        node.take(_snapshot(HealthCheck(probe=HTTP.probe, interval=1000.0), server.port))
        node.take(_snapshot(HTTP, server.port))
        await until(lambda: node.health.probes["passed"], "a probe")

    _run(scenario, tmp_path)


def test_statuses_are_as_the_policy_says(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        probe = HttpProbe(path="/", statuses=((200, 299), (404, 404)))
        server.mood = 404
        node.take(_snapshot(HealthCheck(probe=probe, interval=0.02), server.port))
        await until(lambda: node.health.probes["passed"] > 1, "two probes")
        server.mood = 405
        await until(lambda: not node.usable(), "left out")

    _run(scenario, tmp_path)


def test_tcp_probes_want_a_connection_and_may_go_to_another_port(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        check = HealthCheck(probe=TcpProbe(), port=server.port, interval=0.02, unhealthy_after=2)
        node.take(_snapshot(check, 9))
        await until(lambda: node.health.probes["passed"] > 1, "two probes")
        assert node.usable() == {9}
        await server.stop()
        await until(lambda: not node.usable(), "left out")
        assert node.reason(9) == "Connection refused (ECONNREFUSED)"
        await server.start()
        await until(lambda: node.usable() == {9}, "taken back")

    _run(scenario, tmp_path)


def test_an_endpoint_may_have_a_port_of_its_own_for_probes(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        check = HealthCheck(probe=HTTP.probe, port=9, interval=0.02)
        received = _snapshot(check, 10)
        (one,) = received.endpoints["ns/web:80"].endpoints
        own = EndpointSet(
            name="ns/web:80", endpoints=(msgspec.structs.replace(one, health_port=server.port),)
        )
        node.take(received.apply(Delta(generation=2, endpoints=(own,))))
        await until(lambda: node.health.probes["passed"] > 1, "two probes")
        assert node.usable() == {10}

    _run(scenario, tmp_path)


def test_a_new_endpoint_gets_no_request_before_a_probe_has_passed(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        async with moody_server() as new:
            new.mood = Mood.SILENT
            # Nobody would be asked within a test, but that who is new is asked at once.
            check = HealthCheck(probe=HTTP.probe, interval=1000.0)
            node.take(_snapshot(check, server.port))
            assert node.usable() == {server.port}
            node.take(_snapshot(check, server.port, new.port))
            assert node.usable() == {server.port}
            assert node.reason(new.port) == "not probed yet"
            await until(lambda: new.open, "a probe")
            node.take(_snapshot(HTTP, server.port))
            new.mood = 200
            node.take(_snapshot(check, server.port, new.port))
            await until(lambda: node.usable() == {server.port, new.port}, "taken")

    _run(scenario, tmp_path)


def test_who_is_of_no_use_to_a_workload_of_the_node_is_not_probed(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        received = _snapshot(HealthCheck(probe=HTTP.probe, interval=0.001), server.port)
        node.health.follow(received, received, ())
        assert node.health.probed_endpoints == 0
        node.health.follow(received, received, NAMESPACES)
        assert node.health.probed_endpoints == 1
        await until(lambda: node.health.probes["passed"], "a probe")
        node.health.follow(received, received, ())
        assert node.health.probed_endpoints == 0
        async with moody_server() as other:
            others = _snapshot(HealthCheck(probe=HTTP.probe, interval=0.001), other.port)
            node.health.follow(others, others, NAMESPACES)
            await until(lambda: other.connections > 2, "probes of the other one")
            asked = server.connections
            await until(lambda: other.connections > 10, "more of them")
            assert server.connections == asked

    _run(scenario, tmp_path)


def test_so_many_probes_are_out_at_a_time(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        server.mood = Mood.SILENT
        check = HealthCheck(probe=HTTP.probe, port=server.port, interval=0.01, timeout=30.0)
        node.take(_snapshot(check, *range(1, 1 + 2 * MAX_AT_A_TIME)))
        await until(lambda: server.open == MAX_AT_A_TIME, "as many as may be")
        server.mood = 200
        # They find no room before those that are out are given up, as nobody wants to know any more.
        node.take(_snapshot(check, 1000, 1001))
        await until(lambda: node.health.probes["passed"] >= 4, "others' probes")
        assert server.most_open == MAX_AT_A_TIME

    _run(scenario, tmp_path)


def test_who_answers_badly_is_ejected_and_comes_back(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        policy = Outlier(consecutive_5xx=2, interval=0.02, ejection_time=0.05)
        node.take(_snapshot(None, 1, 2, outlier=policy))
        assert node.usable() == {1, 2}
        node.report(1, 200, 500)
        assert node.usable() == {1, 2}
        node.report(1, 502)
        assert node.usable() == {2}
        assert node.reason(1) == "2 answers of 5xx in a row (consecutive_5xx)"
        await until(lambda: node.usable() == {1, 2}, "back")
        assert node.health.ejections.ejections.total() == 1
        node.take(_snapshot(None, 1, 2))
        node.report(1, 500, 500, 500)
        assert node.usable() == {1, 2}

    _run(scenario, tmp_path)


def test_a_passed_probe_ends_an_ejection(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        node.take(_snapshot(HTTP, server.port, outlier=Outlier(consecutive_5xx=1, ejection_time=1000.0)))
        node.report(server.port, 500)
        assert not node.usable()
        await until(lambda: node.usable() == {server.port}, "back")

    _run(scenario, tmp_path)


def test_the_next_agent_goes_on_with_what_was_known(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        server.mood = 500
        policy = Outlier(consecutive_5xx=1, ejection_time=1000.0)
        received = _snapshot(HTTP, server.port, outlier=policy)
        node.take(received)
        await until(lambda: not node.usable(), "left out")
        await node.health.keep()

        server.mood = Mood.SILENT
        async with _node(tmp_path) as after:
            after.in_force = node.in_force
            restored = after.health.restore(node.in_force)
            assert restored.endpoints == received.endpoints
            after.take(restored)
            assert not after.usable()
            server.mood = 200
            await until(lambda: after.usable() == {server.port}, "taken back")
            mark = after.health.marks()
            assert not mark

    _run(scenario, tmp_path)


def test_the_next_agent_goes_on_with_an_ejection(tmp_path: Path) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        policy = Outlier(consecutive_5xx=1, ejection_time=2.0, interval=0.02)
        received = _snapshot(None, 1, 2, outlier=policy)
        node.take(received)
        node.report(1, 500)
        assert node.usable() == {2}
        await node.health.keep()
        async with _node(tmp_path) as after:
            after.in_force = node.in_force
            after.take(after.health.restore(node.in_force))
            assert after.usable() == {2}
            assert after.health.marks()["ns/web:80"]["127.0.0.1", 1].by is By.EJECTION
            await until(lambda: after.usable() == {1, 2}, "back")

    _run(scenario, tmp_path)


@pytest.mark.parametrize("kept", [b"", b"\xc1", b"\x91\x01"])
def test_kept_health_that_is_unreadable_is_left_alone(tmp_path: Path, kept: bytes) -> None:
    async def scenario(node: Node, server: MoodyServer) -> None:
        (tmp_path / "health.msgpack").write_bytes(kept)
        received = _snapshot(HTTP, 1)
        assert node.health.restore(received) is received

    _run(scenario, tmp_path)
