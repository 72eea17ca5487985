"""A pool of HTTP/2 connections: each carries as many requests at a time as its server allows."""

from __future__ import annotations

import asyncio
import socket

from meshd.model.clusters import Cluster, Endpoint
from proxy.runtime import Runtime
from proxy.upstream.connecting import OpenSocket
from proxy.upstream.http2 import Http2Upstream, Http2UpstreamPool
from proxy.upstream.http2_stream import ServerStream
from proxy.upstream.pool import IDLE_JITTER

EXPECTED_STREAMS = 100
"""What a server is thought to allow (RFC 9113, 6.5.2: no less is recommended) until one of it has said."""


class Http2Pool(Http2UpstreamPool):
    """Requests go to the connection that has stood longest, as long as it has room."""

    def __init__(
        self, runtime: Runtime, cluster: Cluster, endpoint: Endpoint, open_socket: OpenSocket
    ) -> None:
        super().__init__(runtime, cluster, endpoint, open_socket)
        self._roomy: dict[Http2Upstream, None] = {}
        """Those that take one more request."""
        self._expected = EXPECTED_STREAMS

    def take(self, careful: bool) -> ServerStream | None:
        """Pool: a stream, or None. ``careful``: of no connection of which something is unread."""
        for connection in tuple(self._roomy):
            if not connection.has_room():
                del self._roomy[connection]
            elif not (careful and connection.is_unread()):
                return connection.stream()
        return None

    def is_full(self) -> bool:
        """Whether one more request would have to wait."""
        return not self._roomy

    def room_changed(self, connection: Http2Upstream) -> None:
        """Http2UpstreamPool: a stream has begun or ended, or the server allows more or fewer."""
        if not self.draining and connection in self._all and connection.has_room():
            self._roomy[connection] = None
            if self._waiting:
                self._offer(connection)
        else:
            self._roomy.pop(connection, None)
        if connection.is_idle():
            connection.idle_since = self.runtime.now
            if self.draining:
                connection.close()

    def opened(self, connection: Http2Upstream) -> None:
        """Pool: its server has said what it allows."""
        self._expected = max(1, connection.max_streams)
        had_room = connection.has_room()
        super().opened(connection)
        if self._waiting and not had_room:
            # Another one would be as this is: each that is made serves somebody, or is somebody's failure.
            self._next_waiter().connect_failed("the server takes no requests", False)

    def lost(self, connection: Http2Upstream) -> None:
        """Pool: a connection that stood is gone."""
        self._roomy.pop(connection, None)
        super().lost(connection)

    def check(self, now: float) -> None:
        """Pool: close what has been idle for too long, and look after what is silent."""
        limit = self.cluster.idle_timeout * (1 - IDLE_JITTER * self.runtime.random())
        for connection in tuple(self._all):
            if connection.is_idle():
                if 0 < limit < now - connection.idle_since:
                    connection.close()
            else:
                connection.check(now)

    def _close_idle(self) -> None:
        self._roomy.clear()
        for connection in tuple(self._all):
            if connection.is_idle():
                connection.close()

    def _offer(self, connection: Http2Upstream) -> None:
        while self._waiting and connection.has_room():
            stream = connection.stream()
            if not self._next_waiter().connected(stream):
                stream.leave()
        if not self.draining and connection.has_room():
            self._roomy[connection] = None
        elif self.draining and connection.is_idle():
            connection.close()

    def _needed(self) -> int:
        return -(-len(self._waiting) // self._expected)

    async def _establish(self, sock: socket.socket) -> None:
        connection = Http2Upstream(self, sock)
        task = asyncio.current_task()
        assert task is not None
        self._making[connection] = task
        try:
            await self.runtime.loop.create_connection(lambda: connection, sock=sock)
            try:
                await connection.stands()
            except BaseException:
                connection.abort()
                raise
        finally:
            self._making.pop(connection, None)
