"""The end of a spliced connection without a lost request: what is put into its bytes, and taken out. Pure.

RFC 9113, 6.8: a first GOAWAY says that no new streams are wanted; when what the client had sent until it knew
must have come, which the answer to a PING tells, a second one says which stream was the last. Then the client
ends the connection when its streams have ended.
"""

from __future__ import annotations

import enum
from typing import Final

from proxy.spliced.frames import ACK, PING, Frames, Header, goaway, ping

_ANY_STREAM: Final = 2**31 - 1
_PING_BYTES: Final = 8


class NewStreamError(Exception):
    """The client has opened a stream after it was told which was the last. Its number is the argument."""


class Stage(enum.Enum):
    """How far the end has got."""

    ANNOUNCING = "announcing"
    """The first GOAWAY waits for its place between two frames."""
    ANNOUNCED = "announced"
    """The client has been told, and may have opened streams before it knew."""
    NAMING = "naming"
    """The second one waits for its place."""
    NAMED = "named"
    """No further stream is taken."""


class Ending:
    """From when nothing but the proxy passes on the connection's bytes."""

    __slots__ = ("_candidate", "_down", "_held", "_is_head_out", "_last", "_payload", "_up", "stage")

    def __init__(self, up: Frames, down: Frames, payload: bytes) -> None:
        """``up``, ``down``: what came from the client, and from the server. ``payload``: of the PING; 8 bytes
        that nobody could guess.
        """
        self._up = up
        self._down = down
        self._payload = payload
        self._held = bytearray()
        """Of the client's bytes: a header that is not whole, or what may be the PING's answer."""
        self._candidate = False
        """``_held`` begins with the header of an answer to some PING."""
        self._is_head_out = up.is_in_header
        """Some of the header that comes now has been passed on already."""
        self._last = 0
        self.stage = Stage.ANNOUNCING

    def from_server(self, data: bytes) -> bytes:
        """What the client gets when the server has sent ``data``; with none, if something is due."""
        out = bytearray()
        at = 0
        while True:
            if self._down.is_between:
                out += self._due()
            if at == len(data):
                return bytes(out)
            end, _ = self._down.step(data, at)
            out += data[at:end]
            at = end

    def from_client(self, data: bytes) -> bytes:
        """What the server gets when the client has sent ``data``. Raises NewStreamError."""
        out = bytearray()
        at = 0
        while at < len(data):
            end, header = self._up.step(data, at)
            self._held += data[at:end]
            at = end
            if header is not None:
                self._judge(header)
            if self._may_go():
                out += self._held
                self._held.clear()
        return bytes(out)

    def waited_enough(self) -> None:
        """The client does not answer the PING."""
        if self.stage is Stage.ANNOUNCED:
            self.stage = Stage.NAMING

    def _due(self) -> bytes:
        """The frames that are to come next."""
        if self.stage is Stage.ANNOUNCING:
            self.stage = Stage.ANNOUNCED
            return goaway(_ANY_STREAM) + ping(self._payload)
        if self.stage is Stage.NAMING:
            self.stage = Stage.NAMED
            self._last = self._up.highest
            return goaway(self._last)
        return b""

    def _judge(self, header: Header) -> None:
        """A header is whole."""
        if self._is_head_out:
            self._is_head_out = False
            return
        if self.stage is Stage.NAMED and header.opens > self._last:
            raise NewStreamError(header.opens)
        self._candidate = header.type == PING and bool(header.flags & ACK) and header.length == _PING_BYTES

    def _may_go(self) -> bool:
        """Whether what is held is for the server. Its PING's answer is nobody's but ours."""
        if self._is_head_out:
            return True
        if self._up.is_in_header:
            return False
        if not self._candidate:
            return True
        if self._up.left:
            return False
        self._candidate = False
        if self._held[-_PING_BYTES:] != self._payload:
            return True
        self._held.clear()
        self.waited_enough()
        return False
