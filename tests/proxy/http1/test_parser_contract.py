"""What the proxy relies on in aiohttp's C parsers, which are private API. A new aiohttp must pass this."""

from __future__ import annotations

import h11
import pytest
from aiohttp._http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from proxy.http1.refusal import Refusal
from proxy.http1.request_parser import RequestParser
from proxy.http1.response_parser import ResponseError, ResponseParser

_TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_names = st.text(_TOKEN, min_size=1, max_size=12).map(lambda name: "X" + name)
_values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=0, max_size=20)
_targets = st.text("abcXYZ019-._~!$&'()*+,;=:@/%20", max_size=30).map(lambda path: "/" + path)
_methods = st.sampled_from(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"))


def test_one_parser_reads_one_message_after_another_whatever_their_bodies() -> None:
    parser = RequestParser()
    heads = (
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /5 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /6 HTTP/1.0\r\n\r\n",
    )
    for _ in range(3):
        for number, head in enumerate(heads, 1):
            assert parser.parse(head).head.path == f"/{number}"


def test_a_refused_head_leaves_nothing_behind() -> None:
    parser = RequestParser()
    for bad in (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"\0\0\0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with pytest.raises(Refusal):
            parser.parse(bad)
        assert parser.parse(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").head.path == "/x"


def test_responses_are_read_one_after_another() -> None:
    parser = ResponseParser()
    heads = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    )
    for _ in range(3):
        for head in heads:
            assert parser.parse(head, "GET").status == int(head.split(b" ")[1])


def test_raw_headers_keep_order_case_and_bytes() -> None:
    parser = HttpRequestParser(None, None, 1 << 16, response_with_body=False, auto_decompress=False)
    head = b"GET / HTTP/1.1\r\nhOsT: a\r\nB: \xff\xfe\r\nA:  spaced \t\r\nB: 2\r\nEmpty:\r\n\r\n"
    messages, upgraded, rest = parser.feed_data(head)
    ((message, _),) = messages
    assert message.raw_headers == (
        (b"hOsT", b"a"),
        (b"B", b"\xff\xfe"),
        (b"A", b"spaced"),
        (b"B", b"2"),
        (b"Empty", b""),
    )
    assert (upgraded, rest) == (False, b"")


@given(method=_methods, target=_targets, fields=st.lists(st.tuples(_names, _values), max_size=8))
def test_heads_are_read_as_h11_reads_them(method: str, target: str, fields: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()
    other = h11.Connection(h11.SERVER)
    other.receive_data(head)
    event = other.next_event()
    assert isinstance(event, h11.Request)
    request = RequestParser().parse(head)
    assert request.head.method.encode() == event.method
    assert request.target.encode() == event.target
    assert request.fields == [(bytes(name), bytes(value)) for name, value in event.headers.raw_items()]


_mutations = st.lists(
    st.tuples(
        st.integers(0, 100),
        st.sampled_from(
            (b"", b" ", b"\t", b"\r", b"\n", b"\0", b":", b",", b"\r\n", b"\r\n ", b"x", b"\xff")
        ),
    ),
    max_size=3,
)
_FRAMING_HEADS = (
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
)


@given(head=st.sampled_from(_FRAMING_HEADS), mutations=_mutations)
def test_what_is_accepted_is_framed_as_h11_frames_it(head: bytes, mutations: list[tuple[int, bytes]]) -> None:
    """Whatever a mutated head becomes: either it is refused, or a second parser sees the same body."""
    for at, piece in mutations:
        at = min(at, len(head) - 4)
        head = head[:at] + piece + head[at + (piece == b"") :]
    end = head.find(b"\r\n\r\n") + 4
    try:
        request = RequestParser().parse(head[:end])
    except Refusal:
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(head[:end])
    try:
        event = other.next_event()
    except h11.RemoteProtocolError:
        return  # stricter than we are about something else; a lenient reading is what smuggling needs
    assert isinstance(event, h11.Request)
    theirs = {
        name: value for name, value in event.headers if name in (b"content-length", b"transfer-encoding")
    }
    ours = {
        name.lower(): value
        for name, value in request.fields
        if name.lower() in (b"content-length", b"transfer-encoding")
    }
    assert ours == theirs


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 099 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 x\r\nConnection: close\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_one_servers_bad_response_does_not_spoil_anothers_good_one(bad: bytes) -> None:
    parser = ResponseParser()
    with pytest.raises(ResponseError):
        parser.parse(bad, "GET")
    assert parser.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET").status == 200
