"""What a route's filters do to requests on real connections: preflights, faults, rate limits, copies."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.request_policies import MILLION, Cors, Fault, Mirror, RateLimit, StringMatch, TokenBucket
from meshd.model.routes import DirectResponse, HeaderEdit, PathPrefix, ReplaceFullPath, Route, RouteMatch
from meshd.model.snapshot import Delta
from proxy.exchanges.filtering import MAX_HELD_BYTES
from proxy.exchanges.mirroring import MAX_MIRRORED, MAX_UNSENT_BYTES
from tests.support.http_bed import (
    FORWARD,
    Bed,
    Server,
    answering,
    bed,
    config,
    eventually,
    get,
    ok,
    read_response,
    receive_all,
    receive_body,
    receive_head,
    receive_until,
    server,
)

FOO = b"https://www.foo.com"
ORIGIN = b"Origin: " + FOO
CORS = Cors(
    origins=(StringMatch(name="origin", value=FOO.decode()),), methods=("GET", "PUT"), expose=("x-count",)
)
ONCE = RateLimit(all=TokenBucket(tokens=1, interval=3600.0, burst=1))
LONG = 3600.0


def route(name: str = "default/web/0", path: str = "/", **fields: object) -> Route:
    made = msgspec.structs.replace(FORWARD, name=name, match=RouteMatch(path=PathPrefix(path)))
    return msgspec.structs.replace(made, **fields)


@contextlib.contextmanager
def proxy(web: Server, *routes: Route) -> Iterator[Bed]:
    with bed(config((web.port,), routes)) as running:
        yield running


@pytest.fixture
def seen() -> list[bytes]:
    return []


@pytest.fixture
def web(seen: list[bytes]) -> Iterator[Server]:
    with server(answering(ok(b"hello", b"x-count: 1"), seen)) as running:
        yield running


def ask(client: socket.socket, request: bytes) -> tuple[int, dict[str, str], bytes]:
    client.sendall(request)
    head, body, rest = read_response(client)
    assert rest == b""
    status, *lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), fields, body


def flags(running: Bed) -> list[tuple[int, str]]:
    return sorted((row.status, row.flags) for row in running.rows() for _ in range(row.count))


# -- cors --------------------------------------------------------------------------------------------


def preflight(origin: bytes = FOO) -> bytes:
    return (
        b"OPTIONS / HTTP/1.1\r\nHost: web\r\nOrigin: %b\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
        % origin
    )


def test_a_preflight_is_answered_and_the_connection_goes_on(web: Server, seen: list[bytes]) -> None:
    with proxy(web, route(cors=CORS)) as running, running.connect() as client:
        status, fields, body = ask(client, preflight())
        assert (status, fields["access-control-allow-origin"], body) == (200, FOO.decode(), b"")
        assert fields["access-control-allow-methods"] == "get, put"
        assert seen == []
        status, fields, body = ask(client, get(b"/", ORIGIN))
        assert (status, fields["access-control-allow-origin"], body) == (200, FOO.decode(), b"hello")
        assert (fields["access-control-expose-headers"], fields["vary"]) == ("x-count", "origin")
        assert [entry.details for entry in running.log.entries] == ["cors_response", "via_upstream"]
        assert running.counter("cors_preflights_answered_total") == 1
        assert running.counter("cors_origins_allowed_total") == 2


def test_the_preflight_itself_takes_the_route(web: Server, seen: list[bytes]) -> None:
    """Of another method than OPTIONS the route is not the preflight's."""
    only_put = route(cors=CORS)
    only_put = msgspec.structs.replace(only_put, match=RouteMatch(method="PUT"))
    with proxy(web, only_put) as running, running.connect() as client:
        assert ask(client, preflight())[0] == 404
    assert seen == []


def test_our_own_answers_are_marked_too() -> None:
    with server(answering(ok())) as web:
        web.stop_listening()
        with proxy(web, route(cors=CORS)) as running, running.connect() as client:
            status, fields, _ = ask(client, get(b"/", ORIGIN))
            assert (status, fields["access-control-allow-origin"]) == (503, FOO.decode())


# -- faults ------------------------------------------------------------------------------------------


def delayed(seconds: float, **fields: object) -> Fault:
    return msgspec.structs.replace(Fault(delay=seconds, delay_share=MILLION), **fields)


def test_an_aborted_request_never_reaches_a_server(web: Server, seen: list[bytes]) -> None:
    fault = Fault(abort=418, abort_share=MILLION)
    with proxy(web, route(fault=fault)) as running, running.connect() as client:
        for _ in range(2):
            status, _, body = ask(client, get())
            assert status == 418
            assert b"default/web/0" in body
        assert flags(running) == [(418, "FI"), (418, "FI")]
        assert {entry.details for entry in running.log.entries} == {"fault_filter_abort"}
        assert running.counter("faults_aborted_total") == 2
    assert seen == []


def test_a_delayed_request_is_answered_later(web: Server) -> None:
    with proxy(web, route(fault=delayed(0.05))) as running, running.connect() as client:
        for _ in range(2):
            assert ask(client, get())[2] == b"hello"
        assert all(entry.duration >= 0.05 for entry in running.log.entries)
        assert flags(running) == [(200, "DI"), (200, "DI")]
        assert running.counter("faults_delayed_total") == 2
        assert running.runtime.active_faults == 0


def test_a_delay_may_end_in_a_failure(web: Server, seen: list[bytes]) -> None:
    fault = delayed(0.05, abort=503, abort_share=MILLION)
    with proxy(web, route(fault=fault)) as running, running.connect() as client:
        assert ask(client, get())[0] == 503
        assert flags(running) == [(503, "DI,FI")]
    assert seen == []


def test_the_routes_time_begins_after_the_delay(web: Server) -> None:
    """As in Envoy: the router, whose time it is, has not seen the request before."""
    forward = msgspec.structs.replace(FORWARD.action, timeout=1.0)
    with proxy(web, route(fault=delayed(1.2), action=forward)) as running, running.connect() as client:
        assert ask(client, get())[0] == 200


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_delayed_body_arrives_whole(size: int) -> None:
    bodies: list[bytes] = []

    def reading(sock: socket.socket) -> None:
        body = receive_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")[2]
        while len(body) < size:
            body += sock.recv(65536)
        bodies.append(body)
        sock.sendall(ok())

    sent = bytes(i % 251 for i in range(size))
    head = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size
    with (
        server(reading) as web,
        proxy(web, route(fault=delayed(0.2))) as running,
        running.connect() as client,
    ):
        client.sendall(head)
        assert ask(client, sent)[0] == 200
    assert bodies == [sent]


def test_a_delayed_body_is_held_back(web: Server) -> None:
    """A client that sends much while it waits is not read from."""
    with proxy(web, route(fault=delayed(LONG))) as running, running.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n")
        client.settimeout(1.0)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(100_000_000))
        (downstream,) = (t for t in running.runtime.timed if hasattr(t, "received"))
        assert downstream.received <= MAX_HELD_BYTES + 512 * 1024


@pytest.mark.parametrize("how", ["close", "reset", "pipeline"])
def test_a_client_that_goes_leaves_nothing(web: Server, seen: list[bytes], how: str) -> None:
    with proxy(web, route(fault=delayed(LONG))) as running:
        client = running.connect()
        client.sendall(get())
        eventually(lambda: running.runtime.active_faults == 1)
        if how == "pipeline":
            client.sendall(get())
        running.present = False
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        eventually(lambda: running.runtime.active_faults == 0)
        eventually(lambda: running.runtime.downstream_connections == 0)
        assert flags(running) == [(0, "DI,DC")]
    assert seen == []


def test_active_faults_are_bounded(web: Server) -> None:
    fault = delayed(LONG, max_active=1)
    with proxy(web, route(fault=fault)) as running, running.connect() as first, running.connect() as second:
        first.sendall(get())
        eventually(lambda: running.runtime.active_faults == 1)
        assert ask(second, get())[2] == b"hello"
        assert running.counter("faults_left_out_total") == 1
        assert running.runtime.active_faults == 1


def test_a_route_that_goes_meanwhile_still_decides(web: Server) -> None:
    with proxy(web, route(fault=delayed(1.0))) as running, running.connect() as client:
        client.sendall(get())
        eventually(lambda: running.runtime.active_faults == 1)
        running.apply(config((web.port,), (route(name="new"),), generation=2))
        assert read_response(client)[1] == b"hello"
        assert [row.route for row in running.rows()] == ["default/web/0"]


# -- rate limits -------------------------------------------------------------------------------------


def test_over_its_limit_a_route_answers_by_itself(web: Server, seen: list[bytes]) -> None:
    limited = route(rate_limit=RateLimit(all=TokenBucket(tokens=1, interval=3600.0, burst=2)))
    with proxy(web, limited) as running, running.connect() as client:
        answers = [ask(client, get()) for _ in range(4)]
        assert [status for status, _, _ in answers] == [200, 200, 429, 429]
        assert answers[-1][1]["x-envoy-ratelimited"] == "true"
        assert flags(running) == [(200, ""), (200, ""), (429, "RL"), (429, "RL")]
        assert running.log.entries[-1].details == "local_rate_limited"
    assert len(seen) == 2


def test_a_config_change_keeps_a_bucket_that_did_not_change(web: Server) -> None:
    with proxy(web, route(rate_limit=ONCE)) as running, running.connect() as client:
        assert [ask(client, get())[0] for _ in range(2)] == [200, 429]
        other = route(name="other", path="/other", rate_limit=ONCE)
        edited = route(rate_limit=ONCE, request_headers=HeaderEdit(set=(("x-new", "1"),)))
        running.apply(config((web.port,), (other, edited), generation=2))
        assert ask(client, get())[0] == 429
        assert ask(client, get(b"/other"))[0] == 200
        larger = RateLimit(all=TokenBucket(tokens=1, interval=3600.0, burst=2))
        running.apply(config((web.port,), (route(rate_limit=larger),), generation=3))
        assert [ask(client, get())[0] for _ in range(3)] == [200, 200, 429]


def test_a_preflight_takes_no_token_and_a_delayed_request_takes_it_late(web: Server) -> None:
    guarded = route(cors=CORS, rate_limit=ONCE, fault=delayed(0.05))
    with proxy(web, guarded) as running, running.connect() as client:
        assert ask(client, preflight())[0] == 200
        assert [ask(client, get(b"/", ORIGIN))[0] for _ in range(2)] == [200, 429]
        assert flags(running) == [(200, ""), (200, "DI"), (429, "DI,RL")]


def test_limits_hold_for_answers_of_the_routes_own(web: Server) -> None:
    tea = route(action=DirectResponse(status=200, body="tea"), rate_limit=ONCE)
    with proxy(web, tea) as running, running.connect() as client:
        assert [ask(client, get())[0] for _ in range(2)] == [200, 429]


# -- copies ------------------------------------------------------------------------------------------


def mirrored(web: Server, *others: Server, share: int = MILLION, **action: object) -> Delta:
    """All requests to ``web`` are copied to the clusters shadow-0, shadow-1, ..., of one server each."""
    names = [f"shadow-{i}" for i in range(len(others))]
    forward = msgspec.structs.replace(
        FORWARD.action, mirrors=tuple(Mirror(cluster=name, share=share) for name in names), **action
    )
    delta = config((web.port,), (route(action=forward),))
    return msgspec.structs.replace(
        delta,
        clusters=(*delta.clusters, *(Cluster(name=name) for name in names)),
        endpoints=(
            *delta.endpoints,
            *(
                EndpointSet(name=name, endpoints=(Endpoint(address="127.0.0.1", port=other.port),))
                for name, other in zip(names, others, strict=True)
            ),
        ),
    )


def test_copies_go_out_and_their_answers_nowhere(web: Server, seen: list[bytes]) -> None:
    copies: list[list[bytes]] = [[], []]
    action: dict[str, Any] = {"host": "new.host:81", "path": ReplaceFullPath("/new")}
    with (
        server(answering(ok(b"somebody else's", b"x-count: 2"), copies[0])) as one,
        server(answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", copies[1])) as two,
        bed(mirrored(web, one, two, **action)) as running,
        running.connect() as client,
    ):
        for _ in range(3):
            status, fields, body = ask(client, get(b"/old", b"X-A: 1"))
            assert (status, fields["x-count"], body) == (200, "1", b"hello")
            eventually(lambda: running.runtime.mirrored == 0)
        assert [len(each) for each in copies] == [3, 3]
        assert running.counter("mirrored_requests_total") == 6
        assert running.counter("mirrored_requests_failed_total") == 0
        assert (one.connections, two.connections) == (1, 1)
        assert flags(running) == [(200, "")] * 3
    for original, copy in zip(seen, copies[0], strict=True):
        assert original.startswith(b"GET /new HTTP/1.1\r\nHost: new.host:81\r\n")
        assert copy == original.replace(b"Host: new.host:81", b"Host: new.host-shadow:81")


def test_a_share_of_none_copies_nothing(web: Server) -> None:
    with (
        server(answering(ok())) as other,
        bed(mirrored(web, other, share=0)) as running,
        running.connect() as client,
    ):
        assert ask(client, get())[0] == 200
        assert running.counter("mirrored_requests_total") == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_copied_as_it_comes(chunked: bool) -> None:
    bodies: dict[str, bytes] = {}
    piece = b"x" * 20_000
    frame = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
    end = b"0\r\n\r\n" if chunked else b"."
    field = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 200001"

    def reading(name: str) -> object:
        def script(sock: socket.socket) -> None:
            bodies[name] = receive_body(sock, end if chunked else b"x.")
            sock.sendall(ok())

        return script

    with (
        server(reading("web")) as web,  # type: ignore[arg-type]
        server(reading("copy")) as other,  # type: ignore[arg-type]
        bed(mirrored(web, other)) as running,
        running.connect() as client,
    ):
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\n%b\r\n\r\n" % field)
        for _ in range(10):
            client.sendall(frame)
        assert ask(client, end)[0] == 200
        eventually(lambda: running.runtime.mirrored == 0)
        assert running.counter("mirrored_requests_dropped_total") == 0
    assert bodies["copy"] == bodies["web"] == frame * 10 + end


def test_a_copy_that_does_not_keep_up_is_dropped_and_holds_nobody_up() -> None:
    size = 64 * MAX_UNSENT_BYTES

    def reading(sock: socket.socket) -> None:
        body = receive_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")[2]
        left = size - len(body)
        while left:
            left -= len(sock.recv(min(left, 1 << 20)))
        sock.sendall(ok())

    def stuck(sock: socket.socket) -> None:
        receive_head(sock)
        with contextlib.suppress(ConnectionResetError):
            eventually(lambda: running.counter("mirrored_requests_dropped_total") == 1)

    with (
        server(reading) as web,
        server(stuck) as other,
        bed(mirrored(web, other)) as running,
        running.connect() as client,
    ):
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
        assert ask(client, bytes(size))[0] == 200
        assert running.counter("mirrored_requests_dropped_total") == 1
        assert running.runtime.mirrored == 0


def _refusing() -> Server:
    refusing = Server(answering(ok()))
    refusing.stop_listening()
    return refusing


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not HTTP\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
    ],
)
def test_what_a_copys_server_does_wrong_counts_as_a_failure_only(web: Server, answer: bytes) -> None:
    def bad(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(answer)

    with server(bad) as other, bed(mirrored(web, other)) as running, running.connect() as client:
        assert ask(client, get())[2] == b"hello"
        eventually(lambda: running.counter("mirrored_requests_failed_total") == 1)
        assert running.runtime.mirrored == 0
        assert ask(client, get())[2] == b"hello"


def test_a_copy_whose_server_is_not_there(web: Server) -> None:
    delta = mirrored(web, _refusing(), _refusing())
    without = msgspec.structs.replace(delta, endpoints=delta.endpoints[:-1])
    with bed(without) as running, running.connect() as client:
        assert ask(client, get())[2] == b"hello"
        eventually(lambda: running.counter("mirrored_requests_failed_total") == 2)
        assert running.runtime.mirrored == 0


def test_a_copy_has_the_routes_time(web: Server) -> None:
    def silent(sock: socket.socket) -> None:
        receive_all(sock)

    with (
        server(silent) as other,
        bed(mirrored(web, other, timeout=1.0)) as running,
        running.connect() as client,
    ):
        assert ask(client, get())[2] == b"hello"
        eventually(lambda: running.counter("mirrored_requests_failed_total") == 1)
        assert running.runtime.mirrored == 0


def test_a_copy_is_kept_when_its_client_goes_and_given_up_when_its_request_breaks_off() -> None:
    def silent(sock: socket.socket) -> None:
        receive_all(sock)

    copies: list[bytes] = []

    def answers_get(sock: socket.socket) -> None:
        copies.append(receive_head(sock))
        if copies[-1].startswith(b"GET"):
            sock.sendall(ok())
        receive_all(sock)

    with (
        server(silent) as web,
        server(answers_get) as other,
        bed(mirrored(web, other)) as running,
    ):
        with running.connect() as client:
            client.sendall(get())
            eventually(lambda: len(copies) == 1)
            running.present = False
        eventually(lambda: running.runtime.mirrored == 0)
        assert running.counter("mirrored_requests_dropped_total") == 0
        with running.connect() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhalf")
            eventually(lambda: running.runtime.mirrored == 1)
            running.present = False
        eventually(lambda: running.counter("mirrored_requests_dropped_total") == 1)
        assert running.runtime.mirrored == 0


def test_copies_in_flight_are_bounded(web: Server) -> None:
    def silent(sock: socket.socket) -> None:
        receive_all(sock)

    with server(silent) as other, bed(mirrored(web, other)) as running, running.connect() as client:
        client.sendall(get() * (MAX_MIRRORED + 5))
        data = b""
        while data.count(b"hello") < MAX_MIRRORED + 5:
            data += client.recv(65536)
        eventually(lambda: other.connections == MAX_MIRRORED)
        assert running.runtime.mirrored == MAX_MIRRORED
        assert running.counter("mirrored_requests_dropped_total") == 5


def test_a_request_that_goes_nowhere_has_no_copy() -> None:
    copies: list[bytes] = []
    with server(answering(ok(), copies)) as other, bed(mirrored(other, other)) as running:
        delta = mirrored(other, other)
        running.apply(msgspec.structs.replace(delta, generation=2, endpoints=delta.endpoints[1:]))
        running.apply(
            Delta(generation=3, endpoints=(EndpointSet(name="web"),)),
        )
        with running.connect() as client:
            assert ask(client, get())[0] == 503
        assert running.counter("mirrored_requests_total") == 0
    assert copies == []
