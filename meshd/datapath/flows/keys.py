"""The keys of the maps ``flows`` and ``connections``: whose connection, by the addresses of its ends."""

from __future__ import annotations

import functools
import socket

from meshd.datapath.loading.layout import Layout
from meshd.datapath.services.slots import V4_MAPPED

End = tuple[str, int]
"""An address as text, IPv4 not as v4-mapped, and a port."""


class FlowKeys:
    """Of ``flows``, and of other maps that go by the flow."""

    def __init__(self, layout: Layout) -> None:
        """Raises KeyError (a layout of other programs)."""
        self._codec = layout.codec("flow_key", "netns", "client.address", "client.port")

    def pack(self, netns: int, client: End) -> bytes:
        """Of the client's end of a connection in the namespace of that cookie. Raises OSError: no address."""
        return self._codec.pack(netns, packed_address(client[0]), client[1])

    def unpack(self, key: bytes) -> tuple[int, End]:
        """The namespace's cookie and the client's end."""
        netns, address, port = self._codec.unpack(key)
        return netns, (address_text(address), port)


class ConnectionKeys:
    """Of ``connections``."""

    def __init__(self, layout: Layout) -> None:
        """Raises KeyError (a layout of other programs)."""
        self._codec = layout.codec(
            "connection_key", "proxy.address", "proxy.port", "server.address", "server.port"
        )

    def pack(self, proxy: End, server: End) -> bytes:
        """Of the connection between those ends. Raises OSError: no address."""
        return self._codec.pack(packed_address(proxy[0]), proxy[1], packed_address(server[0]), server[1])

    def server(self, key: bytes) -> End:
        """The server's end."""
        _, _, address, port = self._codec.unpack(key)
        return address_text(address), port


@functools.lru_cache(maxsize=1024)
def packed_address(address: str) -> bytes:
    """An address as the maps hold it. Raises OSError for a text that is none."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return V4_MAPPED + socket.inet_pton(socket.AF_INET, address)


@functools.lru_cache(maxsize=8192)
def address_text(packed: bytes) -> str:
    """An address that the maps hold, in canonical text form; IPv4 never as v4-mapped."""
    if packed.startswith(V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(V4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed)
