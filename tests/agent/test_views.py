from __future__ import annotations

from meshd.agent.health.marks import By, Mark, marked
from meshd.agent.totals import RequestTotal
from meshd.agent.views import (
    action_text,
    endpoint_views,
    left_out_views,
    match_text,
    route_views,
    service_views,
)
from meshd.cli.status_text import why_left_out
from meshd.model.clusters import Endpoint, EndpointSet, Health
from meshd.model.listeners import Listener, Protocol
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    DirectResponse,
    Forward,
    PathExact,
    PathPrefix,
    PathRegex,
    Redirect,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.model.snapshot import Snapshot

NAME = "default/web:80"
ROUTES = (
    Route(
        name="default/canary/0",
        match=RouteMatch(headers=(StringMatch(name="x-user", value="tester"),)),
        action=Forward(clusters=(WeightedCluster(name="default/web-v2:80"),)),
    ),
    Route(
        name="default/canary/1",
        action=Forward(
            clusters=(
                WeightedCluster(name="default/web-v1:80", weight=90),
                WeightedCluster(name="default/web-v2:80", weight=10),
            )
        ),
    ),
)
SNAPSHOT = Snapshot(
    1,
    {
        NAME: Listener(
            name=NAME,
            service="default/web",
            addresses=("10.96.0.1",),
            port=80,
            protocol=Protocol.HTTP,
            cluster=NAME,
            route_config=NAME,
        )
    },
    {NAME: RouteConfig(name=NAME, virtual_hosts=(VirtualHost(name="*", routes=ROUTES),))},
    {},
    {
        NAME: EndpointSet(
            name=NAME,
            endpoints=(
                Endpoint(address="10.244.1.2", port=8080, workload="default/a"),
                Endpoint(
                    address="10.244.1.3", port=8080, health=Health.DRAINING, priority=1, locality="eu/a/"
                ),
            ),
        )
    },
)
REQUESTS = {
    (NAME, "default/canary/1", "default/web-v1:80", "default/client", "GET", 200, ""): RequestTotal(count=9),
    (NAME, "default/canary/1", "default/web-v2:80", "default/client", "GET", 503, "UH"): RequestTotal(
        count=1
    ),
}


def test_services() -> None:
    (view,) = service_views(SNAPSHOT, REQUESTS)
    assert (view.name, view.routes, view.endpoints, view.healthy, view.requests) == (NAME, 2, 2, 1, 10)


def test_routes_keep_their_order_and_count() -> None:
    views = route_views(SNAPSHOT, REQUESTS)
    assert [(view.name, view.requests) for view in views] == [
        ("default/canary/0", 0),
        ("default/canary/1", 10),
    ]
    assert views[0].match == "* /* x-user=tester"
    assert views[1].action == "default/web-v1:80 (90), default/web-v2:80 (10)"


def test_endpoints() -> None:
    views = endpoint_views(SNAPSHOT, {}, 0.0)
    assert [(view.health, view.by) for view in views] == [("healthy", ""), ("draining", "control plane")]
    assert [(view.priority, view.locality) for view in views] == [(0, ""), (1, "eu/a/")]


def test_who_is_left_out_by_our_own_say_and_why() -> None:
    first = endpoint_views(SNAPSHOT, {}, 0.0)[0]
    marks = {first.cluster: {(first.address, first.port): Mark(By.PROBE, "HTTP status 500", 2.0)}}
    out = marked(SNAPSHOT, marks)
    view = endpoint_views(out, marks, 14.5)[0]
    assert (view.health, view.by, view.reason, view.seconds) == (
        "unhealthy",
        "probe",
        "HTTP status 500",
        12.5,
    )
    assert why_left_out(view) == "probe: HTTP status 500, for 12 s"
    assert tuple(left_out_views(out, marks, 14.5)) == (view,)
    assert [why_left_out(each) for each in endpoint_views(SNAPSHOT, {}, 0.0)] == ["", "control plane"]


def test_lines_for_matches_and_actions() -> None:
    match = RouteMatch(
        path=PathExact("/a"), method="GET", query=(StringMatch(name="v", value="[0-9]+", regex=True),)
    )
    assert match_text(match) == "GET /a ?v~[0-9]+"
    assert match_text(RouteMatch(path=PathPrefix("/api"))) == "* /api/*"
    assert match_text(RouteMatch(path=PathRegex("/x.*"))) == "* ~/x.*"
    assert match_text(RouteMatch(share=125_000)) == "* /* draw under 12.5 %"
    assert action_text(Redirect(status=301)) == "redirect 301"
    assert action_text(DirectResponse(status=404)) == "answer 404"
