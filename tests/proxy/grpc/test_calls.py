"""gRPC calls over HTTP/2, between a client and servers whose every frame is known."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from queue import Queue

import grpc
import msgspec
import pytest

from meshd.model.cluster_policies import Outlier
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.outcomes import EndpointTally
from meshd.model.request_policies import Retry
from meshd.model.routes import Forward, Route, RouteMatch, WeightedCluster
from proxy.downstream.http1 import Downstream
from proxy.downstream.http2 import Http2Downstream
from proxy.http2 import codes
from proxy.http2.events import Closed, Field
from proxy.upstream import failures
from tests.support.http2_client import Http2Client
from tests.support.http2_server import OK, Http2Server
from tests.support.http_bed import Bed, Script, bed, config, eventually, receive_all, receive_until, server

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


def _begun(*fields: Field, ended: Queue[Closed] | None = None) -> Script:
    """A server that begins an answer, of which part of a message comes, and says no more.

    ``ended`` gets how the proxy ends it.
    """

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        stream = peer.whole_request().stream
        peer.session.respond(stream, [*OK, (b"content-type", b"application/grpc"), *fields], False)
        peer.session.send(stream, b"\0\0\0\0\2hi\0\0")
        peer.flush()
        closed = peer.wait_for(Closed)
        if ended is not None:
            ended.put(closed)
        peer.drop()

    return script


def _is_past(proxy: Bed) -> None:
    """The one call's deadline passes: when it is known that its answer has begun."""
    (connection,) = proxy.runtime.connections
    if isinstance(connection, Http2Downstream):
        (stream,) = connection._streams.values()
        exchange = stream.exchange
    else:
        assert isinstance(connection, Downstream)
        exchange = connection._exchange
    assert exchange is not None
    exchange.fail(failures.deadline(9.0, True))


def test_a_deadline_within_an_answer_ends_it_with_a_status() -> None:
    """As gRPC's own servers do; its clients drop the message that is not whole."""
    ended: Queue[Closed] = Queue()
    with (
        server(_begun(ended=ended)) as web,
        bed(config((web.port,), (_route(deadline_limit=0.0),), cluster=_CLUSTER)) as proxy,
    ):
        with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
            call = channel.unary_stream("/demo.Echo/Say", None, None)(b"", timeout=60)
            answers: Iterator[bytes] = iter(call)
            assert next(answers) == b"hi"
            proxy.call(lambda: _is_past(proxy))
            with pytest.raises(grpc.RpcError) as failed:
                next(answers)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert failed.value.details() == "meshd: the call was not complete within its deadline, 9 s"
        assert ended.get(timeout=60).code == codes.CANCEL
        assert _counted(proxy) == [(200, "4", "DT")]


def test_an_answer_that_says_its_length_is_cut_at_its_deadline() -> None:
    script = _begun((b"content-length", b"1000"))
    with server(script) as web, bed(config((web.port,), (_route(),), cluster=_CLUSTER)) as proxy:
        with Http2Client(proxy.connect()) as client:
            stream = client.request(client.head(b"POST", b"/demo.Echo/Say", *_CALL))
            client.until(lambda: client.answers[stream].content)
            proxy.call(lambda: _is_past(proxy))
            assert client.answer(stream).code == codes.INTERNAL_ERROR
        assert _counted(proxy) == [(200, "none", "DT")]


def test_a_deadline_within_an_answer_to_http1_is_told_in_its_trailers() -> None:
    with (
        server(_begun()) as web,
        bed(config((web.port,), (_route(),), cluster=_CLUSTER)) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(
            b"POST /demo.Echo/Say HTTP/1.1\r\nHost: web\r\nContent-Type: application/grpc\r\n"
            b"TE: trailers\r\nContent-Length: 0\r\n\r\n"
        )
        receive_until(client, b"hi\0\0\r\n")
        proxy.call(lambda: _is_past(proxy))
        assert receive_all(client).startswith(b"0\r\ngrpc-status: 4\r\ngrpc-message: ")


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
