"""Policies: what they are attached to, which one wins, what they come to, and what their authors are told."""

from __future__ import annotations

import pytest

from meshd.gateway.route_status import object_status
from meshd.gateway.translate import Translation
from meshd.gateway.written_status import CONTROLLER
from meshd.model.cluster_policies import (
    GrpcProbe,
    HealthCheck,
    HttpProbe,
    LeastRequest,
    Limits,
    Maglev,
    Outlier,
    RandomEndpoint,
    RingHash,
    RoundRobin,
    SlowStart,
    TcpProbe,
)
from meshd.model.clusters import Cluster
from meshd.model.http2 import Http2Options, KeepAlive
from meshd.model.listeners import FailurePolicy
from meshd.model.request_policies import (
    Fault,
    HashCookie,
    HashHeader,
    HashQuery,
    HashSource,
    RateLimit,
    StringMatch,
    TokenBucket,
)
from meshd.model.routes import DirectResponse, Forward, Redirect, Route
from meshd.model.status import Condition
from tests.gateway.manifests import (
    PARENT,
    Object,
    endpoint_slice,
    http_route,
    problems,
    routes,
    rule,
    service,
    status,
    translated,
)

WEB: Object = {"group": "", "kind": "Service", "name": "web"}
R: Object = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}
HTTP = {"port": 80, "name": "http"}
TEAPOT = {"directResponse": {"status": 418}}


def policy(kind: str, targets: tuple[Object, ...], spec: Object) -> Object:
    """``spec`` may have the object's name (``p`` by default) and the time of its creation, too."""
    metadata: Object = {"name": spec.pop("name", "p"), "generation": 3}
    if "created" in spec:
        metadata["creationTimestamp"] = spec.pop("created")
    return {
        "apiVersion": "meshd.io/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": {"targetRefs": list(targets or (WEB,)), **spec},
    }


def upstream(*targets: Object, **spec: object) -> Object:
    return policy("UpstreamPolicy", targets, spec)


def request(*targets: Object, **spec: object) -> Object:
    return policy("RoutePolicy", targets, spec)


def cluster(**spec: object) -> Cluster:
    return translated(service(), upstream(**spec)).snapshot.clusters["default/web:80"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, RoundRobin()),
        ({"slowStart": {"window": "30s"}}, RoundRobin(slow_start=SlowStart(window=30.0))),
        (
            {
                "type": "LeastRequest",
                "leastRequest": {"choices": 3},
                "slowStart": {"window": "1s", "aggressionPercent": 150, "minWeightPercent": 20},
            },
            LeastRequest(
                choices=3, slow_start=SlowStart(window=1.0, aggression=1.5, min_weight_percent=20.0)
            ),
        ),
        ({"type": "LeastRequest"}, LeastRequest()),
        ({"type": "Random"}, RandomEndpoint()),
        ({"type": "RingHash", "hashOn": [{"type": "SourceAddress"}]}, RingHash()),
        (
            {
                "type": "RingHash",
                "ringHash": {"minimumSize": 10, "maximumSize": 100},
                "hashOn": [{"type": "SourceAddress"}],
            },
            RingHash(min_size=10, max_size=100),
        ),
        (
            {"type": "Maglev", "maglev": {"tableSize": 251}, "hashOn": [{"type": "SourceAddress"}]},
            Maglev(table_size=251),
        ),
    ],
)
def test_balancing(given: Object, wanted: object) -> None:
    assert cluster(loadBalancing=given).balancing == wanted


def test_what_is_not_said_is_as_without_a_policy() -> None:
    plain = Cluster(name="default/web:80", policies=("UpstreamPolicy default/p",))
    assert cluster(timeouts={}) == plain
    assert cluster(loadBalancing={}) == plain
    assert cluster(limits={}) == plain


def test_health_limits_and_timeouts() -> None:
    found = cluster(
        loadBalancing={"panicThreshold": 40},
        healthCheck={
            "http": {
                "path": "/healthz",
                "host": "web.test",
                "expectedStatuses": [{"start": 200, "end": 299}],
            },
            "interval": "2s",
            "timeout": "500ms",
            "unhealthyThreshold": 1,
            "healthyThreshold": 4,
            "port": 9000,
        },
        outlierDetection={
            "consecutive5xx": 0,
            "consecutiveGatewayErrors": 2,
            "interval": "1s",
            "baseEjectionTime": "1h",
            "maxEjectedPercent": 50,
            "successRateFactor": 0,
            "latencyFactor": 3000,
            "minimumHosts": 2,
            "minimumRequests": 10,
        },
        limits={
            "connections": 1,
            "pendingRequests": 2,
            "requests": 3,
            "retryBudget": {"percent": 25, "minRetries": 0},
        },
        timeouts={"connect": "250ms", "idle": "0s"},
    )
    assert found == Cluster(
        name="default/web:80",
        panic_percent=40,
        health_check=HealthCheck(
            probe=HttpProbe(path="/healthz", host="web.test", statuses=((200, 299),)),
            interval=2.0,
            timeout=0.5,
            unhealthy_after=1,
            healthy_after=4,
            port=9000,
        ),
        outlier=Outlier(
            consecutive_5xx=0,
            consecutive_gateway=2,
            interval=1.0,
            ejection_time=3600.0,
            max_ejection_time=3600.0,
            max_ejected_percent=50,
            success_rate_factor=0,
            latency_factor=3000,
            success_rate_hosts=2,
            success_rate_requests=10,
        ),
        limits=Limits(connections=1, pending=2, requests=3, retry_budget_percent=25.0, retry_budget_min=0),
        connect_timeout=0.25,
        idle_timeout=0.0,
        policies=("UpstreamPolicy default/p",),
    )


def test_endpoints_say_where_they_are_probed() -> None:
    check = policy("UpstreamPolicy", (WEB,), {"healthCheck": {"tcp": {}, "port": 9000}})
    slice_ = endpoint_slice("web", {"addresses": ["10.1.0.1"]}, ports=[{"name": "http", "port": 8080}])
    found = translated(service("web", HTTP), slice_, check).snapshot
    assert {each.health_port for each in found.endpoints["default/web:80"].endpoints} == {9000}


def test_defaults_are_envoys() -> None:
    assert cluster(healthCheck={"tcp": {}}).health_check == HealthCheck(probe=TcpProbe())
    asked = GrpcProbe(service="demo.Echo", authority="web.default.svc.cluster.local")
    assert cluster(healthCheck={"grpc": {"service": "demo.Echo"}}).health_check == HealthCheck(probe=asked)
    named = HttpProbe(path="/up", host="web.default.svc.cluster.local")
    assert cluster(healthCheck={"http": {"path": "/up"}}).health_check == HealthCheck(probe=named)
    assert cluster(outlierDetection={}).outlier == Outlier(success_rate_factor=1900)
    budget = Limits(retry_budget_percent=20.0)
    assert cluster(limits={"retryBudget": {}}).limits == budget


def test_every_route_to_a_hashed_cluster_knows_what_to_hash() -> None:
    v2: Object = {"group": "", "kind": "Service", "name": "v2"}
    keys = [
        {"type": "Header", "name": "X-User"},
        {"type": "Cookie", "name": "c", "ttl": "1h"},
        {"type": "QueryParam", "name": "Q"},
        {"type": "SourceAddress"},
    ]
    hashed = {"type": "RingHash", "hashOn": keys}
    backends = [{"name": "web", "port": 80}, {"name": "v2", "port": 80}]
    found = routes(
        translated(
            service(),
            service("v2", ip="10.96.0.2"),
            http_route(rule("/a", backendRefs=backends), rule("/bcd", backendRefs=backends[:1])),
            upstream(v2, loadBalancing=hashed),
        )
    )
    wanted = (HashHeader(name="x-user"), HashCookie(name="c", ttl=3600.0), HashQuery(name="Q"), HashSource())
    by_path = {str(route.match.path): route.action for route in found}
    assert [action.hash_keys for action in by_path.values() if isinstance(action, Forward)] == [(), wanted]
    # Without an HTTPRoute, too.
    (found_default,) = routes(translated(service("web", HTTP), upstream(loadBalancing=hashed)))
    assert isinstance(found_default.action, Forward)
    assert found_default.action.hash_keys == wanted


def shaped(*objects: Object, port: str = "80") -> Route:
    (found,) = routes(translated(service("web", HTTP), *objects), f"default/web:{port}")
    return found


def test_a_rate_limit_of_a_service_is_for_all_its_routes_together_and_one_of_a_route_for_itself() -> None:
    def limit(requests: int, **fields: object) -> Object:
        return {"rateLimit": {"all": {"requests": requests, **fields}}}

    def bucket(requests: int, interval: float = 1.0, burst: int = 0) -> RateLimit:
        return RateLimit(all=TokenBucket(tokens=requests, interval=interval, burst=burst or requests))

    consumer = http_route(
        rule(backendRefs=[{"name": "web", "port": 80, "namespace": "default"}]),
        name="c",
        namespace="shop",
        parentRefs=[{**PARENT, "namespace": "default"}],
    )
    translation = translated(
        service("web", HTTP),
        http_route(rule(name="limited"), rule("/free", name="free")),
        consumer,
        request(name="service", **limit(5, interval="1m", burst=7)),
        request({**R, "sectionName": "limited"}, name="route", **limit(3)),
    )
    configs = translation.snapshot.route_configs
    (host,) = configs["default/web:80"].virtual_hosts
    assert host.rate_limit == bucket(5, 60.0, 7)
    assert {route.name: route.rate_limit for route in host.routes} == {
        "default/r/limited": bucket(3),
        "default/r/free": None,
    }
    (consumers,) = configs["default/web:80/from/shop"].virtual_hosts
    assert consumers.rate_limit == host.rate_limit
    each = request(rateLimit={"eachClient": {"requests": 1}})
    (host,) = translated(service("web", HTTP), each).snapshot.route_configs["default/web:80"].virtual_hosts
    assert host.rate_limit == RateLimit(each_client=TokenBucket(tokens=1, interval=1.0, burst=1))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"delay": {}}, Fault(delay=1.0, delay_share=1_000_000)),
        (
            {
                "delay": {"duration": "2s", "percent": 10},
                "abort": {"status": 500, "fraction": {"numerator": 1, "denominator": 1000}},
                "headers": [{"name": "X-Test", "value": "a.*", "type": "RegularExpression"}],
            },
            Fault(
                delay=2.0,
                delay_share=100_000,
                abort=500,
                abort_share=1_000,
                headers=(StringMatch(name="x-test", value="a.*", regex=True),),
            ),
        ),
        (
            {"byHeader": {"percent": 50}},
            Fault(delay_share=500_000, abort_share=500_000, by_header=True),
        ),
    ],
)
def test_faults(given: Object, wanted: Fault) -> None:
    assert shaped(request(fault=given)).fault == wanted
    assert shaped(http_route(rule()), request(R, fault=given)).fault == wanted


def test_a_direct_response_takes_the_place_of_what_the_route_does() -> None:
    policy = request(directResponse={"status": 503, "body": "closed"})
    redirect = {"type": "RequestRedirect", "requestRedirect": {"port": 81}}
    redirecting = http_route(rule(filters=[redirect], backendRefs=[]))
    assert isinstance(shaped(redirecting).action, Redirect)
    wanted = DirectResponse(status=503, body="closed")
    assert shaped(redirecting, policy).action == wanted
    assert shaped(policy).action == wanted


def test_settings_of_the_listener() -> None:
    policy = request(accessLog={"percent": 1}, failurePolicy="Closed", keepAlive={"interval": "5m"})
    listener = translated(service("web", HTTP), policy).snapshot.listeners["default/web:80"]
    assert listener.failure_policy is FailurePolicy.CLOSED
    assert listener.http.access_log_share == 10_000
    assert listener.http.http2 == Http2Options(keepalive=KeepAlive(interval=300.0, timeout=20.0))


def test_servers_are_kept_alive_where_http2_is_spoken() -> None:
    policy = upstream(keepAlive={"interval": "1m", "timeout": "5s"})
    wanted = Http2Options(keepalive=KeepAlive(interval=60.0, timeout=5.0))
    for said, found in (("kubernetes.io/h2c", wanted), ("kubernetes.io/ws", Http2Options())):
        port = {**HTTP, "appProtocol": said}
        snapshot = translated(service("web", port), policy).snapshot
        assert snapshot.clusters["default/web:80"].http2 == found


def fast(translation: Translation) -> tuple[bool, dict[str, bool]]:
    on = translation.snapshot.listeners["default/web:80"].fast_path
    return on, {route.name.rpartition("/")[2]: route.fast_path for route in routes(translation)}


def test_the_fast_path_by_service_route_and_rule() -> None:
    both = http_route(rule(name="a"), rule("/b", name="b"))
    off = request(fastPath="Disabled")
    a_off = request({**R, "sectionName": "a"}, name="a", fastPath="Disabled")
    a_on = request({**R, "sectionName": "a"}, name="a", fastPath="Enabled")
    web = service("web", HTTP)
    assert fast(translated(web, both)) == (True, {"a": True, "b": True})
    assert fast(translated(web, both, a_off)) == (True, {"a": False, "b": True})
    assert fast(translated(web, both, off)) == (False, {"a": True, "b": True})
    assert fast(translated(web, both, off, a_on)) == (True, {"a": True, "b": False})
    annotated = service("web", HTTP, annotations={"meshd.io/fast-path": "off"})
    assert fast(translated(annotated, both, a_on)) == (True, {"a": True, "b": False})
    assert fast(translated(annotated, both, request(fastPath="Enabled")))[0]


def test_the_more_specific_wins_field_by_field() -> None:
    def at(target: Object, name: str, **spec: object) -> Object:
        return request(target, name=name, **spec)

    one = http_route(rule(name="a"))
    policies = [
        at(WEB, "service", directResponse={"status": 501}, fault={"delay": {"duration": "4s"}}),
        at({**WEB, "sectionName": "http"}, "port", directResponse={"status": 502}),
        at(R, "route", directResponse={"status": 503}),
        at({**R, "sectionName": "a"}, "rule", directResponse={"status": 504}),
    ]
    found = shaped(one, *policies)
    assert found.action == DirectResponse(status=504)
    assert found.fault == Fault(delay=4.0, delay_share=1_000_000)
    assert found.policies == (
        "RoutePolicy default/rule",
        "RoutePolicy default/port",
        "RoutePolicy default/service",
    )
    for count, wanted in ((3, 503), (2, 502), (1, 501)):
        assert shaped(one, *policies[:count]).action == DirectResponse(status=wanted)
    # Of another port's policy it is none.
    two = service("web", HTTP, {"port": 81, "name": "http-b"})
    translation = translated(two, policies[1])
    assert routes(translation, "default/web:80")[0].action == DirectResponse(status=502)
    assert isinstance(routes(translation, "default/web:81")[0].action, Forward)

    limits = upstream(WEB, name="all", limits={"requests": 1}, timeouts={"connect": "1s"})
    port = upstream({**WEB, "sectionName": "http"}, name="port", limits={"requests": 2})
    both = translated(service("web", HTTP), limits, port).snapshot.clusters["default/web:80"]
    assert (both.limits.requests, both.connect_timeout) == (2, 1.0)
    assert both.policies == ("UpstreamPolicy default/port", "UpstreamPolicy default/all")


def told(translation: Translation, name: str) -> Condition:
    """How its first target took a RoutePolicy."""
    return status(translation, name, "RoutePolicy").parents[0].conditions[0]


def test_of_two_for_one_target_the_older_wins_then_the_first_by_name() -> None:
    def at(name: str, code: int, **fields: object) -> Object:
        return request(name=name, directResponse={"status": code}, **fields)

    web = service("web", HTTP)
    young = at("a", 501, created="2024-01-02T00:00:00Z")
    old = at("b", 502, created="2024-01-01T00:00:00Z")
    translation = translated(web, young, old, at("c", 503))
    assert routes(translation)[0].action == DirectResponse(status=502)
    assert told(translation, "b").status
    for loser in ("a", "c"):
        refused = told(translation, loser)
        assert (refused.status, refused.reason) == (False, "Conflicted")
        assert refused.message == "RoutePolicy default/b comes first, and is for Service default/web already"
        assert problems(translation, loser, "RoutePolicy") == [f"spec.targetRefs[0]: {refused.message}"]
    assert routes(translated(web, at("b", 502), at("a", 501)))[0].action == DirectResponse(status=501)
    # Kinds do not meet.
    assert told(translated(web, at("b", 502), upstream(name="a", limits={})), "b").status


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({**WEB, "name": "nowhere"}, "Service default/nowhere does not exist"),
        ({**WEB, "sectionName": "x"}, "Service default/web has no port named x"),
        ({**R, "name": "nowhere"}, "HTTPRoute default/nowhere does not exist"),
        ({**R, "sectionName": "x"}, "HTTPRoute default/r has no rule named x"),
    ],
)
def test_a_target_that_is_not_there(target: Object, message: str) -> None:
    translation = translated(service("web", HTTP), http_route(rule()), request(target, WEB, **TEAPOT))
    first, second = (each.conditions[0] for each in status(translation, "p", "RoutePolicy").parents)
    assert (first.status, first.reason, first.message) == (False, "TargetNotFound", message)
    assert (second.status, second.reason) == (True, "Accepted")
    assert routes(translation)[0].action == DirectResponse(status=418)


def test_a_policy_reaches_its_own_namespace_only() -> None:
    other = service("web", HTTP, ip="10.96.0.9", namespace="other")
    translation = translated(service("web", HTTP), other, request(**TEAPOT))
    assert isinstance(routes(translation, "other/web:80")[0].action, Forward)


def test_a_policy_and_an_annotation() -> None:
    annotations = {"meshd.io/failure-policy": "open", "meshd.io/fast-path": "on"}
    web = service("web", HTTP, {"port": 81, "name": "http-b"}, annotations=annotations)
    translation = translated(web, request(failurePolicy="Closed", fastPath="Disabled"))
    listener = translation.snapshot.listeners["default/web:80"]
    assert (listener.failure_policy, listener.fast_path) == (FailurePolicy.CLOSED, False)
    assert problems(translation, "web", "Service") == [
        f"metadata.annotations[{name}]: RoutePolicy default/p says it, too, and wins" for name in annotations
    ]


def test_a_policy_for_what_speaks_no_http() -> None:
    opaque = service("web", {"port": 5432, "name": "tcp-db"})
    translation = translated(opaque, request(**TEAPOT))
    assert problems(translation, "p", "RoutePolicy") == [
        "spec.targetRefs: no Service's port that it is for is captured as HTTP: it does nothing there"
    ]
    headless = service("web", HTTP, ip="None")
    assert status(translated(headless, request(**TEAPOT)), "p", "RoutePolicy").problems
    both = service("web", HTTP, {"port": 5432, "name": "tcp-db"})
    assert status(translated(both, request(**TEAPOT)), "p", "RoutePolicy").problems == ()


def test_the_status_as_the_api_has_it() -> None:
    told = status(
        translated(service("web", HTTP), request({**WEB, "sectionName": "http"}, **TEAPOT)),
        "p",
        "RoutePolicy",
    )
    assert object_status(told) == {
        "ancestors": [
            {
                "ancestorRef": {"group": "", "kind": "Service", "name": "web", "sectionName": "http"},
                "controllerName": CONTROLLER,
                "conditions": [
                    {
                        "type": "Accepted",
                        "status": "True",
                        "reason": "Accepted",
                        "message": "",
                        "observedGeneration": 3,
                    }
                ],
            }
        ]
    }


def test_a_bad_policy_is_refused_and_told() -> None:
    bad = request(fault={"headers": [{"name": "a", "value": "(", "type": "RegularExpression"}], "abort": {}})
    translation = translated(service("web", HTTP), bad)
    (problem,) = problems(translation, "p", "RoutePolicy")
    assert problem.startswith("spec.fault.headers[0].value: regular expression '('")
    assert routes(translation)[0].fault is None


def test_what_speaks_http1_is_not_probed_by_grpc() -> None:
    old = service("web", {"port": 80, "name": "http1"})
    translation = translated(old, upstream(healthCheck={"grpc": {}}, timeouts={"connect": "1s"}))
    found = translation.snapshot.clusters["default/web:80"]
    assert (found.health_check, found.connect_timeout) == (None, 1.0)
    assert problems(translation, "web", "Service") == [
        "spec.ports[0]: speaks http1, so that UpstreamPolicy default/p cannot have it probed by gRPC: "
        "it is not probed"
    ]
