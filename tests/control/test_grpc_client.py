"""grpcio's own client finds services over xDS, with no proxy between it and the servers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import msgspec
import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from meshd.model.cluster_policies import LeastRequest, Maglev, RandomEndpoint, RingHash
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.request_policies import Cors, HashHeader, StringMatch
from meshd.model.routes import (
    DirectResponse,
    Forward,
    PathExact,
    PathPrefix,
    ReplacePrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.model.snapshot import Snapshot
from meshd.model.status import ConfigStatus
from meshd.xds import shares
from meshd.xds.grpc_listeners import listener_name, view
from meshd.xds.resources import LISTENER
from tests.gateway.manifests import endpoint_slice, service, translated
from tests.support.ads_thread import AdsThread
from tests.support.resource_sets import resource_set

DEADLINE = 20.0
_SERVICES = (*(f"{letter}.Service" for letter in "abcdef"), "b.ServiceElse", "gone.Service")
_METHODS = ("Method", "One", "Two", "TwoMore", "Any")


@pytest.fixture
def ads() -> Iterator[AdsThread]:
    with (
        tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as path,
        AdsThread(Path(path) / "ads.sock") as server,
    ):
        yield server


@contextlib.contextmanager
def answering(name: str) -> Iterator[int]:
    """A gRPC server that answers with its name, whatever is called; the port."""

    method = grpc.unary_unary_rpc_method_handler(lambda request, context: name.encode())
    methods = dict.fromkeys(_METHODS, method)
    handlers = [grpc.method_handlers_generic_handler(each, methods) for each in _SERVICES]
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


class Caller:
    """A client process. A context manager."""

    def __init__(self, ads: AdsThread, namespace: str = "") -> None:
        servers = [
            {
                "server_uri": ads.target,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ]
        node = {"id": "grpc", "metadata": {"NAMESPACE": namespace} if namespace else {}}
        bootstrap = json.dumps({"xds_servers": servers, "node": node})
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("grpc_caller.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap},
        )

    def call(self, target: str, method: str = "/a.Service/Method", **metadata: str) -> str:
        """The answer to a call, or the name of its status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pairs = (f"{name}={value}" for name, value in metadata.items())
        self._process.stdin.write(" ".join((target, method, *pairs)) + "\n")
        answer = self._process.stdout.readline()
        assert answer, "the client ended"
        return answer.strip()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(DEADLINE)


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE:g} s: {what}"


def test_service_by_each_of_its_names(ads: AdsThread) -> None:
    def config(port: int) -> Snapshot:
        return translated(
            service("web", {"port": 80, "name": "grpc", "appProtocol": "grpc"}),
            endpoint_slice("web", {"addresses": ["127.0.0.1"]}, ports=[{"name": "grpc", "port": port}]),
        ).snapshot

    with answering("one") as one, answering("two") as two, Caller(ads, "default") as caller:
        ads.publish(config(one))
        names = ("web", "web.default", "web.default.svc", "web.default.svc.cluster.local")
        for name in names:
            assert caller.call(f"{name}:80") == "one", ads.rejections()
        ads.publish(config(two))
        # No call fails while the endpoints change.
        until(lambda: _one_of(caller.call("web:80"), {"one", "two"}) == "two", "the new endpoint")
        assert ads.rejections() == []


def _one_of(answer: str, allowed: set[str]) -> str:
    assert answer in allowed
    return answer


def test_routes(ads: AdsThread) -> None:
    def to(*names: str, **fields: object) -> Forward:
        clusters = tuple(WeightedCluster(name=name) for name in names)
        return Forward(clusters=clusters, **fields)  # type: ignore[arg-type]

    def rule(name: str, match: RouteMatch, action: Forward | DirectResponse, **fields: object) -> Route:
        return Route(name=name, match=match, action=action, **fields)  # type: ignore[arg-type]

    header = RouteMatch(headers=(StringMatch(name="to", value="t.*", regex=True),))
    gone = RouteMatch(path=PathPrefix("/gone.Service"))
    hash_keys = (HashHeader(name="k"),)
    routes = (
        rule("method", RouteMatch(path=PathExact("/a.Service/Two")), to("two")),
        rule("query", RouteMatch(query=(StringMatch(name="q", value="1"),)), to("two")),
        rule("prefix", RouteMatch(path=PathPrefix("/b.Service")), to("two", timeout=30.0)),
        rule("below", RouteMatch(path=PathPrefix("/c.Service/Two")), to("two")),
        rule("deep", RouteMatch(path=PathPrefix("/c.Service/One/x")), to("two")),
        rule("gone", gone, to("one", path=ReplacePrefix("/a.Service"))),
        rule("direct", RouteMatch(path=PathPrefix("/d.Service")), DirectResponse(status=503)),
        rule("header", header, to("two"), cors=Cors(origins=())),
        rule("hash", RouteMatch(path=PathPrefix("/e.Service")), to("ring", hash_keys=hash_keys)),
        rule("share", RouteMatch(path=PathPrefix("/f.Service")), to("one", "two")),
        rule("rest", RouteMatch(), to("one")),
    )
    listener = Listener(
        name="default/web:80",
        service="default/web",
        addresses=("10.96.0.1",),
        port=80,
        protocol=Protocol.HTTP,
        route_config="routes",
    )
    config = RouteConfig(name="routes", virtual_hosts=(VirtualHost(name="v", routes=routes),))
    with answering("one") as one, answering("two") as two, Caller(ads) as caller:
        ends = {
            name: (Endpoint(address="127.0.0.1", port=port),) for name, port in (("one", one), ("two", two))
        }
        sets = {**ends, "ring": ends["one"] + ends["two"]}
        clusters = {"one": Cluster(name="one"), "two": Cluster(name="two")}
        clusters["ring"] = Cluster(name="ring", balancing=RingHash())

        def publish(*routes: Route) -> None:
            hosts = (msgspec.structs.replace(config.virtual_hosts[0], routes=routes),)
            ads.publish(
                Snapshot(
                    1,
                    {listener.name: listener},
                    {"routes": msgspec.structs.replace(config, virtual_hosts=hosts)},
                    clusters,
                    {name: EndpointSet(name=name, endpoints=each) for name, each in sets.items()},
                )
            )

        publish(*routes)
        target = "web.default:80"
        assert caller.call(target) == "one", ads.rejections()
        assert caller.call(target, "/a.Service/Two") == "two"
        assert caller.call(target, "/b.Service/Any") == "two"
        assert caller.call(target, "/b.ServiceElse/Any") == "one"
        assert caller.call(target, "/c.Service/Two") == "two"
        assert caller.call(target, "/c.Service/TwoMore") == "one"
        assert caller.call(target, "/c.Service/One") == "one"
        assert caller.call(target, to="two") == "two"
        assert caller.call(target, "/gone.Service/Any") == "UNAVAILABLE"
        assert caller.call(target, "/d.Service/Any") == "UNAVAILABLE"
        assert len({caller.call(target, "/e.Service/Any", k="same") for _ in range(10)}) == 1
        first = caller.call(target, "/f.Service/Any")
        until(lambda: caller.call(target, "/f.Service/Any") != first, "an answer of the other cluster")
        publish(rule("all", RouteMatch(), to("two")))
        until(lambda: _one_of(caller.call(target), {"one", "two"}) == "two", "the new routes")
        assert ads.rejections() == []


@pytest.mark.parametrize(
    "balancing", [LeastRequest(), RandomEndpoint(), Maglev()], ids=lambda b: type(b).__name__
)
def test_balancing_that_it_does_not_know(
    ads: AdsThread, balancing: LeastRequest | RandomEndpoint | Maglev
) -> None:
    plain = translated(service("web", {"port": 80, "name": "grpc"}), endpoint_slice("web")).snapshot
    with answering("one") as port, Caller(ads) as caller:
        cluster = msgspec.structs.replace(plain.clusters["default/web:80"], balancing=balancing)
        ends = EndpointSet(name=cluster.name, endpoints=(Endpoint(address="127.0.0.1", port=port),))
        ads.publish(
            Snapshot(1, plain.listeners, plain.route_configs, {cluster.name: cluster}, {cluster.name: ends})
        )
        assert caller.call("web.default:80") == "one", ads.rejections()
        assert ads.rejections() == []


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("web:80", "here/web:80"),
        ("web.there:80", "there/web:80"),
        ("Web.There.svc.cluster.local.:80", "there/web:80"),
        ("web.there.svc:80", "there/web:80"),
        ("web.there.cluster.local:80", ""),
        ("web.there", ""),
        ("", ""),
    ],
)
def test_names(target: str, name: str) -> None:
    assert listener_name(target, "here") == name


def test_shares_are_of_the_calls_that_come_to_a_route() -> None:
    """Envoy has one number for all routes, gRPC draws one for each (gRFC A28)."""
    matches = [RouteMatch(share=250_000), RouteMatch(share=500_000), RouteMatch()]
    matches.append(RouteMatch(path=PathPrefix("/a"), share=500_000))
    routes = tuple(
        Route(name=str(i), match=match, action=Forward(clusters=(WeightedCluster(name="here/web:80"),)))
        for i, match in enumerate(matches)
    )
    snapshot = translated(service("web", {"port": 80, "name": "grpc"}, namespace="here")).snapshot
    name = "here/web:80"
    listener = Listener(
        name=name,
        service="here/web",
        addresses=("10.96.0.1",),
        port=80,
        protocol=Protocol.HTTP,
        cluster=name,
        route_config=name,
    )
    config = RouteConfig(name=name, virtual_hosts=(VirtualHost(name=name, routes=routes),))
    snapshot = Snapshot(1, {name: listener}, {name: config}, snapshot.clusters, snapshot.endpoints)
    packed = view(resource_set(snapshot, ConfigStatus()), "here").of(LISTENER)["web.here:80"].packed
    found = listener_pb2.Listener.FromString(packed.value)
    hcm = http_connection_manager_pb2.HttpConnectionManager()
    assert found.api_listener.api_listener.Unpack(hcm)
    seen = [each.match for each in hcm.route_config.virtual_hosts[0].routes]
    assert [each.HasField("runtime_fraction") for each in seen] == [True, True, False, True]
    fractions = [shares.read_runtime(each.runtime_fraction, "", "") for each in seen]
    assert fractions == [250_000, 333_333, 0, 500_000]


@pytest.mark.parametrize("name", ["web:80", "web.default:81", "other.default:80", "default/web:80"])
def test_name_that_nothing_has(name: str) -> None:
    # A client learns of it by waiting for 15 s; so this asks for what it would be sent.
    snapshot = translated(service("web", {"port": 80, "name": "grpc"})).snapshot
    seen = view(resource_set(snapshot, ConfigStatus()), "").of(LISTENER)
    assert "web.default:80" in seen
    assert name not in seen
