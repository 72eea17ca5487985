"""Whether a socket is one of the mesh's: the client's end of a captured connection, or a server's. The maps
``flows`` and ``connections``.
"""

from __future__ import annotations

from meshd.datapath.flows.keys import ConnectionKeys, End, FlowKeys
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout


class CapturedSockets:
    """Looks sockets up."""

    def __init__(self, flows: Map, connections: Map, layout: Layout) -> None:
        """Takes the maps over. Raises KeyError (a layout of other programs)."""
        self._flows = flows
        self._connections = connections
        self._flow_keys = FlowKeys(layout)
        self._connection_keys = ConnectionKeys(layout)

    def has(self, cookie: int, local: End, remote: End) -> bool:
        """Whether the mesh knows a socket in that namespace with those ends. Raises OSError."""
        if self._flows.get(self._flow_keys.pack(cookie, local)) is not None:
            return True
        return self._connections.get(self._connection_keys.pack(remote, local)) is not None

    def close(self) -> None:
        """Close the maps' fds."""
        self._flows.close()
        self._connections.close()
