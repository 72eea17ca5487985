"""Connections as they arrive at in-pod listeners: who is it, and which service was meant?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from meshd import log
from meshd.datapath.flows.table import FlowTable
from meshd.model.listeners import Protocol
from proxy.exchanges.caller import Caller
from proxy.exchanges.downstream import Downstream
from proxy.exchanges.reset import reset
from proxy.fast.flow import FastFlow
from proxy.fast.path import FastPath
from proxy.runtime import Runtime
from proxy.tcp.session import Session

_logger = logging.getLogger("meshd.proxy.arrival")


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
        self._caller = caller
        self._destinations = destinations
        self._fast_path = fast_path

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: accepted."""
        transport = cast(asyncio.Transport, transport)  # uvloop's are of no asyncio class
        runtime = self._runtime
        peer = transport.get_extra_info("peername")
        if peer is None:  # gone already
            transport.abort()
            return
        if runtime.is_full():
            self._reject(transport, "downstream_connections_rejected_total", peer)
            return
        address, port = peer[0], peer[1]
        destinations = self._destinations
        meant = destinations.of(address, port)
        config, namespace = runtime.config, self._caller.namespace
        listener = None if meant is None else config.listener_at(*meant, namespace)
        if meant is None or listener is None:
            self._reject(transport, "downstream_unknown_destination_total", peer)
            return
        if listener.listener.protocol is Protocol.TCP:
            local, remote = _text(*meant), _text(address, port)
            Session(runtime, self._caller, listener, local, remote, ":" in meant[0]).begin(transport)
            return
        fast_path = self._fast_path
        downstream = Downstream(
            runtime,
            self._caller,
            listener,
            local=_text(*meant),
            remote=_text(address, port),
            ipv6=":" in meant[0],
            present=lambda: destinations.of(address, port) is not None,
            fast=FastFlow(fast_path, destinations.key(address, port)) if fast_path.is_on() else None,
        )
        transport.set_protocol(downstream)
        downstream.connection_made(transport)

    def _reject(self, transport: asyncio.Transport, counter: str, peer: tuple[str, int]) -> None:
        """RST: not even the service's name is known, so there is nothing to say in HTTP."""
        self._runtime.counters.add(counter)
        log.event(
            _logger,
            logging.DEBUG,
            "connection rejected",
            reason=counter,
            workload=self._caller.source,
            peer=f"{peer[0]}:{peer[1]}",
        )
        reset(transport)


def _text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
