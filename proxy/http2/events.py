"""What a peer says on an HTTP/2 connection, in the order in which it says it."""

from __future__ import annotations

from dataclasses import dataclass

Field = tuple[bytes, bytes]


@dataclass(slots=True)
class Headers:
    """A request's or response's head, or the trailers at its end; interim responses too."""

    stream: int
    fields: list[Field]
    """Pseudo-header fields first, by RFC 9113, 8.3: trailers have none. Names are in lower case."""
    ended: bool
    """Nothing more comes on the stream."""
    oversized: bool
    """The list is over the limit, and ``fields`` are only its beginning."""


@dataclass(slots=True)
class Data:
    """A piece of content. Its sender may send that much more when it has been consumed (``consume``)."""

    stream: int
    data: bytes
    ended: bool


@dataclass(slots=True)
class Closed:
    """The stream is over, whoever ended it: nothing can be sent on it any more."""

    stream: int
    code: int
    """NO_ERROR: both sides had said all; else that of the RST_STREAM frame, received or sent."""


@dataclass(slots=True)
class Malformed:
    """What came on a stream is no HTTP message, and the stream has been reset (RFC 9113, 8.1.1)."""

    stream: int
    reason: str


@dataclass(slots=True)
class Drained:
    """Of what waits to be sent on a stream enough has gone, after there was too much of it."""

    stream: int


@dataclass(slots=True)
class GoAway:
    """The peer takes no new streams."""

    last_stream: int
    """Later streams of ours were not processed; each of them is also told of as ``Closed``."""
    code: int
    debug: bytes


@dataclass(slots=True)
class Settings:
    """The peer's settings have come, or changed."""


@dataclass(slots=True)
class Pong:
    """A ping of ours has come back."""

    payload: bytes


Event = Headers | Data | Closed | Malformed | Drained | GoAway | Settings | Pong
