"""The kernel's numbers of services, as its counts name them. The map ``services``."""

from __future__ import annotations

from meshd.datapath.kernel.bpf_batch import entries
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout
from meshd.datapath.services.slots import Target


class ServiceIds:
    """Reads the map."""

    def __init__(self, services: Map, layout: Layout) -> None:
        """Takes the map over. Raises KeyError (a layout of other programs)."""
        self._services = services
        self._key = layout.codec("address_port", "address", "port")
        self._value = layout.codec("service", "id")

    def read(self) -> dict[int, Target]:
        """One of a service port's VIPs, with the port, by ``service.id``. Raises OSError."""
        found = {}
        for key, value in entries(self._services):
            address, port = self._key.unpack(key)
            (number,) = self._value.unpack(value)
            found[number] = Target(address, port)
        return found

    def close(self) -> None:
        """Close the map's fd."""
        self._services.close()
