"""Whether a socket is one of the mesh's: the client's end of a captured connection, or a server's. The maps
``flows`` and ``connections``.
"""

from __future__ import annotations

from meshd.datapath.bpf_map import Map
from meshd.datapath.flows import packed_address
from meshd.datapath.layout import Layout


class CapturedSockets:
    """Looks sockets up."""

    def __init__(self, flows: Map, connections: Map, layout: Layout) -> None:
        """Takes the maps over. Raises KeyError (a layout of other programs)."""
        self._flows = flows
        self._connections = connections
        self._flow = layout.codec("flow_key", "netns", "client.address", "client.port")
        self._connection = layout.codec(
            "connection_key", "proxy.address", "proxy.port", "server.address", "server.port"
        )

    def has(self, cookie: int, local: tuple[str, int], remote: tuple[str, int]) -> bool:
        """Whether the mesh knows a socket in that namespace with those ends. Raises OSError."""
        own, peer = packed_address(local[0]), packed_address(remote[0])
        if self._flows.get(self._flow.pack(cookie, own, local[1])) is not None:
            return True
        return self._connections.get(self._connection.pack(peer, remote[1], own, local[1])) is not None

    def close(self) -> None:
        """Close the maps' fds."""
        self._flows.close()
        self._connections.close()
