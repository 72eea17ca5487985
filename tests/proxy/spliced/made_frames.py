"""Frames as bytes, and strategies for sequences of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from hypothesis import strategies as st

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PUSH_PROMISE, PING, GOAWAY, CONTINUATION = 0, 1, 4, 5, 6, 7, 9
ACK = 1
END_HEADERS = 4


class Frame(NamedTuple):
    type: int
    flags: int = 0
    stream: int = 0
    payload: bytes = b""

    def packed(self) -> bytes:
        head = len(self.payload).to_bytes(3, "big") + bytes((self.type, self.flags))
        return head + self.stream.to_bytes(4, "big") + self.payload


def read(data: bytes) -> list[Frame]:
    """All of ``data``, which ends where a frame does."""
    found = []
    while data:
        length = int.from_bytes(data[:3], "big")
        assert len(data) >= 9 + length, data
        stream = int.from_bytes(data[5:9], "big") & 0x7FFF_FFFF
        found.append(Frame(data[3], data[4], stream, data[9 : 9 + length]))
        data = data[9 + length :]
    return found


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """``data``, cut there."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(places):
        yield data[begin:end]


cuts = st.lists(st.integers(0, 4096), max_size=12)
_plain = st.builds(
    Frame,
    type=st.sampled_from([DATA, SETTINGS, PING, GOAWAY, 2, 3, 8, 0xEE]),
    flags=st.sampled_from([0, 1, 5]),
    stream=st.integers(0, 9),
    payload=st.binary(max_size=20),
)
_blocks = st.builds(
    lambda kind, stream, first, more: [
        Frame(kind, 0 if more else END_HEADERS, stream, first),
        *(
            Frame(CONTINUATION, 0 if at < len(more) - 1 else END_HEADERS, stream, each)
            for at, each in enumerate(more)
        ),
    ],
    kind=st.sampled_from([HEADERS, PUSH_PROMISE]),
    stream=st.integers(1, 41),
    first=st.binary(max_size=12),
    more=st.lists(st.binary(max_size=12), max_size=2),
)
frames = st.lists(st.one_of(_plain.map(lambda each: [each]), _blocks), max_size=8).map(
    lambda groups: [frame for group in groups for frame in group]
)
"""Whole ones, header blocks in one piece."""
