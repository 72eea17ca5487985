"""Where the frames are in one direction of a spliced HTTP/2 connection, as the kernel and the proxy tell it
each other. Pure.
"""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """Between which two bytes of one direction: struct frames."""

    left: int = 0
    """Bytes of a frame's payload, or of the preface, that are to come."""
    have: int = 0
    """Bytes that have come of the next frame's header: the first ones of ``head``."""
    head: bytes = b""
    in_block: bool = False
    """A header block has begun and not ended."""
    begun: bool = False
    """Some frame's header has come."""
    highest: int = 0
    """The last stream that the client has opened."""
    opened: int = 0
    """How many it has, mod 2**32."""
