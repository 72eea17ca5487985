"""Which answers are right."""

from __future__ import annotations

import pytest

from meshd.bench.answer import AnswerReader, WrongAnswerError, request

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("at", range(1, len(HEAD) + 5))
def test_an_answer_in_two_pieces(at: int) -> None:
    data, reader = HEAD + b"12345", AnswerReader(5, keep=True)
    assert not reader.take(data[:at])
    assert reader.take(data[at:])
    assert (bytes(reader.body), reader.head_bytes) == (b"12345", len(HEAD))
    assert reader.take(data), "the next answer on the connection"
    assert reader.body == b"12345"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEAD + b"123456", "1 bytes after the answer's end"),
        (HEAD.replace(b"200", b"503"), "answered HTTP/1.1 503 OK"),
        (HEAD.replace(b"Length: 5", b"Length: 4"), "a body of 4 bytes, not 5"),
        (HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"), "without Content-Length"),
        (HEAD.replace(b"Length: 5", b"Length: -5"), "without Content-Length"),
        (b"x" * 70_000, "a head of more than"),
    ],
)
def test_what_is_not_the_wanted_answer_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(WrongAnswerError, match=message):
        AnswerReader(5).take(data)


def test_request() -> None:
    assert request("/p", "h:1", {"x-a": "b"}, close=True) == (
        b"GET /p HTTP/1.1\r\nHost: h:1\r\nx-a: b\r\nConnection: close\r\n\r\n"
    )
