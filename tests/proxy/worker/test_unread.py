"""Readers that stall: what waits for them is bounded, whatever comes for them, and no byte of it is lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.support.http_bed import ok, receive_head

LONGEST = 2 << 20
"""Body that the kernel carries."""
LONGEST_REMOTE = 48 << 10
"""The same of an answer from another node, and of a request to it:"""
LONGEST_TO_REMOTE = 16 << 10
REDIRECTED = 8 << 20
"""MESHD_MAX_REDIRECTED: so many bytes may wait for a reader, and the body that passes the mark."""
STALLED_SECONDS = 1.5
"""In which what can pass has passed."""
MOST = 200
"""Bodies: many times what may wait."""
_PERIOD = 99_991
_PATTERN = bytes(i * i % 251 for i in range(_PERIOD)) * (LONGEST // _PERIOD + 2)


def _tcp_buffers() -> int:
    """Bytes that TCP's own buffers take at most on the way from app to app by the proxy: two connections."""
    names = ("tcp_rmem", "tcp_wmem")
    return 2 * sum(int(Path("/proc/sys/net/ipv4", name).read_text().split()[2]) for name in names)


def _body(number: int, size: int = LONGEST) -> bytes:
    """One that is another for each number."""
    start = number * 7919 % _PERIOD
    return _PATTERN[start : start + size]


def _get(number: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: web\r\n\r\n" % number


def _post(number: int, size: int = LONGEST) -> bytes:
    head = b"POST /%d HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % (number, size)
    return head + _body(number, size)


class Reader:
    """Reads messages with a Content-Length."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def message(self) -> tuple[bytes, bytes]:
        """First line and body. Raises EOFError."""
        data = self._rest
        while b"\r\n\r\n" not in data:
            piece = self._sock.recv(65536)
            if not piece:
                raise EOFError
            data += piece
        head, _, data = data.partition(b"\r\n\r\n")
        _, found, length = head.lower().partition(b"content-length: ")
        size = int(length.split(b"\r\n")[0]) if found else 0
        body, at = bytearray(size), min(size, len(data))
        body[:at] = data[:at]
        self._rest = data[at:]
        view = memoryview(body)
        while at < size:
            count = self._sock.recv_into(view[at:])
            if not count:
                raise EOFError(f"after {at} of {size} bytes")
            at += count
        return head.split(b"\r\n")[0], bytes(body)


class Answering:
    """A server: answers GET /N with body N, and POST /N, which has body N, with nothing."""

    def __init__(self, size: int = LONGEST) -> None:
        """``size``: of the answers' bodies."""
        self._size = size
        self.answered = threading.Semaphore(0)
        """Times that an answer was sent whole."""

    def __call__(self, sock: socket.socket) -> None:
        reader = Reader(sock)
        while True:
            line, body = reader.message()
            number = int(line.split(b" ")[1][1:])
            assert body == (_body(number, len(body)) if line.startswith(b"POST") else b"")
            sock.sendall(ok(b"" if body else _body(number, self._size), DATE))
            self.answered.release()


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
def test_clients_that_ask_and_do_not_read(bed: FastPathBed, far: bool) -> None:
    """Each asks again when it has been answered, so that it does not pipeline as far as the kernel sees."""
    size = LONGEST_REMOTE if far else LONGEST
    answering = Answering(size)
    bed.configure([bed.serve(answering, far)])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(bed.connect()) for _ in range(3)]
        asked = []
        for client in clients:
            client.sendall(_get(0))
            assert Reader(client).message() == (b"HTTP/1.1 200 OK", _body(0, size))
            assert answering.answered.acquire(timeout=60)
            for number in range(MOST):
                client.sendall(_get(number))
                if not answering.answered.acquire(timeout=STALLED_SECONDS):
                    break
            asked.append(number)
            if far:  # where the client has read nothing of the last answer the next is the proxy's
                assert bed.carried(client).responses == 1
            else:
                assert bed.carried(client).responses >= REDIRECTED // LONGEST
            assert number * size < REDIRECTED + LONGEST + _tcp_buffers()
        for client, count in zip(clients, asked, strict=True):
            reader = Reader(client)
            for number in range(count + 1):
                assert reader.message() == (b"HTTP/1.1 200 OK", _body(number, size))
            carried = bed.carried(client).requests
            for number in range(32):  # and now that it reads, the kernel carries again
                client.sendall(_get(number))
                assert reader.message() == (b"HTTP/1.1 200 OK", _body(number, size))
            assert bed.carried(client).requests > carried


def test_a_server_that_answers_and_does_not_read(bed: FastPathBed) -> None:
    come = threading.Semaphore(0)

    def script(sock: socket.socket) -> None:
        Reader(sock).message()
        sock.sendall(ok(b"", DATE))
        while come.acquire(timeout=4 * STALLED_SECONDS):
            sock.sendall(ok(b"", DATE))

    bed.configure([bed.serve(script)])
    with bed.connect() as client:
        client.settimeout(STALLED_SECONDS)
        reader = Reader(client)
        client.sendall(_get(0))
        assert reader.message()[0] == b"HTTP/1.1 200 OK"
        sent = carried = 0
        # The proxy passes on an answer that comes before its request's end, and then ends the connection.
        with contextlib.suppress(TimeoutError, EOFError, ConnectionError):
            for sent in range(MOST):
                client.sendall(_post(sent))
                come.release()
                assert reader.message()[0] == b"HTTP/1.1 200 OK"
                carried = bed.carried(client).responses
        assert carried == REDIRECTED // LONGEST
        assert sent * LONGEST < REDIRECTED + LONGEST + _tcp_buffers()


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
def test_a_gigabyte_in_carried_requests(bed: FastPathBed, far: bool) -> None:
    """Half of it each way, by readers that stall at times; to another node as many, of what is carried."""
    down, up = (LONGEST_REMOTE, LONGEST_TO_REMOTE) if far else (LONGEST, LONGEST)
    bed.configure([bed.serve(Answering(down), far)])
    with bed.connect() as client:
        reader = Reader(client)
        for number in range(256):
            client.sendall(_get(number))
            if number % 32 == 0:
                time.sleep(0.05)
            assert reader.message() == (b"HTTP/1.1 200 OK", _body(number, down))
            client.sendall(_post(number, up))
            assert reader.message() == (b"HTTP/1.1 200 OK", b"")
        carried = bed.carried(client)
        assert carried.responses == carried.requests
        assert carried.responses > 300


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
def test_a_body_that_only_the_proxy_passes_on(bed: FastPathBed, far: bool) -> None:
    """Both ways at once, by readers that stall until nothing passes any more."""
    size = 128 * LONGEST
    passed = {"down": 0, "up": 0}

    received = threading.Event()

    def send(sock: socket.socket, way: str) -> None:
        for number in range(size // LONGEST):
            if way == "down" and number == size // LONGEST - 1:
                received.wait(60)  # the end of an answer would be the connection's, with a request under way
            sock.sendall(_body(number))
            passed[way] += LONGEST

    def receive(sock: socket.socket, rest: bytes) -> None:
        """After the other side has stalled."""
        before = None
        while before != (before := dict(passed)):
            time.sleep(STALLED_SECONDS)
        stalled.wait(60)
        for way in passed:
            assert LONGEST <= passed[way] < _tcp_buffers() + LONGEST
        stalled.wait(60)
        for number in range(size // LONGEST):
            expected, got = _body(number), bytearray(LONGEST)
            at = min(len(rest), LONGEST)
            got[:at], rest = rest[:at], rest[at:]
            view = memoryview(got)
            while at < LONGEST:
                count = sock.recv_into(view[at:])
                assert count
                at += count
            assert got == expected

    stalled = threading.Barrier(2)

    def script(sock: socket.socket) -> None:
        Reader(sock).message()
        sock.sendall(ok(b"", DATE))
        rest = receive_head(sock).partition(b"\r\n\r\n")[2]
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sender = threading.Thread(target=send, args=(sock, "down"))
        sender.start()
        receive(sock, rest)
        received.set()
        sender.join()

    bed.configure([bed.serve(script, far)])
    with bed.connect() as client:
        client.sendall(_get(0))
        Reader(client).message()
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
        sender = threading.Thread(target=send, args=(client, "up"))
        sender.start()
        rest = receive_head(client).partition(b"\r\n\r\n")[2]
        receive(client, rest)
        sender.join()
