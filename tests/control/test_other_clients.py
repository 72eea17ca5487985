"""Clients that are not ours: a plain state-of-the-world one, and real Envoy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from meshd.gateway.translate import Translation
from meshd.xds.resources import CLUSTER, LISTENER, ROUTE_CONFIG
from meshd.xds.server_stream import MAX_TYPES
from tests.control.envoy_client import DEADLINE, bootstrap, until_in_force
from tests.gateway.manifests import endpoint_slice, http_route, rule, service, translated
from tests.support import envoy
from tests.support.ads_thread import AdsThread


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: those of Unix sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as path:
        yield Path(path)


def config(*more: dict[str, object]) -> Translation:
    """One of each thing that a translation can come to."""
    modifier = {
        "set": [{"name": "X-A", "value": "50%"}],
        "add": [{"name": "b", "value": "1"}],
        "remove": ["c"],
    }
    request = {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}
    response = {"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier}

    def path(kind: str, value: str) -> dict[str, object]:
        return {"type": kind, kind[0].lower() + kind[1:]: value}

    def rewrite(**fields: object) -> dict[str, object]:
        return {"type": "URLRewrite", "urlRewrite": fields}

    def redirect(prefix: str, **fields: object) -> dict[str, object]:
        filters = [{"type": "RequestRedirect", "requestRedirect": fields}]
        return rule(prefix, filters=filters, backendRefs=[])

    headers = [
        {"name": "Host", "value": "web"},
        {"name": "v", "value": "[0-9]+", "type": "RegularExpression"},
    ]
    query = [{"name": "q", "value": "a b"}, {"name": "r", "value": ".*", "type": "RegularExpression"}]
    backends = [
        {"name": "web", "port": 80, "weight": 9, "filters": [request, response]},
        {"name": "nowhere", "port": 80},
        {"name": "web", "port": 81, "weight": 0},
    ]
    route = http_route(
        rule("/exact", "Exact", method="GET", headers=headers, queryParams=query),
        rule("/re/[a-z]+", "RegularExpression", filters=[request, response]),
        rule("/a", backendRefs=backends, timeouts={"request": "1500ms"}),
        rule("/to-root", filters=[rewrite(path=path("ReplacePrefixMatch", "/"))]),
        rule("/to-x", filters=[rewrite(path=path("ReplacePrefixMatch", "/x"), hostname="x.org")]),
        rule("/full", filters=[rewrite(path=path("ReplaceFullPath", "/all\\1".replace("\\", "%5C")))]),
        redirect("/r1", scheme="https", hostname="y.org", statusCode=308),
        redirect("/r2", path=path("ReplacePrefixMatch", "/z")),
        redirect("/r3", path=path("ReplaceFullPath", "/z"), statusCode=301),
        rule("/nothing", backendRefs=[]),
        rule("/", filters=[rewrite(path=path("ReplacePrefixMatch", "/under"))]),
    )
    draining = {"ready": False, "serving": True, "terminating": True}
    return translated(
        service(
            "web",
            {"port": 80, "name": "a"},
            {"port": 81, "name": "http-b"},
            {"port": 82, "name": "tcp"},
            clusterIPs=["10.96.0.1", "fd00::1"],
        ),
        endpoint_slice(
            "web",
            {"addresses": ["10.1.0.1"], "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}},
            {"addresses": ["10.1.0.2"], "conditions": draining},
            ports=[{"name": name, "port": 8080} for name in ("a", "http-b", "tcp")],
        ),
        route,
        *more,
    )


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_envoy_takes_all_that_a_translation_can_come_to(directory: Path, delta: bool) -> None:
    with AdsThread(directory / "ads.sock") as ads:
        first = config()
        assert len(first.snapshot.route_configs["default/web:80"].virtual_hosts[0].routes) == 11
        ads.publish(first.snapshot)
        with envoy.running(bootstrap(ads.socket_path, delta), directory) as peer:
            until_in_force(peer, ads, first.snapshot)
            more = config(service("new", {"port": 80, "name": "http"}, ip="10.96.0.7"))
            ads.publish(more.snapshot)
            until_in_force(peer, ads, more.snapshot)
            ads.publish(first.snapshot)
            until_in_force(peer, ads, first.snapshot)


def test_plain_state_of_the_world_client(directory: Path) -> None:
    with (
        AdsThread(directory / "ads.sock") as ads,
        grpc.insecure_channel(ads.target) as channel,
    ):
        ads.publish(config().snapshot)
        node = base_pb2.Node(id="plain")
        asked = [discovery_pb2.DiscoveryRequest(type_url=t, node=node) for t in (CLUSTER, LISTENER)]
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        call = stub.StreamAggregatedResources(iter(asked), timeout=DEADLINE)
        response = next(call)
        assert response.type_url == CLUSTER
        assert len(response.resources) == 3
        call.cancel()


@pytest.mark.parametrize(
    ("namespace", "route"), [("", "producer"), ("other", "producer"), ("client", "consumer")]
)
def test_client_of_one_namespace_gets_its_routes(directory: Path, namespace: str, route: str) -> None:
    parent = {"group": "", "kind": "Service", "name": "web", "namespace": "default"}
    snapshot = translated(
        service("web", {"port": 80, "name": "http"}),
        http_route(rule(), name="producer"),
        http_route(rule(), name="consumer", namespace="client", parentRefs=[parent]),
    ).snapshot
    node = base_pb2.Node(id="sidecar")
    if namespace:
        node.metadata.update({"NAMESPACE": namespace})
    name = "default/web:80"
    with AdsThread(directory / "ads.sock") as ads, grpc.insecure_channel(ads.target) as channel:
        ads.publish(snapshot)
        asked = discovery_pb2.DiscoveryRequest(type_url=ROUTE_CONFIG, node=node, resource_names=[name])
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        call = stub.StreamAggregatedResources(iter([asked]), timeout=DEADLINE)
        (resource,) = next(call).resources
        call.cancel()
    config = route_pb2.RouteConfiguration()
    resource.Unpack(config)
    assert config.name == name
    assert [each.name.split("/")[1] for each in config.virtual_hosts[0].routes] == [route]


def test_client_that_asks_for_too_much_is_told_so(directory: Path) -> None:
    with (
        AdsThread(directory / "ads.sock") as ads,
        grpc.insecure_channel(ads.target) as channel,
    ):
        ads.publish(config().snapshot)
        types = [f"type.googleapis.com/x.T{n}" for n in range(MAX_TYPES + 1)]
        asked = [discovery_pb2.DeltaDiscoveryRequest(type_url=t) for t in types]
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.DeltaAggregatedResources(iter(asked), timeout=DEADLINE))
        assert "more than 32 resource types" in str(refused.value)
        assert "RESOURCE_EXHAUSTED" in str(refused.value)
