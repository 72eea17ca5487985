"""One of the two sockets of a relayed connection: what it reads the other writes."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from proxy.transports.reset import reset
from proxy.transports.write_limits import WRITE_HIGH_BYTES, WRITE_LOW_BYTES


class Sink(Protocol):
    """Where an end's bytes go."""

    def write(self, data: bytes) -> None:
        """Take them."""

    def write_eof(self) -> None:
        """There are no more."""

    def hold(self) -> None:
        """Send no more: the end's peer does not keep up."""

    def release(self) -> None:
        """It does again."""


class Owner(Protocol):
    """Whose ends they are."""

    def made(self, end: End) -> None:
        """It stands."""

    def finished(self) -> None:
        """The peer of one has sent its last byte."""

    def lost(self, end: End, exc: Exception | None) -> None:
        """It is gone; ``exc``: not in order."""


class End(asyncio.Protocol):
    """Passes on what its peer sends, as fast as that is taken."""

    __slots__ = ("_held", "_owner", "_transport", "eof", "other", "received")

    def __init__(self, owner: Owner, other: Sink) -> None:
        self._owner = owner
        self._transport: asyncio.Transport
        self._held = False
        self.other = other
        """Mostly another End."""
        self.received = 0
        """Bytes from its peer, in all."""
        self.eof = False
        """Its peer has sent its last byte."""

    # -- asyncio -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: it stands."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no asyncio class
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from its peer."""
        self.received += len(data)
        self.other.write(data)

    def eof_received(self) -> bool:
        """asyncio: the peer has sent its last byte. Always True: the owner decides when to close."""
        self.eof = True
        self.other.write_eof()
        self._owner.finished()
        return True

    def pause_writing(self) -> None:
        """asyncio: its peer does not read."""
        self.other.hold()

    def resume_writing(self) -> None:
        """asyncio: it reads again."""
        self.other.release()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is gone."""
        self._owner.lost(self, exc)

    # -- for its owner -------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send to its peer."""
        self._transport.write(data)

    def write_eof(self) -> None:
        """Say that no more is sent, after what waits."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    def hold(self) -> None:
        """Do not read."""
        if not self._held and not self._transport.is_closing():
            self._held = True
            self._transport.pause_reading()

    def release(self) -> None:
        """Read on."""
        if self._held and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()

    def unsent(self) -> int:
        """Bytes that wait for its peer."""
        return self._transport.get_write_buffer_size()

    def local_address(self) -> str:
        """``address:port`` of our side of it."""
        name = self._transport.get_extra_info("sockname")
        if not name:
            return ""
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    def close(self) -> None:
        """Close after what waits has been sent."""
        self._transport.close()

    def reset(self) -> None:
        """Close at once, with RST: what waits is lost, and this is no orderly end."""
        reset(self._transport)
