"""Agent, worker, kernel and control plane together: a node has what its workloads call, when they call it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import DirectResponse, Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Snapshot
from meshd.model.view import ExplainedRequest
from tests.support.ads_thread import AdsThread
from tests.support.http_bed import Server, eventually, get, ok, read_response, request_heads
from tests.support.mesh_node import MeshNode
from tests.support.netns import Namespace, namespace

SECONDS = 60.0
PODS = {"near": "10.244.0.5", "far": "10.244.0.6"}
"""By namespace: of a workload each."""
SERVER, PORT = "10.244.1.1", 8080
SERVICES = ("web", "backend", "idle", "later")
VIPS = {name: f"10.96.0.{i}" for i, name in enumerate(SERVICES, 1)}
OPAQUE = "10.96.0.99"


def _web(clusters: tuple[str, ...]) -> Snapshot:
    """Services that answer by ``SERVER``. Routes of web lead to the backend; for callers from far they answer
    by themselves, and so they do for those from a third namespace.
    """
    listeners = [
        Listener(
            name=name,
            service=f"default/{name}",
            addresses=(vip,),
            port=80,
            protocol=Protocol.HTTP,
            cluster=name,
            route_config=name,
            consumers=tuple((each, f"{name}/{each}") for each in ("far", "third") if name == "web"),
        )
        for name, vip in VIPS.items()
    ]
    listeners.append(
        Listener(
            name="opaque",
            service="default/opaque",
            addresses=(OPAQUE,),
            port=80,
            protocol=Protocol.TCP,
            cluster="opaque",
        )
    )
    routes = [_routes(name, _forward("backend" if name == "web" else name)) for name in SERVICES]
    routes += [_routes(f"web/{each}", DirectResponse(status=200, body=each)) for each in ("far", "third")]
    endpoint = Endpoint(address=SERVER, port=PORT)
    return Snapshot(
        1,
        {each.name: each for each in listeners},
        {each.name: each for each in routes},
        {name: Cluster(name=name) for name in clusters},
        {name: EndpointSet(name=name, endpoints=(endpoint,)) for name in clusters},
    )


def _forward(cluster: str) -> Forward:
    return Forward(clusters=(WeightedCluster(name=cluster),))


def _routes(name: str, action: Forward | DirectResponse) -> RouteConfig:
    host = VirtualHost(name=name, routes=(Route(name=name, action=action),))
    return RouteConfig(name=name, virtual_hosts=(host,))


class Bed(NamedTuple):
    ads: AdsThread
    node: MeshNode
    pods: dict[str, Namespace]

    def connect(self, pod: str, vip: str) -> socket.socket:
        with self.pods[pod].entered():
            return socket.create_connection((vip, 80), SECONDS)

    def asked(self, pod: str, vip: str) -> bytes:
        """The answer's body."""
        with self.connect(pod, vip) as client:
            client.sendall(get())
            head, body, _ = read_response(client)
            assert head.startswith(b"HTTP/1.1 200 "), head
            return body

    def used(self) -> set[str]:
        return {each.name for each in self.node.services() if each.used}

    def held(self) -> tuple[set[str], set[str]]:
        """The clusters whose endpoints the node has, and the routes."""
        return {each.cluster for each in self.node.endpoints()}, {each.name for each in self.node.routes()}


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    folder: Path = tmp_path_factory.mktemp("on-demand")
    with contextlib.ExitStack() as stack:
        pods = {name: stack.enter_context(namespace()) for name in PODS}
        for name, pod in pods.items():
            for address in (PODS[name], SERVER):
                pod.ip("address", "add", f"{address}/32", "dev", "lo")
            pod.ip("route", "add", "default", "dev", "lo")
            with pod.entered():
                server = Server(lambda sock: _serve(sock), SERVER, PORT)
            stack.callback(server.close)
        ads = stack.enter_context(AdsThread(folder / "ads.sock"))
        ads.publish(_web((*SERVICES, "opaque")))
        node = stack.enter_context(MeshNode(ads.target, seconds=SECONDS))
        for name, pod in pods.items():
            node.enrol(name, pod.path, PODS[name], namespace=name)
        node.wait_for_services([*SERVICES, "opaque"])
        yield Bed(ads, node, pods)


def _serve(sock: socket.socket) -> None:
    for _ in request_heads(sock):
        sock.sendall(ok(b"server"))


def test_a_node_holds_what_is_called_from_the_first_call_on(bed: Bed) -> None:
    assert bed.used() == set()
    assert bed.held() == (set(), set())

    assert bed.asked("near", VIPS["web"]) == b"server"
    assert bed.used() == {"web"}
    # The service's own cluster is for when no worker lives; the routes are those of who is on the node.
    assert bed.held() == ({"web", "backend"}, {"web", "web/far"})
    assert bed.asked("far", VIPS["web"]) == b"far"
    status = bed.node.status()
    assert (status.demand.asked, status.demand.fulfilled, status.demand.waiting) == (1, 1, 0)
    assert (status.demand.known, status.demand.used) == (5, 1)
    assert status.control.nacks == 0


def test_of_opaque_tcp_the_first_connection_is_relayed_and_later_ones_are_the_kernels(bed: Bed) -> None:
    before = bed.node.status().capture.counters
    assert bed.asked("near", OPAQUE) == b"server"
    eventually(lambda: "opaque" in bed.used(), SECONDS)
    first = bed.node.status().capture.counters
    assert (first["captured"] - before["captured"], first["balanced"] - before["balanced"]) == (1, 0)
    assert bed.asked("near", OPAQUE) == b"server"
    later = bed.node.status().capture.counters
    assert (later["captured"] - first["captured"], later["balanced"] - first["balanced"]) == (0, 1)


def test_a_route_that_moves_meets_a_cluster_that_is_there(bed: Bed) -> None:
    assert bed.asked("near", VIPS["web"]) == b"server"
    with bed.connect("near", VIPS["web"]) as client:
        for to in ("idle", "backend") * 3:
            config = _web((*SERVICES, "opaque"))
            routes = {**config.route_configs, "web": _routes("web", _forward(to))}
            bed.ads.publish(Snapshot(1, config.listeners, routes, config.clusters, config.endpoints))

            def is_held(to: str = to) -> bool:
                client.sendall(get())
                assert read_response(client)[1] == b"server"
                return bed.held()[0] - {"opaque"} == {"web", to}

            eventually(is_held, SECONDS)


def test_somebody_may_ask_about_a_service_that_nobody_uses(bed: Bed) -> None:
    assert "later" not in bed.used()
    found = bed.node.explanation(ExplainedRequest(service="default/later", method="GET", target="/"))
    assert found is not None
    assert (found.route, [each.healthy for each in found.clusters]) == ("later", [1])
    assert "later" in bed.used()
    third = ExplainedRequest(service="default/web", method="GET", target="/", namespace="third")
    found = bed.node.explanation(third)
    assert found is not None
    assert found.route == "web/third"


def test_after_an_agents_death_nothing_is_cold(bed: Bed) -> None:
    with bed.connect("near", VIPS["web"]) as client:
        for _ in range(2):
            client.sendall(get())
            assert read_response(client)[1] == b"server"
        bed.node.replace_agent()
        client.sendall(get())
        assert read_response(client)[1] == b"server"
    assert bed.asked("near", VIPS["web"]) == b"server"
    assert bed.asked("far", VIPS["web"]) == b"far"
    assert bed.node.status().demand.asked == 0
    # And what was cold can be asked of the new one.
    assert "idle" not in bed.used()
    assert bed.asked("far", VIPS["idle"]) == b"server"
    assert bed.node.status().demand.asked == 1


def test_what_is_used_no_more_goes_and_comes_back(bed: Bed) -> None:
    assert bed.asked("near", VIPS["idle"]) == b"server"
    with bed.connect("near", VIPS["web"]) as client:
        client.sendall(get())
        assert read_response(client)[1] == b"server"
        bed.node.replace_agent("--unused-after", "0.5", "--keep-unused", "0.5")
        # Whoever is connected uses it, whether he says something or not.
        eventually(lambda: bed.held() == ({"web", "backend"}, {"web", "web/far"}), SECONDS)
        assert bed.used() == {"web"}
        client.sendall(get())
        assert read_response(client)[1] == b"server"
    eventually(lambda: bed.held() == (set(), set()), SECONDS)
    for _ in range(3):
        assert bed.asked("near", OPAQUE) == b"server"
        assert bed.asked("near", VIPS["web"]) == b"server"
        eventually(lambda: bed.used() == set(), SECONDS)
