"""Where bodies end, held against h11 and against every way to cut a stream."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http1.body import (
    MAX_CHUNK_LINE_BYTES,
    MAX_TRAILER_BYTES,
    BodyError,
    ChunkedBody,
    LengthBody,
    OpenBody,
)

_chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
_extensions = st.sampled_from((b"", b";a", b";a=b", b' ; a="b c"', b";x=1;y=2"))
_trailers = st.lists(
    st.tuples(st.sampled_from((b"X-Sum", b"Expires", b"a")), st.sampled_from((b"", b"1", b"a b"))), max_size=3
)


def _encoded(chunks: list[bytes], extension: bytes, trailers: list[tuple[bytes, bytes]]) -> bytes:
    encoded = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return encoded + b"0\r\n" + b"".join(b"%b: %b\r\n" % field for field in trailers) + b"\r\n"


@given(
    chunks=_chunks,
    extension=_extensions,
    trailers=_trailers,
    cut=st.integers(0, 400),
    rest=st.binary(max_size=9),
)
def test_chunked_in_two_pieces(
    chunks: list[bytes], extension: bytes, trailers: list[tuple[bytes, bytes]], cut: int, rest: bytes
) -> None:
    encoded = _encoded(chunks, extension, trailers)
    data = encoded + rest
    body = ChunkedBody()
    payload: list[bytes] = []
    first = data[:cut]
    at = body.feed(first, 0, payload)
    if not body.done:
        assert at == len(first)
        at += body.feed(data[cut:], 0, payload)
    assert body.done
    assert at == len(encoded)
    assert b"".join(payload) == b"".join(chunks)


def test_chunked_cut_at_every_byte_and_byte_by_byte() -> None:
    encoded = _encoded([b"wiki", b"p" * 17], b";x=y", [(b"X-Sum", b"9")])
    for cut in range(len(encoded)):
        body = ChunkedBody()
        assert body.feed(encoded[:cut]) == cut
        assert not body.done
        assert body.feed(encoded[cut:]) == len(encoded) - cut
        assert body.done
    body = ChunkedBody()
    for i in range(len(encoded)):
        assert not body.done
        assert body.feed(encoded[i : i + 1]) == 1
    assert body.done


def _feed_byte_by_byte(data: bytes) -> None:
    body = ChunkedBody()
    for i in range(len(data)):
        body.feed(data[i : i + 1])


BROKEN = (
    b"\r\n",
    b"x\r\n",
    b"-1\r\n",
    b"+1\r\na\r\n",
    b"0x1\r\na\r\n",
    b" 1\r\na\r\n",
    b"1_0\r\n",
    b"1\na\r\n",
    b"1\r\nab\r\n",
    b"1\r\na\n0\r\n\r\n",
    b"1\r\na\r0\r\n\r\n",
    b"1;a\x00\r\na\r\n",
    b"1;a\rb\r\na\r\n",
    b"0\r\nX : y\r\n\r\n",
    b"0\r\n X: y\r\n\r\n",
    b"0\r\nX\r\n\r\n",
    b"0\r\nX: a\x00b\r\n\r\n",
    b"0\r\nX: y\n\r\n",
    b"0\r\n\n",
    b"1000000000000000\r\n",
    b"1;" + b"a" * MAX_CHUNK_LINE_BYTES,
    b"0\r\n" + b"X: y\r\n" * MAX_TRAILER_BYTES,
)


@pytest.mark.parametrize("data", BROKEN)
def test_broken_chunks(data: bytes) -> None:
    with pytest.raises(BodyError):
        ChunkedBody().feed(data)
    with pytest.raises(BodyError):
        _feed_byte_by_byte(data)


@given(
    data=st.lists(
        st.sampled_from((b"0", b"1", b"a", b";", b"\r\n", b"\r", b"\n", b" ", b"X:", b"3\r\nabc\r\n")),
        max_size=12,
    )
)
def test_what_is_accepted_h11_accepts_alike(data: list[bytes]) -> None:
    stream = b"".join(data) + b"\r\n0\r\n\r\n"
    body = ChunkedBody()
    payload: list[bytes] = []
    try:
        end = body.feed(stream, 0, payload)
    except BodyError:
        return
    if not body.done:
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)
    content = b""
    while not isinstance(event := other.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            content += event.data
    assert content == b"".join(payload)
    assert other.trailing_data[0] == stream[end:]


@given(length=st.integers(1, 50), pieces=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=9))
def test_length(length: int, pieces: list[bytes]) -> None:
    body = LengthBody(length)
    payload: list[bytes] = []
    for piece in pieces:
        if body.done:
            break
        body.feed(piece, 0, payload)
    whole = b"".join(pieces)
    assert b"".join(payload) == whole[:length]
    assert body.done == (len(whole) >= length)
    assert body.closed() == body.done


def test_until_close() -> None:
    body = OpenBody()
    assert body.feed(b"abc") == 3
    assert not body.done
    assert body.closed()
    assert body.done
