"""How many frames that move no request along a peer may send. Pure: the clock is its caller's.

libnghttp2 bounds what a flood makes wait (acknowledgements that are not read, CONTINUATION frames, settings
in one frame); here is counted what costs time alone. Each kind has tokens to begin with; they come back with
time, and with work: with each head, and each piece of content in either direction. So a peer that does much
may also say much, as Envoy allows it (Http2ProtocolOptions:
max_inbound_window_update_frames_per_data_frame_sent; of resets its premature_reset_total_stream_count).
Frames that mean nothing here, PRIORITY and those of unknown types, the library skips.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """Frames that are counted."""

    __hash__ = object.__hash__

    RESET = "RST_STREAM"
    SETTINGS = "SETTINGS"
    PING = "PING"
    WINDOW_UPDATE = "WINDOW_UPDATE"
    EMPTY = "empty"
    """DATA frames without content that do not end their stream."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """Of one kind: how many may come at once, and how they come back."""

    most: float
    per_second: float
    per_work: float


ALLOWANCES = {
    # Of a client that resets all that it opens (CVE-2023-44487) a thousand streams pass.
    Kind.RESET: Allowance(500, 33, 0.5),
    Kind.SETTINGS: Allowance(100, 10, 0),
    # gRPC measures the way's bandwidth with one for each round trip in which there is content.
    Kind.PING: Allowance(1000, 100, 2),
    Kind.WINDOW_UPDATE: Allowance(1000, 100, 20),
    Kind.EMPTY: Allowance(100, 10, 1),
}


class FloodWatch:
    """One connection's."""

    __slots__ = ("_levels", "work")

    def __init__(self, now: float) -> None:
        """``now``: seconds, by the clock of every ``count``."""
        self.work = 0
        """Heads and pieces of content so far; who sees one adds one."""
        self._levels = {kind: (allowance.most, now, 0) for kind, allowance in ALLOWANCES.items()}

    def count(self, kind: Kind, now: float) -> bool:
        """A frame of that kind has come. False: one too many."""
        allowance = ALLOWANCES[kind]
        level, then, work = self._levels[kind]
        level += allowance.per_second * max(0.0, now - then) + allowance.per_work * (self.work - work)
        level = min(level, allowance.most) - 1
        self._levels[kind] = level, max(then, now), self.work
        return level >= 0
