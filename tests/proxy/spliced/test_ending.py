"""How a spliced connection is ended: what the two ends see, however their bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.spliced.ending import Ending, NewStreamError, Stage
from proxy.spliced.frames import AFTER_PREFACE, Frames
from tests.proxy.spliced.made_frames import (
    ACK,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    SETTINGS,
    Frame,
    cuts,
    frames,
    pieces,
    read,
)

TOKEN = b"\x01token\x02\x03"
ANNOUNCED = [Frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0"), Frame(PING, 0, 0, TOKEN)]
PONG = Frame(PING, ACK, 0, TOKEN)
GREETING = Frame(SETTINGS).packed()


def _last(stream: int) -> Frame:
    return Frame(GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4))


def _ending(up: bytes = b"", down: bytes = GREETING) -> Ending:
    ways = Frames(AFTER_PREFACE), Frames(AFTER_PREFACE)
    for way, data in zip(ways, (up, down), strict=True):
        way.feed(data)
    return Ending(*ways, TOKEN)


@given(sequence=frames, where=cuts, begun=st.integers(0, 30))
def test_what_is_said_comes_between_two_frames(sequence: list[Frame], where: list[int], begun: int) -> None:
    sent = GREETING + b"".join(frame.packed() for frame in sequence)
    begun = min(begun, len(sent))
    ending = _ending(down=sent[:begun])
    got = sent[:begun] + b"".join(ending.from_server(each) for each in [b"", *pieces(sent[begun:], where)])
    found = read(got)
    assert ending.stage is Stage.ANNOUNCED
    at = next(i for i, frame in enumerate(found) if frame == ANNOUNCED[0] and found[i + 1] == ANNOUNCED[1])
    assert b"".join(frame.packed() for frame in found[:at] + found[at + 2 :]) == sent
    assert at >= 1
    before = [frame for frame in found[:at] if frame.type in (HEADERS, 5, 9)]
    assert not before or before[-1].flags & END_HEADERS


@given(first=frames, second=frames, where=cuts, begun=st.integers(0, 30))
def test_the_pings_answer_is_taken_out_and_nothing_else(
    first: list[Frame], second: list[Frame], where: list[int], begun: int
) -> None:
    head = b"".join(frame.packed() for frame in first)
    begun = min(begun, len(head))
    ending = _ending(up=head[:begun])
    assert ending.from_server(b"") == b"".join(frame.packed() for frame in ANNOUNCED)
    rest = head[begun:] + PONG.packed() + b"".join(frame.packed() for frame in second)
    got = head[:begun] + b"".join(ending.from_client(each) for each in pieces(rest, where))
    assert read(got) == [*first, *second]
    assert ending.from_server(b"") == _last(_highest([*first, *second])).packed()
    assert ending.stage is Stage.NAMED


def _highest(sequence: list[Frame]) -> int:
    return max((each.stream for each in sequence if each.type == HEADERS and each.stream % 2), default=0)


def test_other_pings_answers_pass() -> None:
    ending = _ending()
    ending.from_server(b"")
    other = Frame(PING, ACK, 0, b"whatever").packed()
    assert ending.from_client(other) == other
    assert ending.stage is Stage.ANNOUNCED


def test_no_stream_is_taken_after_the_last_one_and_others_go_on() -> None:
    ending = _ending(up=Frame(HEADERS, END_HEADERS, 5).packed())
    ending.from_server(b"")
    late = Frame(HEADERS, END_HEADERS, 7).packed()
    assert ending.from_client(late) == late
    assert ending.from_client(PONG.packed()) == b""
    assert read(ending.from_server(b"")) == [_last(7)]
    more = Frame(DATA, 0, 5, b"more").packed() + Frame(HEADERS, END_HEADERS | 1, 7).packed()
    assert ending.from_client(more) == more
    with pytest.raises(NewStreamError, match="9"):
        ending.from_client(Frame(HEADERS, END_HEADERS, 9).packed())


def test_who_does_not_answer_is_told_all_the_same() -> None:
    ending = _ending(up=Frame(HEADERS, END_HEADERS, 3).packed())
    ending.from_server(b"")
    ending.waited_enough()
    assert read(ending.from_server(b"")) == [_last(3)]
    assert ending.from_client(PONG.packed()) == b""
    assert ending.stage is Stage.NAMED


def test_a_server_that_has_said_nothing_says_its_settings_first() -> None:
    ending = _ending(down=b"")
    assert ending.from_server(b"") == b""
    assert read(ending.from_server(GREETING)) == [Frame(SETTINGS), *ANNOUNCED]
