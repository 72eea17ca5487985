"""What the kernel wrote of its own work, read from an agent's maps."""

from __future__ import annotations

from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout_file import read_layout
from meshd.datapath.loading.pins import Pins


class KernelRecords:
    """The fast path's records of one agent's instance."""

    def __init__(self, instance: str) -> None:
        """Raises OSError, KeyError for programs without a fast path."""
        layout = read_layout(instance)
        if layout is None:
            raise FileNotFoundError(f"instance {instance!r} keeps no layout of its maps")
        pins = Pins(instance)
        self._requests = Map.pinned(pins.map(layout, "requests"))
        self._count = layout.codec("request_count", "count")
        self._flows = Map.pinned(pins.map(layout, "flows"))

    def carried(self) -> int:
        """Requests that the kernel carried since the programs were loaded."""
        # Each CPU's part begins at a multiple of 8 bytes.
        step = (self._count.size + 7) // 8 * 8
        return sum(
            self._count.unpack(value[at : at + self._count.size])[0]
            for _, value in self._requests.items()
            for at in range(0, len(value), step)
        )

    def flows(self) -> int:
        """Captured connections that are open."""
        return sum(1 for _ in self._flows)
