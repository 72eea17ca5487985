"""What ``meshd explain`` says of a route's filters."""

from __future__ import annotations

import msgspec

from meshd.agent.filter_texts import filter_texts
from meshd.model.listeners import FailurePolicy, HttpOptions
from meshd.model.request_policies import MILLION, Cors, Fault, Mirror, RateLimit, StringMatch, TokenBucket
from meshd.model.routes import DirectResponse, Forward, Route, VirtualHost, WeightedCluster
from meshd.model.view import ExplainedRequest
from tests.support.route_configs import LISTENER

BUCKET = TokenBucket(tokens=100, interval=1.0, burst=20)
TESTER = StringMatch(name="x-user", value="tester")
ALL = Route(
    name="r",
    action=Forward(
        clusters=(WeightedCluster(name="a"),), mirrors=(Mirror(cluster="b"), Mirror(cluster="c", share=5000))
    ),
    cors=Cors(
        origins=(
            StringMatch(name="origin", value="https://a"),
            StringMatch(name="origin", value="https://.*", regex=True),
        ),
        methods=("GET", "PUT"),
        headers=("*",),
        expose=("x-a",),
        credentials=True,
    ),
    fault=Fault(delay=0.5, delay_share=MILLION // 10, abort=503, abort_share=MILLION, headers=(TESTER,)),
    rate_limit=RateLimit(all=BUCKET, each_client=msgspec.structs.replace(BUCKET, interval=0.5)),
)


BARE = VirtualHost(name="h")


def texts(
    route: Route, host: VirtualHost = BARE, share: int = MILLION, headers: tuple[tuple[str, str], ...] = ()
) -> list[str]:
    listener = msgspec.structs.replace(LISTENER, http=HttpOptions(access_log_share=share))
    request = ExplainedRequest(service="web", method="GET", target="/", host="web", headers=headers)
    return list(filter_texts(listener, host, route, request))


def test_all_of_them() -> None:
    assert texts(ALL, share=20_000, headers=(("x-user", "tester"),)) == [
        "cors: origins https://a, ~https://.*; methods GET, PUT; headers *; exposes x-a; with credentials",
        "fault: delay 0.5 s for 10 %; abort 503 for 100 %; only x-user=tester",
        "rate limit: 100 in 1 s (at once 20) together, 100 in 0.5 s (at once 20) for each client "
        "(the route's, on this node)",
        "mirror: b",
        "mirror: c for 0.5 %",
        "access log: 2 % of the requests",
    ]


def test_what_is_not_for_the_request_or_the_routes_own() -> None:
    host = VirtualHost(name="h", rate_limit=RateLimit(all=BUCKET))
    plain = Route(name="r", action=DirectResponse(status=200), cors=ALL.cors, fault=ALL.fault)
    assert texts(plain, host) == [
        "fault: delay 0.5 s for 10 %; abort 503 for 100 %; only x-user=tester (not this request)",
        "rate limit: 100 in 1 s (at once 20) together (the service's, on this node)",
    ]
    by_header = Fault(by_header=True, delay_share=MILLION, abort_share=1)
    asked = msgspec.structs.replace(plain, fault=by_header, rate_limit=RateLimit())
    assert texts(asked, host) == [
        "fault: delay as the request asks for 100 %; abort as the request asks for 0.0001 %",
        "rate limit: none (the route's, on this node)",
    ]


def test_who_fails_closed() -> None:
    closed = msgspec.structs.replace(LISTENER, failure_policy=FailurePolicy.CLOSED)
    request = ExplainedRequest(service="web", method="GET", target="/", host="web")
    route = Route(name="r", action=DirectResponse(status=200))
    assert list(filter_texts(closed, BARE, route, request)) == [
        "failure policy: closed, connections are refused while no proxy is alive"
    ]


def test_nothing() -> None:
    assert texts(Route(name="r", action=DirectResponse(status=200))) == []
