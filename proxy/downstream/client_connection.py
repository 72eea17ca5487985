"""A client's connection, whatever is spoken on it: what is written, how it is held, how it ends."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

from proxy.exchanges.exchange_state import CONNECTION_WAYS, ConnectionState
from proxy.in_force import ListenerState
from proxy.runtime import Runtime
from proxy.transports.read_hold import ANY_REASON, OTHER_SIDE, UNREAD_ANSWERS, ReadHold
from proxy.transports.reset import reset
from proxy.transports.write_limits import WRITE_HIGH_BYTES, WRITE_LOW_BYTES
from proxy.upstream.caller import Caller

LINGER_SECONDS = 2.0
MAX_LINGER_BYTES = 1024 * 1024

_IDLE = ConnectionState.IDLE
_LINGER = ConnectionState.LINGER
_CLOSED = ConnectionState.CLOSED


class ClientConnection(asyncio.Protocol, ABC):
    """The transport's side of a client's connection; what its bytes mean is a subclass's."""

    __slots__ = (
        "_hold",
        "_lingered",
        "_present",
        "_since",
        "_state",
        "_transport",
        "_unsent",
        "caller",
        "eof",
        "ipv6",
        "listener",
        "local",
        "received",
        "remote",
        "runtime",
        "write_paused",
        "written",
    )

    def __init__(
        self,
        runtime: Runtime,
        caller: Caller,
        listener: ListenerState,
        local: str,
        remote: str,
        ipv6: bool,
        present: Callable[[], bool] | None,
    ) -> None:
        """``local``: the address that the client called, ``remote``: its own, both for the log.

        ``present``: whether the client still has its socket. TCP alone cannot tell a client that has closed
        from one that has only finished sending; None: taken to be there until it sends RST.
        """
        self.runtime = runtime
        self.caller = caller
        self.listener = listener
        self.local = local
        self.remote = remote
        self.ipv6 = ipv6
        self._present = present
        self._transport: asyncio.Transport
        self._state = _IDLE
        self._hold: ReadHold
        self._lingered = 0
        self._unsent = 0
        self._since = runtime.now
        """When the state was entered, or last had cause to last on; not kept for EXCHANGE."""
        self.eof = False
        self.write_paused = False
        self.received = 0
        """Bytes from the client, in all; likewise ``written`` to it."""
        self.written = 0

    # -- for subclasses ------------------------------------------------------------------------------

    @abstractmethod
    def check(self, now: float) -> None:
        """Runtime's sweep: act on what has taken too long."""

    @abstractmethod
    def drain(self) -> None:
        """End when what is in flight has ended."""

    @abstractmethod
    def _cancel(self) -> None:
        """The client is gone: so is what it asked for."""

    # -- asyncio -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: accepted."""
        # Not isinstance: uvloop's transports are of no asyncio class.
        self._transport = cast(asyncio.Transport, transport)
        self._hold = ReadHold(self._transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        self.runtime.opened(self)

    def take_over(self, other: ClientConnection) -> None:
        """Go on with another one's connection, which speaks another protocol from here on."""
        self._transport = other._transport
        self._hold = other._hold
        self.eof = other.eof
        self.write_paused = other.write_paused
        self.written = other.written
        self.runtime.replaced(other, self)
        self._transport.set_protocol(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self.runtime.closed(self)
        if self._state is not _CLOSED:
            self._to(_CLOSED)
        self._cancel()

    def pause_writing(self) -> None:
        """asyncio: the client does not read."""
        self.write_paused = True
        self._hold.add(UNREAD_ANSWERS)

    def resume_writing(self) -> None:
        """asyncio: it reads again."""
        self.write_paused = False
        self._hold.remove(UNREAD_ANSWERS)

    # -- as an exchange's client ---------------------------------------------------------------------

    @property
    def transport(self) -> asyncio.Transport:
        """OwnEnd: of the connection."""
        return self._transport

    def leave_kernel(self, now: float) -> bool:
        """OwnEnd: nothing of it is carried. Downstream knows more."""
        return True

    def write(self, data: bytes) -> None:
        """Send to the client."""
        self.written += len(data)
        self._transport.write(data)

    def write_eof(self) -> None:
        """Tell the client that no more comes."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    def hold_for_upstream(self) -> None:
        """Do not read: the server's side cannot take more."""
        self._hold.add(OTHER_SIDE)

    def release_for_upstream(self) -> None:
        """The server's side can take more."""
        self._hold.remove(OTHER_SIDE)

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close after what waits has been sent; what the client asked for is cancelled."""
        if self._state is not _CLOSED:
            self._to(_CLOSED)
        self._transport.close()
        self._cancel()

    def close_at_once(self) -> None:
        """Close, whether or not the client reads what waits for it."""
        if self._transport.get_write_buffer_size():
            reset(self._transport)
        self.close()

    def _linger(self) -> None:
        """RFC 9112, 9.6: close our direction first, lest unread bytes make an RST that eats the response."""
        if self._transport.is_closing():
            return
        if self.eof:
            self.close()
            return
        self._to(_LINGER)
        self._since = self.runtime.now
        self._transport.write_eof()
        self._hold.remove(ANY_REASON)

    def _discard(self, data: bytes) -> None:
        """What comes while it lingers."""
        self._lingered += len(data)
        if self._lingered > MAX_LINGER_BYTES:
            self.close()

    def _check_unsent(self, now: float) -> None:
        """Wait for a slow reader as long as it reads; when all is sent, not long."""
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            self._check_presence()
        limit = self.listener.options.stream_idle_timeout if unsent else LINGER_SECONDS
        if unsent != self._unsent:
            self._unsent = unsent
            self._since = now
        elif 0 < limit < now - self._since:
            self._transport.abort()

    def _check_presence(self) -> None:
        """Nobody reads what a client that is gone has not been sent yet.

        Where it is in a map of the kernel it says FIN, and not RST, when it closes and has not read all; and
        while it is not read from, as its answers are not read, not even that is seen.
        """
        if self._present is not None and not self._present():
            reset(self._transport)
            self.close()

    def _to(self, state: ConnectionState) -> None:
        assert state in CONNECTION_WAYS[self._state], f"{self._state} to {state}"
        self._state = state
