"""What the proxy tells the kernel of spliced HTTP/2 connections, and what the kernel says of them.

The maps ``spliced_flows``, ``spliced_armed`` and ``spliced``: bpf/maps.h, bpf/types/spliced.h.
"""

from __future__ import annotations

from typing import NamedTuple

from meshd.datapath.addresses import End
from meshd.datapath.flows.frame_position import Position
from meshd.datapath.flows.keys import ConnectionKeys
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Codec, Layout

_MASK = 0xFFFF_FFFF
_FRAMES = ("left", "have", "head", "in_block", "begun", "highest", "opened")


class Passed(NamedTuple):
    """What went by TCP in one direction, and through the proxy."""

    read: int
    """Bytes that it has read, and not only kept."""
    sent: int
    """That it has sent on, or is about to."""
    position: Position
    """Where it is in what it has read."""


class Redirected(NamedTuple):
    """What did not, in one direction."""

    size: int
    """Bytes."""
    position: Position
    """Where they end; it says something once there are any."""
    is_on: bool
    """The last bytes that were sent were redirected."""


class SpliceFds(NamedTuple):
    """The maps of a SpliceTable."""

    flows: int
    armed: int
    spliced: int


class SpliceTable:
    """Writes the maps' entries of this worker's connections. The kernel removes them with the sockets."""

    def __init__(self, fds: SpliceFds, layout: Layout) -> None:
        """Takes the maps' fds over. Raises OSError, KeyError (a layout of other programs)."""
        self._flows, self._armed, self._spliced = map(Map, fds)
        self._users = 1
        self._keys = ConnectionKeys(layout)
        shape = layout.structs["spliced_arming"]
        self._size = shape.size
        self._flow = shape.place("flow.", layout.structs["flow_key"].size)
        counts = "leaving", "from_client", "to_server", "from_server", "to_client"
        self._pack = shape.codec(
            *counts, *(f"{way}.{field}" for way in ("up", "down") for field in _FRAMES)
        ).pack
        self._ways = tuple(self._way(layout, way) for way in ("up", "down"))

    @staticmethod
    def _way(layout: Layout, way: str) -> Codec:
        frames = (f"{way}.frames.{field}" for field in _FRAMES)
        return layout.codec("spliced", f"{way}.bytes", f"{way}.redirecting", *frames)

    def begin(self, flow: bytes, proxy: End, server: End, up: Passed, down: Passed) -> bytes:
        """Let the kernel splice a client's connection with the one between those ends; what it is called.

        ``flow``: the key of the ``flows`` map. Raises OSError.
        """
        key = self._keys.pack(proxy, server)
        self._spliced[key] = bytes(self._spliced.value_size)
        self._armed[key] = self._value(flow, up, down, False)
        self._flows[flow] = key
        return key

    def tell(self, key: bytes, flow: bytes, up: Passed, down: Passed, leaving: bool = False) -> None:
        """Say how far the proxy has got. ``leaving``: the kernel is to redirect nothing more.

        Raises OSError.
        """
        # Where another version of the programs is in force meanwhile, the entry is gone, and is to stay so.
        self._armed.replace(key, self._value(flow, up, down, leaving))

    def _value(self, flow: bytes, up: Passed, down: Passed, leaving: bool) -> bytes:
        counts = (each & _MASK for each in (up.read, up.sent, down.read, down.sent))
        packed = self._pack(leaving, *counts, *up.position, *down.position).ljust(self._size, b"\0")
        return packed[: self._flow.start] + flow + packed[self._flow.stop :]

    def redirected(self, key: bytes) -> tuple[Redirected, Redirected] | None:
        """From the client, and from the server; None: the upstream connection is closed. Raises OSError."""
        value = self._spliced.get(key)
        if value is None:
            return None
        up, down = (_redirected(*codec.unpack(value)) for codec in self._ways)
        return up, down

    def hold(self) -> None:
        """Stay open for one more user: a connection whose entries are in these maps."""
        self._users += 1

    def close(self) -> None:
        """One of the users needs it no more; the last one closes the maps' fds."""
        self._users -= 1
        if not self._users:
            for opened in (self._flows, self._armed, self._spliced):
                opened.close()


def _redirected(
    count: int,
    redirecting: int,
    left: int,
    have: int,
    head: bytes,
    in_block: int,
    begun: int,
    highest: int,
    opened: int,
) -> Redirected:
    position = Position(left, have, head, in_block != 0, begun != 0, highest, opened)
    return Redirected(count, position, redirecting != 0)
