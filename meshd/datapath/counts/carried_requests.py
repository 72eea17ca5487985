"""What the kernel counted: requests that it carried, and upcalls. The maps ``requests`` and ``upcalls``."""

from __future__ import annotations

import struct

from meshd.datapath.counts.rows import Count, Row, UpcallRow
from meshd.datapath.kernel.bpf_batch import entries
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout


class CarriedRequests:
    """Reads both maps."""

    def __init__(self, requests: Map, upcalls: Map, layout: Layout) -> None:
        """Takes the maps over. Raises KeyError (a layout of other programs)."""
        self._requests = requests
        self._upcalls = upcalls
        self._row = layout.codec(
            "request_row", "rules", "netns", "cluster", "route", "method", "status", "cancelled"
        )
        shape = layout.structs["request_count"]
        self._stride = (shape.size + 7) // 8 * 8
        self._count = shape.codec("count", "nanoseconds", "bucket")
        buckets = next(field for field in shape.fields if field.name == "bucket")
        self._buckets = struct.Struct(f"={int(buckets.format[:-1]) // 8}Q")
        self._upcall = layout.codec("upcall_row", "service", "reason")
        self._reasons = {
            value: name.removeprefix("UPCALL_").lower() for name, value in layout.enums["upcall"].items()
        }
        self.methods = {
            value: name.removeprefix("METHOD_") for name, value in layout.enums["method"].items() if value
        }
        """enum method -> the method's name."""

    def requests(self) -> dict[Row, Count]:
        """All rows. Raises OSError."""
        return {Row(*self._row.unpack(key)): self._sum(value) for key, value in entries(self._requests)}

    def take(self, row: Row) -> Count | None:
        """One row, which the kernel then begins anew; None: there is none. Raises OSError."""
        value = self._requests.take(self._row.pack(*row))
        return None if value is None else self._sum(value)

    def upcalls(self) -> dict[UpcallRow, int]:
        """All rows. Raises OSError."""
        found = {}
        for key, value in entries(self._upcalls):
            found[self._upcall_row(key)] = sum(struct.unpack(f"={len(value) // 8}Q", value))
        return found

    def take_upcalls(self, service: int) -> dict[UpcallRow, int]:
        """Those of a service, which the kernel then begins anew. Raises OSError."""
        taken = {}
        for reason, name in self._reasons.items():
            value = self._upcalls.take(self._upcall.pack(service, reason))
            if value is not None:
                taken[UpcallRow(service, name)] = sum(struct.unpack(f"={len(value) // 8}Q", value))
        return taken

    def close(self) -> None:
        """Close the maps' fds."""
        self._requests.close()
        self._upcalls.close()

    def _upcall_row(self, key: bytes) -> UpcallRow:
        service, reason = self._upcall.unpack(key)
        return UpcallRow(service, self._reasons.get(reason, f"reason_{reason}"))

    def _sum(self, value: bytes) -> Count:
        count = nanoseconds = 0
        buckets = [0] * (self._buckets.size // 8)
        for at in range(0, len(value), self._stride):
            here, took, packed = self._count.unpack(value[at : at + self._count.size])
            if here:
                count += here
                nanoseconds += took
                buckets = [a + b for a, b in zip(buckets, self._buckets.unpack(packed), strict=True)]
        return Count(count, nanoseconds, tuple(buckets))
