"""Connections as they arrive at in-pod listeners: who is it, and which service was meant?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from meshd import log
from meshd.datapath.flows.table import FlowTable
from meshd.model.listeners import Protocol
from proxy.downstream.http1 import Downstream
from proxy.fast.flow import FastFlow
from proxy.fast.path import FastPath
from proxy.in_force import ListenerState
from proxy.runtime import Runtime
from proxy.tcp.session import Session
from proxy.transports.reset import reset
from proxy.transports.sockets import end_name
from proxy.upstream.caller import Caller
from proxy.waiting import Wanted

_logger = logging.getLogger("meshd.proxy.arrival")

MAX_EARLY_BYTES = 64 * 1024
"""Of a connection that waits for its service's config; beyond it the client is not read from."""


class Destinations:
    """What the kernel knows of the connections from one namespace."""

    def __init__(self, cookie: int, flows: Callable[[], FlowTable | None]) -> None:
        """``flows``: the table at the time of asking; an agent that comes anew brings a new one."""
        self._cookie = cookie
        self._flows = flows

    def of(self, address: str, port: int) -> tuple[str, int] | None:
        """The service address that a client at ``address`` called; None: unknown."""
        flows = self._flows()
        if flows is None:
            return None
        try:
            return flows.original_destination(self._cookie, address, port)
        except OSError as error:
            log.event(_logger, logging.ERROR, "flow lookup failed", reason=error.strerror)
            return None

    def key(self, address: str, port: int) -> bytes:
        """What the kernel calls the connection of a client that ``of`` knows."""
        flows = self._flows()
        assert flows is not None
        return flows.key(self._cookie, address, port)


class Arrival(asyncio.Protocol):
    """The protocol of a connection until it is known what it is; then Downstream or a Session takes over."""

    def __init__(
        self, runtime: Runtime, caller: Caller, destinations: Destinations, fast_path: FastPath
    ) -> None:
        self._runtime = runtime
        self.caller = caller
        self._destinations = destinations
        self._fast_path = fast_path
        self._transport: asyncio.Transport
        self._peer = ("", 0)
        self._wanted = Wanted("", 0, caller.namespace)
        self._data = bytearray()
        """What came while it waits."""
        self._eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: accepted."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's are of no asyncio class
        runtime = self._runtime
        peer = transport.get_extra_info("peername")
        if peer is None:  # gone already
            transport.abort()
            return
        if runtime.is_full():
            self._reject(transport, "downstream_connections_rejected_total", peer)
            return
        self._peer = peer[0], peer[1]
        meant = self._destinations.of(*self._peer)
        if meant is None:
            self._reject(transport, "downstream_unknown_destination_total", peer)
            return
        self._wanted = Wanted(*meant, self.caller.namespace)
        listener = runtime.config.listener_at(*self._wanted)
        if listener is not None:
            self._become(listener)
        elif not runtime.waiting.add(self._wanted, self):
            self._reject(transport, "downstream_connections_rejected_total", peer)

    # -- while it waits ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client. (Not to read from the start is not in uvloop's power.)"""
        self._data += data
        if len(self._data) >= MAX_EARLY_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """asyncio: the client has sent its last byte, and may wait for an answer."""
        self._eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client is gone."""
        self._runtime.waiting.remove(self._wanted, self)

    def go_on(self, state: ListenerState) -> None:
        """Connection: what was waited for is here."""
        if self._transport.is_closing():
            return
        if len(self._data) >= MAX_EARLY_BYTES:
            self._transport.resume_reading()
        taker = self._become(state)
        if self._data:
            taker.data_received(bytes(self._data))
        if self._eof:
            taker.eof_received()

    def give_up(self) -> None:
        """Connection: nothing came."""
        reset(self._transport)

    def _become(self, listener: ListenerState) -> asyncio.Protocol:
        """It is known what it is. Who takes it over."""
        destinations, fast_path, peer = self._destinations, self._fast_path, self._peer
        local, remote = end_name(self._wanted.address, self._wanted.port), end_name(*peer)
        ipv6 = ":" in self._wanted.address
        if listener.listener.protocol is Protocol.TCP:
            session = Session(self._runtime, self.caller, listener, local, remote, ipv6)
            return session.begin(self._transport)
        downstream = Downstream(
            self._runtime,
            self.caller,
            listener,
            local,
            remote,
            ipv6,
            present=lambda: destinations.of(*peer) is not None,
            fast=FastFlow(fast_path, destinations.key(*peer)) if fast_path.is_on() else None,
        )
        self._transport.set_protocol(downstream)
        downstream.connection_made(self._transport)
        return downstream

    def _reject(self, transport: asyncio.Transport, counter: str, peer: tuple[str, int]) -> None:
        """RST: not even the service's name is known, so there is nothing to say in HTTP."""
        self._runtime.counters.add(counter)
        log.event(
            _logger,
            logging.DEBUG,
            "connection rejected",
            reason=counter,
            workload=self.caller.source,
            peer=f"{peer[0]}:{peer[1]}",
        )
        reset(transport)
