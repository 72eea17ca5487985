"""Carried requests whose servers close without an answer. Real sockets, on this node and on another."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter

import pytest

from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.support.http_bed import (
    Script,
    answering,
    by_connection,
    eventually,
    get,
    ok,
    one_answer_then,
    read_response,
    receive_head,
    receive_until,
    request_heads,
)

PLAIN = ok(b"hello", DATE)
PLACES = pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
NO_LINGER = struct.pack("ii", 1, 0)
SECONDS = 5.0
CLIENTS = 8
IDLE_SECONDS = 0.02


def armed(bed: FastPathBed) -> socket.socket:
    """A client whose next request is carried."""
    client = bed.connect()
    client.sendall(get())
    assert read_response(client)[1:] == (b"hello", b"")
    return client


def first_answers_then(then: Script, seen: list[bytes]) -> Script:
    """A server of which the first connection has one answer, and ``then`` the next; the others answer all."""
    return by_connection(one_answer_then(PLAIN, then), answering(PLAIN, seen))


@PLACES
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("filler", [10, 400, 1850])
def test_a_carried_request_is_sent_again(bed: FastPathBed, far: bool, reset: bool, filler: int) -> None:
    seen: list[bytes] = []

    def then(sock: socket.socket) -> None:
        seen.append(receive_head(sock))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)

    web = bed.serve(first_answers_then(then, seen), far)
    bed.configure([web])
    client = armed(bed)
    client.sendall(get(b"/a?b", b"X-Filler: " + b"f" * filler))
    assert read_response(client)[1:] == (b"hello", b"")
    assert bed.carried(client).requests == 1
    first, second = (sorted(head.split(b"\r\n")) for head in seen)
    assert first == second
    assert sum(line.startswith(b"x-request-id: ") for line in first) == 1
    assert bed.agent.stats().counters["upstream_replays_total"] == 1
    assert bed.statuses() == {200: 2}
    assert bed.counted() == {}
    for _ in range(5):
        client.sendall(get())
        assert read_response(client)[1:] == (b"hello", b"")
    assert bed.carried(client).requests == 6
    assert bed.statuses() == {200: 2}
    assert sum(count.requests for count in bed.counted().values()) == 5


@PLACES
def test_a_carried_post_is_not(bed: FastPathBed, far: bool) -> None:
    def then(sock: socket.socket) -> None:
        receive_head(sock)

    web = bed.serve(first_answers_then(then, []), far)
    bed.configure([web])
    client = armed(bed)
    client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")
    head, body, _ = read_response(client)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"before it answered" in body
    assert bed.carried(client).requests == 1
    assert web.connections == 1
    assert bed.statuses() == {200: 1, 503: 1}


@PLACES
def test_the_rest_of_a_body_after_its_server_closed(bed: FastPathBed, far: bool) -> None:
    """The kernel gives up the body, and carries the next request."""
    got: list[bytes] = []

    def then(sock: socket.socket) -> None:
        receive_until(sock, b"first")

    def others(sock: socket.socket) -> None:
        got.append(receive_until(sock, b"second"))
        while True:
            sock.sendall(PLAIN)
            receive_head(sock)

    web = bed.serve(by_connection(one_answer_then(PLAIN, then), others), far)
    bed.configure([web])
    client = armed(bed)
    client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 11\r\n\r\nfirst")
    eventually(lambda: web.connections == 2)
    client.sendall(b"second")
    assert read_response(client)[1:] == (b"hello", b"")
    assert got[0].endswith(b"\r\n\r\nfirstsecond")
    assert bed.carried(client).requests == 1
    for number in range(2, 5):
        client.sendall(get())
        assert read_response(client)[1:] == (b"hello", b"")
        assert bed.carried(client).requests == number


@PLACES
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_within_a_body_spoils_no_connection(
    bed: FastPathBed, far: bool, reset: bool
) -> None:
    """Its server has answered, and would take the next client's request for the rest of the body."""
    early = threading.Event()

    def script(sock: socket.socket) -> None:
        while True:
            head = receive_head(sock)
            sock.sendall(PLAIN)
            if head.startswith(b"POST"):
                early.set()
                assert sock.recv(1) == b""
                return

    bed.configure([bed.serve(script, far)])
    client = armed(bed)
    client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100\r\n\r\n")
    assert read_response(client)[1:] == (b"hello", b"")
    assert early.wait(5)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    client.close()
    eventually(lambda: bed.agent.stats().gauges["downstream_connections"] == 0)
    for _ in range(3):
        armed(bed).close()


@PLACES
def test_an_answer_that_nobody_has_adopted_when_its_client_goes(bed: FastPathBed, far: bool) -> None:
    """It is counted once all the same, whoever came first."""

    def then(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(ok(b"not dated"))
        with contextlib.suppress(ConnectionResetError):
            sock.recv(1)

    bed.configure([bed.serve(one_answer_then(PLAIN, then), far)])
    rounds = 40
    for number in range(rounds):
        client = armed(bed)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        client.sendall(get())
        time.sleep(0.00005 * (number % 20))
        client.close()

    def counted() -> int:
        kernels = sum(count.requests for count in bed.counted().values())
        return kernels + sum(row.count for row in bed.agent.stats().requests)

    eventually(lambda: bed.agent.stats().gauges["downstream_connections"] == 0)
    eventually(lambda: counted() >= 2 * rounds)
    time.sleep(0.2)
    assert counted() == 2 * rounds


class IdleTimeout:
    """A server that closes a connection which is idle for a while, whatever is on its way then."""

    def __init__(self) -> None:
        self.seen: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def __call__(self, sock: socket.socket) -> None:
        rnd = random.Random(sock.fileno())
        with contextlib.suppress(TimeoutError):
            # Never before the first answer: what has been sent again is not sent a third time.
            for number, head in enumerate(request_heads(sock)):
                if number and rnd.random() < 0.05:
                    return
                line = head.split(b"\r\n")[0]
                with self._lock:
                    self.seen[line] += 1
                sock.settimeout(IDLE_SECONDS * rnd.uniform(0.9, 1.1))
                sock.sendall(ok(line.split(b" ")[1], DATE))


class Asker:
    """A client that asks just when its server may close."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = seed * 1_000_000
        self.statuses: Counter[tuple[bytes, bytes]] = Counter()
        self.failure: BaseException | None = None

    def run(self, sock: socket.socket, deadline: float) -> None:
        try:
            sock.settimeout(10)
            while time.monotonic() < deadline:
                self._ask(sock)
                self._wait()
        except BaseException as error:
            self.failure = error

    def _wait(self) -> None:
        if self._random.random() < 0.5:
            time.sleep(IDLE_SECONDS * self._random.uniform(0.85, 1.1))

    def _ask(self, sock: socket.socket) -> None:
        self._number += 1
        path = b"/%d" % self._number
        method = self._random.choice((b"GET", b"GET", b"GET", b"PUT", b"POST"))
        sock.sendall(b"%b %b HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n" % (method, path))
        head, body, rest = read_response(sock)
        status = head.split(b" ")[1]
        assert rest == b""
        assert body == path if status == b"200" else status == b"503", (head, body, path)
        self.statuses[method, status] += 1


@PLACES
def test_servers_that_close_idle_connections(bed: FastPathBed, far: bool) -> None:
    """No client sees it, but where a request may not be sent twice; and that is not sent twice."""
    scripts = [IdleTimeout() for _ in range(2)]
    bed.configure([bed.serve(script, far) for script in scripts])
    askers = [Asker(seed) for seed in range(1, CLIENTS + 1)]
    clients = [bed.connect() for _ in askers]
    deadline = time.monotonic() + SECONDS
    threads = [
        threading.Thread(target=asker.run, args=(client, deadline))
        for asker, client in zip(askers, clients, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 20)
    assert [asker.failure for asker in askers] == [None] * CLIENTS
    statuses: Counter[tuple[bytes, bytes]] = sum((asker.statuses for asker in askers), Counter())
    assert statuses[b"GET", b"503"] == statuses[b"PUT", b"503"] == 0
    assert statuses[b"GET", b"200"] > 200
    seen = scripts[0].seen + scripts[1].seen
    assert max(count for line, count in seen.items() if line.startswith(b"POST")) == 1
    stats = bed.agent.stats()
    assert stats.counters["upstream_replays_total"] > 10
    carried = sum(bed.carried(client).requests for client in clients)
    assert carried > 200
    counted = sum(row.count for row in stats.requests)
    counted += sum(count.requests for count in bed.counted().values())
    assert counted == sum(statuses.values())
