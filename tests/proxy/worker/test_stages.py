"""Clients and servers that go at each stage of a carried request: the other side is told; nothing stays."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

import pytest

from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.support.http_bed import eventually, get, ok, read_response, receive_head

NO_LINGER = struct.pack("ii", 1, 0)
BODY = bytes(range(250)) * 40
POST = b"POST /post HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(BODY)
ANSWER = ok(BODY, DATE)
HEAD = len(ANSWER) - len(BODY)


def _close(sock: socket.socket) -> None:
    sock.close()


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    sock.close()


def _finish(sock: socket.socket) -> None:
    """Sends nothing more, and reads what comes until the end."""
    sock.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass
    sock.close()


HOW = {"close": _close, "reset": _reset, "finish": _finish}
SENT = {
    "before the head": b"",
    "in the head": POST[:20],
    "before the body": POST,
    "in the body": POST + BODY[:100],
    "after the request": get(b"/whole"),
    "in the next request's head": get(b"/whole") + POST[:20],
}


def _warm(bed: FastPathBed) -> socket.socket:
    """A client whose requests are carried."""
    client = bed.connect()
    for _ in range(20):
        client.sendall(get(b"/warm"))
        assert read_response(client)[1] == b"warm"
        if bed.carried(client).responses == 2:
            return client
    raise AssertionError("20 requests, and the kernel carries none")


def _nothing_is_left(bed: FastPathBed) -> None:
    eventually(lambda: bed.agent.stats().gauges["downstream_connections"] == 0)
    with contextlib.ExitStack() as stack:
        opened = [bed.mesh.datapath.open_map(name) for name in ("flows", "armed", "clients")]
        for each in opened:
            stack.callback(each.close)
        eventually(lambda: [len(list(each)) for each in opened] == [0, 0, 0])


def _server(
    sent: int, leave: Callable[[socket.socket], None] | None = None
) -> Callable[[socket.socket], None]:
    """Answers warm-ups; of all other answers so many bytes, and leaves."""

    def script(sock: socket.socket) -> None:
        while True:
            head = receive_head(sock)
            if head.startswith(b"GET /warm"):
                sock.sendall(ok(b"warm", DATE))
                continue
            rest = len(BODY) - len(head.partition(b"\r\n\r\n")[2]) if head.startswith(b"POST") else 0
            while rest > 0:
                piece = sock.recv(rest)
                if not piece:
                    return
                rest -= len(piece)
            sock.sendall(ANSWER[:sent])
            if leave is not None:
                leave(sock)
                return

    return script


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
def test_clients_that_go(bed: FastPathBed, far: bool) -> None:
    bed.configure([bed.serve(_server(len(ANSWER)), far)])
    for sent in SENT.values():
        for how in HOW.values():
            client = _warm(bed)
            client.sendall(sent)
            how(client)
    _nothing_is_left(bed)
    with _warm(bed) as client:
        client.sendall(POST + BODY)
        assert read_response(client)[1] == BODY


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
def test_clients_that_go_within_the_answer(bed: FastPathBed, far: bool) -> None:
    for size in (HEAD - 10, HEAD, HEAD + 100):
        bed.configure([bed.serve(_server(size), far)])
        for how in (_close, _reset):
            client = _warm(bed)
            client.sendall(get(b"/whole"))
            if size >= HEAD:
                assert len(client.recv(65536)) > 0
            how(client)
    _nothing_is_left(bed)


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
@pytest.mark.parametrize("leave", [_close, _reset], ids=["close", "reset"])
def test_servers_that_go(bed: FastPathBed, leave: Callable[[socket.socket], None], far: bool) -> None:
    """A POST is not sent again."""
    for size in (0, 10, HEAD - 1, HEAD, HEAD + 100, len(ANSWER) - 1):
        bed.configure([bed.serve(_server(size, leave), far)])
        with _warm(bed) as client:
            client.sendall(POST + BODY)
            if size < HEAD:
                assert read_response(client)[0].startswith(b"HTTP/1.1 502 " if size else b"HTTP/1.1 503 ")
                client.sendall(get(b"/warm"))
                assert read_response(client)[1] == b"warm"
            else:
                with pytest.raises((EOFError, ConnectionError)):
                    read_response(client)
    bed.configure([bed.serve(_server(len(ANSWER), leave), far)])
    with _warm(bed) as client:
        client.sendall(POST + BODY)
        try:
            assert read_response(client)[1] == BODY
        except ConnectionError:
            assert leave is _reset
    _nothing_is_left(bed)
