"""Which of the mesh's sockets an app's socket is: the client's end of a captured connection, a server's, or
one end of a joined one. The maps ``flows``, ``connections``, ``joined_ends``, and those of what is spliced.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from meshd.datapath.addresses import End, packed_address
from meshd.datapath.flows.keys import ConnectionKeys, FlowKeys
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout


class Side(enum.Enum):
    """What a socket is. Values: the map that it is in."""

    CLIENT = "clients"
    SERVER = "servers"
    JOINED = "joined"


class Enrolled(NamedTuple):
    """A socket that the mesh knows."""

    side: Side
    key: bytes
    """In the map of its side."""
    spliced: bool = False
    """Of an HTTP/2 connection whose bytes pass as they are."""


class EnrolledSockets:
    """Looks sockets up."""

    def __init__(self, open_map: Callable[[str], Map], layout: Layout) -> None:
        """``open_map``: by its name. Raises OSError, KeyError (a layout of other programs)."""
        self._flow_keys = FlowKeys(layout)
        self._connection_keys = ConnectionKeys(layout)
        self._ends = layout.codec("ends", "local.address", "local.port", "remote.address", "remote.port").pack
        self._flows, self._connections, self._joined_ends, self._spliced_flows, self._spliced = map(
            open_map, ("flows", "connections", "joined_ends", "spliced_flows", "spliced")
        )
        self._maps = {side: open_map(side.value) for side in Side}

    def find(self, cookie: int, local: End, remote: End) -> Enrolled | None:
        """A socket in that namespace with those ends; None: the mesh knows none. Raises OSError."""
        key = self._flow_keys.pack(cookie, local)
        if self._flows.get(key) is not None:
            return Enrolled(Side.CLIENT, key, self._spliced_flows.get(key) is not None)
        key = self._connection_keys.pack(remote, local)
        if self._connections.get(key) is not None:
            return Enrolled(Side.SERVER, key, self._spliced.get(key) is not None)
        key = self._ends(packed_address(local[0]), local[1], packed_address(remote[0]), remote[1])
        if self._joined_ends.get(key) is not None:
            return Enrolled(Side.JOINED, key)
        return None

    def map_fd(self, side: Side) -> int:
        """The map of a side's sockets."""
        return self._maps[side].fd

    def close(self) -> None:
        """Close the maps' fds."""
        for opened in (
            *(self._flows, self._connections, self._joined_ends, self._spliced_flows, self._spliced),
            *self._maps.values(),
        ):
            opened.close()
