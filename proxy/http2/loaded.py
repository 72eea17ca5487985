"""libnghttp2 as all sessions share it: its functions, our callbacks, and the limits that it keeps itself."""

from __future__ import annotations

import functools

from proxy.http2 import codes, nghttp2
from proxy.http2.nghttp2 import ffi
from proxy.http2.received import callbacks

MAX_UNREAD_ACKS = 1000
"""Acknowledgements that a peer asks for and does not read; beyond: ENHANCE_YOUR_CALM."""
MAX_SETTINGS = 32
MAX_CONTINUATIONS = 8
"""Of one head; beyond: ENHANCE_YOUR_CALM (CVE-2024-27316)."""
UNKNOWN_MAX_STREAMS = 100
"""What is taken for the peer's SETTINGS_MAX_CONCURRENT_STREAMS until it has said one."""
ERROR_CODES = {
    nghttp2.ERR_FLOODED: codes.ENHANCE_YOUR_CALM,
    nghttp2.ERR_TOO_MANY_CONTINUATIONS: codes.ENHANCE_YOUR_CALM,
}
"""What the library ends a connection for, where PROTOCOL_ERROR is not what is said then."""


class Library:
    """What all sessions share."""

    def __init__(self) -> None:
        self.functions = functions = nghttp2.load()
        self.callbacks = callbacks(functions)
        place = ffi.new("nghttp2_option **")
        if functions.nghttp2_option_new(place):
            raise MemoryError
        self.options = options = place[0]
        functions.nghttp2_option_set_no_auto_window_update(options, 1)
        functions.nghttp2_option_set_peer_max_concurrent_streams(options, UNKNOWN_MAX_STREAMS)
        functions.nghttp2_option_set_max_outbound_ack(options, MAX_UNREAD_ACKS)
        functions.nghttp2_option_set_max_settings(options, MAX_SETTINGS)
        functions.nghttp2_option_set_max_continuations(options, MAX_CONTINUATIONS)
        # Ours (floods.py) is lower, and ends the connection with a code that says why.
        functions.nghttp2_option_set_stream_reset_rate_limit(options, 1 << 20, 1 << 20)


@functools.cache
def load_library() -> Library:
    """Load it, once. Raises nghttp2.LibraryError."""
    return Library()
