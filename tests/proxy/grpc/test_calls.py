"""gRPC calls over HTTP/2, between a client and servers whose every frame is known."""

from __future__ import annotations

import socket

import msgspec

from meshd.model.cluster_policies import Outlier
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.outcomes import EndpointTally
from meshd.model.request_policies import Retry
from meshd.model.routes import Forward, Route, RouteMatch, WeightedCluster
from proxy.http2.events import Field
from tests.support.http2_client import Http2Client
from tests.support.http2_server import OK, Http2Server
from tests.support.http_bed import Bed, bed, config, eventually, server

_CALL = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
_TO = WeightedCluster(name="web")
_CLUSTER = Cluster(name="web", http_version=HttpVersion.HTTP2)


def _route(**fields: object) -> Route:
    action = Forward(clusters=(_TO,), **fields)  # type: ignore[arg-type]
    return Route(name="call", match=RouteMatch(grpc=True), action=action)


def _counted(proxy: Bed) -> list[tuple[int, str, str]]:
    return [(row.status, row.grpc_status, row.flags) for row in proxy.rows()]


def _made(client: Http2Client, *fields: Field, ended: bool = True) -> dict[bytes, bytes]:
    """A call; the last head of its answer, be it its only one or its trailers."""
    stream = client.request(client.head(b"POST", b"/demo.Echo/Say", *_CALL, *fields), ended)
    client.until(lambda: client.answers[stream].code is not None)
    return dict(client.answers[stream].heads[-1])


def test_the_status_that_counts_is_the_trailers() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        for status in (b"0", b"5"):
            peer.respond(peer.whole_request().stream, b"\0\0\0\0\0", trailers=((b"grpc-status", status),))
        peer.respond(peer.whole_request().stream, b"\0\0\0\0\0")
        peer.drop()

    with server(script) as web, bed(config((web.port,), (_route(),), cluster=_CLUSTER)) as proxy:
        with Http2Client(proxy.connect()) as client:
            found = [_made(client).get(b"grpc-status") for _ in range(3)]
        assert found == [b"0", b"5", None]
        assert sorted(_counted(proxy)) == [(200, "0", ""), (200, "5", ""), (200, "none", "")]
        assert [entry.grpc_status for entry in proxy.log.entries] == ["0", "5", "none"]


def test_an_answer_of_the_meshs_own_ends_with_its_head_though_the_call_goes_on() -> None:
    with bed(config((), (_route(),), cluster=_CLUSTER)) as proxy, Http2Client(proxy.connect()) as client:
        found = _made(client, ended=False)
        (answer,) = client.answers.values()
        assert (len(answer.heads), answer.body, answer.code) == (1, b"", 0)
        assert (found[b":status"], found[b"grpc-status"]) == (b"200", b"14")
        assert found[b"grpc-message"] == b"meshd: no healthy endpoint in cluster web"
        eventually(lambda: (200, "14", "UH") in _counted(proxy))


def test_a_deadline_ends_a_call_here_and_at_its_server() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        left = peer.whole_request()[b"grpc-timeout"]
        assert left.endswith(b"u")
        assert 0 < int(left[:-1]) <= 200_000
        peer.drop()

    route = _route(deadline_limit=0.2)
    with server(script) as web, bed(config((web.port,), (route,), cluster=_CLUSTER)) as proxy:
        with Http2Client(proxy.connect()) as client:
            found = _made(client, (b"grpc-timeout", b"30S"))
        assert found[b"grpc-status"] == b"4"
        assert _counted(proxy) == [(200, "4", "DT")]


def test_a_status_in_the_head_is_tried_again_and_counts_for_its_endpoint() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        for status in (b"14", b"0"):
            peer.respond(peer.whole_request().stream, b"", (*OK, (b"grpc-status", status)))
        peer.drop()

    reports: list[tuple[EndpointTally, ...]] = []
    retry = Retry(grpc_statuses=(14,), backoff=0.001, max_backoff=0.002)
    cluster = msgspec.structs.replace(_CLUSTER, outlier=Outlier())
    with server(script) as web, bed(config((web.port,), (_route(retry=retry),), cluster=cluster)) as proxy:
        proxy.runtime.outcomes.report = reports.append
        with Http2Client(proxy.connect()) as client:
            assert _made(client)[b"grpc-status"] == b"0"
        assert _counted(proxy) == [(200, "0", "")]
        assert proxy.counter("upstream_retries_total") == 1
        eventually(lambda: sum(each.tally.requests for report in reports for each in report) == 2)
        assert sum(each.tally.successes for report in reports for each in report) == 1
