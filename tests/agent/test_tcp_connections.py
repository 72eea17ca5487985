"""What is shown of routed TCP connections: routes, counts, metrics, and why one goes where it goes."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from meshd.agent.explain import explain
from meshd.agent.explained import CannotExplainError
from meshd.agent.health.reach import clusters_in_reach
from meshd.agent.tcp_metrics import tcp_connections
from meshd.agent.totals import TcpKey, TcpTotal, Totals
from meshd.agent.views import route_views, service_views
from meshd.cli.explain import explanation_text
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import WeightedCluster
from meshd.model.snapshot import Snapshot
from meshd.model.tcp_routes import TcpRoute
from meshd.model.view import ExplainedRequest
from meshd.model.wire import Stats, TcpCounts

TLS, PLAIN = "shop/tls:443", "shop/db:5432"
SHARES = (WeightedCluster(name="shop/a:443", weight=9), WeightedCluster(name="shop/b:443", weight=1))
NAMED = TcpRoute(name="shop/names/0", server_names=("a.example", "*.b.example"), clusters=SHARES)
OWN = TcpRoute(name="other/own/0", clusters=(WeightedCluster(name="other/c:1"),), idle_timeout=0.0)
KEY: TcpKey = (TLS, NAMED.name, "shop/a:443", "shop/client")


def listener(name: str, address: str, *routes: TcpRoute) -> Listener:
    service, _, port = name.partition(":")
    return Listener(
        name=name,
        service=service,
        addresses=(address,),
        port=int(port),
        protocol=Protocol.TCP,
        cluster=name,
        tcp_routes=routes,
        tcp_consumers=(("other", (OWN,)),) if routes else (),
    )


SNAPSHOT = Snapshot(
    1,
    {TLS: listener(TLS, "10.96.0.1", NAMED), PLAIN: listener(PLAIN, "10.96.0.2")},
    clusters={"shop/a:443": Cluster(name="shop/a:443")},
    endpoints={
        "shop/a:443": EndpointSet(name="shop/a:443", endpoints=(Endpoint(address="10.1.0.1", port=443),))
    },
)


def counts(pid: int, opened: int, **closed: int) -> Stats:
    service, route, cluster, source = KEY
    row = TcpCounts(
        service=service,
        route=route,
        cluster=cluster,
        source=source,
        opened=opened,
        closed=closed,
        received=10 * opened,
        sent=100 * opened,
        seconds=float(sum(closed.values())),
    )
    return Stats(request=1, pid=pid, generation=1, tcp=(row,))


def text(service: str, server_name: str = "", namespace: str = "") -> list[str]:
    asked = ExplainedRequest(service=service, server_name=server_name, namespace=namespace)
    return list(explanation_text(explain(SNAPSHOT, asked, lambda *_: "unused")))


def test_a_named_connection_is_explained() -> None:
    assert text("shop/tls", "x.b.example") == [
        "TLS connection for x.b.example to shop/tls:443",
        "  Route    shop/names/0, number 0 by order",
        "  Match    TLS for a.example, *.b.example",
        "  Cluster  shop/a:443  90 %, healthy endpoints 1 of 1",
        "  Cluster  shop/b:443  10 %, healthy endpoints 0 of 0",
        "  Idle     3600 s",
        "  Path     proxy, because: the client's first bytes tell the route",
    ]


def test_a_connection_that_no_route_takes_is_reset() -> None:
    assert text("shop/tls:443", "c.example") == [
        "TLS connection for c.example to shop/tls:443",
        "  Route    none: reset: no route takes it",
        "  Path     proxy, because: the client's first bytes tell the route",
    ]


def test_consumers_have_their_own() -> None:
    found = text("shop/tls", "a.example", "other")
    assert found[0] == "TLS connection for a.example to shop/tls:443 from other"
    assert found[1] == "  Route    other/own/0, number 0 by order"
    assert found[-2:] == ["  Idle     none", "  Path     proxy, because: it is a route's"]


def test_an_opaque_port_is_the_kernels() -> None:
    assert text("shop/db") == [
        "Connection to shop/db:5432",
        "  Route    default",
        "  Match    TCP",
        "  Cluster  shop/db:5432  100 %, healthy endpoints 0 of 0",
        "  Idle     none",
        "  Path     kernel",
    ]


def test_http_ports_are_asked_about_with_a_method() -> None:
    http = Snapshot(1, {"shop/web:80": Listener(
        name="shop/web:80", service="shop/web", addresses=("10.96.0.3",), port=80, protocol=Protocol.HTTP
    )})  # fmt: skip
    with pytest.raises(CannotExplainError, match="ask with METHOD and PATH"):
        explain(http, ExplainedRequest(service="shop/web"), lambda *_: "unused")


def test_routes_and_services_are_listed_with_their_connections() -> None:
    connections = {KEY: TcpTotal(opened=7)}
    rows = route_views(SNAPSHOT, {}, connections)
    assert [(row.service, row.callers, row.name, row.match, row.action, row.requests) for row in rows] == [
        (TLS, "", "shop/names/0", "TLS for a.example, *.b.example", "shop/a:443 (9), shop/b:443 (1)", 7),
        (TLS, "other", "other/own/0", "TCP", "other/c:1", 0),
    ]
    services = service_views(SNAPSHOT, {}, connections=connections)
    assert {row.name: (row.protocol, row.routes, row.requests) for row in services} == {
        TLS: ("tcp", 1, 7),
        PLAIN: ("tcp", 0, 0),
    }


def test_what_ended_workers_counted_is_kept() -> None:
    totals = Totals()
    totals.update([counts(1, 3, UF=1), counts(2, 2)])
    totals.keep_only([2])
    totals.update([counts(2, 4, UC=2)])
    for _ in range(2):  # asking changes nothing
        (total,) = totals.tcp().values()
        assert (total.opened, dict(total.closed), total.received, total.sent, total.seconds) == (
            *(7, {"UF": 1, "UC": 2}, 70, 700),
            3.0,
        )


class _Families(Collector):
    def collect(self) -> list[Metric]:
        total = TcpTotal(opened=3, received=5, sent=6, seconds=1.5)
        total.closed.update({"": 1, "UF": 1})
        return list(tcp_connections({KEY: total}))


def test_metrics() -> None:
    registry = CollectorRegistry()
    registry.register(_Families())
    labels = 'cluster="shop/a:443",route="shop/names/0",service="shop/tls:443",source="shop/client"'
    lines = generate_latest(registry).decode().splitlines()

    def value(name: str, flags: str | None = None) -> str:
        wanted = set(labels.split(",")) | (set() if flags is None else {f'response_flags="{flags}"'})
        (found,) = (
            line.rpartition(" ")[2]
            for line in lines
            if line.startswith(f"{name}{{")
            and set(line.partition("{")[2].partition("}")[0].split(",")) == wanted
        )
        return found

    assert value("meshd_tcp_connections_opened_total") == "3.0"
    assert value("meshd_tcp_connections_closed_total", "") == "1.0"
    assert value("meshd_tcp_connections_closed_total", "UF") == "1.0"
    assert value("meshd_tcp_received_bytes_total") == "5.0"
    assert value("meshd_tcp_sent_bytes_total") == "6.0"
    assert value("meshd_tcp_connection_duration_seconds_count") == "2.0"
    assert value("meshd_tcp_connection_duration_seconds_sum") == "1.5"


def test_clusters_of_tcp_routes_are_in_reach_of_who_may_call_them() -> None:
    assert clusters_in_reach(SNAPSHOT, ["shop"]) == {TLS, PLAIN, "shop/a:443", "shop/b:443"}
    assert clusters_in_reach(SNAPSHOT, ["other"]) == {TLS, PLAIN, "other/c:1"}
