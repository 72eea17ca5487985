"""What libnghttp2 tells of a connection while it reads and writes: kept, for the session to hand on.

The library's callbacks are C functions that call Python. There is one of each for all sessions; the session's
own Received comes with each call, as a handle. They decide little, and call nobody: what has come is acted on
when the library has returned. What is raised in one cannot cross C code: it is kept in ``raised`` until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.http2 import codes, nghttp2
from proxy.http2.events import Closed, Data, Drained, Event, Field, GoAway, Headers, Malformed, Pong, Settings
from proxy.http2.floods import FloodWatch, Kind
from proxy.http2.nghttp2 import ffi
from proxy.http2.packing import packed
from proxy.http2.sending import Sending

BOMB = 4
"""A header list that is so many times over the limit ends the connection, not only its stream."""
_FIELD_OVERHEAD = 32  # RFC 9113, 10.5.1
_COUNTED = {
    nghttp2.RST_STREAM: Kind.RESET,
    nghttp2.WINDOW_UPDATE: Kind.WINDOW_UPDATE,
}


class Failure:
    """Why a connection cannot go on, for which our side speaks."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        """``code``: of the GOAWAY frame."""
        self.code = code
        self.reason = reason


class Received:
    """One session's."""

    __slots__ = (
        "clock",
        "events",
        "failure",
        "fields",
        "floods",
        "head_bytes",
        "library",
        "max_head_bytes",
        "orphaned",
        "resets",
        "sending",
        "unconsumed",
    )

    def __init__(self, library: Any, max_head_bytes: int, clock: Callable[[], float]) -> None:
        self.library = library
        self.clock = clock
        self.events: list[Event] = []
        self.fields: list[Field] = []
        """Of the head that is coming; ``head_bytes``: its size so far, as RFC 9113, 10.5.1 counts it."""
        self.head_bytes = 0
        self.max_head_bytes = max_head_bytes
        self.unconsumed: dict[int, int] = {}
        """Bytes of content by their stream."""
        self.orphaned = 0
        """Bytes of content that were not consumed when their streams ended."""
        self.floods = FloodWatch(clock())
        self.sending: dict[int, Sending] = {}
        self.resets: list[int] = []
        """Streams on which all has been sent, and whose peers are to be stopped."""
        self.failure: Failure | None = None

    def stop(self, code: int, reason: str) -> int:
        """The connection is to end; returns what the library has to be told."""
        self.failure = Failure(code, reason)
        return nghttp2.ERR_CALLBACK_FAILURE


_buffer = ffi.buffer
_from_handle = ffi.from_handle


def _on_begin_headers(session: Any, frame: Any, user: Any) -> int:
    received: Received = _from_handle(user)
    received.fields = []
    received.head_bytes = 0
    return 0


def _on_header(
    session: Any, frame: Any, name: Any, name_size: int, value: Any, value_size: int, flags: int, user: Any
) -> int:
    received: Received = _from_handle(user)
    size = received.head_bytes = received.head_bytes + name_size + value_size + _FIELD_OVERHEAD
    if size <= received.max_head_bytes:
        received.fields.append((_buffer(name, name_size)[:], _buffer(value, value_size)[:]))
    elif size > BOMB * received.max_head_bytes:
        return received.stop(codes.ENHANCE_YOUR_CALM, "a header list of many times the limit")
    return 0


def _on_invalid_header(
    session: Any, frame: Any, name: Any, name_size: int, value: Any, value_size: int, flags: int, user: Any
) -> int:
    """By default the library would drop the field. RFC 9113, 8.2.1: the message is malformed."""
    return nghttp2.ERR_TEMPORAL_CALLBACK_FAILURE


def _on_frame(session: Any, frame: Any, user: Any) -> int:
    received: Received = _from_handle(user)
    head = frame.hd
    kind: int = head.type
    if kind == nghttp2.HEADERS:
        received.floods.work += 1
        ended = bool(head.flags & nghttp2.FLAG_END_STREAM)
        oversized = received.head_bytes > received.max_head_bytes
        received.events.append(Headers(head.stream_id, received.fields, ended, oversized))
        return 0
    if kind == nghttp2.DATA:
        if head.flags & nghttp2.FLAG_END_STREAM:
            _end_data(received.events, head.stream_id)
        elif head.length == 0:
            return _count(received, Kind.EMPTY)
        received.floods.work += 1
        return 0
    if kind == nghttp2.SETTINGS:
        if head.flags & nghttp2.FLAG_ACK:
            return 0
        received.events.append(Settings())
        return _count(received, Kind.SETTINGS)
    if kind == nghttp2.PING:
        if head.flags & nghttp2.FLAG_ACK:
            received.events.append(Pong(bytes(frame.ping.opaque_data)))
        return _count(received, Kind.PING)
    if kind == nghttp2.GOAWAY:
        goaway = frame.goaway
        debug = _buffer(goaway.opaque_data, goaway.opaque_data_len)[:] if goaway.opaque_data_len else b""
        received.events.append(GoAway(goaway.last_stream_id, goaway.error_code, debug))
        return 0
    counted = _COUNTED.get(kind)
    return 0 if counted is None else _count(received, counted)


def _count(received: Received, kind: Kind) -> int:
    if received.floods.count(kind, received.clock()):
        return 0
    return received.stop(codes.ENHANCE_YOUR_CALM, f"too many {kind.value} frames")


def _end_data(events: list[Event], stream: int) -> None:
    last = events[-1] if events else None
    if isinstance(last, Data) and last.stream == stream:
        last.ended = True
    else:
        events.append(Data(stream, b"", True))


def _on_data(session: Any, flags: int, stream: int, data: Any, size: int, user: Any) -> int:
    received: Received = _from_handle(user)
    received.unconsumed[stream] = received.unconsumed.get(stream, 0) + size
    received.events.append(Data(stream, _buffer(data, size)[:], False))
    return 0


def _on_invalid_frame(session: Any, frame: Any, error: int, user: Any) -> int:
    received: Received = _from_handle(user)
    reason = ffi.string(received.library.nghttp2_strerror(error)).decode()
    received.events.append(Malformed(frame.hd.stream_id, reason))
    return 0


def _on_close(session: Any, stream: int, code: int, user: Any) -> int:
    received: Received = _from_handle(user)
    received.sending.pop(stream, None)
    if stream in received.unconsumed:
        received.orphaned += received.unconsumed.pop(stream)
    received.events.append(Closed(stream, code))
    return 0


def _read(session: Any, stream: int, into: Any, limit: int, flags: Any, source: Any, user: Any) -> int:
    """The library asks for the next DATA frame's content."""
    received: Received = _from_handle(user)
    sending = received.sending.get(stream)
    if sending is None:
        return nghttp2.ERR_TEMPORAL_CALLBACK_FAILURE
    data = sending.take(limit)
    size = len(data)
    if size:
        received.floods.work += 1
        ffi.memmove(into, data, size)
        if sending.is_high and sending.has_drained():
            received.events.append(Drained(stream))
    elif not sending.ended:
        sending.is_deferred = True
        return nghttp2.ERR_DEFERRED
    if sending.ended and not sending.size:
        flags[0] = nghttp2.DATA_EOF
        if sending.trailers:
            flags[0] |= nghttp2.DATA_NO_END_STREAM
            fields = packed(sending.trailers).entries
            received.library.nghttp2_submit_trailer(session, stream, fields, len(sending.trailers))
        if sending.stops_peer:
            received.resets.append(stream)
    return size


raised: list[BaseException] = []
"""By callbacks of the call into the library that is under way, or has just returned."""


def _keep_raised(kind: type[BaseException], error: BaseException, traceback: object) -> None:
    raised.append(error)


def _c(signature: str, function: Callable[..., int]) -> Any:
    return ffi.callback(signature, function, nghttp2.ERR_CALLBACK_FAILURE, _keep_raised)


def callbacks(library: Any) -> Any:
    """The library's table of all callbacks, for any number of sessions. It is never freed."""
    place = ffi.new("nghttp2_session_callbacks **")
    if library.nghttp2_session_callbacks_new(place):
        raise MemoryError
    table = place[0]
    for name, function in _FUNCTIONS.items():
        getattr(library, f"nghttp2_session_callbacks_set_{name}_callback")(table, function)
    return table


_FUNCTIONS = {
    "on_begin_headers": _c("nghttp2_on_frame_callback", _on_begin_headers),
    "on_header": _c("nghttp2_on_header_callback", _on_header),
    "on_invalid_header": _c("nghttp2_on_header_callback", _on_invalid_header),
    "on_frame_recv": _c("nghttp2_on_frame_callback", _on_frame),
    "on_invalid_frame_recv": _c("nghttp2_on_invalid_frame_recv_callback", _on_invalid_frame),
    "on_data_chunk_recv": _c("nghttp2_on_data_chunk_recv_callback", _on_data),
    "on_stream_close": _c("nghttp2_on_stream_close_callback", _on_close),
}
provider: Any = ffi.new("nghttp2_data_provider *")
"""Where the library gets a stream's content from: one for all, as it asks with the stream's id."""
_read_function = _c("nghttp2_data_source_read_callback", _read)
provider.read_callback = _read_function
