"""Two sessions that talk to each other, and frames written by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeVar

from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.listeners import HttpOptions
from meshd.model.routes import Route
from meshd.model.snapshot import Delta
from proxy.http2 import nghttp2
from proxy.http2.events import Event, Field
from proxy.http2.session import PREFACE, Limits, Session
from tests.support.http_bed import FORWARD, config

GET: tuple[Field, ...] = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"web"),
)
POST: tuple[Field, ...] = ((b":method", b"POST"), *GET[1:])
OK: tuple[Field, ...] = ((b":status", b"200"),)

E = TypeVar("E", bound=Event)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pair:
    """A client and a server, past their first SETTINGS frames."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.client = Session(False, Limits(), self.clock)
        self.server = Session(True, limits or Limits(), self.clock)
        self.talk()
        self.client.events()
        self.server.events()

    def talk(self) -> None:
        """Until neither has anything to say."""
        while (to_server := self.client.take()) + (to_client := self.server.take()):
            self.server.feed(to_server)
            self.client.feed(to_client)

    def close(self) -> None:
        self.client.close()
        self.server.close()


def of(kind: type[E], events: Sequence[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream) + payload


SETTINGS = frame(nghttp2.SETTINGS)
OPENING = PREFACE + SETTINGS

END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY, ACK = 0x1, 0x4, 0x8, 0x20, 0x1
PRIORITY, PUSH_PROMISE, CONTINUATION = 0x2, 0x5, 0x9


def literal(name: bytes, value: bytes) -> bytes:
    """A field without indexing, in HPACK (RFC 7541, 6.2.2): names and values below 127 bytes."""
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def block(fields: Sequence[Field]) -> bytes:
    return b"".join(literal(name, value) for name, value in fields)


def head(stream: int, fields: Sequence[Field], flags: int = END_STREAM | END_HEADERS) -> bytes:
    return frame(nghttp2.HEADERS, flags, stream, block(fields))


def split(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Whole frames: kind, flags, stream, payload."""
    frames = []
    while data:
        size = int.from_bytes(data[:3], "big")
        frames.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        assert len(data) >= 9 + size
        data = data[9 + size :]
    return frames


def to_http1(port: int, routes: tuple[Route, ...] = (FORWARD,), options: HttpOptions | None = None) -> Delta:
    """A service of one server, which speaks HTTP/1.1 whatever its clients speak."""
    return config((port,), routes, options, Cluster(name="web", http_version=HttpVersion.HTTP1))
