"""Requests to servers that speak HTTP/2: what they get, what comes back, and what goes wrong on the way."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Sequence

import pytest

from meshd.model.cluster_policies import Limits
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.request_policies import Mirror, Retry
from meshd.model.routes import Forward, Route, WeightedCluster
from proxy.exchanges.http2_pool import Http2Pool
from proxy.exchanges.load import Resource
from proxy.http2 import codes, nghttp2, upstream
from proxy.http2.events import Closed, Data, Field, GoAway, Settings
from proxy.http2.session import Limits as SessionLimits
from tests.proxy.http2.pairs import SETTINGS, frame
from tests.support.http2_client import Http2Client
from tests.support.http2_server import OK, Http2Server, Request, serving
from tests.support.http_bed import (
    FORWARD,
    Bed,
    Script,
    Server,
    bed,
    by_connection,
    config,
    eventually,
    get,
    read_response,
    receive_all,
    receive_head,
    receive_until,
    server,
)

HTTP2 = Cluster(name="web", http_version=HttpVersion.HTTP2)
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"


@contextlib.contextmanager
def proxied(
    *scripts: Script, cluster: Cluster = HTTP2, routes: tuple[Route, ...] = (FORWARD,)
) -> Iterator[tuple[Bed, list[Server]]]:
    """A proxy before a server for each script."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server(script)) for script in scripts]
        ports = tuple(each.port for each in servers)
        yield stack.enter_context(bed(config(ports, routes, cluster=cluster))), servers


def retrying(**policy: object) -> tuple[Route, ...]:
    retry = Retry(attempts=3, backoff=0.001, **policy)  # type: ignore[arg-type]
    return (Route(name="r", action=Forward(clusters=(WeightedCluster(name="web"),), retry=retry)),)


def asked(proxy: Bed, request: bytes = get()) -> bytes:
    """The whole answer that a new HTTP/1.1 client gets."""
    with proxy.connect() as client:
        client.sendall(request)
        return answer_to(client)


def answer_to(client: socket.socket) -> bytes:
    """A whole answer, whose trailers are empty if it has chunks."""
    data = receive_head(client)
    if b"Transfer-Encoding: chunked" in data:
        while not data.endswith(b"0\r\n\r\n"):
            data += client.recv(65536)
        return data
    head, body, _ = read_response(client, data)
    return head + b"\r\n\r\n" + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# -- requests and answers ----------------------------------------------------------------------------


def test_a_head_as_an_http2_server_gets_it() -> None:
    seen: list[Request] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            seen.append(peer.whole_request())
            peer.respond(seen[-1].stream, fields=(*OK, (b"x-end", b"1")))

    with proxied(script) as (proxy, _):
        hops = b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"TE: trailers"
        answer = asked(proxy, get(b"/a?b", *hops, b"X-Own: A", b"X-Request-ID: 7"))
        assert b"\r\nx-end: 1" in answer
        assert answer.endswith(b"5\r\nhello\r\n0\r\n\r\n")
        assert seen[0].fields == [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"web"),
            (b":path", b"/a?b"),
            (b"x-own", b"A"),
            (b"x-request-id", b"7"),
            (b"x-forwarded-for", b"10.1.0.7"),
            (b"x-forwarded-proto", b"http"),
            (b"te", b"trailers"),
        ]
        (entry,) = proxy.log.entries
        assert (entry.protocol, entry.status, entry.bytes_sent) == ("HTTP/1.1", 200, 5)
        assert entry.upstream_local_address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("method", "fields", "body", "end"),
    [
        (b"GET", OK, b"hello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (b"GET", (*OK, (b"content-length", b"5")), b"hello", b"\r\n\r\nhello"),
        (b"GET", OK, b"", b"content-length: 0\r\n\r\n"),
        (b"HEAD", (*OK, (b"content-length", b"5")), b"", b"\r\n\r\n"),
        (b"HEAD", OK, b"", b"\r\n\r\n"),
        (b"GET", ((b":status", b"204"),), b"", b"\r\n\r\n"),
        (b"GET", ((b":status", b"304"),), b"", b"\r\n\r\n"),
        (b"GET", ((b":status", b"299"),), b"", b"content-length: 0\r\n\r\n"),
    ],
)
def test_how_an_answer_is_framed_for_an_http1_client(
    method: bytes, fields: Sequence[Field], body: bytes, end: bytes
) -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            peer.respond(peer.whole_request().stream, body, fields)

    request = b"%b / HTTP/1.1\r\nHost: web\r\n\r\n" % method
    with proxied(script) as (proxy, _), proxy.connect() as client:
        # The second one shows that the first one's end was where the client takes it to be.
        client.sendall(request + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        first, second = receive_all(client).split(b"HTTP/1.1 ")[1:]
        assert first.endswith(end)
        assert first[:3] == second[:3] == fields[0][1]
        has_length = b"content-length" in first
        assert has_length == (b"content-length" in end or any(f[0] == b"content-length" for f in fields))


def test_bodies_and_trailers_both_ways() -> None:
    seen: list[Request] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        seen.append(peer.whole_request())
        peer.respond(seen[0].stream, b"abc", trailers=((b"x-sum", b"2"),))
        peer.drop()

    with proxied(script) as (proxy, _), proxy.connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n"
        )
        client.sendall(b"1\r\n!\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n")
        answer = receive_until(client, b"0\r\nx-sum: 2\r\n\r\n")
    assert b"3\r\nabc\r\n" in answer
    assert (seen[0].body, seen[0].trailers) == (b"hello!", [(b"x-sum", b"1")])


def test_interim_answers() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        stream = peer.request().stream
        peer.session.interim(stream, ((b":status", b"103"), (b"link", b"</x>")))
        peer.session.interim(stream, ((b":status", b"100"),))
        peer.flush()
        while not peer.requests[stream].ended:
            peer.wait_for(Data)
        peer.respond(stream)
        peer.drop()

    with proxied(script) as (proxy, _), proxy.connect() as client:
        head, body = POST.split(b"\r\n\r\n")
        client.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        interim = receive_until(client, b"100 Continue\r\n\r\n")
        assert interim.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n")
        client.sendall(body)
        assert receive_until(client, b"0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_before_the_requests_end() -> None:
    ended: list[Closed] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peer.respond(peer.request().stream)
        ended.append(peer.wait_for(Closed))
        peer.serve()

    with proxied(script) as (proxy, (web,)):
        with proxy.connect() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\n\r\n")
            assert receive_all(client).endswith(b"0\r\n\r\n")
        eventually(lambda: ended)
        assert status(asked(proxy)) == 200
        assert web.connections == 1


def test_both_ends_speak_it_and_the_cluster_says_nothing() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            request = peer.whole_request()
            peer.respond(request.stream, request.body, trailers=request.trailers)

    with proxied(script, cluster=Cluster(name="web")) as (proxy, _), Http2Client(proxy.connect()) as client:
        stream = client.request(client.head(b"POST"), ended=False)
        client.session.finish(stream, b"hello", ((b"x-sum", b"1"),))
        client.flush()
        answer = client.answer(stream)
        assert (answer.body, answer.trailers) == (b"hello", [(b"x-sum", b"1")])
        assert b"content-length" not in answer.final


def test_a_websocket_of_an_http1_client() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        request = peer.request()
        assert (request[b":method"], request[b":protocol"]) == (b"CONNECT", b"websocket")
        assert not [name for name, _ in request.fields if name in (b"upgrade", b"sec-websocket-key")]
        peer.session.respond(request.stream, OK, ended=False)
        while not request.ended:
            peer.session.send(request.stream, peer.wait_for(Data).data)
            peer.flush()
        peer.session.finish(request.stream, b"bye")
        peer.flush()
        peer.drop()

    upgrade = get(
        b"/", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    with proxied(script) as (proxy, _), proxy.connect() as client:
        client.sendall(upgrade + b"early")
        head = receive_until(client, b"early")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        client.sendall(b"late")
        assert receive_until(client, b"late")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"bye"


def test_a_server_that_takes_no_websockets() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(SETTINGS)
        while sock.recv(65536):
            pass

    upgrade = get(b"/", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: AAAA")
    with proxied(script) as (proxy, _):
        answer = asked(proxy, upgrade)
        assert status(answer) == 502
        assert b"takes no WebSockets over HTTP/2" in answer


def test_copies_of_requests() -> None:
    seen: list[bytes] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            request = peer.whole_request()
            seen.append(request[b":authority"])
            peer.respond(request.stream, request.body)

    to = Forward(clusters=(WeightedCluster(name="web"),), mirrors=(Mirror(cluster="web", share=1_000_000),))
    with proxied(script, routes=(Route(name="r", action=to),)) as (proxy, _):
        assert status(asked(proxy, POST)) == 200
        eventually(lambda: proxy.runtime.mirrored == 0)
        assert sorted(seen) == [b"web", b"web-shadow"]
        assert proxy.counter("mirrored_requests_failed_total") == 0


# -- what servers take back --------------------------------------------------------------------------


def _goaway(last: int) -> bytes:
    return frame(nghttp2.GOAWAY, payload=struct.pack(">II", last, codes.NO_ERROR))


def _going(sock: socket.socket) -> None:
    """Has not touched its first request."""
    peer = Http2Server(sock)
    peer.whole_request()
    sock.sendall(_goaway(0))
    peer.drop()


def _going_at_once(sock: socket.socket) -> None:
    peer = Http2Server(sock)
    peer.wait_for(Settings)
    sock.sendall(_goaway(0))
    peer.drop()


def _refusing(sock: socket.socket) -> None:
    peer = Http2Server(sock)
    peer.session.reset(peer.whole_request().stream, codes.REFUSED_STREAM)
    peer.serve()


@pytest.mark.parametrize("first", [_going, _refusing], ids=["GOAWAY", "REFUSED_STREAM"])
def test_what_was_not_touched_is_sent_again_whatever_it_is(first: Script) -> None:
    with proxied(by_connection(first, serving)) as (proxy, _):
        assert status(asked(proxy, POST)) == 200
        assert proxy.counter("upstream_replays_total") == 1
        assert proxy.counter("upstream_retries_total") == 0


def test_a_server_that_never_touches_anything() -> None:
    with proxied(_going) as (proxy, (web,)):
        answer = asked(proxy, POST)
        assert (status(answer), proxy.log.entries[0].flags) == (503, "UR")
        assert 1 < web.connections < 20


def test_requests_within_a_goaway_end_as_ever() -> None:
    last = threading.Event()

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        first = peer.whole_request().stream
        peer.session.announce_end()
        peer.flush()
        assert last.wait(20)
        sock.sendall(_goaway(first))
        peer.respond(first, b"first")
        peer.drop()

    def others(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        stream = peer.whole_request().stream
        last.set()
        peer.respond(stream)
        peer.drop()

    with proxied(by_connection(script, others)) as (proxy, (web,)), proxy.connect() as client:
        client.sendall(get())
        eventually(lambda: proxy.counter("upstream_goaways_total"))
        assert status(asked(proxy, POST)) == 200
        assert b"first" in receive_until(client, b"0\r\n\r\n")
        assert web.connections == 2


def test_a_stream_that_is_reset() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            peer.session.reset(peer.whole_request().stream, codes.INTERNAL_ERROR)

    with proxied(script) as (proxy, (web,)):
        answer = asked(proxy)
        assert status(answer) == 503
        assert b"the server reset the request: INTERNAL_ERROR" in answer
        assert (proxy.log.entries[0].flags, proxy.log.entries[0].details) == (
            "UR",
            "upstream_reset_before_response_started{remote_reset}",
        )
        assert status(asked(proxy)) == 503
        assert web.connections == 1


def test_a_reset_is_one_to_the_retry_policy() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peer.session.reset(peer.whole_request().stream, codes.INTERNAL_ERROR)
        peer.respond(peer.whole_request().stream, fields=((b":status", b"503"),))
        peer.serve()

    with proxied(script, routes=retrying(reset=True, statuses=(503,))) as (proxy, _):
        assert status(asked(proxy, POST)) == 200
        assert proxy.counter("upstream_retries_total") == 2


def test_an_answer_that_breaks_off() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        stream = peer.whole_request().stream
        peer.session.respond(stream, (*OK, (b"content-length", b"10")), ended=False)
        peer.session.send(stream, b"hello")
        peer.flush()
        peer.session.reset(stream, codes.CANCEL)
        peer.serve()

    with proxied(script) as (proxy, (web,)):
        with proxy.connect() as client:
            client.sendall(get())
            receive_until(client, b"hello")
            with pytest.raises(ConnectionResetError):
                receive_all(client)
        assert proxy.log.entries[0].flags == "UR"
        assert status(asked(proxy)) == 200
        assert web.connections == 1


def test_a_connection_that_ends_under_its_requests() -> None:
    def script(sock: socket.socket) -> None:
        Http2Server(sock).whole_request()

    with proxied(script) as (proxy, _):
        assert (status(asked(proxy, POST)), proxy.log.entries[0].flags) == (502, "UC")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"does not speak HTTP/2"),
        (b"", b"ends the connection"),
        (_goaway(0), b"does not speak HTTP/2"),
        (SETTINGS + _goaway(0), b"the server takes no requests"),
    ],
    ids=["HTTP/1.1", "nothing", "no SETTINGS", "no requests"],
)
def test_a_server_that_does_not_speak_it(answer: bytes, why: bytes) -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(24)
        sock.sendall(answer)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    with proxied(script) as (proxy, (web,)):
        got = asked(proxy, POST)
        assert status(got) == 503
        assert why in got
        assert proxy.log.entries[0].flags == "UF"
        assert web.connections < 10


def test_a_server_that_says_nothing() -> None:
    def script(sock: socket.socket) -> None:
        receive_all(sock)

    cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, connect_timeout=0.2)
    with proxied(script, cluster=cluster) as (proxy, _):
        assert b"no answer within 0.2 s" in asked(proxy)


# -- streams and connections -------------------------------------------------------------------------


class Held:
    """A server that answers when it is told to."""

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self.waiting: list[tuple[Http2Server, int]] = []

    def script(self, sock: socket.socket) -> None:
        peer = Http2Server(sock, self._limits)
        while True:
            stream = peer.whole_request().stream
            with self._lock:
                self.waiting.append((peer, stream))

    def answer(self) -> None:
        with self._lock:
            peer, stream = self.waiting.pop(0)
            peer.respond(stream)


def _ask(proxy: Bed, count: int) -> list[socket.socket]:
    clients = [proxy.connect() for _ in range(count)]
    for client in clients:
        client.sendall(get())
    return clients


def test_streams_up_to_what_the_server_allows_then_another_connection() -> None:
    held = Held(SessionLimits(max_streams=2))
    with proxied(held.script) as (proxy, (web,)):
        first = _ask(proxy, 1)
        eventually(lambda: len(held.waiting) == 1)
        clients = first + _ask(proxy, 4)
        eventually(lambda: len(held.waiting) == 5)
        assert web.connections == 3
        while held.waiting:
            held.answer()
        for client in clients:
            assert b"200 OK" in receive_until(client, b"0\r\n\r\n")
            client.close()
        again = _ask(proxy, 6)
        eventually(lambda: len(held.waiting) == 6)
        assert web.connections == 3
        while held.waiting:
            held.answer()
        for client in again:
            receive_until(client, b"0\r\n\r\n")
            client.close()


def test_who_finds_no_room_waits_within_the_clusters_limits() -> None:
    limits = Limits(connections=1, pending=1)
    cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, limits=limits)
    held = Held(SessionLimits(max_streams=1))
    with proxied(held.script, cluster=cluster) as (proxy, (web,)):
        clients = _ask(proxy, 1)
        eventually(lambda: held.waiting)
        clients += _ask(proxy, 1)
        load = proxy.runtime.loads.of("web")
        eventually(lambda: load.total(Resource.PENDING) == 1)
        assert status(asked(proxy)) == 503
        assert proxy.counter("upstream_overflows_total") == 1
        for client in clients:
            eventually(lambda: held.waiting)
            held.answer()
            receive_until(client, b"0\r\n\r\n")
            client.close()
        assert web.connections == 1


def test_requests_are_limited_by_streams() -> None:
    cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, limits=Limits(requests=2))
    held = Held(SessionLimits())
    with proxied(held.script, cluster=cluster) as (proxy, _):
        clients = _ask(proxy, 2)
        eventually(lambda: len(held.waiting) == 2)
        assert status(asked(proxy)) == 503
        while held.waiting:
            held.answer()
        for client in clients:
            receive_until(client, b"0\r\n\r\n")
            client.close()


def test_settings_that_change_meanwhile() -> None:
    """Fewer streams: what is out goes on, and what comes goes elsewhere."""

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock, SessionLimits(max_streams=100))
        stream = peer.whole_request().stream
        sock.sendall(frame(nghttp2.SETTINGS, payload=struct.pack(">HI", 3, 1)))
        peer.wait_for(Closed)
        assert peer.requests[stream].ended

    held = Held(SessionLimits())
    with proxied(by_connection(script, held.script)) as (proxy, (web,)):
        first = proxy.connect()
        first.sendall(get())
        eventually(lambda: (pool := http2_pool(proxy)) is not None and len(pool) == 1 and pool.is_full())
        second = _ask(proxy, 1)
        eventually(lambda: held.waiting)
        held.answer()
        receive_until(second[0], b"0\r\n\r\n")
        first.close()
        second[0].close()
        assert web.connections == 2


def test_an_endpoint_that_goes_ends_what_it_has() -> None:
    held = Held(SessionLimits())
    with proxied(held.script) as (proxy, _), server(serving) as other, proxy.connect() as client:
        client.sendall(get())
        eventually(lambda: held.waiting)
        proxy.apply(config((other.port,), cluster=HTTP2, generation=2))
        assert status(asked(proxy)) == 200
        assert proxy.caller.connections() == 2
        held.answer()
        assert status(answer_to(client)) == 200
        eventually(lambda: proxy.caller.connections() == 1)


def http2_pool(proxy: Bed) -> Http2Pool | None:
    return next((each for each in tuple(proxy.runtime.timed) if isinstance(each, Http2Pool)), None)


def test_idle_connections_are_closed() -> None:
    ended: list[GoAway] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peer.respond(peer.whole_request().stream)
        ended.append(peer.wait_for(GoAway))
        peer.drop()

    cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, idle_timeout=0.2)
    with proxied(script, cluster=cluster) as (proxy, _):
        assert status(asked(proxy)) == 200
        eventually(lambda: ended and proxy.caller.connections() == 0)
        assert ended[0].code == codes.NO_ERROR


def test_a_silent_server_is_asked_and_given_up() -> None:
    pinged = threading.Event()

    def script(sock: socket.socket) -> None:
        Http2Server(sock).whole_request()
        while data := sock.recv(65536):
            if data[3] == nghttp2.PING:
                pinged.set()

    with proxied(script) as (proxy, _), proxy.connect() as client:
        client.sendall(get())
        eventually(lambda: proxy.caller.connections() == 1)

        def later(seconds: float) -> None:
            pool = http2_pool(proxy)
            assert pool is not None
            pool.check(proxy.runtime.now + seconds)

        def is_pinged() -> bool:
            proxy.call(lambda: later(upstream.KEEPALIVE_SECONDS + 1))
            return pinged.is_set()

        eventually(is_pinged)
        proxy.call(lambda: later(upstream.KEEPALIVE_SECONDS + upstream.KEEPALIVE_TIMEOUT_SECONDS + 1))
        assert read_response(client)[0].startswith(b"HTTP/1.1 502 ")
        assert proxy.counter("upstream_http2_keepalive_timeouts_total") == 1


# -- flow control ------------------------------------------------------------------------------------

_BIG = 8 * 1024 * 1024


def test_a_client_that_does_not_read_stalls_its_stream_alone() -> None:
    peers: list[Http2Server] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peers.append(peer)
        while True:
            request = peer.whole_request()
            peer.respond(request.stream, bytes(_BIG) if request[b":path"] == b"/big" else b"small")

    with proxied(script) as (proxy, (web,)), proxy.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.sendall(get(b"/big"))
        eventually(lambda: peers and peers[0].requests)
        unsent = _BIG
        while unsent != (unsent := peers[0].session.unsent(1)):
            assert b"small" in asked(proxy, get(b"/small"))
        assert unsent > _BIG // 4
        assert web.connections == 1
        size = 0
        while size < _BIG:
            size += len(slow.recv(65536))


def test_a_server_that_does_not_read_stalls_its_client() -> None:
    release = threading.Event()
    seen: list[int] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock, consumes=False)
        request = peer.request()
        assert release.wait(20)
        while not request.ended:
            peer.session.consume(request.stream, len(peer.wait_for(Data).data))
        seen.append(len(request.body))
        peer.respond(request.stream)
        peer.drop()

    with proxied(script) as (proxy, _), proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % _BIG)
        client.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < _BIG:
                sent += client.send(bytes(min(65536, _BIG - sent)))
        assert sent < _BIG
        release.set()
        client.settimeout(20)
        while sent < _BIG:
            sent += client.send(bytes(min(65536, _BIG - sent)))
        assert b"200 OK" in receive_head(client)
        assert seen == [_BIG]
