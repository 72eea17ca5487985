"""Requests that the kernel carries, as their clients sent them. The maps ``flows`` and ``kept``."""

from __future__ import annotations

import struct
import uuid

from meshd.datapath.flows.table import FlowTable
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout

_WORDS = struct.Struct("=4I")


class KeptRequests:
    """Reads the maps."""

    def __init__(self, fd: int, flows: FlowTable, layout: Layout) -> None:
        """Takes the fd of ``kept`` over. Raises OSError, KeyError (a layout of other programs)."""
        self._map = Map(fd)
        self._flows = flows
        self._flow = layout.codec("flow_key", "netns", "client.address", "client.port").unpack
        self._key = layout.codec("kept_key", "netns", "client.address", "client.port", "piece").pack

    def read(self, flow: bytes, size: int) -> bytes:
        """The first bytes of the request that a flow (its key) has under way, or had last.

        ``size``: as flows.Carried.kept says. Empty: they are not there. Raises OSError.
        """
        end = self._flow(flow)
        found = self._flows.first_piece(flow)
        piece = 1
        while found and len(found) < size:
            more = self._map.get(self._key(*end, piece))
            if more is None:
                return b""
            found += more
            piece += 1
        return found[:size]

    def close(self) -> None:
        """Close the map's fd."""
        self._map.close()


def request_id_text(packed: bytes) -> bytes:
    """An x-request-id in the form that the kernel sent it; empty: it sent none."""
    if not any(packed):
        return b""
    a, b, c, d = _WORDS.unpack(packed)
    return str(uuid.UUID(int=a << 96 | b << 64 | c << 32 | d)).encode()
