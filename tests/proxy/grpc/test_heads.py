"""Deadlines, statuses and answers of gRPC, as heads have them."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from meshd.model import grpc
from proxy.grpc import deadlines
from proxy.grpc.answers import percent_encoded, trailers_only
from proxy.grpc.call import Call, call_of, http_status, status_in
from proxy.requests.request_head import RequestHead


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1H", 3600.0),
        ("90M", 5400.0),
        ("5S", 5.0),
        ("250m", 0.25),
        ("1u", 1e-6),
        ("99999999n", 0.099999999),
        ("0S", 0.0),
    ],
)
def test_timeouts(value: str, seconds: float) -> None:
    assert deadlines.parsed(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "5", "S", "5s", "-5S", "+5S", "1.5S", "123456789S", " 5S", "5S ", "5 S"]
)
def test_what_is_no_timeout(value: str) -> None:
    assert deadlines.parsed(value) is None


@given(st.floats(0, 99_999_999 * 3600.0))
@example(0.0)
@example(60.0)
@example(99.999999)
@example(100.0)
def test_what_is_written_is_no_shorter_and_hardly_longer(seconds: float) -> None:
    found = deadlines.parsed(deadlines.written(seconds).decode())
    assert found is not None
    assert seconds * (1 - 1e-9) - 1e-9 <= found <= seconds * (1 + 1e-6) + 1e-6


def test_a_time_that_is_over_or_has_no_room() -> None:
    assert deadlines.written(-1.0) == b"0u"
    assert deadlines.written(1e15) == b"99999999H"


@pytest.mark.parametrize(
    ("asked", "most", "seconds"),
    [
        ("5S", 0.0, 5.0),
        ("5S", 2.0, 2.0),
        ("1S", 2.0, 1.0),
        ("5S", None, None),
        ("", 2.0, None),
        ("five", 2.0, None),
        ("0S", 2.0, 0.0),
    ],
)
def test_how_long_a_call_may_take(asked: str, most: float | None, seconds: float | None) -> None:
    call = Call(asked)
    call.limit(most)
    assert call.seconds == seconds


def test_what_is_left_goes_on() -> None:
    call = Call("5S")
    fields = [(b"a", b"1"), (b"Grpc-Timeout", b"5S"), (b"b", b"2")]
    assert call.with_what_is_left(fields, 1.0) == fields
    call.limit(3.0)
    assert call.with_what_is_left(fields, 1.0) == [(b"a", b"1"), (b"Grpc-Timeout", b"2000000u"), (b"b", b"2")]
    assert fields[1][1] == b"5S"


@given(st.binary(max_size=50))
@example("tea: 100 %\n\u00fc".encode())
def test_messages_can_be_read_again(text: bytes) -> None:
    encoded = percent_encoded(text)
    assert urllib.parse.unquote_to_bytes(encoded) == text
    assert encoded.isascii()
    assert encoded.isprintable()


def test_an_answer_keeps_what_says_more() -> None:
    given_ = (("content-type", "text/plain"), ("content-length", "3"), ("grpc-status", "0"), ("x-a", "1"))
    assert trailers_only(14, given_, b"no!") == (
        ("content-type", "application/grpc"),
        ("grpc-status", "14"),
        ("grpc-message", "no!"),
        ("x-a", "1"),
    )
    assert trailers_only(12, (), b"") == (("content-type", "application/grpc"), ("grpc-status", "12"))


@pytest.mark.parametrize(
    ("value", "status"),
    [(b"0", "0"), (b"14", "14"), (b"014", "14"), (b"17", "2"), (b"", "2"), (b"-1", "2"), (b"1" * 5000, "2")],
)
def test_statuses(value: bytes, status: str) -> None:
    assert status_in([(b"x", b"1"), (b"Grpc-Status", value)]) == status


def test_which_status_is_counted() -> None:
    call = Call("")
    assert [call.counted(status) for status in (0, 200, 503, 404)] == ["none", "none", "14", "12"]
    call.read([(b"grpc-status", b"0")])
    call.read([(b"x", b"1")])
    assert call.counted(200) == "0"
    call.read([(b"grpc-status", b"5")])
    assert call.counted(200) == "5"


def test_what_an_answer_counts_as_for_its_endpoint() -> None:
    assert http_status(200, [(b"grpc-status", b"14")]) == 503
    assert http_status(200, [(b"grpc-status", b"5")]) == 404
    assert http_status(503, []) == 503


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", None, "application/grpc-web"])
def test_which_requests_are_calls(kind: str | None) -> None:
    fields = CIMultiDict({"Content-Type": kind, "Grpc-Timeout": "1S"} if kind else {})
    call = call_of(RequestHead("POST", "/a/b", None, "web", fields))
    assert (call is not None) == (kind in ("application/grpc", "application/grpc+proto"))


def test_names() -> None:
    assert [grpc.name_of(text) for text in ("0", "14", "17", "none", "")] == [
        *("OK", "UNAVAILABLE", "17", "none", ""),
    ]
    assert len(grpc.STATUSES) == 17
    assert {grpc.as_http(status) for status in (0, 99, -1)} == {200, 500}
