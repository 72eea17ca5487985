"""When a peer is asked by PING whether it is there, and when it is given up. Pure: the clock is its caller's.

As Envoy does it (envoy.config.core.v3.KeepaliveSettings). All times in seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, Protocol

from meshd.model.http2 import KeepAlive

SILENT_SECONDS: Final = 330.0
"""Without a byte from a server that has requests: it is asked. gRPC's servers end a connection on which they
are asked more often than every 5 minutes."""
TIMEOUT_SECONDS: Final = 20.0
PING: Final = b"there?  "
"""What it is asked with."""


class Act(enum.Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    ASK = "ask"
    """Send a PING."""
    GIVE_UP = "give up"
    """End the connection: nobody is there."""


class Watch(Protocol):
    """Of one connection."""

    def heard(self, now: float) -> None:
        """Bytes have come."""

    def answered(self, now: float) -> None:
        """The answer to a question has come."""

    def stream_begins(self, now: float) -> bool:
        """A stream is about to begin. True: ask before it."""

    def due(self, now: float, in_use: bool) -> Act:
        """What is to be done. ``in_use``: requests are out."""


class KeepAliveWatch:
    """By the clock, and as an idle connection is used again. Whatever comes is a sign of life."""

    __slots__ = ("_gives_up_at", "_heard_at", "_next_at", "_options", "_random")

    def __init__(self, options: KeepAlive, now: float, random: Callable[[], float]) -> None:
        """``random``: from 0 up to 1."""
        self._options = options
        self._random = random
        self._heard_at = now
        self._gives_up_at: float | None = None
        """None: no question is out."""
        self._next_at = self._after(now)

    def _after(self, now: float) -> float:
        interval = self._options.interval
        if not interval:
            return float("inf")
        return now + interval * (1 + self._options.jitter_percent / 100 * self._random())

    def heard(self, now: float) -> None:
        """Watch: bytes have come."""
        self._heard_at = now
        if self._gives_up_at is not None:
            self._gives_up_at = now + self._options.timeout

    def answered(self, now: float) -> None:
        """Watch: the answer to a question has come."""
        self._gives_up_at = None
        self._next_at = self._after(now)

    def stream_begins(self, now: float) -> bool:
        """Watch: a stream is about to begin."""
        limit = self._options.idle_interval
        if not limit or self._gives_up_at is not None or now - self._heard_at < limit:
            return False
        self._gives_up_at = now + self._options.timeout
        return True

    def due(self, now: float, in_use: bool) -> Act:
        """Watch: what is to be done."""
        if self._gives_up_at is not None:
            return Act.GIVE_UP if now > self._gives_up_at else Act.NOTHING
        if now < self._next_at:
            return Act.NOTHING
        self._gives_up_at = now + self._options.timeout
        return Act.ASK


class SilenceWatch:
    """Of servers that nothing is said about: asked when they have had requests, and been silent, for long."""

    __slots__ = ("_gives_up_at", "_silent_since")

    def __init__(self, now: float) -> None:
        self._silent_since = now
        self._gives_up_at: float | None = None
        """None: no question is out."""

    def heard(self, now: float) -> None:
        """Watch: bytes have come."""
        self._silent_since = now
        self._gives_up_at = None

    def answered(self, now: float) -> None:
        """Watch: it has been ``heard``."""

    def stream_begins(self, now: float) -> bool:
        """Watch: not for that."""
        return False

    def due(self, now: float, in_use: bool) -> Act:
        """Watch: what is to be done."""
        if not in_use:
            self.heard(now)  # from whom nobody wants anything is not silent
        elif self._gives_up_at is not None:
            if now > self._gives_up_at:
                return Act.GIVE_UP
        elif now - self._silent_since > SILENT_SECONDS:
            self._gives_up_at = now + TIMEOUT_SECONDS
            return Act.ASK
        return Act.NOTHING
