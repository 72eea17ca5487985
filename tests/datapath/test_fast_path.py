"""Requests and answers that the kernel carries, and those that it leaves to the proxy. Real sockets."""

from __future__ import annotations

import contextlib
import re
import select
import socket

import pytest

from meshd.datapath.counts.carried_requests import CarriedRequests
from meshd.datapath.flows.arming import Upstream
from meshd.datapath.flows.kept_requests import request_id_text
from meshd.datapath.rules.fingerprint import cluster_id
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    Forward,
    HeaderEdit,
    PathPrefix,
    Route,
    RouteMatch,
    WeightedCluster,
)
from proxy.exchanges.destination import IDEMPOTENT
from tests.datapath.carried import GET, NAME, OK, Bed, Connection, exactly, is_quiet
from tests.support.http_bed import eventually

DATE = b"Date: Sat, 21 Nov 2026 00:00:00 GMT\r\n"


@pytest.fixture(scope="module")
def carries() -> bool:
    return True


@pytest.fixture(params=(False, True), ids=("here", "remote"))
def connection(beds: Bed, request: pytest.FixtureRequest) -> Connection:
    made = Connection(beds, remote=request.param)
    made.arm()
    return made


@pytest.fixture
def here(beds: Bed) -> Connection:
    made = Connection(beds)
    made.arm()
    return made


def _upcalled(connection: Connection, request: bytes) -> None:
    """The proxy gets it, the server does not."""
    connection.client.sendall(request)
    assert exactly(connection.proxy, len(request)) == request
    assert is_quiet(connection.server)


def test_requests_are_carried_once_armed(connection: Connection) -> None:
    for _ in range(3):
        connection.exchange()
    assert is_quiet(connection.proxy)
    assert is_quiet(connection.upstream)
    carried = connection.carried()
    assert (carried.requests, carried.responses) == (3, 3)


def test_nothing_is_carried_before_the_proxy_arms(beds: Bed) -> None:
    connection = Connection(beds)
    _upcalled(connection, GET)


def test_a_request_is_passed_up_until_the_proxy_has_consumed_and_the_client_read_all(
    here: Connection,
) -> None:
    here.exchange()
    here.client.sendall(b"nonsense\r\n\r\n")
    assert exactly(here.proxy, 12) == b"nonsense\r\n\r\n"
    here.consumed += 12
    _upcalled(here, GET)
    here.consumed += len(GET)
    answer = OK
    here.proxy.sendall(answer)
    here.written += len(answer)
    here.arm()
    # The answer has come and is not read: to carry the next one could let its answer overtake.
    _upcalled(here, GET)
    here.consumed += len(GET)
    assert exactly(here.client, len(answer)) == answer
    here.arm()
    here.exchange()


def test_arming_may_come_before_the_answer_that_it_counts(here: Connection) -> None:
    here.client.sendall(b"GET * HTTP/1.1\r\n\r\n")
    here.consumed += len(exactly(here.proxy, 18))
    here.written += len(OK)
    here.arm()
    here.proxy.sendall(OK)
    assert exactly(here.client, len(OK)) == OK
    here.exchange()


def test_a_client_that_pipelines_is_the_proxys_for_good(connection: Connection) -> None:
    connection.client.sendall(GET + GET)
    assert exactly(connection.server, len(GET)) == GET
    assert exactly(connection.proxy, len(GET)) == GET
    connection.consumed += len(GET)
    connection.server.sendall(OK)
    assert exactly(connection.client, len(OK)) == OK
    connection.proxy.sendall(OK)
    connection.written += len(OK)
    assert exactly(connection.client, len(OK)) == OK
    connection.arm()
    _upcalled(connection, GET)
    assert connection.carried().pipelines


@pytest.mark.parametrize("split", range(1, len(GET)))
def test_a_head_in_two_messages_is_the_proxys(here: Connection, split: int) -> None:
    here.client.sendall(GET[:split])
    assert exactly(here.proxy, split) == GET[:split]
    here.client.sendall(GET[split:])
    assert exactly(here.proxy, len(GET) - split) == GET[split:]
    assert is_quiet(here.server) if split % 10 == 0 else True


@pytest.mark.parametrize("size", [1, 1000, 16 << 10])
def test_a_body_goes_with_its_head_and_after_it(connection: Connection, size: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size
    body = bytes(i % 251 for i in range(size))
    connection.exchange(head + body)
    connection.client.sendall(head)
    assert exactly(connection.server, len(head)) == head
    for at in range(0, size, 700):
        connection.client.sendall(body[at : at + 700])
    assert exactly(connection.server, size) == body
    connection.server.sendall(OK)
    assert exactly(connection.client, len(OK)) == OK
    assert is_quiet(connection.proxy)


def test_the_bytes_after_a_body_are_no_part_of_it(connection: Connection) -> None:
    """A request hidden in what follows a body is the proxy's to read."""
    first = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"
    connection.client.sendall(first + GET)
    assert exactly(connection.server, len(first)) == first
    assert exactly(connection.proxy, len(GET)) == GET
    assert is_quiet(connection.server)


def test_a_request_in_a_body_is_carried_as_the_body(connection: Connection) -> None:
    connection.exchange(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(GET) + GET)
    connection.exchange()
    assert is_quiet(connection.proxy)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: web\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: web\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: web\r\n\r\n",
        b"GET http://web/ HTTP/1.1\r\nHost: web\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: web\r\nX: " + b"a" * 2100 + b"\r\n\r\n",
    ],
)
def test_what_is_not_plain_is_the_proxys(connection: Connection, request_: bytes) -> None:
    _upcalled(connection, request_)


def test_lines_are_added_as_the_proxy_adds_them(connection: Connection) -> None:
    flags = connection.bed.table.flags
    both = flags["ARMED_REQUEST_ID"] | flags["ARMED_FORWARDED_PROTO"]
    line = b"x-forwarded-for: 10.9.0.1\r\n"
    connection.arm(flags=both, forwarded_for=line)
    seen = set()
    for body in (b"", b"0123456789"):
        head = b"POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n" % len(body)
        connection.client.sendall(head + b"\r\n" + body)
        got = exactly(connection.server, len(head) + len(line) + 25 + 52 + 2 + len(body))
        found = re.fullmatch(
            re.escape(head + line)
            + rb"x-forwarded-proto: http\r\n"
            + rb"x-request-id: ([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})\r\n"
            + re.escape(b"\r\n" + body),
            got,
        )
        assert found, got
        seen.add(found[1])
        connection.server.sendall(OK)
        assert exactly(connection.client, len(OK)) == OK
    assert len(seen) == 2
    own = b"GET / HTTP/1.1\r\nHost: web\r\nX-Request-ID: mine\r\nx-forwarded-proto: https\r\n"
    connection.client.sendall(own + b"\r\n")
    assert exactly(connection.server, len(own) + len(line) + 2) == own + line + b"\r\n"


def test_a_line_of_any_length_is_added_with_and_without_another(connection: Connection) -> None:
    proto = b"x-forwarded-proto: http\r\n"
    for size in (0, *range(20, connection.bed.table.codec.max_forwarded_for + 1)):
        line = b"x-forwarded-for: " + b"1" * (size - 19) + b"\r\n" if size else b""
        for flags in (0, connection.bed.table.flags["ARMED_FORWARDED_PROTO"]):
            connection.arm(flags=flags, forwarded_for=line)
            for body in (b"", b"x" * size):
                head = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n" % len(body)
                connection.client.sendall(head + b"\r\n" + body)
                wanted = head + line + (proto if flags else b"") + b"\r\n" + body
                assert exactly(connection.server, len(wanted)) == wanted
                connection.server.sendall(OK)
                assert exactly(connection.client, len(OK)) == OK


@pytest.mark.parametrize("size", [1, 4000, 1 << 20])
@pytest.mark.parametrize("pieces", [1, 3])
def test_an_answers_body_is_carried_to_its_end(connection: Connection, size: int, pieces: int) -> None:
    body = bytes(i % 251 for i in range(size))
    head = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: %d\r\n\r\n" % size
    connection.client.sendall(GET)
    assert exactly(connection.server, len(GET)) == GET
    connection.server.sendall(head)
    step = -(-size // pieces)
    got = b""
    for at in range(0, size, step):
        connection.server.sendall(body[at : at + step])
    got = exactly(connection.client, len(head) + size)
    assert got == head + body
    connection.exchange()
    assert is_quiet(connection.upstream)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n",
        b"HTTP/1.1 304 Not Modified\r\n" + DATE + b"Content-Length: 100\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n"
        + DATE
        + b"Content-Length: 0\r\n\r\n",
    ],
)
def test_answers_without_a_body_are_carried(connection: Connection, answer: bytes) -> None:
    connection.exchange(GET, answer)
    connection.exchange()


def test_an_answer_to_head_has_no_body(connection: Connection) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 100\r\n\r\n"
    connection.exchange(b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n", head)
    connection.exchange()


_CHUNKED = b"HTTP/1.1 200 OK\r\n" + DATE + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("step", [1000, 40, 17])
def test_an_answer_in_chunks_is_carried_to_its_end(here: Connection, step: int) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (n, b"c" * n) for n in (1, 5, 16, 300)) + b"0\r\n\r\n"
    here.client.sendall(GET)
    assert exactly(here.server, len(GET)) == GET
    here.server.sendall(_CHUNKED)
    for part in (chunks,) if step == 1000 else _split_at_lines(chunks):
        here.server.sendall(part)
    assert exactly(here.client, len(_CHUNKED + chunks)) == _CHUNKED + chunks
    here.exchange()
    assert is_quiet(here.upstream)


def _split_at_lines(chunks: bytes) -> list[bytes]:
    """Each size line, each chunk's data and each line end in a message of its own; the end whole."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = chunks.index(b"\r\n", at) + 2
        size = int(chunks[at:end], 16)
        if size == 0:
            return [*parts, chunks[at:]]
        parts += [chunks[at:end], chunks[end : end + size], chunks[end + size : end + size + 2]]
        at = end + size + 2


def test_from_a_chunk_on_that_is_not_plain_the_proxy_has_the_answer(here: Connection) -> None:
    here.client.sendall(GET)
    assert exactly(here.server, len(GET)) == GET
    plain, rest = b"5\r\nhello\r\n", b"5;a=b\r\nworld\r\n0\r\nT: 1\r\n\r\n"
    here.server.sendall(_CHUNKED + plain + rest)
    assert exactly(here.client, len(_CHUNKED + plain)) == _CHUNKED + plain
    assert exactly(here.upstream, len(rest)) == rest
    assert here.response() == "spilled"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n" + DATE + b"Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + DATE + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 3000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\nX: " + b"a" * 2100 + b"\r\n\r\nok",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_an_answer_that_is_not_plain_is_the_proxys(connection: Connection, answer: bytes) -> None:
    connection.client.sendall(GET)
    assert exactly(connection.server, len(GET)) == GET
    connection.server.sendall(answer)
    assert exactly(connection.upstream, len(answer)) == answer
    assert is_quiet(connection.client)
    assert connection.response() == "upcalled"
    _upcalled(connection, GET)


def test_after_the_proxy_brought_an_answer_to_its_end_the_next_is_carried(connection: Connection) -> None:
    odd = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    connection.client.sendall(GET)
    assert exactly(connection.server, len(GET)) == GET
    connection.server.sendall(odd)
    back = exactly(connection.upstream, len(odd))
    connection.from_server += len(back)
    connection.adopted += 1
    connection.written += len(back)
    connection.arm()
    connection.proxy.sendall(back)
    assert exactly(connection.client, len(odd)) == odd
    connection.exchange()


def test_what_a_server_sends_unasked_goes_to_the_proxy(here: Connection) -> None:
    here.exchange()
    here.server.sendall(OK)
    assert exactly(here.upstream, len(OK)) == OK
    assert is_quiet(here.client)


def test_a_server_that_reads_nothing_of_what_the_proxy_sent_gets_nothing_more(beds: Bed) -> None:
    connection = Connection(beds)
    connection.upstream.sendall(b"unread")
    connection.to_server += 6
    connection.arm()
    connection.client.sendall(GET)
    assert exactly(connection.proxy, len(GET)) == GET


def test_a_closed_servers_requests_are_the_proxys(connection: Connection) -> None:
    connection.server.close()
    assert connection.upstream.recv(1) == b""
    connection.client.sendall(GET)
    assert exactly(connection.proxy, len(GET)) == GET


def test_a_change_of_the_rules_makes_the_next_request_an_upcall(connection: Connection) -> None:
    connection.exchange()
    connection.bed.configure((Route(name="other", action=Forward(clusters=(WeightedCluster(name=NAME),))),))
    _upcalled(connection, GET)


def test_a_route_that_only_the_proxy_can_do_does_not_slow_the_others(beds: Bed) -> None:
    forward = Forward(clusters=(WeightedCluster(name=NAME),))
    beds.configure(
        (
            Route(
                name="edited",
                match=RouteMatch(path=PathPrefix("/edited")),
                action=forward,
                request_headers=HeaderEdit(set=(("a", "b"),)),
            ),
            Route(
                name="tested",
                match=RouteMatch(headers=(StringMatch(name="x-user", value="t"),)),
                action=forward,
            ),
            Route(name="rest", action=forward),
        )
    )
    connection = Connection(beds)
    connection.arm()
    connection.exchange()
    connection.exchange(b"GET /edite HTTP/1.1\r\nHost: web\r\n\r\n")
    assert connection.carried().route == 2
    connection.exchange(b"GET /editeds HTTP/1.1\r\nHost: web\r\nX-User: t\r\n\r\n")
    assert connection.carried().route == 1
    connection.exchange(b"GET / HTTP/1.1\r\nHost: web\r\nX-User: tt\r\n\r\n")
    assert connection.carried().route == 2
    _upcalled(connection, b"GET /edited/x?y HTTP/1.1\r\nHost: web\r\n\r\n")


def test_an_endpoint_without_a_connection_gets_its_share_by_the_proxy(beds: Bed) -> None:
    connection = Connection(beds)
    table = beds.table
    missing = Upstream(table.codec.no_connection, cluster_id(NAME), 1, 0, 0, table.kinds["UPSTREAM_MISSING"])
    proxys = 0
    for _ in range(60):
        connection.arm(weight=2, upstreams=(missing,))
        before = connection.carried().requests
        connection.client.sendall(GET)
        ready = exactly(connection.server, len(GET)) if _readable(connection) else b""
        if ready:
            connection.server.sendall(OK)
            assert exactly(connection.client, len(OK)) == OK
            assert connection.carried().requests == before + 1
        else:
            proxys += 1
            assert exactly(connection.proxy, len(GET)) == GET
            connection.consumed += len(GET)
            connection.written += len(OK)
            connection.proxy.sendall(OK)
            assert exactly(connection.client, len(OK)) == OK
    assert 7 <= proxys <= 36  # a third of 60; outside about once in 10,000 runs


def _readable(connection: Connection) -> bool:
    """Whether the request went to the server, not to the proxy."""
    ready, _, _ = select.select([connection.server, connection.proxy], [], [], 5)
    assert len(ready) == 1
    return ready[0] is connection.server


def test_an_answer_does_not_reach_another_client_of_the_same_address(here: Connection) -> None:
    address = here.client.getsockname()
    here.client.sendall(GET)
    assert exactly(here.server, len(GET)) == GET
    here.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    here.client.close()
    mesh = here.bed.mesh
    again = mesh.client()
    again.bind(address)
    again.connect(("10.96.0.1", 80))
    mesh.accept(mesh.proxy4)
    here.server.sendall(OK)
    assert is_quiet(again)
    assert exactly(here.upstream, len(OK)) == OK


def _kept(connection: Connection) -> bytes:
    carried = connection.carried()
    return connection.bed.kept.read(connection.flow, carried.kept) if carried.kept else b""


@pytest.mark.parametrize("size", [40, 47, 48, 49, 55, 300, 335, 336, 337, 383, 672, 1000, 2047, 2048])
def test_a_request_is_kept_as_its_client_sent_it(connection: Connection, size: int) -> None:
    flags = connection.bed.table.flags["ARMED_REQUEST_ID"]
    connection.arm(flags=flags, forwarded_for=b"x-forwarded-for: 10.9.0.1\r\n")
    added = 27 + 52
    for filler in (b"a", b"b"):
        head = b"GET / HTTP/1.1\r\nHost: web\r\nX: "
        request = head + filler * (size - len(head) - 4) + b"\r\n\r\n"
        connection.client.sendall(request)
        sent = exactly(connection.server, size + added)
        assert _kept(connection) == request
        number = request_id_text(connection.carried().request_id)
        assert sent == request[:-2] + b"x-forwarded-for: 10.9.0.1\r\nx-request-id: " + number + b"\r\n\r\n"
        connection.server.sendall(OK)
        assert exactly(connection.client, len(OK)) == OK


def test_what_the_proxy_may_send_again_is_kept(connection: Connection) -> None:
    for method in connection.bed.table.methods.values():
        request = method.encode() + b" / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"
        connection.exchange(request, OK if method != "HEAD" else OK[:-2])
        assert _kept(connection) == (request if method in IDEMPOTENT else b"")
    connection.exchange(GET)
    assert not any(connection.carried().request_id)


def test_a_request_is_not_kept_once_more_of_its_body_has_gone(connection: Connection) -> None:
    first = b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhello"
    connection.client.sendall(first)
    assert exactly(connection.server, len(first)) == first
    assert _kept(connection) == first
    connection.client.sendall(b"world")
    assert exactly(connection.server, 5) == b"world"
    assert _kept(connection) == b""


def test_the_bytes_behind_a_request_are_not_kept_with_it(connection: Connection) -> None:
    connection.client.sendall(GET + b"x" * 3000)
    assert exactly(connection.server, len(GET)) == GET
    assert exactly(connection.proxy, 3000) == b"x" * 3000
    assert _kept(connection) == GET


def test_of_what_is_sent_again_no_more_comes_in_one_write_than_is_kept(connection: Connection) -> None:
    head = b"%b / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n"
    room = 2048 - len(head % (b"PUT", 2000))
    fits = head % (b"PUT", room) + b"x" * room
    connection.exchange(fits)
    assert _kept(connection) == fits
    connection.exchange(head % (b"POST", room + 1) + b"x" * (room + 1))
    _upcalled(connection, head % (b"PUT", room + 1) + b"x" * (room + 1))


def test_a_body_whose_server_closes_goes_up_and_the_next_request_does_not(connection: Connection) -> None:
    first = b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 15\r\n\r\nhello"
    connection.client.sendall(first)
    assert exactly(connection.server, len(first)) == first
    connection.server.shutdown(socket.SHUT_WR)
    assert connection.upstream.recv(1) == b""
    for piece in (b"world", b"again"):
        connection.client.sendall(piece)
        assert exactly(connection.proxy, 5) == piece
        connection.consumed += 5
    assert is_quiet(connection.server)
    assert (connection.carried().request_left, _kept(connection)) == (10, first)
    other = Connection(connection.bed, connection.remote)
    connection.adopted += 1
    connection.proxy.sendall(OK)
    connection.written += len(OK)
    assert exactly(connection.client, len(OK)) == OK
    connection.connection, connection.server, connection.to_server = (
        other.connection,
        other.server,
        other.to_server,
    )
    connection.arm()
    connection.exchange()


def _cancelled(bed: Bed) -> int:
    opened = bed.datapath.open_map("requests"), bed.datapath.open_map("upcalls")
    with contextlib.closing(CarriedRequests(*opened, bed.datapath.layout)) as counts:
        rows = counts.requests().items()
        return sum(n.requests for row, n in rows if row.cancelled and row.netns == bed.mesh.pod.cookie)


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("answer", [b"", OK[:-1], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_a_request_whose_client_goes_is_counted_unless_the_proxy_has_adopted_it(
    connection: Connection, answer: bytes, adopted: bool
) -> None:
    bed = connection.bed
    connection.client.sendall(GET)
    assert exactly(connection.server, len(GET)) == GET
    connection.server.sendall(answer)
    if answer:
        reader = connection.upstream if answer.endswith(b"\r\n") else connection.client
        assert reader.recv(1, socket.MSG_PEEK)
    if adopted:
        assert bed.table.disarm(connection.flow, connection.adopted + 1)
    connection.client.close()
    connection.proxy.close()
    eventually(lambda: bed.flows.carried(connection.flow) is None)
    assert not bed.table.disarm(connection.flow, connection.adopted + 1)
    assert _cancelled(bed) == (0 if adopted else 1)


def test_nothing_of_a_connection_is_left(beds: Bed) -> None:
    connection = Connection(beds)
    connection.arm()
    connection.exchange(GET[:-2] + b"X: " + b"x" * 700 + b"\r\n\r\n")
    with contextlib.closing(beds.datapath.open_map("kept")) as kept:
        assert len(list(kept)) == 2
        for each in (connection.client, connection.proxy, connection.upstream, connection.server):
            each.close()
        assert list(kept) == []
    assert beds.flows.carried(connection.flow) is None
    assert beds.table.connection(connection.connection) is None
