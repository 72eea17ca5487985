"""What the proxy tells the kernel of a flow, and reads of the flow's upstream connections.

The maps are described in bpf/maps.h and bpf/types/arming.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from meshd.datapath.flows.keys import ConnectionKeys
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout

_NUMBER = struct.Struct("=I")
_MASK = 0xFFFF_FFFF
_TURN = len(b"x-")
"""Bytes of a line that the kernel writes into the place of the empty line (bpf/request_lines.h)."""


class Connection(NamedTuple):
    """What the kernel knows of an upstream connection."""

    place: int
    """enum place."""
    response: int
    """enum response_state."""
    response_left: int
    carried: int
    """Bytes of the answer that went to the client."""
    status: int
    """Of the last answer whose head the kernel read."""


class Upstream(NamedTuple):
    """What a flow may use for a cluster: struct flow_upstream."""

    connection: bytes
    """The key of the ``connections`` map; all zeros where there is no connection."""
    cluster: int
    weight: int
    written: int
    """Bytes that the proxy has sent on it."""
    consumed: int
    """Of a connection to another node: bytes that it has read from it since ``enter``."""
    kind: int
    """enum upstream_kind."""


class ArmingCodec:
    """Packs struct arming. Raises KeyError for a layout of other programs."""

    def __init__(self, layout: Layout) -> None:
        shape = layout.structs["arming"]
        element = layout.structs["flow_upstream"]
        connection = layout.structs["connection_key"].size
        self._head = shape.codec(
            "rules",
            "consumed",
            "written",
            "adopted",
            "flags",
            "upstreams",
            "forwarded_for_length",
            "forwarded_for",
        ).pack
        self._upstream = element.codec("cluster", "weight", "written", "consumed", "kind").pack
        self._key = element.place("connection.", connection)
        self._first = shape.place("upstream[0].", 0).start
        self._size = shape.size
        self.max_upstreams = sum(field.name.endswith("].weight") for field in shape.fields)
        """How many entries it has room for."""
        self.max_forwarded_for = next(
            int(field.format[:-1]) for field in shape.fields if field.name == "forwarded_for"
        )
        """The longest line, in bytes."""
        self.no_connection = bytes(connection)

    def pack(
        self,
        rules: int,
        consumed: int,
        written: int,
        adopted: int,
        flags: int,
        forwarded_for: bytes,
        upstreams: Sequence[Upstream],
    ) -> bytes:
        """The map's value. Counts may be over 2**32. Raises struct.error, ValueError (too many upstreams).

        ``forwarded_for``: the whole line with its CRLF; empty: none is added.
        """
        if len(upstreams) > self.max_upstreams or len(forwarded_for) > self.max_forwarded_for:
            raise ValueError(f"{len(upstreams)} upstreams, a line of {len(forwarded_for)} bytes: too many")
        head = self._head(
            rules,
            consumed & _MASK,
            written & _MASK,
            adopted & _MASK,
            flags,
            len(upstreams),
            len(forwarded_for),
            forwarded_for[_TURN:] + forwarded_for[:_TURN],
        )
        parts = [head[: self._first]]
        key = self._key
        for each in upstreams:
            entry = self._upstream(
                each.cluster, each.weight, each.written & _MASK, each.consumed & _MASK, each.kind
            )
            parts += (entry[: key.start], each.connection, entry[key.stop :])
        return b"".join(parts).ljust(self._size, b"\0")

    def pack_nothing(self, adopted: int) -> bytes:
        """The map's value for a flow of which the kernel may carry nothing."""
        return self.pack(0, 0, 0, adopted, 0, b"", ())


class ArmingFds(NamedTuple):
    """The maps of an ArmingTable."""

    armed: int
    connections: int
    upstreams: int
    owners: int


class ArmingTable:
    """Writes the ``armed``, ``upstreams`` and ``owners`` maps, reads ``connections``."""

    def __init__(self, fds: ArmingFds, layout: Layout, worker: int) -> None:
        """Takes the maps' fds over. ``worker``: its index on the node.

        Raises OSError, KeyError (a layout of other programs).
        """
        self._armed = Map(fds.armed)
        self._connections = Map(fds.connections)
        self._upstreams = Map(fds.upstreams)
        self._owners = Map(fds.owners)
        self._worker = _NUMBER.pack(worker)
        self.codec = ArmingCodec(layout)
        self.places = layout.enums["place"]
        self.responses = layout.enums["response_state"]
        self.kinds = layout.enums["upstream_kind"]
        self.flags = layout.enums["arming_flag"]
        self.methods = {
            value: name.removeprefix("METHOD_") for name, value in layout.enums["method"].items() if value
        }
        shape = layout.structs["connection"]
        self._connection = shape.codec("place", "response", "response_left", "carried", "head.status").unpack
        self.connection_keys = ConnectionKeys(layout)

    def connection(self, key: bytes) -> Connection | None:
        """An upstream connection; None: the kernel does not know it. Raises OSError."""
        value = self._connections.get(key)
        if value is None:
            return None
        return Connection(*self._connection(value))

    def arm(self, flow: bytes, value: bytes) -> None:
        """Say what a flow may do. Raises OSError (E2BIG: the map is full)."""
        self._armed[flow] = value

    def disarm(self, flow: bytes, adopted: int) -> bool:
        """Let the kernel carry nothing of an armed flow; a program that runs just now may still.

        ``adopted``: carried requests that are the proxy's, to answer and to count. False: the client has
        closed, and the kernel has counted what it had carried and was not the proxy's. Raises OSError.
        """
        return self._armed.replace(flow, self.codec.pack_nothing(adopted))

    def forget(self, flow: bytes) -> None:
        """Keep nothing of a flow, of which no carried request is under way. Raises OSError."""
        self._armed.discard(flow)

    def enter(self, key: bytes, socket: int) -> None:
        """Let the kernel use a connection's ``socket`` (its fd), and ring the worker's bell for it.

        Raises OSError (EBUSY: it is in use).
        """
        self._owners[key] = self._worker
        try:
            self._upstreams[key] = _NUMBER.pack(socket)
        except OSError:
            self._owners.discard(key)
            raise

    def close(self) -> None:
        """Close the maps' fds."""
        for opened in (self._armed, self._connections, self._upstreams, self._owners):
            opened.close()
