"""Services and EndpointSlices to listeners, clusters and endpoints."""

from __future__ import annotations

import pytest

from meshd.model.cluster_policies import LeastRequest, RingHash
from meshd.model.clusters import Health, HttpVersion, Nearness
from meshd.model.listeners import FailurePolicy, HttpOptions, Listener, Protocol
from meshd.model.request_policies import HashSource
from meshd.model.routes import Forward
from tests.gateway.manifests import endpoint_slice, http_route, problems, routes, rule, service, translated


def endpoint(address: str, **conditions: bool) -> dict[str, object]:
    return {"addresses": [address], "conditions": conditions}


def health(*objects: dict[str, object]) -> dict[str, Health]:
    found = translated(*objects).snapshot.endpoints["default/web:80"]
    return {e.address: e.health for e in found.endpoints}


def test_plain_http_service() -> None:
    translation = translated(service("web", {"port": 80, "name": "http"}))
    name = "default/web:80"
    assert translation.snapshot.listeners[name] == Listener(
        name=name,
        service="default/web",
        addresses=("10.96.0.1",),
        port=80,
        protocol=Protocol.HTTP,
        cluster=name,
        route_config=name,
    )
    assert [r.name for r in routes(translation)] == ["default"]
    assert set(translation.snapshot.clusters) == set(translation.snapshot.endpoints) == {name}
    assert translation.status.objects == ()


@pytest.mark.parametrize(
    ("port", "alone", "with_route"),
    [
        ({}, "tcp", "http"),
        ({"name": "http"}, "http", "http"),
        ({"name": "http-admin"}, "http", "http"),
        ({"name": "https"}, "tcp", "tcp"),
        ({"name": "http2"}, "http", "http"),
        ({"name": "grpc-x"}, "http", "http"),
        ({"name": "grpc-web"}, "http", "http"),
        ({"name": "tcp-redis"}, "tcp", "tcp"),
        ({"name": "mysql"}, "tcp", "tcp"),
        ({"name": "web"}, "tcp", "http"),
        ({"appProtocol": "http"}, "http", "http"),
        ({"appProtocol": "HTTP", "name": "tcp"}, "http", "http"),
        ({"appProtocol": "kubernetes.io/ws"}, "http", "http"),
        ({"appProtocol": "kubernetes.io/h2c"}, "http", "http"),
        ({"appProtocol": "kubernetes.io/wss"}, "tcp", "tcp"),
        ({"appProtocol": "https", "name": "http"}, "tcp", "tcp"),
        ({"appProtocol": "example.com/own", "name": "http"}, "tcp", "tcp"),
    ],
)
def test_protocol(port: dict[str, object], alone: str, with_route: str) -> None:
    name = "default/web:80"
    web = service("web", {"port": 80, **port})
    listener = translated(web).snapshot.listeners[name]
    assert listener.protocol is Protocol(alone)
    assert (listener.route_config == "") == (listener.protocol is Protocol.TCP)
    assert translated(web, http_route(rule())).snapshot.listeners[name].protocol is Protocol(with_route)


@pytest.mark.parametrize(
    ("port", "version"),
    [
        ({}, HttpVersion.SAME),
        ({"name": "http"}, HttpVersion.SAME),
        ({"name": "grpc-web"}, HttpVersion.SAME),
        ({"name": "http2-admin"}, HttpVersion.HTTP2),
        ({"name": "grpc"}, HttpVersion.HTTP2),
        ({"name": "http", "appProtocol": "grpc"}, HttpVersion.HTTP2),
        ({"name": "grpc", "appProtocol": "http"}, HttpVersion.SAME),
        ({"appProtocol": "kubernetes.io/h2c"}, HttpVersion.HTTP2),
        ({"appProtocol": "kubernetes.io/ws"}, HttpVersion.HTTP1),
    ],
)
def test_version(port: dict[str, object], version: HttpVersion) -> None:
    web = service("web", {"port": 80, **port})
    limits = {
        "apiVersion": "meshd.io/v1alpha1",
        "kind": "UpstreamPolicy",
        "metadata": {"name": "few", "namespace": "default"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "limits": {"requests": 3},
        },
    }
    for objects in (web,), (web, limits):
        assert translated(*objects).snapshot.clusters["default/web:80"].http_version is version


def test_what_is_not_captured() -> None:
    translation = translated(
        service("headless", ip="None"),
        service("external", ip="", type="ExternalName"),
        service("udp", {"port": 53, "protocol": "UDP"}),
        service("unassigned", ip=""),
    )
    assert translation.snapshot.listeners == {}
    # They can still be a route's backend.
    assert set(translation.snapshot.clusters) == {"default/headless:80", "default/unassigned:80"}
    assert "has no address" in problems(translation, "unassigned", "Service")[0]
    assert len(translation.status.objects) == 1


def test_dual_stack_addresses_are_canonical() -> None:
    web = service(ip="FD00:0::1", clusterIPs=["FD00:0::1", "10.96.0.1"])
    assert translated(web).snapshot.listeners["default/web:80"].addresses == ("fd00::1", "10.96.0.1")


def test_two_services_with_one_address_the_first_by_name_has_it() -> None:
    translation = translated(
        service("b"), service("a", {"port": 80}, {"port": 81, "name": "x"}, ip="10.96.0.1")
    )
    assert set(translation.snapshot.listeners) == {"default/b:80"}
    translation = translated(service("b"), service("a"))
    assert set(translation.snapshot.listeners) == {"default/a:80"}
    assert problems(translation, "b", "Service") == [
        "spec.ports[0].port: 10.96.0.1 port 80 belongs to default/a:80 already; that one is served"
    ]


def test_endpoint_conditions() -> None:
    found = health(
        service(),
        endpoint_slice(
            "web",
            {"addresses": ["10.1.0.1"]},
            endpoint("10.1.0.2", ready=True),
            endpoint("10.1.0.3", ready=False),
            endpoint("10.1.0.4", ready=False, serving=True, terminating=True),
            endpoint("10.1.0.5", ready=False, serving=False, terminating=True),
        ),
    )
    assert found == {
        "10.1.0.1": Health.HEALTHY,
        "10.1.0.2": Health.HEALTHY,
        "10.1.0.4": Health.DRAINING,
    }


def test_terminating_endpoints_serve_when_nothing_else_is_left() -> None:
    leaving = endpoint("10.1.0.4", ready=False, serving=True, terminating=True)
    gone = endpoint("10.1.0.5", ready=False)
    assert health(service(), endpoint_slice("web", leaving, gone)) == {"10.1.0.4": Health.HEALTHY}


def test_publish_not_ready_addresses() -> None:
    web = service(publishNotReadyAddresses=True)
    assert health(web, endpoint_slice("web", endpoint("10.1.0.1", ready=False))) == {
        "10.1.0.1": Health.HEALTHY
    }


def test_slices_are_joined_by_port_name_and_endpoints_are_not_doubled() -> None:
    web = service("web", {"port": 80, "name": "a"}, {"port": 81, "name": "b"})
    ports = [
        {"name": "a", "port": 1000},
        {"name": "b", "port": 2000},
        {"name": "a", "port": 9, "protocol": "UDP"},
    ]
    target = {"kind": "Pod", "namespace": "default", "name": "p"}
    translation = translated(
        web,
        endpoint_slice("web", {"addresses": ["10.1.0.2"], "targetRef": target}, ports=ports, name="s1"),
        endpoint_slice("web", endpoint("10.1.0.2"), endpoint("10.1.0.1"), ports=ports, name="s2"),
        endpoint_slice("web", endpoint("fd00::1"), ports=ports, addressType="IPv6", name="s3"),
        endpoint_slice("other", endpoint("10.1.0.9"), ports=ports),
    )
    found = {
        name: [(e.address, e.port, e.workload) for e in endpoints.endpoints]
        for name, endpoints in translation.snapshot.endpoints.items()
    }
    for name, port in (("default/web:80", 1000), ("default/web:81", 2000)):
        assert found[name] == [("10.1.0.1", port, ""), ("10.1.0.2", port, "default/p"), ("fd00::1", port, "")]


def test_annotations() -> None:
    annotations = {"meshd.io/failure-policy": "closed", "meshd.io/forward-headers": "via, X-Request-Id"}
    translation = translated(service("web", {"port": 80, "name": "http"}, annotations=annotations))
    listener = translation.snapshot.listeners["default/web:80"]
    assert listener.failure_policy is FailurePolicy.CLOSED
    assert listener.http == HttpOptions(forwarded_for=False, forwarded_proto=False, via="1.1 meshd")
    none = {"meshd.io/forward-headers": "none", "meshd.io/mesh": "disabled", "example.com/x": "y"}
    translation = translated(service("web", {"port": 80, "name": "http"}, annotations=none))
    listener = translation.snapshot.listeners["default/web:80"]
    assert listener.http == HttpOptions(forwarded_for=False, forwarded_proto=False, request_id=False)
    assert translation.status.objects == ()


def test_the_fast_path_can_be_turned_off_for_a_service() -> None:
    ports = ({"port": 80, "name": "http"}, {"port": 81, "name": "tcp"})
    for value, on in (("off", False), ("on", True)):
        translation = translated(service("web", *ports, annotations={"meshd.io/fast-path": value}))
        assert translation.snapshot.listeners["default/web:80"].fast_path is on
        assert translation.snapshot.listeners["default/web:81"].fast_path
        assert translation.status.objects == ()


def test_opaque_connections_are_joined_where_the_service_says_so() -> None:
    ports = ({"port": 80, "name": "http"}, {"port": 81, "name": "tcp"})
    for said, on in (({}, False), ({"meshd.io/tcp-fast-path": "on"}, True)):
        translation = translated(service("web", *ports, annotations=said))
        assert translation.snapshot.listeners["default/web:81"].tcp_fast_path is on
        assert not translation.snapshot.listeners["default/web:80"].tcp_fast_path
        assert translation.status.objects == ()


def test_http2_connections_are_spliced_where_the_service_says_so() -> None:
    ports = ({"port": 80, "name": "grpc"}, {"port": 81, "name": "tcp"})
    for said, on in (({}, False), ({"meshd.io/http2-fast-path": "on"}, True)):
        translation = translated(service("web", *ports, annotations=said))
        assert translation.snapshot.listeners["default/web:80"].http2_fast_path is on
        assert not translation.snapshot.listeners["default/web:81"].http2_fast_path
        assert translation.status.objects == ()


def test_bad_annotations_are_reported_and_the_defaults_hold() -> None:
    annotations = {
        "meshd.io/failure-policy": "ajar",
        "meshd.io/forward-headers": "via,x-real-ip",
        "meshd.io/fast-path": "no",
        "meshd.io/tcp-fast-path": "yes",
        "meshd.io/http2-fast-path": "true",
        "meshd.io/failure": "open",
    }
    translation = translated(service("web", {"port": 80, "name": "http"}, annotations=annotations))
    listener = translation.snapshot.listeners["default/web:80"]
    assert (listener.failure_policy, listener.http) == (FailurePolicy.OPEN, HttpOptions())
    assert listener.fast_path
    assert [p.partition(":")[0] for p in problems(translation, "web", "Service")] == [
        "metadata.annotations[meshd.io/failure-policy]",
        "metadata.annotations[meshd.io/forward-headers]",
        "metadata.annotations[meshd.io/fast-path]",
        "metadata.annotations[meshd.io/tcp-fast-path]",
        "metadata.annotations[meshd.io/http2-fast-path]",
        "metadata.annotations[meshd.io/failure]",
    ]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, Nearness.ANY),
        ({"trafficDistribution": "PreferClose"}, Nearness.ZONE),
        ({"trafficDistribution": "PreferSameZone"}, Nearness.ZONE),
        ({"trafficDistribution": "PreferSameNode"}, Nearness.NODE),
        ({"trafficDistribution": "PreferSameNode", "internalTrafficPolicy": "Local"}, Nearness.NODE_ONLY),
    ],
)
def test_where_endpoints_are_and_which_are_preferred(spec: dict[str, object], wanted: Nearness) -> None:
    places: list[dict[str, object]] = [
        {"addresses": ["10.1.0.1"], "zone": "a", "nodeName": "n1"},
        {"addresses": ["10.1.0.2"], "nodeName": "n2"},
        {"addresses": ["10.1.0.3"]},
    ]
    translation = translated(service(**spec), endpoint_slice("web", *places))  # type: ignore[arg-type]
    found = translation.snapshot.endpoints["default/web:80"]
    assert [each.locality for each in found.endpoints] == ["/a/n1", "//n2", ""]
    assert found.nearness is wanted
    assert translation.status.objects == ()


LEAVING: dict[str, bool] = {"ready": False, "serving": True, "terminating": True}


def hinted(address: str, zone: str = "", node: str = "", leaves: bool = False) -> dict[str, object]:
    hints = {"forZones": [{"name": zone}] if zone else [], "forNodes": [{"name": node}] if node else []}
    return {**endpoint(address, **(LEAVING if leaves else {})), "hints": hints}


@pytest.mark.parametrize(
    ("endpoints", "spec", "wanted"),
    [
        ((hinted("10.1.0.1", "a"), hinted("10.1.0.2", "b")), {}, Nearness.HINTED),
        ((hinted("10.1.0.1", node="n1"), hinted("10.1.0.2", node="n2")), {}, Nearness.HINTED),
        # kube-proxy's rule: all that are ready, or none.
        ((hinted("10.1.0.1", "a"), endpoint("10.1.0.2")), {}, Nearness.ANY),
        ((hinted("10.1.0.1", "a"), hinted("10.1.0.2", node="n1")), {}, Nearness.ANY),
        ((hinted("10.1.0.1", "a"), endpoint("10.1.0.2", **LEAVING)), {}, Nearness.HINTED),
        ((hinted("10.1.0.1", "a", leaves=True),), {}, Nearness.ANY),
        ((hinted("10.1.0.1", "a"),), {"trafficDistribution": "PreferSameZone"}, Nearness.HINTED),
        ((hinted("10.1.0.1", "a"),), {"internalTrafficPolicy": "Local"}, Nearness.NODE_ONLY),
    ],
)
def test_hints_count_where_every_ready_endpoint_has_them(
    endpoints: tuple[dict[str, object], ...], spec: dict[str, object], wanted: Nearness
) -> None:
    translation = translated(service(**spec), endpoint_slice("web", *endpoints))  # type: ignore[arg-type]
    found = translation.snapshot.endpoints["default/web:80"]
    assert found.nearness is wanted
    kept = [(each.for_zones, each.for_nodes) != ((), ()) for each in found.endpoints]
    assert any(kept) is (wanted is Nearness.HINTED)
    assert translation.status.objects == ()


def test_who_leaves_is_ready_where_readiness_says_nothing() -> None:
    leaving = endpoint("10.1.0.1", ready=True, serving=True, terminating=True)
    ready = endpoint("10.1.0.2", ready=True)
    for publish, wanted in ((True, Health.HEALTHY), (False, Health.DRAINING)):
        web = service(publishNotReadyAddresses=publish)
        assert health(web, endpoint_slice("web", leaving, ready))["10.1.0.1"] is wanted


def test_session_affinity_is_by_the_callers_address() -> None:
    ports = ({"port": 80, "name": "http"}, {"port": 81, "name": "tcp"})
    sticky = service("web", *ports, sessionAffinity="ClientIP")
    translation = translated(sticky)
    assert translation.snapshot.clusters["default/web:80"].balancing == RingHash()
    (found,) = routes(translation)
    assert isinstance(found.action, Forward)
    assert found.action.hash_keys == (HashSource(),)
    assert problems(translation, "web", "Service") == [
        "spec.sessionAffinity: ClientIP does nothing here: port 81 is opaque TCP, of which each connection "
        "is balanced by itself"
    ]


def test_a_policy_says_more_of_balancing_than_session_affinity() -> None:
    policy: dict[str, object] = {
        "apiVersion": "meshd.io/v1alpha1",
        "kind": "UpstreamPolicy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "loadBalancing": {"type": "LeastRequest"},
        },
    }
    sticky = service("web", {"port": 80, "name": "http"}, sessionAffinity="ClientIP")
    translation = translated(sticky, policy)
    assert translation.snapshot.clusters["default/web:80"].balancing == LeastRequest()
    (found,) = routes(translation)
    assert isinstance(found.action, Forward)
    assert found.action.hash_keys == ()
    (problem,) = problems(translation, "web", "Service")
    assert "UpstreamPolicy default/p says how port 80 is balanced" in problem


def test_a_traffic_distribution_that_nobody_knows_is_told() -> None:
    (found,) = problems(translated(service(trafficDistribution="Future")), "web", "Service")
    assert found.startswith("spec.trafficDistribution: Future is none of PreferClose, ")
