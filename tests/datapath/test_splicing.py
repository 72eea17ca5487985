"""Which services' HTTP/2 connections may be spliced, and why others' may not."""

from __future__ import annotations

import msgspec
import pytest

from meshd.datapath.rules.splicing import NOT_ASKED_FOR, Splicing, splicing
from meshd.model.cluster_policies import LeastRequest, Limits, Maglev, Outlier, RandomEndpoint
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.http2 import Http2Options
from meshd.model.listeners import HttpOptions, Listener
from meshd.model.request_policies import Mirror, RateLimit, Retry
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    PathPrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.model.snapshot import Snapshot
from tests.support.route_configs import LISTENER, config, to

ASKING = msgspec.structs.replace(LISTENER, http2_fast_path=True)
PLAIN = Route(name="plain", action=to("a"))
UNDER_A = RouteMatch(path=PathPrefix("/a"))


def found(*routes: Route, cluster: Cluster | None = None, listener: Listener = ASKING) -> Splicing | str:
    clusters = {"a": cluster or Cluster(name="a"), "b": Cluster(name="b")}
    snapshot = Snapshot(1, {listener.name: listener}, {listener.name: config(*routes)}, clusters)
    return splicing(snapshot, listener)


def doing(**what: object) -> Route:
    return Route(name="r", action=msgspec.structs.replace(to("a"), **what))


@pytest.mark.parametrize(
    "routes",
    [
        (PLAIN,),
        (Route(name="first", match=UNDER_A, action=to("a")), PLAIN),
        (PLAIN, Route(name="never", action=to("b"))),
        (doing(retry=Retry(attempts=2)),),
        (doing(deadline_limit=0.0),),
        (Route(name="r", action=Forward(clusters=(*to("a").clusters, WeightedCluster(name="b", weight=0)))),),
    ],
)
def test_all_requests_are_decided_alike(routes: tuple[Route, ...]) -> None:
    decided = found(*routes)
    assert isinstance(decided, Splicing)
    assert decided.cluster.name == "a"


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        ((), "some requests are taken by no route"),
        ((Route(name="r", match=UNDER_A, action=to("a")),), "some requests are taken by no route"),
        (
            (Route(name="r", match=RouteMatch(grpc=True), action=to("a")),),
            "some requests are taken by no route",
        ),
        ((Route(name="r", action=to("a", "b")),), "not all requests go to one cluster"),
        ((Route(name="r", match=UNDER_A, action=to("b")), PLAIN), "not all requests go to one cluster"),
        ((Route(name="r", action=DirectResponse(status=200)),), "the route does not send requests on (r)"),
        ((doing(timeout=1.0),), "the route has a timeout (r)"),
        ((doing(deadline_limit=1.0),), "the route keeps deadlines (r)"),
        ((doing(retry=Retry(statuses=(503,))),), "the route sends requests again (r)"),
        ((doing(mirrors=(Mirror(cluster="b"),)),), "the route mirrors requests (r)"),
        ((doing(host="x"),), "the route rewrites the path or Host (r)"),
        (
            (Route(name="r", action=to("a"), request_headers=HeaderEdit(remove=("x",))),),
            "the route changes header fields (r)",
        ),
        ((Route(name="r", action=to("a"), fast_path=False),), "off by policy (r)"),
        ((Route(name="r", action=to("missing")),), "there is no cluster missing"),
    ],
)
def test_something_is_done_for_a_request(routes: tuple[Route, ...], reason: str) -> None:
    assert found(*routes) == reason


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        (Cluster(name="a", http_version=HttpVersion.HTTP1), "cluster a speaks HTTP/1.1"),
        (Cluster(name="a", limits=Limits(requests=3)), "cluster a has limits on requests"),
        (
            Cluster(name="a", http2=Http2Options(max_streams=3)),
            "cluster a has keep-alive or limits of HTTP/2 connections",
        ),
        (Cluster(name="a", outlier=Outlier()), "cluster a ejects endpoints by their answers"),
        (Cluster(name="a", balancing=Maglev()), "cluster a is balanced by Maglev"),
    ],
)
def test_its_servers_are_not_fit(cluster: Cluster, reason: str) -> None:
    assert found(PLAIN, cluster=cluster) == reason


@pytest.mark.parametrize(
    "cluster",
    [
        Cluster(name="a", http_version=HttpVersion.HTTP2, balancing=LeastRequest()),
        Cluster(name="a", limits=Limits(connections=3, pending=2), balancing=RandomEndpoint()),
    ],
)
def test_its_servers_are_fit(cluster: Cluster) -> None:
    assert found(PLAIN, cluster=cluster) == Splicing("plain", cluster)


def test_the_service_has_to_ask_for_it_and_add_nothing() -> None:
    assert found(PLAIN, listener=LISTENER) == NOT_ASKED_FOR
    via = msgspec.structs.replace(ASKING, http=HttpOptions(via="1.1 meshd"))
    assert found(PLAIN, listener=via) == "Via is added"


def test_hosts_and_their_limits() -> None:
    def decided(*hosts: VirtualHost) -> Splicing | str:
        configs = {ASKING.name: RouteConfig(name=ASKING.name, virtual_hosts=hosts)}
        return splicing(Snapshot(1, {ASKING.name: ASKING}, configs, {"a": Cluster(name="a")}), ASKING)

    assert decided() == "virtual hosts"
    assert decided(VirtualHost(name="h", domains=("web",), routes=(PLAIN,))) == "virtual hosts"
    limited = VirtualHost(name="h", routes=(PLAIN,), rate_limit=RateLimit())
    assert decided(limited) == "the service has a rate limit"
    assert splicing(Snapshot(1, {ASKING.name: ASKING}), ASKING) == "it has no routes"
