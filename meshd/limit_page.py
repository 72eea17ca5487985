"""What a node's workers have out to clusters with limits, added up in shared memory without a lock.

A table of 32-bit counts: a row for each such cluster, in it for each Resource a cell for each worker. Only
that worker writes the cell (the agent clears those of a dead one), all read the sum. So a limit can be
overrun, by one for each worker at most: all may look before one of them counts.
"""

from __future__ import annotations

import enum
import mmap
import os

MAX_ROWS = 16 * 1024
"""Clusters; further ones are counted by each worker for itself."""


class Resource(enum.IntEnum):
    """What is counted (CircuitBreakers.Thresholds)."""

    CONNECTIONS = 0
    PENDING = 1
    """Requests that wait for a connection."""
    REQUESTS = 2
    """Requests that are out."""
    RETRIES = 3
    """Of those, sent again."""


def new_fd(workers: int) -> int:
    """Memory for that many workers, all zero; the caller closes it. What no cluster uses takes no room.

    Raises OSError.
    """
    fd = os.memfd_create("meshd-limits", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, MAX_ROWS * len(Resource) * workers * 4)
    except OSError:
        os.close(fd)
        raise
    return fd


class LimitPage:
    """One process's view of the table."""

    __slots__ = ("_cells", "_map", "_workers")

    def __init__(self, fd: int, workers: int) -> None:
        """``fd``: as of ``new_fd``, for that many workers; stays the caller's. Raises OSError, ValueError."""
        self._map = mmap.mmap(fd, MAX_ROWS * len(Resource) * workers * 4)
        self._cells = memoryview(self._map).cast("I")
        self._workers = workers

    def total(self, row: int, resource: Resource) -> int:
        """Of all workers."""
        at = (row * len(Resource) + resource) * self._workers
        return sum(self._cells[at : at + self._workers])

    def set(self, row: int, resource: Resource, worker: int, count: int) -> None:
        """One worker's count. Raises IndexError for a worker that there is no room for."""
        if not 0 <= worker < self._workers:
            raise IndexError(f"worker {worker} of {self._workers}")
        self._cells[(row * len(Resource) + resource) * self._workers + worker] = count

    def clear(self, row: int, worker: int) -> None:
        """The worker has nothing out to the cluster of that row."""
        for resource in Resource:
            self.set(row, resource, worker, 0)

    def close(self) -> None:
        """Unmap. Twice is once."""
        self._cells.release()
        self._map.close()
