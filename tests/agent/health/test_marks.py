from __future__ import annotations

from meshd.agent.health.marks import By, Mark, marked, unmarked
from meshd.agent.health.reach import clusters_in_reach
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.listeners import Listener, Protocol
from meshd.model.request_policies import Mirror
from meshd.model.routes import Forward, Redirect, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Delta, Snapshot

MARK = Mark(By.PROBE, "HTTP status 500", 1.0)
A, B, C = (f"10.0.0.{n}" for n in (1, 2, 3))


def _snapshot(**health: Health) -> Snapshot:
    endpoints = tuple(Endpoint(address=A, port=80, health=each) for each in health.values())
    web = EndpointSet(name="web", endpoints=endpoints)
    other = EndpointSet(name="other", endpoints=(Endpoint(address=A, port=80),))
    return Snapshot(3, endpoints={"web": web, "other": other})


def test_what_is_marked_takes_no_requests_and_the_rest_stays_the_very_same() -> None:
    snapshot = _snapshot(a=Health.HEALTHY)
    out = marked(snapshot, {"web": {(A, 80): MARK, (B, 80): MARK}, "gone": {(A, 80): MARK}})
    assert out.endpoints["web"].endpoints[0].health is Health.UNHEALTHY
    assert out.endpoints["other"] is snapshot.endpoints["other"]
    assert out.generation == 3
    assert marked(snapshot, {}).endpoints["web"] is snapshot.endpoints["web"]


def test_who_drains_goes_on_draining() -> None:
    snapshot = _snapshot(a=Health.DRAINING)
    assert marked(snapshot, {"web": {(A, 80): MARK}}).endpoints["web"] == snapshot.endpoints["web"]


def test_marks_can_be_taken_off_again() -> None:
    snapshot = _snapshot(a=Health.HEALTHY)
    marks = {"web": {(A, 80): MARK}}
    assert unmarked(marked(snapshot, marks), marks).endpoints == snapshot.endpoints


def _forward(*names: str, mirror: str = "") -> Forward:
    mirrors = (Mirror(cluster=mirror),) if mirror else ()
    return Forward(clusters=tuple(WeightedCluster(name=each) for each in names), mirrors=mirrors)


def test_a_cluster_is_in_reach_of_the_namespaces_whose_routes_lead_there() -> None:
    listener = Listener(
        name="ns/web:80", service="ns/web", addresses=("10.96.0.1",), port=80, protocol=Protocol.HTTP,
        cluster="own", route_config="all", consumers=(("guest", "theirs"),),
    )  # fmt: skip
    opaque = Listener(
        name="ns/db:1", service="ns/db", addresses=("10.96.0.2",), port=1, protocol=Protocol.TCP, cluster="db"
    )
    routes = (
        Route(name="1", action=_forward("a", "b", mirror="copy")),
        Route(name="2", action=Redirect(host="elsewhere")),
    )
    theirs = (Route(name="3", action=_forward("c")),)
    snapshot = Snapshot().apply(
        Delta(
            generation=1,
            listeners=(listener, opaque),
            route_configs=(
                RouteConfig(name="all", virtual_hosts=(VirtualHost(name="*", routes=routes),)),
                RouteConfig(name="theirs", virtual_hosts=(VirtualHost(name="*", routes=theirs),)),
            ),
            clusters=tuple(Cluster(name=each) for each in ("own", "a", "b", "c", "copy", "db", "unused")),
        )
    )
    assert clusters_in_reach(snapshot, ()) == frozenset()
    assert clusters_in_reach(snapshot, ("shop",)) == {"own", "a", "b", "copy", "db"}
    assert clusters_in_reach(snapshot, ("guest",)) == {"own", "c", "db"}
    assert clusters_in_reach(snapshot, ("guest", "shop")) == {"own", "a", "b", "c", "copy", "db"}
