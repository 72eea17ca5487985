"""Streaming, backpressure, tunnels: bytes that pass through for long."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import websockets.sync.client
import websockets.sync.server

from meshd.model.listeners import HttpOptions
from tests.proxy.http1.ways import Way, ok
from tests.support.http_bed import (
    Bed,
    answering,
    config,
    eventually,
    get,
    read_response,
    receive_all,
    receive_head,
    receive_until,
)

_GIGABYTE = 1 << 30
_PIECE = bytes(1 << 20)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextlib.contextmanager
def _flat_memory(limit: int) -> Iterator[None]:
    """Proxy, client and server are all in this process; none of them may hold what passes."""
    before = _resident_bytes()
    highest = before
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, _resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    assert highest - before < limit, f"grew by {(highest - before) >> 20} MB"


def test_a_gigabyte_down_and_up_in_flat_memory(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _GIGABYTE)
        for _ in range(_GIGABYTE // len(_PIECE)):
            sock.sendall(_PIECE)
        data = receive_head(sock)
        got = len(data.partition(b"\r\n\r\n")[2])
        buffer = bytearray(1 << 20)
        while got < _GIGABYTE:
            got += sock.recv_into(buffer)
        sock.sendall(ok(b"%d" % got))

    with (
        way.server(script) as web,
        way.bed(config((web.port,))) as proxy,
        proxy.connect(30) as client,
        _flat_memory(24 << 20),
    ):
        client.sendall(get())
        got = len(receive_head(client).partition(b"\r\n\r\n")[2])
        buffer = bytearray(1 << 20)
        while got < _GIGABYTE:
            got += client.recv_into(buffer)
        assert got == _GIGABYTE
        client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % _GIGABYTE)
        for _ in range(_GIGABYTE // len(_PIECE)):
            client.sendall(_PIECE)
        assert read_response(client)[1] == b"%d" % _GIGABYTE


def test_a_slow_reader_stalls_only_its_own_stream(way: Way) -> None:
    sent = 0

    def script(sock: socket.socket) -> None:
        nonlocal sent
        head = receive_head(sock)
        if head.startswith(b"GET /big"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % _GIGABYTE)
            while sent < _GIGABYTE:
                sent += sock.send(_PIECE)
        sock.sendall(ok())

    with (
        way.server(script) as web,
        way.bed(config((web.port,))) as proxy,
        _flat_memory(24 << 20),
        proxy.connect() as slow,
    ):
        slow.sendall(get(b"/big"))
        receive_head(slow)
        before = -1
        while before != sent:
            before = sent
            time.sleep(0.2)
        assert sent < _GIGABYTE // 8
        with proxy.connect() as other:
            other.sendall(get(b"/small"))
            assert read_response(other)[1] == b"hello"


def test_response_arrives_piece_by_piece(way: Way) -> None:
    go_on = threading.Semaphore(0)

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            sock.sendall(b"5\r\nevent\r\n")
            go_on.acquire(timeout=60)
        sock.sendall(b"0\r\n\r\n")
        sock.recv(1)

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get())
        data = b""
        for i in range(5):
            while data.count(b"event") <= i:
                data += client.recv(65536)
            assert data.count(b"event") == i + 1
            go_on.release()
        receive_until(client, b"0\r\n\r\n")


def test_both_directions_at_once(way: Way) -> None:
    def echo(sock: socket.socket) -> None:
        _, _, data = receive_head(sock).partition(b"\r\n\r\n")
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
        while not data.endswith(b"\r\n0\r\n\r\n"):
            piece = sock.recv(65536)
            if not piece:
                raise EOFError(f"stream ended after {data!r}")
            sock.sendall(piece)
            data += piece
        sock.recv(1)

    with way.server(echo) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n")
        receive_head(client)
        for i in range(20):
            client.sendall(b"3\r\n%03d\r\n" % i)
            receive_until(client, b"%03d\r\n" % i)
        client.sendall(b"0\r\n\r\n")
        receive_until(client, b"0\r\n\r\n")
        client.sendall(get())


def _upgrade(proxy: Bed) -> socket.socket:
    client = proxy.connect()
    client.sendall(get(b"/", b"Connection: Upgrade", b"Upgrade: raw"))
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows it belongs to the tunnel
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: raw\r\n" in head
    return client


def _switch(sock: socket.socket) -> None:
    head = receive_head(sock)
    assert b"\r\nConnection: Upgrade\r\nUpgrade: raw\r\n" in head
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")


def test_tunnel_half_close_in_either_direction(way: Way) -> None:
    def client_first(sock: socket.socket) -> None:
        _switch(sock)
        assert receive_all(sock) == b"all of it"
        sock.sendall(b"and an answer")

    with way.server(client_first) as web, way.bed(config((web.port,))) as proxy, _upgrade(proxy) as client:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"and an answer"
        eventually(lambda: [(row.status, row.flags) for row in proxy.rows()] == [(101, "")])

    def server_first(sock: socket.socket) -> None:
        _switch(sock)
        sock.sendall(b"a greeting")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"a late word"

    with way.server(server_first) as web, way.bed(config((web.port,))) as proxy, _upgrade(proxy) as client:
        assert receive_all(client) == b"a greeting"
        client.sendall(b"a late word")


def test_tunnel_has_backpressure(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        _switch(sock)
        sent = 0
        sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while sent < _GIGABYTE:
                sent += sock.send(_PIECE)
        assert sent < _GIGABYTE // 8
        sock.shutdown(socket.SHUT_WR)
        total.append(sent)

    total: list[int] = []
    with way.server(script) as web, way.bed(config((web.port,))) as proxy, _upgrade(proxy) as client:
        eventually(lambda: total != [])
        got = 0
        while piece := client.recv(1 << 20):
            got += len(piece)
        assert got == total[0]


def test_idle_tunnel_is_closed(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        _switch(sock)
        sock.recv(1)

    options = HttpOptions(stream_idle_timeout=1.0)
    with (
        way.server(script) as web,
        way.bed(config((web.port,), options=options)) as proxy,
        _upgrade(proxy) as client,
    ):
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert [row.flags for row in proxy.rows()] == ["SI"]


def test_websocket(way: Way) -> None:
    def echo(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with websockets.sync.server.serve(echo, "127.0.0.1", 0) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        port = web.socket.getsockname()[1]
        with way.bed(config((port,))) as proxy:
            with websockets.sync.client.connect("ws://web/", sock=proxy.connect()) as client:
                for message in ("hello", "x" * 200_000, b"\0\1\2"):
                    client.send(message)
                    assert client.recv(timeout=60) == message
            eventually(lambda: [(row.status, row.flags) for row in proxy.rows()] == [(101, "")])


def test_an_incomplete_offer_of_h2c_is_no_offer(way: Way) -> None:
    seen: list[bytes] = []
    with (
        way.server(answering(ok(), seen)) as web,
        way.bed(config((web.port,))) as proxy,
        proxy.connect() as client,
    ):
        for fields in (
            (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
            (b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
            (b"Connection: HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
            (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAAB"),
            (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", *[b"HTTP2-Settings: AAMAAABk"] * 2),
        ):
            client.sendall(get(b"/", *fields))
            assert read_response(client)[1] == b"hello"
    assert len(seen) == 5
    assert not any(word in head for head in seen for word in (b"h2c", b"HTTP2-Settings"))


def test_refused_upgrade_is_an_ordinary_response(way: Way) -> None:
    with way.server(answering(ok())) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        for _ in range(2):
            client.sendall(get(b"/", b"Connection: Upgrade", b"Upgrade: websocket"))
            assert read_response(client)[1] == b"hello"
