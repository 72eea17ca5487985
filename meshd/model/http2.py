"""How HTTP/2 is spoken on connections of one kind: a listener's clients', or a cluster's servers'.

xDS: envoy.config.core.v3.Http2ProtocolOptions.
"""

from __future__ import annotations

import msgspec

DEFAULT_JITTER_PERCENT = 15.0
"""Envoy's."""
DEFAULT_STREAMS = 1024
"""Envoy's."""
DEFAULT_STREAM_WINDOW = 64 * 1024 - 1
"""RFC 9113, 6.9.2. Envoy's is 16 MiB: what a slow reader may hold up is less here."""
DEFAULT_CONNECTION_WINDOW = 8 * 1024 * 1024
"""128 streams can be stalled before others are. Envoy's is 24 MiB."""


class KeepAlive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A peer is asked by PING whether it is there (KeepaliveSettings). Times in seconds."""

    interval: float = 0.0
    """From one answer to the next question; 0: not asked by the clock (interval)."""
    timeout: float
    """Without any frame for so long after a question: the connection is given up (timeout)."""
    jitter_percent: float = DEFAULT_JITTER_PERCENT
    """So much of the interval, at most, is added to it at random (interval_jitter)."""
    idle_interval: float = 0.0
    """Servers only: without a byte for so long, they are asked as the next stream begins; 0: they are not
    (connection_idle_interval)."""


class Http2Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What our side allows, and how it looks after a connection."""

    max_streams: int = DEFAULT_STREAMS
    """Requests at a time on a connection: of a client, and to a server that allows more
    (max_concurrent_streams)."""
    stream_window: int = DEFAULT_STREAM_WINDOW
    """Bytes of a stream that may come before they are consumed (initial_stream_window_size)."""
    connection_window: int = DEFAULT_CONNECTION_WINDOW
    """Of all streams of a connection (initial_connection_window_size)."""
    keepalive: KeepAlive | None = None
    """connection_keepalive. None: clients are not asked; servers only where they have requests and have said
    nothing for minutes."""
