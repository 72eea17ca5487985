"""The kernel's record of captured connections, as the proxy reads it."""

from __future__ import annotations

from typing import NamedTuple

from meshd.datapath.addresses import address_text
from meshd.datapath.flows.keys import FlowKeys
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout


class OriginalDestination(NamedTuple):
    """Where the app wanted to connect to. ``address`` in canonical text form, IPv4 never as v4-mapped."""

    address: str
    port: int


class Carried(NamedTuple):
    """What the kernel has carried of a captured connection. Counts wrap at 2**32."""

    requests: int
    responses: int
    """Of those requests: whose answer it has carried to its end."""
    begun: int
    """Whose answer's first byte it has carried."""
    pipelines: bool
    """The client does not wait for answers: the kernel carries nothing more of this connection."""
    request_left: int
    """Bytes of the last request's body that are still to come; those that came when its server was gone and
    went to the proxy count as if they were."""
    began: float
    """When the last request came, by time.monotonic."""
    connection: bytes
    """That carried it: the key of the ``connections`` map."""
    cluster: int
    """That it went to: fingerprint.cluster_id."""
    route: int
    """That it took: its index among the listener's routes."""
    method: int
    """enum method."""
    kept: int
    """So many first bytes of it, all that went out, KeptRequests reads; 0: they are not kept."""
    request_id: bytes
    """The x-request-id that the kernel gave it, packed: kept_requests.request_id_text."""
    remote: bool
    """Its server is on another node."""
    drawn: bool | None
    """Whether the access log's draw took the request that it passed up last; None: it did not draw."""


class FlowTable:
    """Looks up the ``flows`` map."""

    def __init__(self, fd: int, layout: Layout) -> None:
        """Takes the map's fd over. Raises OSError, KeyError (a layout of other programs)."""
        self._map = Map(fd)
        self._keys = FlowKeys(layout)
        self._destination = layout.codec("flow", "destination.address", "destination.port").unpack
        self._carried = layout.codec(
            "flow",
            "requests",
            "responses",
            "begun",
            "pipelines",
            "request_left",
            "began",
            "cluster",
            "route",
            "head.method",
            "kept",
            "request_id",
            "remote",
            "reason",
        ).unpack
        self._sampled = layout.enums["upcall"]["UPCALL_SAMPLED"]
        shape = layout.structs["flow"]
        self._connection = shape.place("connection.", layout.structs["connection_key"].size)
        self._first_piece = shape.place("first_piece.", layout.structs["kept_piece"].size)

    def key(self, netns_cookie: int, address: str, port: int) -> bytes:
        """The key of a connection accepted in that namespace from that peer. Raises OSError: no address."""
        return self._keys.pack(netns_cookie, (address, port))

    def original_destination(self, netns_cookie: int, address: str, port: int) -> OriginalDestination | None:
        """For a connection accepted in that namespace from that peer; None: capture did not send it.

        Raises OSError, also for an ``address`` that is none.
        """
        value = self._map.get(self.key(netns_cookie, address, port))
        if value is None:
            return None
        packed, original_port = self._destination(value)
        return OriginalDestination(address_text(packed), original_port)

    def carried(self, key: bytes) -> Carried | None:
        """What the kernel has carried of a connection; None: its client has closed. Raises OSError."""
        value = self._map.get(key)
        if value is None:
            return None
        requests, responses, begun, pipelines, left, began, *of_request, remote, reason = self._carried(value)
        counts = requests, responses, begun, pipelines != 0, left, began / 1e9
        # What comes before the draw has lower numbers.
        drawn = None if reason < self._sampled else reason == self._sampled
        return Carried._make((*counts, value[self._connection], *of_request, remote != 0, drawn))

    def first_piece(self, key: bytes) -> bytes:
        """The first bytes of what is kept of a connection's request; empty: its client has closed.

        What of them is the request's Carried.kept says. Raises OSError.
        """
        value = self._map.get(key)
        return b"" if value is None else value[self._first_piece]

    def close(self) -> None:
        """Close the map's fd."""
        self._map.close()
