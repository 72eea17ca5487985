"""Requests that are sent again, as their routes say: when, where, with which body, and what is seen of it."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from meshd.model.cluster_policies import Limits
from meshd.model.clusters import Cluster
from meshd.model.request_policies import Retry
from meshd.model.routes import Forward, Route, WeightedCluster
from proxy.exchanges.kept_request import MAX_KEPT_BODY_BYTES
from tests.proxy.http1.ways import DATE, Plain, Way, ok
from tests.support.http_bed import (
    Bed,
    Script,
    Server,
    answering,
    by_connection,
    config,
    eventually,
    get,
    read_response,
    receive_head,
    receive_until,
    request_heads,
)

PLAIN = Plain()
BUSY = b"HTTP/1.1 503 Service Unavailable\r\n%b\r\nContent-Length: 4\r\n\r\nbusy" % DATE


def route(retry: Retry, timeout: float = 0.0) -> tuple[Route, ...]:
    forward = Forward(clusters=(WeightedCluster(name="web"),), retry=retry, timeout=timeout)
    return (Route(name="default/web/0", action=forward),)


def on_status(attempts: int = 1, *statuses: int) -> Retry:
    return Retry(attempts=attempts, statuses=statuses or (503,), backoff=0.001)


def on_reset(attempts: int = 1, per_try_timeout: float = 0.0) -> Retry:
    return Retry(attempts=attempts, reset=True, per_try_timeout=per_try_timeout, backoff=0.001)


@contextlib.contextmanager
def running(
    way: Way, script: Script, retry: Retry, timeout: float = 0.0, limits: Limits | None = None
) -> Iterator[tuple[Server, Bed, socket.socket]]:
    """A server, a proxy whose route is tried again, and a client."""
    cluster = Cluster(name="web", limits=limits or Limits())
    with (
        way.server(script) as web,
        way.bed(config((web.port,), route(retry, timeout), cluster=cluster)) as proxy,
        proxy.connect() as client,
    ):
        yield web, proxy, client


def in_turn(*answers: bytes | Script) -> Script:
    """A server that gives each request the next answer; at last always the last.

    An answer that is a script has the connection from then on.
    """
    numbers = itertools.count()

    def script(sock: socket.socket) -> None:
        for _ in request_heads(sock):
            answer = answers[min(next(numbers), len(answers) - 1)]
            if not isinstance(answer, bytes):
                answer(sock)
                return
            sock.sendall(answer)

    return script


def closes(sock: socket.socket) -> None:
    """Without an answer."""


def until_its_end(sock: socket.socket) -> None:
    """Says nothing until the proxy goes."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass


def then_closes(part: bytes) -> Script:
    """Begins an answer, and no more."""
    return lambda sock: sock.sendall(part)


def told(proxy: Bed) -> list[tuple[int, str, int]]:
    return sorted((row.status, row.flags, row.count) for row in proxy.rows())


def counted(proxy: Bed) -> tuple[int, int, int]:
    """Retries, those that had success, requests that had no more of them."""
    return (
        proxy.counter("upstream_retries_total"),
        proxy.counter("upstream_retries_success_total"),
        proxy.counter("upstream_retries_limit_exceeded_total"),
    )


def body_of(sock: socket.socket, size: int) -> bytes:
    """A request's body, after its head has been read with perhaps some of it."""
    data = receive_head(sock).partition(b"\r\n\r\n")[2]
    while len(data) < size:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError
        data += piece
    return data


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE"])
def test_a_status_that_is_to_be_tried_again_is_not_seen(way: Way, method: bytes) -> None:
    busy, good = (each.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for each in (BUSY, ok()))
    answers = (busy, good) if method == b"HEAD" else (BUSY, ok())
    with running(way, in_turn(*answers), on_status()) as (_, proxy, client):
        client.sendall(b"%b /x HTTP/1.1\r\nHost: web\r\n\r\n" % method)
        assert receive_head(client).startswith(b"HTTP/1.1 200 ")
        assert counted(proxy) == (1, 1, 0)
        assert told(proxy) == [(200, "", 1)]
        assert [entry.status for entry in proxy.log.entries] == [200]


def test_the_last_answer_is_the_servers_with_a_flag_that_says_it_is_the_last(way: Way) -> None:
    seen: list[bytes] = []
    with running(way, answering(BUSY, seen), on_status(2)) as (_, proxy, client):
        client.sendall(get())
        head, body, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert body == b"busy"
        client.sendall(get())
        assert read_response(client)[1] == b"busy"
        assert len(seen) == 6
        assert counted(proxy) == (4, 0, 2)
        assert told(proxy) == [(503, "URX", 2)]
        assert {(entry.flags, entry.details) for entry in proxy.log.entries} == {("URX", "via_upstream")}


def test_another_status_is_the_answer(way: Way) -> None:
    script = in_turn(b"HTTP/1.1 500 Oh\r\n%b\r\nContent-Length: 0\r\n\r\n" % DATE, ok())
    with running(way, script, on_status(5, 502, 503)) as (_, proxy, client):
        client.sendall(get())
        assert read_response(client)[0].startswith(b"HTTP/1.1 500 ")
        assert counted(proxy) == (0, 0, 0)
        assert told(proxy) == [(500, "", 1)]


def test_an_envoys_rate_limit_is_the_answer() -> None:
    limited = BUSY.replace(DATE, DATE + b"\r\nX-Envoy-RateLimited: true")
    with running(PLAIN, in_turn(limited, ok()), on_status(5)) as (_, proxy, client):
        client.sendall(get())
        assert read_response(client)[0].startswith(b"HTTP/1.1 503 ")
        assert told(proxy) == [(503, "", 1)]


@pytest.mark.parametrize(
    "first",
    [
        closes,
        then_closes(b"HTTP/1.1 200 OK\r\nCont"),
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
    ],
    ids=["closes", "half a head", "no HTTP", "a bad head"],
)
def test_what_is_no_answer_is_tried_again(way: Way, first: bytes | Script) -> None:
    with running(way, in_turn(first, ok()), on_reset()) as (_, proxy, client):
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")
        assert read_response(client)[1] == b"hello"
        assert counted(proxy) == (1, 1, 0)
        assert told(proxy) == [(200, "", 1)]


def test_the_end_of_a_used_connection_is_one_of_the_tries(way: Way) -> None:
    with running(way, in_turn(ok(), closes, closes, ok()), on_reset()) as (_, proxy, client):
        client.sendall(get())
        assert read_response(client)[1] == b"hello"
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        assert counted(proxy)[0] == 1
        assert proxy.counter("upstream_replays_total") == 0


@pytest.mark.parametrize(
    ("first", "status", "flags"),
    [(closes, 503, "UC,URX"), (b"SSH-2.0-server\r\n", 502, "URX,UPE")],
    ids=["closes", "no HTTP"],
)
def test_the_last_failure_is_told(first: bytes | Script, status: int, flags: str) -> None:
    with running(PLAIN, in_turn(first), on_reset(2)) as (web, proxy, client):
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 %d " % status)
        assert web.connections == 3
        assert told(proxy) == [(status, flags, 1)]


def test_an_answer_that_has_begun_is_not_asked_for_again(way: Way) -> None:
    part = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 10\r\n\r\nhalf" % DATE
    retry = Retry(attempts=5, reset=True, statuses=(503,), backoff=0.001)
    with running(way, in_turn(then_closes(part), ok()), retry) as (_, proxy, client):
        client.sendall(get())
        with contextlib.suppress(ConnectionResetError):
            receive_until(client, b"hello")
            pytest.fail("the second answer came behind the first half of the first")
        eventually(lambda: told(proxy) == [(200, "UC", 1)])


def test_after_an_interim_answer_there_is_no_other_try() -> None:
    script = in_turn(b"HTTP/1.1 100 Continue\r\n\r\n" + BUSY, ok())
    with running(PLAIN, script, on_status(5)) as (_, proxy, client):
        client.sendall(get())
        data = receive_until(client, b"busy")
        assert data.startswith(b"HTTP/1.1 100 ")
        assert b"HTTP/1.1 503 " in data
        assert counted(proxy) == (0, 0, 0)


# -- where --------------------------------------------------------------------------------------------


def test_the_next_try_goes_to_another_endpoint(way: Way) -> None:
    good: list[bytes] = []
    with (
        way.server(answering(BUSY)) as bad,
        way.server(answering(ok(), good)) as web,
        way.bed(config((bad.port, web.port), route(on_status()))) as proxy,
        proxy.connect() as client,
    ):
        for _ in range(20):
            client.sendall(get())
            assert read_response(client)[0].startswith(b"HTTP/1.1 200 ")
        assert len(good) == 20
        assert 0 < counted(proxy)[0] <= 20
        assert {entry.upstream_host for entry in proxy.log.entries} == {f"127.0.0.1:{web.port}"}


def test_an_answer_that_came_whole_leaves_its_connection_to_the_next_try() -> None:
    with running(PLAIN, in_turn(BUSY, ok()), on_status()) as (web, _, client):
        client.sendall(get())
        assert read_response(client)[1] == b"hello"
        assert web.connections == 1


def test_an_answer_that_did_not_ends_its_connection() -> None:
    gone = threading.Event()

    def first(sock: socket.socket) -> None:
        sock.sendall(BUSY[:-2])
        until_its_end(sock)
        gone.set()

    with running(PLAIN, in_turn(first, ok()), on_status()) as (web, _, client):
        client.sendall(get())
        assert read_response(client)[1] == b"hello"
        assert gone.wait(5)
        assert web.connections == 2


def test_endpoints_that_all_go_meanwhile_end_it() -> None:
    retry = Retry(attempts=1, statuses=(503,), least_backoff=0.3)
    with running(PLAIN, answering(BUSY), retry) as (_, proxy, client):
        client.sendall(get())
        eventually(lambda: counted(proxy)[0] == 1)
        proxy.apply(config((), route(retry), generation=2))
        head, body, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"no healthy endpoint" in body
        assert told(proxy) == [(503, "UH", 1)]


# -- bodies -------------------------------------------------------------------------------------------


def test_the_body_is_the_same_for_every_try(way: Way) -> None:
    size = 100_000
    body = bytes(65 + i % 26 for i in range(size))
    got: list[bytes] = []

    def script(sock: socket.socket) -> None:
        for answer in (BUSY, BUSY, ok()):
            got.append(body_of(sock, size))
            sock.sendall(answer)

    with running(way, script, on_status(2)) as (_, proxy, client):
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
        client.sendall(body)
        assert read_response(client)[1] == b"hello"
        assert got == [body] * 3
        assert proxy.log.entries[0].bytes_received == size


def test_a_body_goes_on_to_the_next_server_where_the_first_did_not_wait_for_it(way: Way) -> None:
    parts: list[bytes] = []

    def first(sock: socket.socket) -> None:
        parts.append(receive_until(sock, b"one"))
        sock.sendall(BUSY)
        until_its_end(sock)

    def second(sock: socket.socket) -> None:
        parts.append(receive_until(sock, b"one"))
        first_came.set()
        parts.append(receive_until(sock, b"two\r\n0\r\n\r\n"))
        sock.sendall(ok())
        answering(ok(b"next"))(sock)

    first_came = threading.Event()
    with running(way, by_connection(first, second), on_status()) as (_, _, client):
        client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert first_came.wait(5)
        client.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
        assert read_response(client)[1] == b"hello"
        client.sendall(get())
        assert read_response(client)[1] == b"next"
        assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [
            b"3\r\none\r\n",
            b"3\r\none\r\n",
            b"",
        ]


def test_a_body_that_is_too_long_to_keep_is_sent_once() -> None:
    size = MAX_KEPT_BODY_BYTES + 1
    got: list[int] = []

    def script(sock: socket.socket) -> None:
        got.append(len(body_of(sock, size)))
        sock.sendall(BUSY)

    with running(PLAIN, script, on_status(3)) as (_, proxy, client):
        client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
        client.sendall(bytes(size))
        assert read_response(client)[1] == b"busy"
        assert got == [size]
        assert proxy.counter("upstream_retries_abandoned_total") == 1
        assert told(proxy) == [(503, "", 1)]


def test_a_body_that_nobody_meant_to_keep_is_not_given_up() -> None:
    def script(sock: socket.socket) -> None:
        receive_until(sock, b"first")
        go_on.set()
        receive_until(sock, b"second")
        sock.sendall(ok())

    go_on = threading.Event()
    with running(PLAIN, script, Retry(attempts=3)) as (_, proxy, client):
        client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 11\r\n\r\nfirst")
        assert go_on.wait(5)
        client.sendall(b"second")
        assert read_response(client)[1] == b"hello"
        assert proxy.counter("upstream_retries_abandoned_total") == 0


# -- time ---------------------------------------------------------------------------------------------


def test_a_try_that_takes_too_long_makes_way_for_the_next(way: Way) -> None:
    script = in_turn(until_its_end, ok())
    with running(way, script, on_reset(1, 0.2)) as (_, proxy, client):
        client.sendall(get())
        assert read_response(client)[1] == b"hello"
        assert proxy.counter("upstream_per_try_timeouts_total") == 1
        assert told(proxy) == [(200, "", 1)]


@pytest.mark.parametrize(("attempts", "reset", "flags"), [(0, False, "UT"), (1, True, "UT,URX")])
def test_the_last_try_that_takes_too_long_is_told(way: Way, attempts: int, reset: bool, flags: str) -> None:
    retry = Retry(attempts=attempts, reset=reset, per_try_timeout=0.1, backoff=0.001)
    with running(way, in_turn(until_its_end), retry) as (web, proxy, client):
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 504 ")
        assert web.connections == 1 + attempts
        assert told(proxy) == [(504, flags, 1)]
        assert proxy.log.entries[0].details == "upstream_per_try_timeout"


def test_a_trys_time_is_over_with_the_answers_head() -> None:
    go_on = threading.Event()

    def slow(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert go_on.wait(10)
        sock.sendall(b"hello")

    with running(PLAIN, in_turn(slow), on_reset(1, 0.2)) as (_, proxy, client):
        client.sendall(get())
        head = receive_head(client)
        time.sleep(0.4)
        go_on.set()
        assert read_response(client, head)[1] == b"hello"
        assert proxy.counter("upstream_per_try_timeouts_total") == 0


def test_a_trys_time_begins_when_the_request_has_come() -> None:
    def script(sock: socket.socket) -> None:
        receive_until(sock, b"late")
        sock.sendall(ok())

    with running(PLAIN, script, on_reset(1, 0.2)) as (_, proxy, client):
        client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\n")
        time.sleep(0.4)
        client.sendall(b"late")
        assert read_response(client)[1] == b"hello"
        assert counted(proxy) == (0, 0, 0)


def test_the_routes_time_is_that_of_all_tries(way: Way) -> None:
    retry = Retry(attempts=10_000, statuses=(503,), backoff=0.02, max_backoff=0.02)
    with running(way, answering(BUSY), retry, timeout=0.5) as (_, proxy, client):
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 504 ")
        assert counted(proxy)[0] > 0
        assert told(proxy) == [(504, "UT", 1)]
        assert proxy.log.entries[0].details == "response_timeout"


def test_a_try_has_no_time_of_its_own_that_is_not_less_than_the_routes() -> None:
    with running(PLAIN, in_turn(until_its_end), on_reset(3, 0.2), timeout=0.2) as (_, proxy, client):
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 504 ")
        assert proxy.log.entries[0].details == "response_timeout"
        assert counted(proxy) == (0, 0, 0)


def test_no_wait_is_shorter_than_the_least() -> None:
    retry = Retry(attempts=2, statuses=(503,), backoff=0.001, least_backoff=0.1)
    with running(PLAIN, in_turn(BUSY, BUSY, ok()), retry) as (_, _, client):
        began = time.monotonic()
        client.sendall(get())
        assert read_response(client)[1] == b"hello"
        assert time.monotonic() - began >= 0.2


def test_a_client_that_goes_meanwhile_is_not_served(way: Way) -> None:
    seen: list[bytes] = []
    retry = Retry(attempts=1, statuses=(503,), least_backoff=60.0)
    with running(way, answering(BUSY, seen), retry) as (_, proxy, client):
        client.sendall(get())
        eventually(lambda: counted(proxy)[0] == 1)
        proxy.present = False
        client.close()
        eventually(lambda: told(proxy) == [(0, "DC", 1)])
        assert len(seen) == 1


# -- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(retries=1), Limits(retry_budget_percent=1.0, retry_budget_min=1)])
def test_beyond_the_clusters_limit_the_answer_is_the_last(way: Way, limits: Limits) -> None:
    retry = Retry(attempts=1, statuses=(503,), least_backoff=60.0)
    with running(way, answering(BUSY), retry, limits=limits) as (_, proxy, waits):
        waits.sendall(get())
        eventually(lambda: counted(proxy)[0] == 1)
        with proxy.connect() as other:
            other.sendall(get())
            assert read_response(other)[1] == b"busy"
            assert proxy.counter("upstream_retries_overflow_total") == 1
            assert told(proxy) == [(503, "UO", 1)]
            # One that goes makes room.
            proxy.present = False
            waits.close()
            eventually(lambda: (0, "DC", 1) in told(proxy))
            other.sendall(get())
            eventually(lambda: counted(proxy)[0] == 2)


def test_a_retry_counts_until_its_answer_comes() -> None:
    go_on = threading.Event()

    def slow(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert go_on.wait(10)
        sock.sendall(b"hello")

    script = in_turn(BUSY, slow, BUSY, ok(b"other"))
    with running(PLAIN, script, on_status(), limits=Limits(retries=1)) as (_, proxy, client):
        client.sendall(get())
        head = receive_head(client)
        with proxy.connect() as other:
            other.sendall(get())
            assert read_response(other)[1] == b"other"
        go_on.set()
        assert read_response(client, head)[1] == b"hello"
        assert counted(proxy) == (2, 2, 0)
