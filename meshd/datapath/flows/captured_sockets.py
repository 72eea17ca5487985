"""Whether a socket is one of the mesh's: the client's end of a captured connection, a server's, or one end of
a joined one. The maps ``flows``, ``connections`` and ``joined_ends``.
"""

from __future__ import annotations

from collections.abc import Callable

from meshd.datapath.addresses import End, packed_address
from meshd.datapath.flows.keys import ConnectionKeys, FlowKeys
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout


class CapturedSockets:
    """Looks sockets up."""

    def __init__(self, open_map: Callable[[str], Map], layout: Layout) -> None:
        """``open_map``: by its name. Raises OSError, KeyError (a layout of other programs)."""
        self._flow_keys = FlowKeys(layout)
        self._connection_keys = ConnectionKeys(layout)
        self._ends = layout.codec("ends", "local.address", "local.port", "remote.address", "remote.port").pack
        self._flows, self._connections, self._joined_ends = map(
            open_map, ("flows", "connections", "joined_ends")
        )

    def has(self, cookie: int, local: End, remote: End) -> bool:
        """Whether the mesh knows a socket in that namespace with those ends. Raises OSError."""
        if self._flows.get(self._flow_keys.pack(cookie, local)) is not None:
            return True
        if self._connections.get(self._connection_keys.pack(remote, local)) is not None:
            return True
        ends = packed_address(local[0]), local[1], packed_address(remote[0]), remote[1]
        return self._joined_ends.get(self._ends(*ends)) is not None

    def close(self) -> None:
        """Close the maps' fds."""
        self._flows.close()
        self._connections.close()
        self._joined_ends.close()
