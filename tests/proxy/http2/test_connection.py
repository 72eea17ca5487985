"""A client's HTTP/2 connection from its first byte to its last."""

from __future__ import annotations

import base64
import os
import socket
import threading

import pytest
import websockets.sync.server

from meshd.model.listeners import HttpOptions
from meshd.model.routes import DirectResponse, Route
from meshd.model.snapshot import Delta
from proxy.downstream import http2 as downstream
from proxy.http2 import codes
from proxy.http2.session import PREFACE, Limits
from tests.proxy.http2.pairs import OPENING, split, to_http1
from tests.proxy.http2.test_session import FLOODS
from tests.support.http2_client import Http2Client
from tests.support.http_bed import (
    FORWARD,
    answering,
    bed,
    config,
    eventually,
    ok,
    receive_all,
    receive_head,
    server,
)


def test_the_preface_cut_at_every_byte() -> None:
    with server(answering(ok())) as web, bed(to_http1(web.port)) as proxy:
        for cut in range(1, len(PREFACE) + 2):
            with Http2Client(proxy.connect(), greet=False) as client:
                data = client.session.take()
                assert data.startswith(PREFACE)
                client.sock.sendall(data[:cut])
                proxy.call(lambda: None)
                client.sock.sendall(data[cut:])
                assert client.get().status == 200
        assert proxy.counter("downstream_http2_connections_total") == len(PREFACE) + 1
        assert proxy.counter("downstream_connections_total") == len(PREFACE) + 1


def test_a_broken_preface() -> None:
    with bed(config(())) as proxy, proxy.connect() as client:
        client.sendall(PREFACE[:18] + b"XX\r\n\r\n" + bytes(9))
        *_, (kind, _, _, payload) = split(receive_all(client))
        assert kind == 7
        assert payload[4:8] == codes.PROTOCOL_ERROR.to_bytes(4, "big")


def test_what_never_greets_is_closed() -> None:
    options = HttpOptions(request_headers_timeout=0.3)
    with bed(config((), (FORWARD,), options)) as proxy, proxy.connect() as client:
        client.sendall(PREFACE)
        receive_all(client)
        assert proxy.counter("downstream_silent_connections_total") == 1


def _upgrade(method: bytes, fields: bytes) -> bytes:
    settings = base64.urlsafe_b64encode(b"\x00\x04\x00\x00\x00\x10").rstrip(b"=")
    return (
        b"%b /u HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: %b\r\n%b\r\n" % (method, settings, fields)
    )


@pytest.mark.parametrize("body", [b"", b"Content-Length: 11\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_upgraded_request_is_stream_one(body: bytes, at_once: bool) -> None:
    seen: list[bytes] = []
    content = {b"": b"", b"C": b"hello world", b"T": b"6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"}[body[:1]]

    def script(sock: socket.socket) -> None:
        data = receive_head(sock)
        while not data.endswith(b"\r\n\r\n" + content):
            data += sock.recv(65536)
        seen.append(data)
        sock.sendall(ok(b"twelve bytes" * 3))
        answering(ok())(sock)

    with server(script) as web, bed(to_http1(web.port)) as proxy, proxy.connect() as sock:
        request = _upgrade(b"POST" if body else b"GET", body) + content
        if at_once:
            sock.sendall(request + OPENING)
        else:
            for at in range(0, len(request), 40):
                sock.sendall(request[at : at + 40])
                proxy.call(lambda: None)
            sock.sendall(OPENING)
        told = b""
        while b"\r\n\r\n" not in told:
            told += sock.recv(65536)
        first, _, frames = told.partition(b"\r\n\r\n")
        assert first == b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c"
        # libnghttp2's client would have to be upgraded, too; by hand it is shorter.
        allowed = 0
        while sum(map(len, data := _content(frames))) < 36:
            for _ in data[allowed:]:
                sock.sendall(b"\x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x00\x00\x10")
            allowed = len(data)
            frames += sock.recv(65536)
        assert b"".join(data) == b"twelve bytes" * 3
        assert max(map(len, data)) <= 16
        assert [row.status for row in proxy.rows()] == [200]
    assert seen[0].startswith(b"POST /u " if body else b"GET /u ")
    assert b"h2c" not in seen[0]
    assert b"HTTP2-Settings" not in seen[0]


def test_an_upgraded_request_that_is_answered_before_its_end() -> None:
    route = Route(name="no", action=DirectResponse(status=403, body="no"))
    with bed(config((), (route,))) as proxy, proxy.connect() as client:
        client.sendall(_upgrade(b"POST", b"Content-Length: 100\r\n"))
        eventually(lambda: proxy.rows())
        client.sendall(b"x" * 50)
        told, _, frames = receive_all(client).partition(b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 101 ")
        kinds = [kind for kind, _, _, _ in split(frames)]
        assert kinds[-1] == 7
        assert b"".join(_content(frames)) == b"no"


def _content(data: bytes) -> list[bytes]:
    """Of the DATA frames of stream 1 that have come as a whole."""
    return [payload for kind, _, stream, payload in _whole(data) if kind == 0 and stream == 1]


def _whole(data: bytes) -> list[tuple[int, int, int, bytes]]:
    size = 0
    while len(data) >= size + 9 and len(data) >= size + 9 + int.from_bytes(data[size : size + 3], "big"):
        size += 9 + int.from_bytes(data[size : size + 3], "big")
    return split(data[:size])


def test_a_drain_in_two_steps_loses_no_request() -> None:
    go_on = threading.Event()

    def script(sock: socket.socket) -> None:
        while True:
            receive_head(sock)
            go_on.wait(20)
            sock.sendall(ok())

    with server(script) as web, bed(to_http1(web.port)) as proxy, Http2Client(proxy.connect()) as client:
        client.until(lambda: client.session.max_streams == 1024)
        before = client.request()
        eventually(lambda: web.connections)
        on_its_way = client.session.request(client.head(), True)
        unsent = client.session.take()
        proxy.call(lambda: setattr(proxy.runtime, "draining", True))
        told = client.sock.recv(65536)
        while b"\x00\x00\x08\x07\x00" not in told:
            told += client.sock.recv(65536)
        client.sock.sendall(unsent)
        client.session.feed(told)
        client.act()
        client.until(lambda: len(client.goaways) == 2)
        assert [goaway.last_stream for goaway in client.goaways] == [2**31 - 1, on_its_way]
        go_on.set()
        client.until_closed()
        assert client.answers[before].status == client.answers[on_its_way].status == 200
        assert [(row.status, row.count) for row in proxy.rows()] == [(200, 2)]


def test_a_drain_of_a_client_that_answers_no_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downstream, "DRAIN_SECONDS", 0.2)
    with bed(config(())) as proxy, proxy.connect() as client:
        client.sendall(OPENING)
        eventually(lambda: proxy.counter("downstream_http2_connections_total"))
        proxy.call(lambda: setattr(proxy.runtime, "draining", True))
        goaways = [payload[:4] for kind, _, _, payload in split(receive_all(client)) if kind == 7]
        assert goaways == [b"\x7f\xff\xff\xff", bytes(4)]


def test_the_end_of_a_service_ends_its_connections() -> None:
    with (
        server(answering(ok())) as web,
        bed(to_http1(web.port)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        assert client.get().status == 200
        delta = Delta(generation=2, removed_listeners=("default/web:80",))
        proxy.apply(delta)
        client.until_closed()
        assert client.goaways


def test_an_idle_connection_is_closed_in_order() -> None:
    options = HttpOptions(idle_timeout=0.3)
    with (
        server(answering(ok())) as web,
        bed(to_http1(web.port, (FORWARD,), options)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        assert client.get().status == 200
        client.until_closed()
        assert {goaway.code for goaway in client.goaways} == {codes.NO_ERROR}


def _silent(sock: socket.socket) -> None:
    receive_all(sock)


def test_an_idle_stream_gets_504_and_others_go_on() -> None:
    options = HttpOptions(stream_idle_timeout=0.5)
    with (
        server(_silent) as web,
        bed(to_http1(web.port, (FORWARD,), options)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        answer = client.get()
        assert (answer.status, answer.code) == (504, codes.NO_ERROR)
        assert [row.flags for row in proxy.rows()] == ["SI"]


def test_a_client_that_opens_no_window_is_not_waited_for() -> None:
    options = HttpOptions(stream_idle_timeout=0.5)
    with server(answering(ok(bytes(1000)))) as web, bed(to_http1(web.port, (FORWARD,), options)) as proxy:
        with Http2Client(proxy.connect(), Limits(window=0)) as client:
            stalled = client.request()
            answer = client.answer(stalled)
            assert (answer.status, answer.body, answer.code) == (200, b"", codes.CANCEL)
            assert not client.is_closed
        assert proxy.counter("downstream_http2_stalled_streams_total") == 1


def test_a_client_that_reads_nothing_is_not_waited_for() -> None:
    options = HttpOptions(stream_idle_timeout=0.5)
    size = 32 << 20
    with (
        server(answering(ok(bytes(size)))) as web,
        bed(to_http1(web.port, (FORWARD,), options)) as proxy,
        Http2Client(proxy.connect(), Limits(window=2**31 - 1)) as client,
    ):
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sock.sendall(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x3f\xff\xff\xff")
        client.request()
        eventually(lambda: proxy.runtime.downstream_connections == 0, 20)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection_and_no_other(name: str) -> None:
    with (
        server(answering(ok())) as web,
        bed(to_http1(web.port)) as proxy,
        Http2Client(proxy.connect()) as other,
        proxy.connect() as sock,
    ):
        assert other.get().status == 200
        sent = threading.Thread(target=_send, args=(sock, OPENING + b"".join(FLOODS[name])))
        sent.start()
        eventually(lambda: proxy.counter("downstream_http2_floods_total"))
        sent.join(20)
        assert other.get().status == 200
        eventually(lambda: proxy.runtime.downstream_connections == 1, 20)


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
        receive_all(sock)
    except OSError:
        pass  # the proxy has closed it
    finally:
        sock.close()


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_client_that_goes_cancels_all_its_requests(how: str) -> None:
    with server(_silent) as web, bed(to_http1(web.port)) as proxy:
        with Http2Client(proxy.connect()) as client:
            for _ in range(5):
                client.request()
            eventually(lambda: web.connections == 5)
            if how == "resets":
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        eventually(lambda: proxy.runtime.downstream_connections == 0)
        assert [(row.flags, row.count) for row in proxy.rows()] == [("DC", 5)]


def test_a_websocket_over_http2() -> None:
    def echo(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with websockets.sync.server.serve(echo, "127.0.0.1", 0) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        port = web.socket.getsockname()[1]
        with bed(to_http1(port)) as proxy, Http2Client(proxy.connect()) as client:
            client.until(lambda: client.session.takes_tunnels)
            fields = [*client.head(b"CONNECT", b"/chat"), (b":protocol", b"websocket")]
            stream = client.request([*fields, (b"sec-websocket-version", b"13")], False)
            # Sent before the answer has come: it is the tunnel's.
            client.session.send(stream, _frame(1, b"early"))
            client.flush()
            client.until(lambda: len(client.answers[stream].content) >= 7)
            answer = client.answers[stream]
            assert answer.status == 200
            assert not answer.final.keys() & {b"upgrade", b"connection", b"sec-websocket-accept"}
            assert answer.body == b"\x81\x05early"
            message = os.urandom(3000)
            client.session.send(stream, _frame(2, message))
            client.flush()
            client.until(lambda: answer.body.endswith(message))
            client.session.send(stream, _frame(8, b"\x03\xe8"))
            client.session.finish(stream)
            client.flush()
            assert client.answer(stream).code == codes.NO_ERROR
            eventually(lambda: proxy.rows())
            assert [(row.method, row.status, row.flags) for row in proxy.rows()] == [("GET", 101, "")]
        web.shutdown()
        thread.join(10)


def _frame(opcode: int, data: bytes) -> bytes:
    """RFC 6455, 5.2, with a mask of zeros."""
    size = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + size + bytes(4) + data


def test_a_tunnel_that_is_refused_or_badly_accepted() -> None:
    answers = {
        "refused": ok(b"no").replace(b"200 OK", b"403 No"),
        "badly accepted": b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    }
    for name, response in answers.items():
        with (
            server(answering(response)) as web,
            bed(to_http1(web.port)) as proxy,
            Http2Client(proxy.connect()) as client,
        ):
            client.until(lambda: client.session.takes_tunnels)
            fields = [*client.head(b"CONNECT", b"/chat"), (b":protocol", b"websocket")]
            answer = client.answer(client.request(fields, False))
            if name == "refused":
                assert (answer.status, answer.body, answer.code) == (403, b"no", codes.NO_ERROR)
            else:
                assert (answer.heads, answer.code) == ([], codes.INTERNAL_ERROR)


def test_pings_are_answered_and_priorities_ignored() -> None:
    with bed(config(())) as proxy, proxy.connect() as client:
        client.sendall(OPENING + b"\0\0\5\2\0\0\0\0\3\0\0\0\0\x10" + b"\0\0\x08\6\0\0\0\0\0pingpong")
        data = b""
        while b"\0\0\x08\6\1\0\0\0\0pingpong" not in data:
            data += client.recv(65536)
        assert 7 not in [kind for kind, _, _, _ in split(data)]
