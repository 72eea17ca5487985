"""A pool of HTTP/1.1 connections: each carries one request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque

from meshd.model.clusters import Cluster, Endpoint
from proxy.runtime import Runtime
from proxy.upstream.connecting import OpenSocket
from proxy.upstream.http1 import Upstream, UpstreamPool
from proxy.upstream.pool import IDLE_JITTER


class Http1Pool(UpstreamPool):
    """LIFO: the connection used last is the least likely to be closed by the server meanwhile."""

    def __init__(
        self, runtime: Runtime, cluster: Cluster, endpoint: Endpoint, open_socket: OpenSocket
    ) -> None:
        super().__init__(runtime, cluster, endpoint, open_socket)
        self._idle: deque[Upstream] = deque()

    def take(self, careful: bool) -> Upstream | None:
        """Pool: an idle connection, or None. ``careful``: look twice at it."""
        while self._idle:
            upstream = self._idle.pop()
            if careful and upstream.has_ended():
                upstream.abort()
            elif upstream.is_open():
                return upstream
        return None

    def release(self, upstream: Upstream) -> None:
        """UpstreamPool: take back a connection whose exchange ended cleanly."""
        if self.draining or not upstream.is_reusable():
            upstream.close()
            return
        upstream.reused = True
        # Who waits may have what must not be sent twice, so look twice at the connection.
        if self._waiting and upstream.has_ended():
            upstream.abort()
        else:
            self._offer(upstream)

    def discard(self, upstream: Upstream) -> None:
        """UpstreamPool: forget an idle connection."""
        with contextlib.suppress(ValueError):
            self._idle.remove(upstream)

    def lost(self, connection: Upstream) -> None:
        """Pool: a connection that stood is gone."""
        self.discard(connection)
        super().lost(connection)

    def check(self, now: float) -> None:
        """Pool: close what has been idle for too long."""
        limit = self.cluster.idle_timeout
        if limit > 0:
            limit *= 1 - IDLE_JITTER * self.runtime.random()
            while self._idle and now - self._idle[0].idle_since > limit:
                self._idle.popleft().close()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
        for upstream in tuple(self._all):
            if upstream.flow is not None:
                upstream.flow.withdraw()

    def _offer(self, connection: Upstream) -> None:
        while self._waiting:
            if self._next_waiter().connected(connection):
                return
        if self.draining:
            connection.close()
            return
        connection.idle_since = self.runtime.now
        self._idle.append(connection)

    def _needed(self) -> int:
        return len(self._waiting)

    async def _establish(self, sock: socket.socket) -> None:
        upstream = Upstream(self, sock)
        task = asyncio.current_task()
        assert task is not None
        self._making[upstream] = task
        try:
            await self.runtime.loop.create_connection(lambda: upstream, sock=sock)
        finally:
            self._making.pop(upstream, None)
