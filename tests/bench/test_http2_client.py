"""The load tools' end of an HTTP/2 connection, against libnghttp2's server and against frames by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from meshd.bench import wanted
from meshd.bench.answer import WrongAnswerError
from meshd.bench.http2_answers import Http2Answers
from meshd.bench.http2_client import Http2Client, head
from proxy.http2.events import Data, Field, Headers
from proxy.http2.session import Limits, Session

HEAD = head("/bytes/16", "near:8081", [("x-bench", "yes")], grpc=False)
CALL = head("/bytes/16", "near:8082", [("x-bench", "yes" * 60)], grpc=True)
OK: list[Field] = [(b":status", b"200"), (b"server", b"known"), (b"x-long", b"y" * 300)]
BODY = b"0123456789abcdef"


@pytest.fixture
def client() -> Iterator[Http2Client]:
    found = Http2Client()
    yield found
    found.close()


@pytest.fixture
def server() -> Iterator[Session]:
    found = Session(True, Limits(), lambda: 0.0)
    yield found
    found.close()


def exchanged(client: Http2Client, answers: Http2Answers, server: Session, piece: int = 1 << 20) -> list[int]:
    """All that both have to say, in pieces of so many bytes; the streams that are complete."""
    complete = []
    while (said := server.take()) or client.out:
        for at in range(0, len(said), piece):
            complete += answers.take(said[at : at + piece])
        server.feed(bytes(client.out))
        client.out.clear()
        for event in server.events():
            if isinstance(event, Data):
                server.consume(event.stream, len(event.data))
    return complete


def begun(client: Http2Client, answers: Http2Answers, server: Session, count: int = 1) -> list[int]:
    asked = [answers.ask() for _ in range(count)]
    assert exchanged(client, answers, server) == []
    return asked


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_answers_are_found_however_their_bytes_come(client: Http2Client, server: Session, piece: int) -> None:
    answers = Http2Answers(client, HEAD, None, len(BODY), keep=True)
    asked = begun(client, answers, server, 3)
    for stream in (asked[1], asked[2], asked[0]):
        server.respond(stream, OK, ended=False)
        server.finish(stream, BODY)
    assert set(exchanged(client, answers, server, piece)) == set(asked)
    assert answers.content == BODY


def test_the_request_is_what_the_server_sees(client: Http2Client, server: Session) -> None:
    client.request(CALL, wanted.QUESTION, ended=True)
    server.feed(bytes(client.out))
    headers, data = (event for event in server.events() if isinstance(event, Headers | Data))
    assert isinstance(headers, Headers)
    assert isinstance(data, Data)
    assert headers.fields == [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/bytes/16"), (b":authority", b"near:8082"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"x-bench", b"yes" * 60),
    ]  # fmt: skip
    assert (data.data, data.ended) == (wanted.message(wanted.body(16)), True)


def test_more_than_every_window_comes_and_goes(client: Http2Client, server: Session) -> None:
    size = 3 << 20
    answers = Http2Answers(client, CALL, b"q" * size, size, keep=True)
    (stream,) = [answers.ask()]
    exchanged(client, answers, server)
    server.respond(stream, OK, ended=False)
    server.finish(stream, b"a" * size, [(b"grpc-status", b"0")])
    assert exchanged(client, answers, server) == [stream]
    assert answers.content == b"a" * size


@pytest.mark.parametrize(
    ("fields", "body", "trailers", "message"),
    [
        ([(b":status", b"503")], BODY, [(b"grpc-status", b"0")], "status 503"),
        (OK, BODY, [(b"grpc-status", b"14"), (b"grpc-message", b"gone")], "grpc-status 14: gone"),
        ([*OK, (b"grpc-status", b"4")], b"", [], "grpc-status 4"),
        (OK, BODY, [(b"x", b"y")], "no grpc-status"),
        (OK, BODY[:-1], [(b"grpc-status", b"0")], "a body of 15 bytes, not 16"),
        (OK, BODY * 2, [(b"grpc-status", b"0")], "a body of 32 bytes, not 16"),
    ],
)
def test_a_call_that_went_wrong_is_no_answer(
    client: Http2Client,
    server: Session,
    fields: list[Field],
    body: bytes,
    trailers: list[Field],
    message: str,
) -> None:
    answers = Http2Answers(client, CALL, wanted.QUESTION, len(BODY))
    (stream,) = begun(client, answers, server)
    server.respond(stream, fields, ended=not body and not trailers)
    server.finish(stream, body, trailers)
    with pytest.raises(WrongAnswerError, match=message):
        exchanged(client, answers, server)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">BHBBI", 0, len(payload), kind, flags, stream) + payload


def test_padding_priority_and_a_head_in_parts(client: Http2Client) -> None:
    """RFC 9113, 6.1, 6.2 and 6.10; 0x88 is ``:status: 200`` (RFC 7541, Appendix A)."""
    answers = Http2Answers(client, HEAD, None, len(BODY), keep=True)
    stream = answers.ask()
    said = frame(1, 0x28, stream, b"\x01" + bytes(5)) + frame(9, 0x4, stream, b"\x88")
    assert answers.take(frame(1, 0x28, stream, b"\x01" + bytes(5) + b"\0")) == []
    assert answers.take(frame(9, 0x4, stream, b"\x88")) == []
    assert answers.take(frame(0, 0x9, stream, b"\x03" + BODY + bytes(3))) == [stream]
    assert answers.content == BODY
    with pytest.raises(WrongAnswerError):
        answers.take(said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (frame(3, 0, 1, struct.pack(">I", 7)), "reset with code 7"),
        (frame(7, 0, 0, struct.pack(">II", 0, 11)), "GOAWAY with code 11"),
        (frame(5, 4, 1, bytes(4)), "a push"),
        (frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), "no HPACK"),
        (frame(1, 0, 1, b"\x88") + frame(0, 1, 1, BODY), "a head was not continued"),
        (frame(9, 4, 1, b"\x88"), "CONTINUATION of no head"),
        (frame(3, 0, 1, b""), "cannot be read"),
        (frame(1, 5, 3, b"\x88"), "nobody asked for"),
    ],
)
def test_what_ends_an_answer_or_is_none(client: Http2Client, said: bytes, message: str) -> None:
    answers = Http2Answers(client, HEAD, None, len(BODY))
    answers.ask()
    with pytest.raises(WrongAnswerError, match=message):
        answers.take(said)


def test_pings_and_settings_are_acknowledged(client: Http2Client) -> None:
    client.out.clear()
    client.take(frame(6, 0, 0, b"12345678") + frame(4, 0, 0, struct.pack(">HI", 4, 10)) + frame(4, 1, 0, b""))
    assert client.out == frame(6, 1, 0, b"12345678") + frame(4, 1, 0, b"")


def test_a_smaller_window_holds_content_back(client: Http2Client) -> None:
    client.take(frame(4, 0, 0, struct.pack(">HI", 4, 10)))
    client.out.clear()
    stream = client.request(CALL, b"q" * 16, ended=True)
    content = frame(0, 1, stream, b"q" * 16)
    assert not client.out.endswith(content)
    client.take(frame(8, 0, stream, struct.pack(">I", 6)))
    assert client.out.endswith(content)
