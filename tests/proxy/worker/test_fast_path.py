"""Worker and kernel together, on real sockets: what is carried, and what becomes of what goes wrong."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from meshd.model.cluster_policies import LeastRequest
from meshd.model.clusters import Cluster
from meshd.model.listeners import HttpOptions
from meshd.model.routes import Forward, Route, WeightedCluster
from meshd.model.wire import Drain
from tests.proxy.worker.agent_end import WorkerProcess
from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.support.http_bed import (
    Script,
    answering,
    eventually,
    get,
    ok,
    read_response,
    receive_all,
    receive_head,
    receive_until,
    request_heads,
)

PLAIN = ok(b"hello", DATE)
PLACES = pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])


def exchange(client: socket.socket, path: bytes = b"/") -> bytes:
    client.sendall(get(path))
    _, body, rest = read_response(client)
    assert rest == b""
    return body


def armed(bed: FastPathBed) -> socket.socket:
    """A client whose next request is carried."""
    client = bed.connect()
    assert exchange(client) == b"hello"
    return client


@PLACES
def test_all_requests_but_the_first_are_carried(bed: FastPathBed, far: bool) -> None:
    seen: list[bytes] = []
    web = bed.serve(answering(PLAIN, seen), far)
    bed.configure([web])
    client = bed.connect()
    for i in range(50):
        assert exchange(client, b"/%d" % i) == b"hello"
    assert bed.carried(client).requests == 49
    assert bed.carried(client).responses == 49
    assert bed.statuses() == {200: 1}
    assert web.connections == 1
    ids = set()
    for i, head in enumerate(seen):
        lines = head.split(b"\r\n")
        assert lines[:2] == [b"GET /%d HTTP/1.1" % i, b"Host: web"]
        assert lines[2:4] == [b"x-forwarded-for: 10.1.0.7", b"x-forwarded-proto: http"]
        ids.add(lines[4])
    assert len(ids) == 50


@PLACES
def test_pipelined_requests_are_answered_in_order(bed: FastPathBed, far: bool) -> None:
    def script(sock: socket.socket) -> None:
        for head in request_heads(sock):
            time.sleep(0.002)
            sock.sendall(ok(head.split(b" ")[1], DATE))

    bed.configure([bed.serve(script, far), bed.serve(script, far)])
    client = bed.connect()
    read = b""
    for _ in range(3):
        client.sendall(b"".join(get(b"/%d" % i) for i in range(20)))
        for i in range(20):
            _, body, read = read_response(client, read)
            assert body == b"/%d" % i
    assert read == b""


@PLACES
def test_answers_that_the_kernel_leaves_to_the_proxy(bed: FastPathBed, far: bool) -> None:
    web = bed.serve(answering(ok(b"no date")), far)
    bed.configure([web])
    client = bed.connect()
    for _ in range(10):
        client.sendall(get())
        head, body, _ = read_response(client)
        assert body == b"no date"
        assert b"\r\ndate: " in head
    carried = bed.carried(client)
    assert (carried.requests, carried.responses) == (9, 0)
    (row,) = bed.agent.stats().requests
    assert (row.route, row.cluster, row.method, row.status, row.count) == (
        "default/web/0",
        "web",
        "GET",
        200,
        10,
    )


def _wake_ups(pid: int) -> int:
    """How often a process has slept and been woken."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split("\n", 1)[0])


@PLACES
def test_the_worker_is_not_woken_by_what_the_kernel_carries(bed: FastPathBed, far: bool) -> None:
    bed.configure([bed.serve(answering(PLAIN), far)])
    client = armed(bed)
    pid = bed.agent.stats().pid
    for _ in range(5):
        exchange(client)
    before = _wake_ups(pid)
    for _ in range(300):
        exchange(client)
    assert _wake_ups(pid) - before < 150  # it beats and sweeps a few times a second
    assert bed.carried(client).responses >= 300


def test_an_answer_from_another_node_that_is_the_proxys_wakes_it_at_once(bed: FastPathBed) -> None:
    """Not only the next sweep, 0.25 s later, or that of a flow, up to 2 s later."""
    answers = [PLAIN, PLAIN, ok(b"no date")] * 8
    bed.configure([bed.serve(scripted(*answers), far=True)])
    client = bed.connect()
    start = time.monotonic()
    bodies = [exchange(client) for _ in answers]
    assert bodies == [b"hello", b"hello", b"no date"] * 8
    assert time.monotonic() - start < 0.25 * 8


def test_a_server_of_another_node_that_speaks_unasked_is_not_used_again(bed: FastPathBed) -> None:
    asked = threading.Event()

    def script(sock: socket.socket) -> None:
        for _ in range(3):
            if not receive_head(sock):
                return
            sock.sendall(PLAIN)
        asked.wait(5)
        sock.sendall(ok(b"nobody asked", DATE))
        sock.recv(1)

    web = bed.serve(script, far=True)
    bed.configure([web])
    client = armed(bed)
    assert exchange(client) == b"hello"
    assert exchange(client) == b"hello"
    asked.set()
    time.sleep(0.1)
    asked.clear()
    assert exchange(client) == b"hello"
    assert exchange(client) == b"hello"
    assert web.connections == 2


def scripted(*answers: bytes | None, then: bytes = b"") -> Script:
    """A server's script: an answer for each request in turn; None or the end: ``then``, and it closes."""

    def script(sock: socket.socket) -> None:
        for answer in answers:
            receive_head(sock)
            if answer is None:
                break
            sock.sendall(answer)
        else:
            receive_head(sock)
        if then:
            sock.sendall(then)

    return script


@PLACES
def test_a_server_that_closes_within_its_answer(bed: FastPathBed, far: bool) -> None:
    cut = b"HTTP/1.1 200 OK\r\n" + DATE + b"\r\nContent-Length: 10\r\n\r\nhalf"
    bed.configure([bed.serve(scripted(PLAIN, then=cut), far)])
    client = armed(bed)
    client.sendall(get())
    with pytest.raises((ConnectionResetError, EOFError)):
        read_response(client)
    eventually(lambda: bed.statuses() == {200: 2})
    (row,) = (row for row in bed.agent.stats().requests if row.flags)
    assert row.flags == "UC"


@PLACES
def test_a_server_that_closes_after_its_answer(bed: FastPathBed, far: bool) -> None:
    bed.configure([bed.serve(scripted(PLAIN, PLAIN, None), far)])
    client = armed(bed)
    assert exchange(client) == b"hello"
    time.sleep(0.1)
    for _ in range(3):
        client.sendall(get())
        assert read_response(client)[0].startswith(b"HTTP/1.1 200 ")
        time.sleep(0.1)


@PLACES
def test_a_half_closed_client_gets_its_answer(bed: FastPathBed, far: bool) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(PLAIN)
        receive_head(sock)
        time.sleep(0.2)
        sock.sendall(PLAIN)
        sock.recv(1)

    bed.configure([bed.serve(script, far)])
    client = armed(bed)
    client.sendall(get())
    client.shutdown(socket.SHUT_WR)
    assert receive_all(client) == PLAIN
    # From another node the proxy brings it, lest its FIN should pass the answer: see from_remote.
    assert bed.statuses() == {200: 2 if far else 1}


@PLACES
@pytest.mark.parametrize("begun", [False, True])
def test_a_route_timeout_is_kept(bed: FastPathBed, far: bool, begun: bool) -> None:
    closed = threading.Event()

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(PLAIN)
        receive_head(sock)
        if begun:
            sock.sendall(PLAIN[:-1])
        with contextlib.suppress(ConnectionResetError):
            sock.recv(1)
        closed.set()

    route = Route(name="slow", action=Forward(clusters=(WeightedCluster(name="web"),), timeout=0.4))
    bed.configure([bed.serve(script, far)], routes=(route,))
    client = armed(bed)
    start = time.monotonic()
    client.sendall(get())
    if begun:
        with pytest.raises((ConnectionResetError, EOFError)):
            read_response(client)
    else:
        head, _, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 504 ")
    assert 0.4 < time.monotonic() - start < 1.2
    assert closed.wait(5)
    (row,) = (row for row in bed.agent.stats().requests if row.flags)
    assert (row.route, row.status, row.flags) == ("slow", 200 if begun else 504, "UT")
    if not begun:
        assert exchange(client) == b"hello"


def test_an_idle_stream_is_given_up(bed: FastPathBed) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(PLAIN)
        receive_head(sock)
        with contextlib.suppress(ConnectionResetError):
            sock.recv(1)

    bed.configure([bed.serve(script)], options=HttpOptions(stream_idle_timeout=0.5))
    client = armed(bed)
    client.sendall(get())
    assert read_response(client)[0].startswith(b"HTTP/1.1 504 ")


@PLACES
def test_no_request_goes_to_an_endpoint_that_has_gone(bed: FastPathBed, far: bool) -> None:
    servers = [bed.serve(answering(ok(b"%d" % i, DATE)), far) for i in range(2)]
    bed.configure(servers[:1])
    client = bed.connect()
    for generation in range(20):
        server = generation % 2
        bed.configure([servers[server]])
        for _ in range(5):
            assert exchange(client) == b"%d" % server
    assert bed.carried(client).requests >= 20 * 3


def test_requests_are_balanced_by_weight(bed: FastPathBed) -> None:
    servers = [bed.serve(answering(ok(b"%d" % i, DATE))) for i in range(3)]
    bed.configure(servers, weights=[1, 2, 7])
    client = bed.connect()
    counts = [0, 0, 0]
    for _ in range(1000):
        counts[int(exchange(client))] += 1
    assert sum(counts) == 1000
    for count, share in zip(counts, (0.1, 0.2, 0.7), strict=True):
        assert abs(count - 1000 * share) < 5 * (1000 * share * (1 - share)) ** 0.5 + 20
    assert [server.connections for server in servers] == [1, 1, 1]
    assert bed.carried(client).requests > 900


@PLACES
def test_bodies_in_several_messages(bed: FastPathBed, far: bool) -> None:
    def script(sock: socket.socket) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                piece = sock.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, data = data.partition(b"\r\n\r\n")
            length = next(
                (
                    int(x.split(b":")[1])
                    for x in head.split(b"\r\n")
                    if x.lower().startswith(b"content-length")
                ),
                0,
            )
            while len(data) < length:
                data += sock.recv(65536)
            body, data = data[:length], data[length:]
            sock.sendall(ok(body or b"hello", DATE))

    bed.configure([bed.serve(script, far)])
    client = armed(bed)
    for size in (1, 100, 10_000, 300_000, 3_000_000):
        body = bytes(i * 31 % 251 for i in range(size))
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(read_response(client)[1]))  # noqa: B023
        reader.start()
        for at in range(0, size, 50_000):
            client.sendall(body[at : at + 50_000])
        reader.join(10)
        assert received == [body]
    assert bed.carried(client).requests >= 2


def test_drain_lets_a_carried_request_end(bed: FastPathBed, worker: WorkerProcess) -> None:
    go_on = threading.Event()

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(PLAIN)
        receive_head(sock)
        go_on.wait(5)
        sock.sendall(PLAIN)
        sock.recv(1)

    bed.configure([bed.serve(script)])
    client, idle = armed(bed), armed(bed)
    client.sendall(get())
    eventually(lambda: bed.carried(client).requests == 1)
    bed.agent.send(Drain(seconds=10))
    assert idle.recv(1) == b""
    time.sleep(0.6)
    go_on.set()
    assert receive_all(client) == PLAIN
    assert "Traceback" not in worker.ended()


@PLACES
def test_a_client_that_goes_leaves_nothing(bed: FastPathBed, far: bool) -> None:
    closed = []

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(PLAIN)
        receive_head(sock)
        try:
            closed.append(sock.recv(1) == b"")
        except ConnectionResetError:
            closed.append(True)

    bed.configure([bed.serve(script, far)])
    for _ in range(5):
        client = armed(bed)
        client.sendall(get())
        eventually(lambda: bed.carried(client).requests == 1)  # noqa: B023
        client.close()
    eventually(lambda: closed == [True] * 5)
    with contextlib.ExitStack() as stack:
        maps = [
            stack.enter_context(contextlib.closing(bed.mesh.datapath.open_map(name)))
            for name in ("armed", "flows", "connections")
        ]
        eventually(lambda: [len(list(each)) for each in maps] == [0, 0, 0])
    cancelled = [(row.status, n.requests) for row, n in bed.counted().items() if row.cancelled]
    assert cancelled == [(0, 5)]
    assert bed.agent.stats().gauges["downstream_connections"] == 0


def test_quiet_flows_give_their_connections_away(bed: FastPathBed) -> None:
    web = bed.serve(answering(PLAIN))
    bed.configure([web])
    clients = [armed(bed) for _ in range(5)]
    for client in clients:
        assert exchange(client) == b"hello"
    assert web.connections == 5
    time.sleep(3)
    other = armed(bed)
    assert web.connections == 5
    for client in (*clients, other):
        assert exchange(client) == b"hello"
    assert web.connections == 5 + 1


def test_an_idle_timeout_counts_carried_requests(bed: FastPathBed) -> None:
    bed.configure([bed.serve(answering(PLAIN))], options=HttpOptions(idle_timeout=1.0))
    client = armed(bed)
    for _ in range(15):
        time.sleep(0.2)
        assert exchange(client) == b"hello"
    assert bed.carried(client).requests == 15
    start = time.monotonic()
    assert client.recv(1) == b""
    assert 0.7 < time.monotonic() - start < 2.5


def test_the_least_loaded_endpoint_is_the_proxys_to_find(bed: FastPathBed) -> None:
    web = bed.serve(answering(PLAIN))
    bed.configure([web], cluster=Cluster(name="web", balancing=LeastRequest()))
    client = armed(bed)
    for _ in range(5):
        assert exchange(client) == b"hello"
    assert bed.carried(client).requests == 0


def test_an_access_log_is_whole_or_a_sample(bed: FastPathBed, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    bed.configure([bed.serve(answering(PLAIN))])
    bed.agent.configure(bed.mesh, str(path), fast_path=True)
    client = armed(bed)
    for _ in range(9):
        assert exchange(client) == b"hello"
    assert bed.carried(client).requests == 0
    eventually(lambda: path.read_text().count("\n") == 10)
    bed.agent.configure(bed.mesh, str(path), fast_path=True, sample=1000)
    client = armed(bed)
    for _ in range(9):
        assert exchange(client) == b"hello"
    assert bed.carried(client).requests == 9
    eventually(lambda: path.read_text().count("\n") == 11)


def test_a_chunked_answer_that_becomes_the_proxys(bed: FastPathBed) -> None:
    go_on = threading.Event()

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(PLAIN)
        while True:
            receive_head(sock)
            sock.sendall(
                b"HTTP/1.1 200 OK\r\n" + DATE + b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            )
            go_on.wait(5)
            sock.sendall(b"6;unusual=1\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n")

    bed.configure([bed.serve(script)])
    client = armed(bed)
    whole = b"5\r\nhello\r\n6;unusual=1\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
    for i in range(3):
        go_on.clear()
        client.sendall(get())
        data = receive_until(client, b"hello\r\n")
        go_on.set()
        if not data.endswith(b"1\r\n\r\n"):
            data += receive_until(client, b"1\r\n\r\n")
        assert data.partition(b"\r\n\r\n")[2] == whole
        carried = bed.carried(client)
        assert (carried.requests, carried.begun, carried.responses) == (i + 1, i + 1, 0)
    assert bed.statuses() == {200: 4}


def test_an_answer_before_the_requests_end(bed: FastPathBed) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(PLAIN)
        receive_head(sock)
        sock.sendall(ok(b"too long", DATE))
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(65536):
                pass

    bed.configure([bed.serve(script)])
    client = armed(bed)
    client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\n")
    assert read_response(client)[1] == b"too long"
    assert bed.carried(client).request_left == 100
    client.sendall(b"x" * 100)
    assert bed.carried(client).request_left == 0
    client.close()


@PLACES
def test_a_server_that_goes_while_a_body_comes(bed: FastPathBed, far: bool) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(PLAIN)
        receive_head(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    bed.configure([bed.serve(script, far)])
    client = armed(bed)
    client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\n")
    assert bed.carried(client).request_left == 100
    head, _, _ = read_response(client)
    assert head.startswith(b"HTTP/1.1 503 ")
    with contextlib.suppress(ConnectionError):
        client.sendall(b"x" * 100)
        client.sendall(get())
        assert client.recv(1) == b""
    assert bed.statuses() == {200: 1, 503: 1}


def test_a_new_agent_takes_over(bed: FastPathBed) -> None:
    bed.configure([bed.serve(answering(PLAIN))])
    client = armed(bed)
    assert exchange(client) == b"hello"
    bed.agent.hang_up()
    assert exchange(client) == b"hello"
    bed.agent.accept()
    bed.agent.configure(bed.mesh, fast_path=True)
    for _ in range(5):
        assert exchange(client) == b"hello"
    assert bed.carried(client).requests == 7
