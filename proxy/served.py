"""A workload that the worker serves: its in-pod listeners and what is connected through them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from meshd import netns
from meshd.datapath.flows.table import FlowTable
from meshd.model.workload import Workload
from proxy.arrival import Arrival, Destinations
from proxy.downstream.client_connection import ClientConnection
from proxy.fast.path import FastPath
from proxy.runtime import Connection, Runtime
from proxy.upstream.caller import Caller, Marks


class Served:
    """Owns the namespace's fd, the listeners' fds and all connections of the workload."""

    def __init__(
        self,
        runtime: Runtime,
        workload: Workload,
        fds: Sequence[int],
        home_fd: int,
        marks: Marks,
        fast_path: FastPath,
        flows: Callable[[], FlowTable | None],
    ) -> None:
        """``fds``: as in AddWorkload; taken over. Raises OSError, and then closes them."""
        self.workload = workload
        self.fds = tuple(fds)
        try:
            with netns.entered(fds[0], home_fd):
                cookie = netns.cookie()
        except OSError:
            self._close_fds()
            raise
        self.cookie = cookie
        self.caller = Caller(runtime, workload, fds[0], home_fd, marks)
        self._runtime = runtime
        self._fast_path = fast_path
        self._destinations = Destinations(cookie, flows)
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Accept connections. Raises OSError."""
        for fd in self.fds[1:]:
            # The server closes what it is given; ours must live on, to be handed to a new agent.
            listener = socket.socket(fileno=os.dup(fd))
            listener.setblocking(False)
            self._servers.append(await self._runtime.loop.create_server(self._arrival, sock=listener))

    def renew(self, workload: Workload) -> None:
        """Other labels or addresses of the same pod: its connections go on."""
        self.workload = workload
        self.caller.renew(workload)

    def stop_accepting(self) -> None:
        """Leave further connections to the other workers."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def connections(self) -> list[Connection]:
        """Those that are open."""
        return [each for each in self._runtime.connections if each.caller is self.caller]

    def connection_from(self, client: str) -> ClientConnection | None:
        """The one of a client at ``client``, ``address:port``; None: there is none."""
        for connection in self.connections():
            if isinstance(connection, ClientConnection) and connection.remote == client:
                return connection
        return None

    def close(self) -> None:
        """Close everything, connections at once."""
        self.stop_accepting()
        self._runtime.waiting.drop(self.caller)
        for connection in self.connections():
            connection.close_at_once()
        self.caller.close()
        self._close_fds()

    def _arrival(self) -> Arrival:
        return Arrival(self._runtime, self.caller, self._destinations, self._fast_path)

    def _close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)
