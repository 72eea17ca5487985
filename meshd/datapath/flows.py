"""The kernel's record of captured connections, as the proxy reads it: once for each that it accepts."""

from __future__ import annotations

import functools
import socket
from typing import NamedTuple

from meshd.datapath.bpf_map import Map
from meshd.datapath.layout import Layout
from meshd.datapath.slots import V4_MAPPED


class OriginalDestination(NamedTuple):
    """Where the app wanted to connect to. ``address`` in canonical text form, IPv4 never as v4-mapped."""

    address: str
    port: int


class FlowTable:
    """Looks up the ``flows`` map."""

    def __init__(self, fd: int, layout: Layout) -> None:
        """Takes the map's fd over. Raises OSError, KeyError (a layout of other programs)."""
        self._map = Map(fd)
        self._key = layout.codec("flow_key", "netns", "client.address", "client.port").pack
        self._value = layout.codec("address_port", "address", "port").unpack

    def original_destination(self, netns_cookie: int, address: str, port: int) -> OriginalDestination | None:
        """For a connection accepted in that namespace from that peer; None: capture did not send it.

        Raises OSError, also for an ``address`` that is none.
        """
        value = self._map.get(self._key(netns_cookie, _packed(address), port))
        if value is None:
            return None
        packed, original_port = self._value(value)
        return OriginalDestination(_text(packed), original_port)

    def close(self) -> None:
        """Close the map's fd."""
        self._map.close()


@functools.lru_cache(maxsize=1024)
def _packed(address: str) -> bytes:
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return V4_MAPPED + socket.inet_pton(socket.AF_INET, address)


@functools.lru_cache(maxsize=8192)
def _text(packed: bytes) -> str:
    if packed.startswith(V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(V4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed)
