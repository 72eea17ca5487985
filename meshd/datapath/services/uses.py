"""Who uses which service, as the kernel saw it. The maps ``services`` and ``flows``."""

from __future__ import annotations

from collections.abc import Iterable

from meshd.datapath.addresses import End, address_text, packed_address
from meshd.datapath.kernel.bpf_batch import entries
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout


class ServiceUses:
    """Reads the maps."""

    def __init__(self, services: Map, flows: Map, layout: Layout) -> None:
        """Takes the maps over. Raises KeyError (a layout of other programs)."""
        self._services = services
        self._flows = flows
        self._key = layout.codec("address_port", "address", "port")
        self._service = layout.codec("service", "used")
        self._flow = layout.codec("flow", "destination.address", "destination.port")

    def last(self, vips: Iterable[End]) -> float:
        """When one of these VIPs, with its port, was connected to last, by time.monotonic. Raises OSError.

        0: never since its entry was written.
        """
        found = 0
        for address, port in vips:
            value = self._services.get(self._key.pack(packed_address(address), port))
            if value is not None:
                found = max(found, self._service.unpack(value)[0])
        return found / 1e9

    def connected(self) -> frozenset[End]:
        """The VIPs, with their ports, that a captured connection is open to. Raises OSError."""
        return frozenset(
            (address_text(address), port)
            for address, port in (self._flow.unpack(value) for _, value in entries(self._flows))
        )

    def close(self) -> None:
        """Close the maps' fds."""
        self._services.close()
        self._flows.close()
