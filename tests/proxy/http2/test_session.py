"""A session, by its two roles: what goes in at one comes out at the other."""

from __future__ import annotations

import base64
import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.model.http2 import DEFAULT_CONNECTION_WINDOW, DEFAULT_STREAM_WINDOW
from proxy.http2 import codes, nghttp2, received
from proxy.http2.events import Closed, Data, Drained, GoAway, Headers, Malformed, Pong, Settings
from proxy.http2.session import PREFACE, Limits, Session, SessionError
from tests.proxy.http2.pairs import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    OK,
    OPENING,
    POST,
    Clock,
    Pair,
    block,
    frame,
    head,
    literal,
    of,
    split,
)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    with contextlib.closing(made):
        yield made


@pytest.fixture
def server() -> Iterator[Session]:
    """One that has been greeted."""
    with contextlib.closing(Session(True, Limits(), Clock())) as made:
        made.feed(OPENING)
        made.take()
        made.events()
        yield made


def test_a_request_and_its_answer(pair: Pair) -> None:
    stream = pair.client.request([*POST, (b"cookie", b"a=b")], False)
    pair.client.send(stream, b"ques")
    pair.client.finish(stream, b"tion")
    pair.talk()
    events = pair.server.events()
    assert events[0] == Headers(stream, [*POST, (b"cookie", b"a=b")], False, False)
    assert b"".join(piece.data for piece in of(Data, events)) == b"question"
    assert [piece.ended for piece in of(Data, events)] == [True]
    pair.server.interim(stream, [(b":status", b"103"), (b"link", b"</x>")])
    pair.server.respond(stream, OK, False)
    pair.server.finish(stream, b"answer")
    pair.talk()
    assert pair.client.events() == [
        Headers(stream, [(b":status", b"103"), (b"link", b"</x>")], False, False),
        Headers(stream, [*OK], False, False),
        Data(stream, b"answer", True),
        Closed(stream, codes.NO_ERROR),
    ]
    assert pair.server.events() == [Closed(stream, codes.NO_ERROR)]


@pytest.mark.parametrize("content", [b"", b"content"])
def test_trailers_both_ways(pair: Pair, content: bytes) -> None:
    stream = pair.client.request(POST, False)
    pair.client.finish(stream, content, [(b"x-sum", b"1")])
    pair.talk()
    pair.server.respond(stream, OK, False)
    pair.server.send(stream, content)
    pair.talk()
    pair.server.finish(stream, b"", [(b"grpc-status", b"0")])
    pair.talk()
    for session, trailer in ((pair.server, (b"x-sum", b"1")), (pair.client, (b"grpc-status", b"0"))):
        events = session.events()
        assert of(Headers, events)[-1] == Headers(stream, [trailer], True, False)
        assert b"".join(piece.data for piece in of(Data, events)) == content


@pytest.mark.parametrize(("count", "size"), [(100, 10), (20, 1500), (1, 40_000)])
def test_many_and_long_fields_in_heads_and_trailers(pair: Pair, count: int, size: int) -> None:
    more = [(b"x-%d" % n, os.urandom(size // 2).hex().encode()) for n in range(count)]
    stream = pair.client.request([*POST, *more], False)
    pair.client.finish(stream, b"", more)
    pair.talk()
    assert [event.fields for event in of(Headers, pair.server.events())] == [[*POST, *more], more]
    pair.server.respond(stream, [*OK, *more], False)
    pair.server.finish(stream, b"", more)
    pair.talk()
    assert [event.fields for event in of(Headers, pair.client.events())] == [[*OK, *more], more]


def test_nothing_but_heads(pair: Pair) -> None:
    stream = pair.client.request(GET, True)
    pair.talk()
    pair.server.respond(stream, OK, True)
    pair.talk()
    assert pair.client.events() == [Headers(stream, [*OK], True, False), Closed(stream, codes.NO_ERROR)]


def test_a_stream_that_is_not_consumed_stops_alone(pair: Pair) -> None:
    slow, quick = pair.client.request(POST, False), pair.client.request(POST, False)
    pair.client.send(slow, bytes(190_000))
    assert pair.client.is_backed_up(slow)
    pair.talk()
    for _ in range(4 * DEFAULT_CONNECTION_WINDOW // 30_000):
        pair.client.send(quick, bytes(30_000))
        pair.talk()
        for piece in of(Data, pair.server.events()):
            if piece.stream == quick:
                pair.server.consume(quick, len(piece.data))
        pair.talk()
    assert not pair.client.is_backed_up(quick)
    assert pair.client.is_backed_up(slow)
    pair.client.events()
    pair.server.consume(slow, DEFAULT_STREAM_WINDOW)
    pair.talk()
    pair.server.consume(slow, DEFAULT_STREAM_WINDOW)
    pair.talk()
    assert sum(len(piece.data) for piece in of(Data, pair.server.events())) == 190_000 - DEFAULT_STREAM_WINDOW
    assert pair.client.events() == [Drained(slow)]


def test_streams_take_turns_whatever_their_priority(pair: Pair) -> None:
    streams = [pair.client.request([*GET, (b"priority", b"u=%d" % n)], True) for n in (7, 0)]
    pair.talk()
    for stream in streams:
        pair.server.respond(stream, OK, False)
        pair.server.finish(stream, bytes(48_000))
    sent = [stream for kind, _, stream, _ in split(pair.server.take()) if kind == nghttp2.DATA]
    assert sent[:4] in ([1, 3, 1, 3], [3, 1, 3, 1])


def test_an_answer_before_the_requests_end_stops_it(pair: Pair) -> None:
    stream = pair.client.request(POST, False)
    pair.client.send(stream, bytes(200_000))
    pair.talk()
    pair.server.respond(stream, OK, False)
    pair.server.finish(stream, b"enough", (), True)
    pair.talk()
    events = pair.client.events()
    assert Data(stream, b"enough", True) in events
    assert events[-1] == Closed(stream, codes.NO_ERROR)
    assert not pair.client.is_backed_up(stream)


def test_what_was_not_consumed_of_streams_that_ended_holds_nothing_up(pair: Pair) -> None:
    for _ in range(DEFAULT_CONNECTION_WINDOW // DEFAULT_STREAM_WINDOW + 10):
        stream = pair.client.request(POST, False)
        pair.client.send(stream, bytes(DEFAULT_STREAM_WINDOW))
        pair.talk()
        assert sum(len(piece.data) for piece in of(Data, pair.server.events())) == DEFAULT_STREAM_WINDOW
        pair.client.reset(stream, codes.CANCEL)
        pair.talk()


def test_what_is_taken_at_a_time_is_bounded(pair: Pair) -> None:
    streams = [pair.client.request(GET, True) for _ in range(3)]
    pair.talk()
    for stream in streams:
        pair.server.respond(stream, OK, False)
        pair.server.finish(stream, bytes(60_000))
    sizes = []
    while taken := pair.server.take(32_768):
        sizes.append(len(taken))
    assert max(sizes) <= 32_768 + 16_384 + 9
    assert sum(sizes) > 180_000


def test_a_reset_from_either_side(pair: Pair) -> None:
    first, second = pair.client.request(POST, False), pair.client.request(POST, False)
    pair.talk()
    pair.client.reset(first, codes.CANCEL)
    pair.server.reset(second, codes.REFUSED_STREAM)
    pair.talk()
    for session in (pair.client, pair.server):
        closed = of(Closed, session.events())
        assert sorted(closed, key=lambda event: event.stream) == [
            Closed(first, codes.CANCEL),
            Closed(second, codes.REFUSED_STREAM),
        ]
    pair.server.respond(first, OK, False)
    pair.server.finish(first, b"too late")
    pair.talk()
    assert of(Headers, pair.client.events()) == []


def test_the_peers_limit_of_streams() -> None:
    with contextlib.closing(Pair(Limits(max_streams=2))) as pair:
        assert pair.client.max_streams == 2
        assert pair.client.takes_tunnels
        for _ in range(2):
            pair.client.request(POST, False)
        pair.server.feed(pair.client.take())
        pair.server.feed(head(5, GET))
        pair.talk()
        assert [event.stream for event in of(Headers, pair.server.events())] == [1, 3]


def test_two_steps_of_goaway(pair: Pair) -> None:
    before = pair.client.request(POST, False)
    pair.talk()
    pair.server.announce_end()
    on_its_way = pair.client.request(POST, False)
    to_client, to_server = pair.server.take(), pair.client.take()
    pair.client.feed(to_client)
    assert not pair.client.takes_requests
    pair.server.feed(to_server)
    pair.server.go_away()
    pair.talk()
    goaways = of(GoAway, pair.client.events())
    assert [event.last_stream for event in goaways] == [2**31 - 1, on_its_way]
    for stream in (before, on_its_way):
        pair.client.finish(stream, b"")
        pair.server.respond(stream, OK, True)
    pair.talk()
    assert pair.server.is_over
    assert pair.client.is_over


def test_goaway_closes_what_was_not_processed(pair: Pair) -> None:
    first = pair.client.request(POST, False)
    pair.talk()
    pair.server.go_away()
    second = pair.client.request(POST, False)
    pair.talk()
    assert Closed(second, codes.REFUSED_STREAM) in pair.client.events()
    pair.server.respond(first, OK, True)
    pair.talk()
    assert Headers(first, [*OK], True, False) in pair.client.events()


def test_ping(pair: Pair) -> None:
    pair.client.ping(b"12345678")
    pair.talk()
    assert pair.client.events() == [Pong(b"12345678")]


def test_an_upgraded_connection() -> None:
    with (
        contextlib.closing(Session(True, Limits(), Clock())) as server,
        contextlib.closing(Session(False, Limits(), Clock())) as client,
    ):
        assert base64.urlsafe_b64decode("AAMAAABk") == b"\x00\x03\x00\x00\x00\x64"
        server.upgrade(b"\x00\x03\x00\x00\x00\x64", False)
        server.respond(1, OK, False)
        server.finish(1, b"answer")
        data = server.take()
        server.feed(client.take())
        assert {kind for kind, _, _, _ in split(data)} >= {nghttp2.SETTINGS, nghttp2.HEADERS, nghttp2.DATA}
        assert of(Closed, server.events()) == [Closed(1, codes.NO_ERROR)]


@pytest.mark.parametrize("settings_payload", [b"\x00", bytes(5)])
def test_an_upgrade_with_bad_settings(settings_payload: bytes) -> None:
    with (
        contextlib.closing(Session(True, Limits(), Clock())) as server,
        pytest.raises(SessionError),
    ):
        server.upgrade(settings_payload, False)


def test_a_list_over_the_limit_is_told_and_the_connection_lives(server: Session) -> None:
    fields = [*GET, *((b"x-%d" % n, bytes(b"v" * 100)) for n in range(600))]
    payload = block(fields)
    server.feed(frame(nghttp2.HEADERS, END_STREAM, 1, payload[:16000]))
    for at in range(16000, len(payload), 16000):
        flags = END_HEADERS if at + 16000 >= len(payload) else 0
        server.feed(frame(CONTINUATION, flags, 1, payload[at : at + 16000]))
    (event,) = of(Headers, server.events())
    assert event.oversized
    assert event.fields[:4] == [*GET]
    server.feed(head(3, GET))
    assert of(Headers, server.events()) == [Headers(3, [*GET], True, False)]


def _bomb() -> bytes:
    """One field of 4,000 bytes put into HPACK's table, then named over and over by one byte."""
    indexed = b"\x40" + b"\x01x" + b"\x7f" + _varint(4000 - 127) + b"v" * 4000
    return block(GET) + indexed + b"\xbe" * 8000


def _varint(number: int) -> bytes:
    out = b""
    while number >= 128:
        out += bytes((number % 128 + 128,))
        number //= 128
    return out + bytes((number,))


FLOODS = {
    "HPACK bomb": [frame(nghttp2.HEADERS, END_STREAM | END_HEADERS, 1, _bomb())],
    "CONTINUATION": [
        frame(nghttp2.HEADERS, END_STREAM, 1, block(GET)),
        *[frame(CONTINUATION, 0, 1, literal(b"x", b"y"))] * 20,
    ],
    "SETTINGS": [frame(nghttp2.SETTINGS)] * 200,
    "settings in one frame": [frame(nghttp2.SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x01" * 100)],
    "PING": [frame(nghttp2.PING, 0, 0, bytes(8))] * 1100,
    "acknowledged PING": [frame(nghttp2.PING, ACK, 0, bytes(8))] * 1100,
    "WINDOW_UPDATE": [frame(nghttp2.WINDOW_UPDATE, 0, 0, b"\x00\x00\x00\x01")] * 1100,
    "empty DATA": [head(1, POST, END_HEADERS), *[frame(nghttp2.DATA, 0, 1)] * 200],
    "RST_STREAM": [
        part
        for stream in range(1, 2400, 2)
        for part in (head(stream, GET), frame(nghttp2.RST_STREAM, 0, stream, b"\x00\x00\x00\x08"))
    ],
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("is_read", [True, False], ids=["answers read", "answers not read"])
def test_a_flood_ends_the_connection(server: Session, name: str, is_read: bool) -> None:
    sent = b""
    for part in FLOODS[name]:
        server.feed(part)
        if is_read:
            sent += server.take()
        server.events()
    sent += server.take()
    kind, _, _, payload = split(sent)[-1]
    assert kind == nghttp2.GOAWAY
    assert int.from_bytes(payload[4:8], "big") == codes.ENHANCE_YOUR_CALM
    assert server.sent_error is not None
    assert server.sent_error.code == codes.ENHANCE_YOUR_CALM
    assert server.is_over


@pytest.mark.parametrize(
    "fields",
    [
        GET[:3],
        [*GET, (b"Upper", b"x")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"x", b"a\nb")],
        [*GET, (b":status", b"200")],
        [(b"x", b"y"), *GET],
        [*GET, (b"content-length", b"3")],
    ],
)
def test_what_is_no_message_ends_its_stream_alone(server: Session, fields: list[tuple[bytes, bytes]]) -> None:
    if fields[0] == GET[0] and len(fields) == 3:
        fields = [GET[0], GET[1], GET[3]]
    server.feed(head(1, fields))
    events = server.events()
    assert of(Headers, events) == []
    assert [event.stream for event in of(Malformed, events)] == [1]
    assert (nghttp2.RST_STREAM, 0, 1, codes.PROTOCOL_ERROR.to_bytes(4, "big")) in split(server.take())
    server.feed(head(3, GET))
    assert len(of(Headers, server.events())) == 1


def test_an_error_of_the_connection_says_which(server: Session) -> None:
    server.feed(frame(nghttp2.DATA, 0, 0, b"x"))
    server.take()
    assert server.sent_error is not None
    assert server.sent_error.code == codes.PROTOCOL_ERROR
    assert server.is_over


def test_what_is_not_http2_at_all() -> None:
    with contextlib.closing(Session(True, Limits(), Clock())) as session:
        session.feed(b"GET / HTTP/1.1\r\n\r\n")
        assert split(session.take())[-1][0] == nghttp2.GOAWAY
        assert session.is_over


def test_an_exception_in_a_callback_is_raised(server: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*arguments: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(received, "Headers", explode)
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        server.feed(head(1, GET))


def test_a_missing_or_old_library_is_told() -> None:
    with pytest.raises(nghttp2.LibraryError, match="apt install libnghttp2-14"):
        nghttp2.load("libnghttp2.so.1400")
    with pytest.raises(nghttp2.LibraryError, match="too old"):
        nghttp2.load("libc.so.6")


# -- whatever comes ----------------------------------------------------------------------------------

_PART = st.one_of(
    st.builds(
        frame,
        st.integers(0, 12),
        st.sampled_from((0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF)),
        st.sampled_from((0, 1, 1, 3, 5, 2, 2**31 - 1)),
        st.binary(max_size=40),
    ),
    st.builds(
        lambda stream, method, flags: head(stream, (GET, POST)[method], flags),
        st.sampled_from((1, 3, 5, 7)),
        st.integers(0, 1),
        st.sampled_from((END_HEADERS, END_HEADERS | END_STREAM, 0)),
    ),
    st.builds(
        lambda stream, flags, data: frame(nghttp2.DATA, flags, stream, data),
        st.sampled_from((1, 3, 5)),
        st.sampled_from((0, END_STREAM)),
        st.binary(max_size=30),
    ),
)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(_PART, max_size=25),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    st.integers(1, 60),
    st.booleans(),
)
def test_whatever_comes_each_stream_is_closed_once_or_the_connection_ends(
    parts: list[bytes], spoilt: list[tuple[int, int]], step: int, is_server: bool
) -> None:
    stream_bytes = bytearray(b"".join(parts))
    for at, value in spoilt:
        if at < len(stream_bytes):
            stream_bytes[at] = value
    data = (OPENING if is_server else frame(nghttp2.SETTINGS)) + bytes(stream_bytes)
    with contextlib.closing(Session(is_server, Limits(), Clock())) as session:
        if not is_server:
            for _ in range(3):
                session.send(session.request(POST, False), b"x" * 100)
        opened, closed = set[int](), list[int]()
        for at in range(0, len(data), step):
            session.feed(data[at : at + step])
            sent = session.take()
            split(sent.removeprefix(PREFACE))
            for event in session.events():
                if isinstance(event, Headers):
                    assert event.stream not in closed
                    opened.add(event.stream)
                    if is_server and event.ended:
                        session.respond(event.stream, OK, False)
                        session.finish(event.stream, b"y" * 50)
                elif isinstance(event, Data):
                    assert event.stream in opened or not is_server
                    assert event.stream not in closed
                    session.consume(event.stream, len(event.data))
                elif isinstance(event, Closed):
                    closed.append(event.stream)
        assert len(closed) == len(set(closed))


def test_sessions_leave_no_memory() -> None:
    """Each of 3,000 sessions, some of them failed, would leave some 100 KiB if its library's part stayed."""

    def some() -> None:
        for name in ("HPACK bomb", "CONTINUATION"):
            for _ in range(50):
                with contextlib.closing(Session(True, Limits(), Clock())) as session:
                    session.feed(OPENING + b"".join(FLOODS[name]))
                    session.take()
        for _ in range(50):
            with contextlib.closing(Pair()) as pair:
                stream = pair.client.request(POST, False)
                pair.client.send(stream, bytes(50_000))
                pair.talk()

    some()
    gc.collect()
    before = _resident_bytes()
    for _ in range(10):
        some()
    gc.collect()
    assert _resident_bytes() - before < 16 << 20


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_new_setting_is_told(server: Session) -> None:
    server.feed(frame(nghttp2.SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x00"))
    assert server.events() == [Settings()]
