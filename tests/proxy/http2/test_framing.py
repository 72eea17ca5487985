"""What RFC 9113 asks of a server, frame by frame: each case names its section. One connection each."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.http2 import codes, nghttp2
from proxy.http2.session import PREFACE
from tests.proxy.http2.pairs import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    OPENING,
    PADDED,
    POST,
    PRIORITY,
    PUSH_PROMISE,
    SETTINGS,
    WITH_PRIORITY,
    block,
    frame,
    head,
    split,
    to_http1,
)
from tests.support.http_bed import Bed, bed, ok, receive_head, receive_until, server

_HEAD = END_HEADERS
_WHOLE = END_HEADERS | END_STREAM


@dataclass(frozen=True)
class Ends:
    """The connection, with a GOAWAY frame of one of these codes, or without any."""

    codes: tuple[int, ...]


@dataclass(frozen=True)
class Resets:
    """Stream 1 (or 3), with one of these codes; the connection goes on."""

    codes: tuple[int, ...]
    stream: int = 1


@dataclass(frozen=True)
class Answers:
    """With a response on that stream; the connection goes on."""

    status: int
    stream: int = 1


@dataclass(frozen=True)
class Says:
    """These bytes, whatever else; the connection goes on."""

    frame: bytes


def _setting(number: int, value: int) -> bytes:
    return struct.pack(">HI", number, value)


def _number(value: int) -> bytes:
    return struct.pack(">I", value)


_PROTOCOL = (codes.PROTOCOL_ERROR,)
_SIZE = (codes.FRAME_SIZE_ERROR, codes.PROTOCOL_ERROR)
_FLOW = (codes.FLOW_CONTROL_ERROR,)
_CLOSED = (codes.STREAM_CLOSED, codes.PROTOCOL_ERROR)
_PING = frame(nghttp2.PING, 0, 0, b"12345678")
_WITHOUT_PATH = [field for field in GET if field[0] != b":path"]

# Left out is what libnghttp2 does otherwise, on purpose: HEADERS for a stream that is over is ignored, if it
# is not the last one (5.1.1: it may have been sent before our RST_STREAM came), and so is all of a PRIORITY
# frame (6.3), as we say in our settings that we do not heed it (RFC 9218, 2.1.1).
CASES: dict[str, tuple[bytes, Ends | Resets | Answers | Says]] = {
    "3.4 the preface is broken": (PREFACE[:-2] + b"xx" + SETTINGS, Ends(_PROTOCOL)),
    "3.4 no SETTINGS frame after the preface": (PREFACE + _PING, Ends(_PROTOCOL)),
    "4.1 a frame of unknown type": (OPENING + frame(0xFA, 0xFF, 0, b"x" * 9) + _PING, Says(b"12345678")),
    "4.1 undefined flags": (OPENING + frame(nghttp2.PING, 0xFE, 0, b"12345678"), Says(b"12345678")),
    "4.1 the reserved bit": (OPENING + frame(nghttp2.PING, 0, 1 << 31, b"12345678"), Says(b"12345678")),
    "4.2 a DATA frame of the largest size": (
        OPENING + head(1, POST, _HEAD) + frame(nghttp2.DATA, END_STREAM, 1, bytes(16384)),
        Answers(200),
    ),
    "4.2 a frame that is too large": (
        OPENING + head(1, POST, _HEAD) + frame(nghttp2.DATA, END_STREAM, 1, bytes(16385)),
        Ends(_SIZE),
    ),
    "4.3 a header block that does not decompress": (
        OPENING + frame(nghttp2.HEADERS, _WHOLE, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
        Ends((codes.COMPRESSION_ERROR,)),
    ),
    "4.3 a header block cut by another frame": (
        OPENING + frame(nghttp2.HEADERS, END_STREAM, 1, block(GET)) + _PING,
        Ends(_PROTOCOL),
    ),
    "4.3 a header block cut by another stream's": (
        OPENING + frame(nghttp2.HEADERS, END_STREAM, 1, block(GET)) + head(3, GET),
        Ends(_PROTOCOL),
    ),
    "5.1 DATA on an idle stream": (OPENING + frame(nghttp2.DATA, END_STREAM, 1, b"x"), Ends(_PROTOCOL)),
    "5.1 RST_STREAM on an idle stream": (
        OPENING + frame(nghttp2.RST_STREAM, 0, 1, _number(8)),
        Ends(_PROTOCOL),
    ),
    "5.1 WINDOW_UPDATE on an idle stream": (
        OPENING + frame(nghttp2.WINDOW_UPDATE, 0, 1, _number(8)),
        Ends(_PROTOCOL),
    ),
    "5.1 CONTINUATION on an idle stream": (OPENING + frame(CONTINUATION, _HEAD, 1, b"\x82"), Ends(_PROTOCOL)),
    "5.1 DATA after the end of the stream": (
        OPENING + head(1, GET) + frame(nghttp2.DATA, END_STREAM, 1, b"x"),
        Ends(_CLOSED),
    ),
    "5.1 HEADERS after the end of the stream": (OPENING + head(1, GET) + head(1, GET), Ends(_CLOSED)),
    "5.1 PRIORITY on an idle stream": (
        OPENING + frame(PRIORITY, 0, 3, b"\0\0\0\0\x10") + head(1, GET),
        Answers(200),
    ),
    "5.1.1 an even stream": (OPENING + head(2, GET), Ends(_PROTOCOL)),
    "5.4.1 a stream on stream 0": (OPENING + head(0, GET), Ends(_PROTOCOL)),
    "6.1 DATA on stream 0": (OPENING + frame(nghttp2.DATA, 0, 0, b"x"), Ends(_PROTOCOL)),
    "6.1 padding as long as the payload": (
        OPENING + head(1, POST, _HEAD) + frame(nghttp2.DATA, END_STREAM | PADDED, 1, b"\x05abcd"),
        Ends(_PROTOCOL),
    ),
    "6.1 padding": (
        OPENING + head(1, POST, _HEAD) + frame(nghttp2.DATA, END_STREAM | PADDED, 1, b"\x03a\0\0\0"),
        Answers(200),
    ),
    "6.2 padded headers with a priority": (
        OPENING
        + frame(
            nghttp2.HEADERS, _WHOLE | PADDED | WITH_PRIORITY, 1, b"\x02\0\0\0\0\x10" + block(GET) + b"\0\0"
        ),
        Answers(200),
    ),
    "6.2 padding as long as the headers": (
        OPENING + frame(nghttp2.HEADERS, _WHOLE | PADDED, 1, b"\xff" + block(GET)),
        Ends(_PROTOCOL),
    ),
    "6.4 RST_STREAM on stream 0": (OPENING + frame(nghttp2.RST_STREAM, 0, 0, _number(8)), Ends(_PROTOCOL)),
    "6.4 RST_STREAM of 3 bytes": (
        OPENING + head(1, POST, _HEAD) + frame(nghttp2.RST_STREAM, 0, 1, bytes(3)),
        Ends(_SIZE),
    ),
    "6.5 SETTINGS on a stream": (OPENING + frame(nghttp2.SETTINGS, 0, 1), Ends(_PROTOCOL)),
    "6.5 an acknowledgement with settings": (
        OPENING + frame(nghttp2.SETTINGS, ACK, 0, _setting(3, 1)),
        Ends(_SIZE),
    ),
    "6.5 SETTINGS of 3 bytes": (OPENING + frame(nghttp2.SETTINGS, 0, 0, bytes(3)), Ends(_SIZE)),
    "6.5.2 ENABLE_PUSH of 2": (OPENING + frame(nghttp2.SETTINGS, 0, 0, _setting(2, 2)), Ends(_PROTOCOL)),
    "6.5.2 an initial window over 2^31-1": (
        OPENING + frame(nghttp2.SETTINGS, 0, 0, _setting(4, 1 << 31)),
        Ends(_FLOW),
    ),
    "6.5.2 a frame size under 2^14": (
        OPENING + frame(nghttp2.SETTINGS, 0, 0, _setting(5, 16383)),
        Ends(_PROTOCOL),
    ),
    "6.5.2 a frame size over 2^24-1": (
        OPENING + frame(nghttp2.SETTINGS, 0, 0, _setting(5, 1 << 24)),
        Ends(_PROTOCOL),
    ),
    "6.5.2 an unknown setting": (
        OPENING + frame(nghttp2.SETTINGS, 0, 0, _setting(0xFF, 1)) + _PING,
        Says(b"12345678"),
    ),
    "6.5.3 settings are acknowledged": (
        OPENING + frame(nghttp2.SETTINGS, 0, 0, _setting(3, 7)),
        Says(frame(nghttp2.SETTINGS, ACK)),
    ),
    "6.6 PUSH_PROMISE of a client": (
        OPENING + head(1, POST, _HEAD) + frame(PUSH_PROMISE, _HEAD, 1, _number(2) + block(GET)),
        Ends(_PROTOCOL),
    ),
    "6.7 PING is answered with its payload": (
        OPENING + _PING,
        Says(frame(nghttp2.PING, ACK, 0, b"12345678")),
    ),
    "6.7 PING on a stream": (OPENING + frame(nghttp2.PING, 0, 1, bytes(8)), Ends(_PROTOCOL)),
    "6.7 PING of 6 bytes": (OPENING + frame(nghttp2.PING, 0, 0, bytes(6)), Ends(_SIZE)),
    "6.8 GOAWAY on a stream": (OPENING + frame(nghttp2.GOAWAY, 0, 1, bytes(8)), Ends(_PROTOCOL)),
    "6.9 WINDOW_UPDATE of 0": (OPENING + frame(nghttp2.WINDOW_UPDATE, 0, 0, _number(0)), Ends(_PROTOCOL)),
    "6.9 WINDOW_UPDATE of 0 on a stream": (
        OPENING + head(1, POST, _HEAD) + frame(nghttp2.WINDOW_UPDATE, 0, 1, _number(0)),
        Ends(_PROTOCOL),
    ),
    "6.9 WINDOW_UPDATE of 3 bytes": (OPENING + frame(nghttp2.WINDOW_UPDATE, 0, 0, bytes(3)), Ends(_SIZE)),
    "6.9.1 a connection's window over 2^31-1": (
        OPENING + frame(nghttp2.WINDOW_UPDATE, 0, 0, _number(2**31 - 1)) * 2,
        Ends(_FLOW),
    ),
    "6.9.1 a stream's window over 2^31-1": (
        OPENING + head(1, POST, _HEAD) + frame(nghttp2.WINDOW_UPDATE, 0, 1, _number(2**31 - 1)) * 2,
        Resets(_FLOW),
    ),
    "6.9.1 more content than a stream's window": (
        # What comes before a tunnel stands is not consumed.
        OPENING
        + head(1, [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"x"), (b"x-slow", b"1")], _HEAD)
        + frame(nghttp2.DATA, 0, 1, bytes(16384)) * 5,
        Resets(_FLOW),
    ),
    "6.9.2 a window that later settings open": (
        PREFACE
        + frame(nghttp2.SETTINGS, 0, 0, _setting(4, 0))
        + head(1, GET)
        + frame(nghttp2.SETTINGS, 0, 0, _setting(4, 100)),
        Answers(200),
    ),
    "6.10 a head in three frames": (
        OPENING
        + frame(nghttp2.HEADERS, END_STREAM, 1, block(GET)[:5])
        + frame(CONTINUATION, 0, 1, block(GET)[5:9])
        + frame(CONTINUATION, END_HEADERS, 1, block(GET)[9:]),
        Answers(200),
    ),
    "6.10 CONTINUATION after the head's end": (
        OPENING + head(1, POST, _HEAD) + frame(CONTINUATION, END_HEADERS, 1, b""),
        Ends(_PROTOCOL),
    ),
    "6.10 CONTINUATION on stream 0": (
        OPENING + frame(nghttp2.HEADERS, 0, 1, block(GET)) + frame(CONTINUATION, END_HEADERS, 0, b""),
        Ends(_PROTOCOL),
    ),
    "8.1 trailers": (OPENING + head(1, POST, _HEAD) + head(1, [(b"x", b"y")]), Answers(200)),
    "8.1 trailers that do not end the stream": (
        OPENING + head(1, POST, _HEAD) + head(1, [(b"x", b"y")], _HEAD),
        Resets(_PROTOCOL),
    ),
    "8.1 trailers with a pseudo-header field": (
        OPENING + head(1, POST, _HEAD) + head(1, [(b":path", b"/")]),
        Resets(_PROTOCOL),
    ),
    "8.1.1 more content than Content-Length": (
        OPENING
        + head(1, [*POST, (b"content-length", b"1")], _HEAD)
        + frame(nghttp2.DATA, END_STREAM, 1, b"xy"),
        Resets(_PROTOCOL),
    ),
    "8.1.1 less content than Content-Length": (
        OPENING
        + head(1, [*POST, (b"content-length", b"3")], _HEAD)
        + frame(nghttp2.DATA, END_STREAM, 1, b"xy"),
        Resets(_PROTOCOL),
    ),
    "8.2.1 a name in upper case": (OPENING + head(1, [*GET, (b"X-Up", b"1")]), Resets(_PROTOCOL)),
    "8.2.1 a line's end in a value": (OPENING + head(1, [*GET, (b"x", b"a\r\nb: c")]), Resets(_PROTOCOL)),
    "8.2.1 a space before a value": (OPENING + head(1, [*GET, (b"x", b" a")]), Resets(_PROTOCOL)),
    "8.2.2 Connection": (OPENING + head(1, [*GET, (b"connection", b"keep-alive")]), Resets(_PROTOCOL)),
    "8.2.2 Transfer-Encoding": (
        OPENING + head(1, [*GET, (b"transfer-encoding", b"chunked")]),
        Resets(_PROTOCOL),
    ),
    "8.2.2 TE but trailers": (OPENING + head(1, [*GET, (b"te", b"gzip")]), Resets(_PROTOCOL)),
    "8.2.2 TE": (OPENING + head(1, [*GET, (b"te", b"trailers")]), Answers(200)),
    "8.3 an unknown pseudo-header field": (OPENING + head(1, [*GET, (b":x", b"1")]), Resets(_PROTOCOL)),
    "8.3 a response's pseudo-header field": (
        OPENING + head(1, [*GET, (b":status", b"1")]),
        Resets(_PROTOCOL),
    ),
    "8.3 a pseudo-header field after another one": (
        OPENING + head(1, [(b"x", b"1"), *GET]),
        Resets(_PROTOCOL),
    ),
    "8.3.1 no :path": (OPENING + head(1, _WITHOUT_PATH), Resets(_PROTOCOL)),
    "8.3.1 an empty :path": (OPENING + head(1, [*_WITHOUT_PATH, (b":path", b"")]), Resets(_PROTOCOL)),
    "8.3.1 two :path": (OPENING + head(1, [*GET, (b":path", b"/")]), Resets(_PROTOCOL)),
    "8.3.1 no :method": (OPENING + head(1, GET[1:]), Resets(_PROTOCOL)),
    "8.3.1 no :scheme": (OPENING + head(1, [GET[0], *GET[2:]]), Resets(_PROTOCOL)),
    "8.3.1 Host for :authority": (OPENING + head(1, [*GET[:3], (b"host", b"web")]), Answers(200)),
    "8.3.1 another Host than :authority": (OPENING + head(1, [*GET, (b"host", b"else")]), Answers(400)),
    "8.5 CONNECT with a path": (
        OPENING + head(1, [(b":method", b"CONNECT"), *GET[1:]], _HEAD),
        Resets(_PROTOCOL),
    ),
    "8.5 CONNECT": (OPENING + head(1, [(b":method", b"CONNECT"), GET[3]], _HEAD), Answers(501)),
    "8441-4 :protocol without CONNECT": (
        OPENING + head(1, [*GET, (b":protocol", b"websocket")]),
        Resets(_PROTOCOL),
    ),
}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Bed]:
    def script(sock: socket.socket) -> None:
        while data := receive_head(sock):
            if b"x-slow" in data:
                sock.recv(1 << 20)
                return
            if b"chunked" in data:
                while b"\r\n0\r\n" not in data:
                    data += receive_until(sock, b"\n")
            sock.sendall(ok())

    with contextlib.ExitStack() as stack:
        web = stack.enter_context(server(script))
        yield stack.enter_context(bed(to_http1(web.port)))


@pytest.mark.parametrize("name", CASES)
def test_what_the_rfc_asks(proxy: Bed, name: str) -> None:
    data, expected = CASES[name]
    with proxy.connect() as client:
        client.sendall(data)
        if isinstance(expected, Ends):
            told = list(_frames(client))
            goaways = [struct.unpack(">I", payload[4:8])[0] for kind, _, _, payload in told if kind == 7]
            assert goaways, told
            assert goaways[-1] in expected.codes, told
            return
        for kind, flags, stream, payload in _frames(client):
            assert kind != nghttp2.GOAWAY, payload
            if isinstance(expected, Resets):
                if kind == nghttp2.RST_STREAM:
                    assert stream == expected.stream
                    assert struct.unpack(">I", payload)[0] in expected.codes
                    break
                assert kind != nghttp2.HEADERS
            elif isinstance(expected, Answers):
                if kind == nghttp2.HEADERS:
                    assert stream == expected.stream
                    assert proxy.log.entries[-1].status == expected.status
                    break
            elif expected.frame in frame(kind, flags, stream, payload):
                break
        else:
            pytest.fail("the connection has ended")
        # It goes on: with a request of its own, on a stream that no case has used.
        client.sendall(head(99, GET))
        assert any(stream == 99 and kind == nghttp2.HEADERS for kind, _, stream, _ in _frames(client))


def _frames(sock: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """As they come, to the connection's end."""
    data = b""
    while True:
        while len(data) < 9 or len(data) < 9 + int.from_bytes(data[:3], "big"):
            try:
                piece = sock.recv(65536)
            except ConnectionResetError:
                return
            if not piece:
                return
            data += piece
        size = 9 + int.from_bytes(data[:3], "big")
        yield from split(data[:size])
        data = data[size:]


_ANY = st.one_of(
    st.builds(
        frame,
        st.integers(0, 12),
        st.sampled_from((0, END_STREAM, END_HEADERS, _WHOLE, PADDED, 0xFF)),
        st.sampled_from((0, 1, 3, 5, 2**31 - 1)),
        st.binary(max_size=40),
    ),
    st.builds(
        head, st.sampled_from((1, 3, 5, 7)), st.sampled_from((GET, POST)), st.sampled_from((_HEAD, _WHOLE))
    ),
    st.builds(
        frame,
        st.just(nghttp2.DATA),
        st.sampled_from((0, END_STREAM)),
        st.sampled_from((1, 3, 5)),
        st.binary(max_size=200),
    ),
    st.builds(
        frame,
        st.just(nghttp2.RST_STREAM),
        st.just(0),
        st.sampled_from((1, 3, 5)),
        st.sampled_from((_number(0), _number(8))),
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(_ANY, max_size=15), cut=st.integers(1, 300), resets=st.booleans())
def test_whatever_comes_other_connections_go_on(
    proxy: Bed, parts: list[bytes], cut: int, resets: bool
) -> None:
    data = OPENING + b"".join(parts)
    with proxy.connect() as other:
        other.sendall(OPENING)
        with contextlib.suppress(OSError), proxy.connect() as client:
            client.sendall(data[:cut])
            client.sendall(data[cut:])
            if resets:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.sendall(head(1, GET))
        assert any(stream == 1 and kind == nghttp2.HEADERS for kind, _, stream, _ in _frames(other))
    assert proxy.errors == []
