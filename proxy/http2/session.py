"""One HTTP/2 connection as a state machine: bytes in, events out; messages in, bytes out. No sockets.

A thin, typed wrapper of libnghttp2's session. The library holds the rules of RFC 9113: frames, their order,
streams' states, HPACK, flow control, what a message's head may say; what offends against them it answers by
itself, with RST_STREAM or GOAWAY. Here are what waits to be sent, and limits that it lacks (floods.py).

Flow control is end to end: windows open by what ``consume`` says. A stream's is small beside its
connection's: a stream that nobody reads stalls itself alone, and the connection's bounds what all may hold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from meshd.model.http2 import DEFAULT_CONNECTION_WINDOW, DEFAULT_STREAM_WINDOW, DEFAULT_STREAMS
from proxy.http2 import codes, nghttp2
from proxy.http2.events import Event, Field
from proxy.http2.loaded import ERROR_CODES, load_library
from proxy.http2.nghttp2 import ffi
from proxy.http2.packing import packed
from proxy.http2.received import Failure, Received, provider, raised
from proxy.http2.sending import Sending

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client's connection begins with (RFC 9113, 3.4)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What our side allows; it is told to the peer in the first SETTINGS frame."""

    max_streams: int = DEFAULT_STREAMS
    """Of a server's client (SETTINGS_MAX_CONCURRENT_STREAMS)."""
    max_head_bytes: int = 60 * 1024
    """A header list (SETTINGS_MAX_HEADER_LIST_SIZE)."""
    window: int = DEFAULT_STREAM_WINDOW
    """Bytes that a stream may hold before its first ``consume`` (SETTINGS_INITIAL_WINDOW_SIZE)."""
    connection_window: int = DEFAULT_CONNECTION_WINDOW
    """Bytes that all streams together may hold."""


class SessionError(Exception):
    """The session does not do what is asked of it: it has ended, or has no stream left."""


class Session:
    """Owns the library's session until ``close``. Not to be entered again while one of its methods runs."""

    __slots__ = (
        "_functions",
        "_handle",
        "_has_output",
        "_last_words",
        "_out",
        "_received",
        "_session",
        "is_server",
        "sent_error",
    )

    def __init__(self, is_server: bool, limits: Limits, clock: Callable[[], float]) -> None:
        """``clock``: seconds, by which floods are measured. Raises nghttp2.LibraryError."""
        library = load_library()
        self.is_server = is_server
        self._functions = functions = library.functions
        self._received = Received(functions, limits.max_head_bytes, clock)
        self._handle: Any = ffi.new_handle(self._received)
        self._out: Any = ffi.new("const uint8_t **")
        self._has_output = True
        """The library may have something to send; else it need not be asked."""
        self._last_words = b""
        """To be sent when the library's session cannot be used any more."""
        self.sent_error: Failure | None = None
        """What our side ended the connection with, as far as it has been taken."""
        place = ffi.new("nghttp2_session **")
        new = functions.nghttp2_session_server_new2 if is_server else functions.nghttp2_session_client_new2
        if new(place, library.callbacks, self._handle, library.options):
            raise MemoryError
        self._session: Any = place[0]
        self._introduce(limits)

    def _introduce(self, limits: Limits) -> None:
        settings = {
            nghttp2.SETTINGS_MAX_HEADER_LIST_SIZE: limits.max_head_bytes,
            nghttp2.SETTINGS_INITIAL_WINDOW_SIZE: limits.window,
            # RFC 9113, 5.3: a peer's priorities are not heeded. Each stream with content has its turn.
            nghttp2.SETTINGS_NO_RFC7540_PRIORITIES: 1,
        }
        if self.is_server:
            settings[nghttp2.SETTINGS_MAX_CONCURRENT_STREAMS] = limits.max_streams
            settings[nghttp2.SETTINGS_ENABLE_CONNECT_PROTOCOL] = 1
        else:
            settings[nghttp2.SETTINGS_ENABLE_PUSH] = 0
        entries = ffi.new("nghttp2_settings_entry[]", list(settings.items()))
        functions = self._functions
        self._check(functions.nghttp2_submit_settings(self._session, 0, entries, len(settings)))
        self._check(
            functions.nghttp2_session_set_local_window_size(self._session, 0, 0, limits.connection_window)
        )

    def close(self) -> None:
        """Free the library's session. Nothing may be asked of this one any more; twice is once."""
        session, self._session = self._session, None
        if session is not None:
            self._functions.nghttp2_session_del(session)
            self._handle = None

    # -- bytes ---------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes from the peer. What they say is in ``events``, and perhaps in ``take``."""
        self._has_output = True
        received = self._received
        if received.failure is not None:
            return
        size = self._functions.nghttp2_session_mem_recv(self._session, data, len(data))
        if raised:
            _raise_kept()
        if size < 0 and received.failure is None:
            code = ERROR_CODES.get(size, codes.PROTOCOL_ERROR)
            received.failure = Failure(code, self._text(size))
        if received.failure is not None:
            self._fail(received.failure)
        elif received.orphaned:
            self._consume_orphaned()

    def _consume_orphaned(self) -> None:
        size, self._received.orphaned = self._received.orphaned, 0
        self._has_output = True
        self._functions.nghttp2_session_consume_connection(self._session, size)

    def _fail(self, failure: Failure) -> None:
        last = self._functions.nghttp2_session_get_last_proc_stream_id(self._session)
        debug = failure.reason.encode()
        size = (8 + len(debug)).to_bytes(3, "big")
        self._last_words = size + struct.pack(">BBIII", nghttp2.GOAWAY, 0, 0, last, failure.code) + debug

    def take(self, limit: int = 1 << 30) -> bytes:
        """What is to be sent to the peer now, perhaps nothing. Taking it may make events.

        ``limit``: of bytes, after which no further frame is added.
        """
        received = self._received
        if received.failure is not None:
            words, self._last_words = self._last_words, b""
            if words:
                self.sent_error = received.failure
            return words
        if not self._has_output:
            return b""
        send, session, out = self._functions.nghttp2_session_mem_send, self._session, self._out
        frames: list[bytes] = []
        taken = 0
        while taken < limit:
            size = send(session, out)
            if size <= 0:
                if size == 0 and received.resets:
                    self._reset_ended()
                    continue
                self._has_output = False
                break
            frame: bytes = _buffer(out[0], size)[:]
            if frame[3] == nghttp2.GOAWAY:
                self._note_goaway(frame)
            frames.append(frame)
            taken += size
        if raised:
            _raise_kept()
        if taken < limit and size < 0:
            received.failure = Failure(codes.INTERNAL_ERROR, self._text(size))
            self._fail(received.failure)
        elif received.orphaned:
            self._consume_orphaned()
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _reset_ended(self) -> None:
        for stream in self._received.resets:
            self.reset(stream, codes.NO_ERROR)
        self._received.resets.clear()

    def _note_goaway(self, frame: bytes) -> None:
        # The client's first bytes, which are no frame, have "*" there.
        code = int.from_bytes(frame[13:17], "big")
        if code != codes.NO_ERROR:
            self.sent_error = Failure(code, frame[17:].decode("utf-8", "replace"))

    @property
    def has_events(self) -> bool:
        """Whether there are any."""
        return bool(self._received.events)

    def events(self) -> list[Event]:
        """What has come since they were asked for last, in its order."""
        received = self._received
        events = received.events
        if events:
            received.events = []
        return events

    @property
    def has_failed(self) -> bool:
        """It can only say why it has failed; ``is_over`` when that has been taken."""
        return self._received.failure is not None

    @property
    def is_over(self) -> bool:
        """Nothing more is to be read or written: the connection is to be closed, when all is sent."""
        if self._received.failure is not None:
            return not self._last_words
        functions, session = self._functions, self._session
        return not functions.nghttp2_session_want_read(session) and not functions.nghttp2_session_want_write(
            session
        )

    # -- messages ------------------------------------------------------------------------------------

    def request(self, fields: Sequence[Field], ended: bool) -> int:
        """A client's: begin a request; returns its stream. Raises SessionError.

        ``fields``: with the pseudo-header fields first, names in lower case. ``ended``: there is no content
        and there are no trailers.
        """
        self._has_output = True
        place = packed(fields)
        stream: int = self._functions.nghttp2_submit_request(
            self._session, ffi.NULL, place.entries, len(fields), ffi.NULL if ended else provider, ffi.NULL
        )
        self._check(stream)
        if not ended:
            self._received.sending[stream] = Sending()
        return stream

    def respond(self, stream: int, fields: Sequence[Field], ended: bool, stop_peer: bool = False) -> None:
        """A server's: the final response to a request begins. A stream that is over gets none.

        ``fields``, ``ended``: as ``request``'s. ``stop_peer``: as ``finish``'s, of a response that has ended.
        """
        self._has_output = True
        functions, session = self._functions, self._session
        place = packed(fields)
        if ended:
            functions.nghttp2_submit_response(session, stream, place.entries, len(fields), ffi.NULL)
            if stop_peer:
                self._received.resets.append(stream)
            return
        self._received.sending[stream] = Sending()
        functions.nghttp2_session_change_extpri_stream_priority(session, stream, _TAKES_TURNS, 1)
        if functions.nghttp2_submit_response(session, stream, place.entries, len(fields), provider):
            self._received.sending.pop(stream, None)

    def interim(self, stream: int, fields: Sequence[Field]) -> None:
        """A server's: a 1xx response."""
        self._has_output = True
        place = packed(fields)
        self._functions.nghttp2_submit_headers(
            self._session, nghttp2.FLAG_NONE, stream, ffi.NULL, place.entries, len(fields), ffi.NULL
        )

    def send(self, stream: int, data: bytes) -> None:
        """More content on a stream that was begun as not ended; it waits until the peer takes it.

        Of a stream that is over nothing is sent.
        """
        sending = self._received.sending.get(stream)
        if sending is not None:
            sending.add(data)
            self._resume(stream, sending)

    def finish(
        self, stream: int, data: bytes = b"", trailers: Sequence[Field] = (), stop_peer: bool = False
    ) -> None:
        """As ``send``, and nothing comes after it but ``trailers``.

        ``stop_peer``: the rest of what the peer has to say is not wanted; a server tells it so when its
        answer has gone (RFC 9113, 8.1).
        """
        sending = self._received.sending.get(stream)
        if sending is None:
            return
        sending.add(data)
        sending.ended = True
        sending.trailers = trailers
        sending.stops_peer = stop_peer
        self._resume(stream, sending)

    def _resume(self, stream: int, sending: Sending) -> None:
        self._has_output = True
        if sending.is_deferred:
            sending.is_deferred = False
            self._functions.nghttp2_session_resume_data(self._session, stream)

    def is_backed_up(self, stream: int) -> bool:
        """Whether too much waits to be sent on a stream; ``Drained`` says when not any more."""
        sending = self._received.sending.get(stream)
        return sending is not None and sending.is_high

    def unsent(self, stream: int) -> int:
        """Bytes of content that wait to be sent on a stream."""
        sending = self._received.sending.get(stream)
        return 0 if sending is None else sending.size

    def reset(self, stream: int, code: int) -> None:
        """End a stream at once, in both directions."""
        self._has_output = True
        self._functions.nghttp2_submit_rst_stream(self._session, 0, stream, code)

    def consume(self, stream: int, size: int) -> None:
        """So much of a stream's content has gone on: its sender may send as much more.

        What is not consumed when a stream is over counts as consumed.
        """
        unconsumed = self._received.unconsumed
        held = unconsumed.get(stream, 0)
        if held:
            unconsumed[stream] = held - size
            self._has_output = True
            self._functions.nghttp2_session_consume(self._session, stream, size)

    # -- the connection ------------------------------------------------------------------------------

    def upgrade(self, settings: bytes, is_head_request: bool) -> None:
        """A server's, before all else: the connection has been upgraded, and stream 1 is its request.

        ``settings``: the payload of a SETTINGS frame, from the HTTP2-Settings field (RFC 7540, 3.2.1). Raises
        SessionError.
        """
        self._has_output = True
        self._check(
            self._functions.nghttp2_session_upgrade2(
                self._session, settings, len(settings), is_head_request, ffi.NULL
            )
        )

    @property
    def max_streams(self) -> int:
        """How many streams the peer lets us have open at a time."""
        size: int = self._functions.nghttp2_session_get_remote_settings(
            self._session, nghttp2.SETTINGS_MAX_CONCURRENT_STREAMS
        )
        return size

    @property
    def takes_tunnels(self) -> bool:
        """Whether the peer, a server, takes extended CONNECT (RFC 8441), as far as it has said."""
        return bool(
            self._functions.nghttp2_session_get_remote_settings(
                self._session, nghttp2.SETTINGS_ENABLE_CONNECT_PROTOCOL
            )
        )

    @property
    def takes_requests(self) -> bool:
        """Whether a client may begin another request: there was no GOAWAY, and there are stream ids."""
        return (
            self._received.failure is None
            and self._functions.nghttp2_session_check_request_allowed(self._session) == 1
        )

    def ping(self, payload: bytes) -> None:
        """Ask for a ``Pong``. ``payload``: 8 bytes."""
        self._has_output = True
        self._check(self._functions.nghttp2_submit_ping(self._session, 0, payload))

    def announce_end(self) -> None:
        """A server's: no new streams are wanted; those on their way are still taken (RFC 9113, 6.8)."""
        self._has_output = True
        self._functions.nghttp2_submit_shutdown_notice(self._session)

    def go_away(self) -> None:
        """Take no new streams from here on; those that are open go on."""
        self._has_output = True
        functions, session = self._functions, self._session
        last = functions.nghttp2_session_get_last_proc_stream_id(session)
        functions.nghttp2_submit_goaway(session, 0, last, codes.NO_ERROR, ffi.NULL, 0)

    def end(self, code: int) -> None:
        """End the connection with a GOAWAY of that code; ``is_over`` follows when it has been taken."""
        self._has_output = True
        self._functions.nghttp2_session_terminate_session(self._session, code)

    def _check(self, result: int) -> None:
        if result < 0:
            raise SessionError(self._text(result))

    def _text(self, error: int) -> str:
        text: bytes = ffi.string(self._functions.nghttp2_strerror(error))
        return text.decode()


_buffer = ffi.buffer
_TAKES_TURNS: Any = ffi.new("nghttp2_extpri *", {"urgency": nghttp2.URGENCY_DEFAULT, "inc": 1})


def _raise_kept() -> None:
    error = raised[0]
    raised.clear()
    raise error
