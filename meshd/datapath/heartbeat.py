"""A proxy worker's sign of life to the kernel: without one capture does not send connections to the proxy."""

from __future__ import annotations

import struct
import time

from meshd.datapath.kernel.bpf_map import Map

_SLOT = struct.Struct("=I")
_BEAT = struct.Struct("=Q")


class Heartbeat:
    """Writes the ``heartbeat`` map."""

    def __init__(self, fd: int) -> None:
        """Takes the map's fd over. Raises OSError."""
        self._map = Map(fd)

    def beat(self, worker: int) -> None:
        """Say that worker ``worker`` (its index on the node) is alive now. Raises OSError."""
        # The kernel compares with bpf_ktime_get_ns, which is CLOCK_MONOTONIC.
        now = _BEAT.pack(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
        self._map[_SLOT.pack(worker % self._map.max_entries)] = now

    def stop(self, worker: int) -> None:
        """Say that the worker is about to end. Raises OSError."""
        self._map[_SLOT.pack(worker % self._map.max_entries)] = _BEAT.pack(0)

    def close(self) -> None:
        """Close the map's fd."""
        self._map.close()
