"""One HTTP/1.1 connection to a server: carries one exchange at a time, or waits in its pool for the next."""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol, cast

from meshd.datapath.flows.arming import ArmingTable
from proxy.http1 import heads
from proxy.http1.body import CONTENT
from proxy.http1.chunks import chunk, last_chunk
from proxy.http1.field_values import Field
from proxy.http1.response_heads import ResponseHeads
from proxy.http1.response_parser import ResponseError
from proxy.transports.epoll_set import EpollSet
from proxy.transports.read_hold import KERNEL_READS, OTHER_SIDE, ReadHold
from proxy.transports.sockets import has_something, local_name
from proxy.transports.write_limits import WRITE_HIGH_BYTES, WRITE_LOW_BYTES
from proxy.upstream import loss
from proxy.upstream.connection_pool import ConnectionPool
from proxy.upstream.loss import Loss
from proxy.upstream.outgoing import Outgoing
from proxy.upstream.server import Keeper, User


class UpstreamPool(ConnectionPool["Upstream"]):
    """Where a connection is between two exchanges."""

    @abstractmethod
    def release(self, upstream: Upstream) -> None:
        """Take back a connection whose exchange ended cleanly."""

    @abstractmethod
    def discard(self, upstream: Upstream) -> None:
        """Forget an idle connection."""


class Borrower(Protocol):
    """Who has an idle connection that is not in its pool: the kernel may use it for one client."""

    def upstream_data(self, upstream: Upstream, data: bytes) -> None:
        """Bytes of a server that has no exchange: an answer that the kernel leaves to the proxy, or noise."""

    def upstream_ended(self, upstream: Upstream) -> None:
        """The server has closed a connection that has no exchange, or it broke."""

    def leave_server(self, upstream: Upstream, now: float) -> bool:
        """Have the kernel carry nothing more to a server. Whether nothing is on its way there any more."""

    def withdraw(self) -> None:
        """An endpoint takes no more requests: give up the connections to it."""


class Upstream(asyncio.Protocol):
    """The proxy's end of a connection to a server (U): the Server of each of its requests."""

    __slots__ = (
        "_chunks",
        "_entered_at",
        "_heads",
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

    def __init__(self, pool: UpstreamPool, sock: socket.socket) -> None:
        self.pool = pool
        self._sock = sock
        self._transport: asyncio.Transport
        self.exchange: User | None = None
        """Whose it is at the moment; None: idle."""
        self._heads: ResponseHeads | None = None
        """Of the answer; None: its final head has come."""
        self._chunks = False
        """Whether the request's body is content that is to be sent in chunks."""
        self.flow: Borrower | None = None
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
        if self.exchange is not None:
            self.deliver(data)
        elif self.flow is not None:
            self.flow.upstream_data(self, data)
        else:
            # A server that speaks unasked: whatever it means, the next request's answer it is not.
            self.pool.runtime.counters.add("upstream_unsolicited_bytes_total")
            self.pool.discard(self)
            self.abort()

    def deliver(self, data: bytes) -> None:
        """Bytes of the answer to whoever has the connection."""
        exchange = self.exchange
        assert exchange is not None
        if self._heads is None:
            exchange.upstream_data(data)
        else:
            self._read_heads(self._heads, exchange, data)

    def _read_heads(self, heads: ResponseHeads, exchange: User, data: bytes) -> None:
        at = 0
        while self.exchange is exchange:
            try:
                response, data, at = heads.read(data, at)
            except ResponseError as error:
                self._lose(loss.broken(str(error)))
                self.abort()
                return
            if response is None:
                return
            if response.status >= 200 or response.status == 101:
                self._heads = None
                exchange.upstream_responds(response, data, at)
                return
            exchange.upstream_interim(response)

    def eof_received(self) -> bool:
        """asyncio: the server has sent its last byte. True keeps our direction open."""
        if self.exchange is not None:
            return self.exchange.upstream_end(())
        if self.flow is not None:
            self.flow.upstream_ended(self)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self.pool.lost(self)
        if self.exchange is not None:
            self._lose(loss.closed(self.is_answering))
        elif self.flow is not None:
            self.flow.upstream_ended(self)

    def _lose(self, why: Loss) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.upstream_lost(why)

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

    # -- as an exchange's server ---------------------------------------------------------------------

    @property
    def is_answering(self) -> bool:
        """Server: whether a byte of a response has come."""
        return self._heads is None or self._heads.has_begun

    def expect_answer(self, user: User, method: str) -> None:
        """``user`` has a request of ``method`` out on it, or is about to."""
        self.exchange = user
        self._heads = ResponseHeads(self.pool.runtime.responses, method)
        self._chunks = False

    def skip_head(self) -> None:
        """The kernel has brought the client the answer's head: what comes is the rest of its body."""
        self._heads = None

    def send(self, user: User, request: Outgoing, body: bytes) -> None:
        """Server: send the request's head and what has come of its body."""
        self.exchange = user
        self._heads = ResponseHeads(self.pool.runtime.responses, request.asked.head.method)
        self._chunks = False
        fields = request.fields
        if request.asked.length == CONTENT and not any(
            name.lower() == b"content-length" for name, _ in fields
        ):
            self._chunks = True
            fields = [*fields, (b"Transfer-Encoding", b"chunked")]
            body = chunk(body)
        data = heads.request_head(request.asked.head.method, request.target, fields)
        if body:
            data += body
        self.written += len(data)
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Server: more of the body."""
        if self._chunks:
            data = chunk(data)
        self.written += len(data)
        self._transport.write(data)

    def end(self, trailers: Sequence[Field]) -> None:
        """Server: the end of a body that is content."""
        if self._chunks:
            data = last_chunk(trailers)
            self.written += len(data)
            self._transport.write(data)

    def write_eof(self) -> None:
        """Server: say that no more will be sent."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    def finish(self, is_clean: bool, keeper: Keeper | None) -> None:
        """Server: the answer has ended."""
        self.exchange = None
        if not is_clean:
            self.close()
            return
        self.release()
        if keeper is None or not keeper.keep(self):
            self.pool.release(self)

    def leave(self) -> None:
        """Server: nobody wants the answer, or the rest of it."""
        self.exchange = None
        self.abort()

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
        return has_something(self._sock)

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

    @property
    def transport(self) -> asyncio.Transport:
        """OwnEnd: of the connection."""
        return self._transport

    def leave_kernel(self, now: float) -> bool:
        """OwnEnd: the server's socket can take no more of what the kernel brings."""
        self.kind = 0
        return self.flow is None or self.flow.leave_server(self, now)

    def consumed(self) -> int:
        """Bytes received since the kernel can use it for a server on another node."""
        return self.received - self._entered_at

    def local_address(self) -> str:
        """``address:port`` of our end."""
        return local_name(self._sock)

    def close(self) -> None:
        """Close after what waits has been sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
