"""One connection to a server: carries one exchange at a time, or waits in its pool for the next."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Protocol, cast

from meshd.datapath.flows.arming import ArmingTable
from proxy.exchanges.read_hold import KERNEL_READS, OTHER_SIDE, ReadHold
from proxy.fast.epoll_set import EpollSet

if TYPE_CHECKING:
    from proxy.exchanges.pool import Pool
    from proxy.fast.flow import FastFlow

WRITE_HIGH_BYTES = 64 * 1024
"""Bytes that wait to be sent; beyond them the other side is not read from."""
WRITE_LOW_BYTES = 16 * 1024


class User(Protocol):
    """Who has a connection for the time of a request and its answer."""

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the server."""

    def upstream_eof(self) -> bool:
        """The server has sent its last byte; True keeps our direction to it open."""

    def upstream_lost(self) -> None:
        """The connection is gone."""

    def upstream_write_paused(self) -> None:
        """The server does not keep up."""

    def upstream_write_resumed(self) -> None:
        """The server has caught up."""


class Upstream(asyncio.Protocol):
    """The proxy's end of a connection to a server (U)."""

    __slots__ = (
        "_entered_at",
        "_hold",
        "_sock",
        "_transport",
        "exchange",
        "flow",
        "idle_since",
        "key",
        "kind",
        "pool",
        "received",
        "reused",
        "write_paused",
        "written",
    )

    def __init__(self, pool: Pool, sock: socket.socket) -> None:
        self.pool = pool
        self._sock = sock
        self._transport: asyncio.Transport
        self.exchange: User | None = None
        """Whose it is at the moment; None: idle."""
        self.flow: FastFlow | None = None
        """Whose client the kernel may use it for, while it is idle; None: it is in its pool."""
        self.written = 0
        """Bytes sent on it, in all; likewise ``received``."""
        self.received = 0
        self._entered_at = 0
        self.key = b""
        """By which the kernel knows it; see ``is_known``."""
        self.kind = -1
        """enum upstream_kind; 0: the kernel cannot use it, -1: not asked yet."""
        self.reused = False
        """It has carried an exchange before."""
        self.idle_since = 0.0
        self.write_paused = False
        self._hold: ReadHold

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection stands."""
        # Not isinstance: uvloop's transports are of no asyncio class.
        self._transport = cast(asyncio.Transport, transport)
        self._hold = ReadHold(self._transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        self.pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the server."""
        self.received += len(data)
        exchange = self.exchange
        if exchange is not None:
            exchange.upstream_data(data)
        elif self.flow is not None:
            self.flow.upstream_data(self, data)
        else:
            # A server that speaks unasked: whatever it means, the next request's answer it is not.
            self.pool.runtime.counters.add("upstream_unsolicited_bytes_total")
            self.pool.discard(self)
            self.abort()

    def eof_received(self) -> bool:
        """asyncio: the server has sent its last byte. True keeps our direction open."""
        if self.exchange is not None:
            return self.exchange.upstream_eof()
        if self.flow is not None:
            self.flow.upstream_ended(self)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        exchange, self.exchange = self.exchange, None
        self.pool.lost(self)
        if exchange is not None:
            exchange.upstream_lost()
        elif self.flow is not None:
            self.flow.upstream_ended(self)

    def pause_writing(self) -> None:
        """asyncio: too much waits to be sent."""
        self.write_paused = True
        if self.exchange is not None:
            self.exchange.upstream_write_paused()

    def resume_writing(self) -> None:
        """asyncio: enough of it has gone."""
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.upstream_write_resumed()

    def write(self, data: bytes) -> None:
        """Send."""
        self.written += len(data)
        self._transport.write(data)

    def write_eof(self) -> None:
        """Say that no more will be sent."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    def hold(self) -> None:
        """Stop to read: the client does not keep up."""
        self._hold.add(OTHER_SIDE)

    def release(self) -> None:
        """Read on."""
        self._hold.remove(OTHER_SIDE)

    def leave_to_kernel(self, epoll_set: EpollSet) -> None:
        """Stop to read: the kernel rings when there is something for us."""
        self._hold.add(KERNEL_READS)
        if self.is_open():
            epoll_set.drop(self._sock.fileno())

    def take_from_kernel(self) -> None:
        """Read on."""
        self._hold.remove(KERNEL_READS)

    def is_open(self) -> bool:
        """Whether it is not closed, as far as is known."""
        return not self._transport.is_closing()

    def is_reusable(self) -> bool:
        """Whether it can carry another exchange: open, and with nothing left to send of the last one."""
        return not self._transport.is_closing() and self._transport.get_write_buffer_size() == 0

    def has_ended(self) -> bool:
        """Whether the server closed it or spoke unasked, and the loop has not told us yet."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def is_known(self, table: ArmingTable) -> bool:
        """Whether the kernel can use it; it is made to know it if need be. While nothing is out on it."""
        if self.kind < 0:
            self.kind = self._make_known(table)
        return self.kind > 0

    def _make_known(self, table: ArmingTable) -> int:
        sock = self._sock
        try:
            self.key = table.connection_keys.pack(sock.getsockname()[:2], sock.getpeername()[:2])
            connection = table.connection(self.key)
            if connection is None or connection.place == table.places["PLACE_GONE"]:
                return 0
            if connection.place == table.places["PLACE_HERE"]:
                return table.kinds["UPSTREAM_HERE"]
            table.enter(self.key, sock.fileno())
            self._entered_at = self.received
        except OSError:
            return 0
        return table.kinds["UPSTREAM_REMOTE"]

    def consumed(self) -> int:
        """Bytes received since the kernel can use it for a server on another node."""
        return self.received - self._entered_at

    def local_address(self) -> str:
        """``address:port`` of our end."""
        try:
            name = self._sock.getsockname()
        except OSError:
            return ""
        return f"[{name[0]}]:{name[1]}" if self._sock.family is socket.AF_INET6 else f"{name[0]}:{name[1]}"

    def close(self) -> None:
        """Close after what waits has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
