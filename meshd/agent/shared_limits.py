"""The agent's side of the limits that a node's workers keep together: who counts where."""

from __future__ import annotations

import heapq
import logging
import os

from meshd import log
from meshd.limit_page import MAX_ROWS, LimitPage, Resource, new_fd
from meshd.model.cluster_policies import Limits
from meshd.model.clusters import Cluster
from meshd.model.shared_map import SharedMap
from meshd.model.snapshot import Snapshot
from meshd.model.wire import ShareLimits

_logger = logging.getLogger("meshd.agent.limits")
_NONE = Limits()


class SharedLimits:
    """One for each node. Owns the memory."""

    def __init__(self, workers: int) -> None:
        """Raises OSError."""
        self._workers = workers
        self._fd = new_fd(workers)
        self._page = LimitPage(self._fd, workers)
        self._seen: SharedMap[str, Cluster] = SharedMap()
        self._limited: set[str] = set()
        """Of those, which have limits."""
        self._rows: dict[str, int] = {}
        """Of those in turn, as far as there is room."""
        self._freed: list[int] = []
        self._fresh = 0
        """The first row that was never given away."""

    def follow(self, snapshot: Snapshot) -> bool:
        """Give rows to the clusters that have limits. Whether any changed: then workers are to be told."""
        others = set(self._seen.others(snapshot.clusters))
        self._seen = snapshot.clusters
        limited = {name for name in others if name in self._seen and self._seen[name].limits != _NONE}
        if others & self._limited == limited:
            return False
        self._limited -= others
        self._limited |= limited
        for name in self._rows.keys() & (others - limited):
            heapq.heappush(self._freed, self._rows.pop(name))
        new = sorted(self._limited - self._rows.keys())
        for number, name in enumerate(new):
            row = self._free_row()
            if row is None:
                log.event(
                    _logger,
                    logging.ERROR,
                    "too many clusters with limits: each worker keeps them for itself",
                    clusters=len(new) - number,
                    most=MAX_ROWS,
                )
                break
            self._rows[name] = row
        return True

    def message(self, worker: int) -> ShareLimits:
        """For a worker, with ``fds``: before the config that has the limits."""
        return ShareLimits(workers=self._workers, rows=dict(self._rows), cell=worker)

    def fds(self) -> tuple[int, ...]:
        """Those that go with ``message``."""
        return (self._fd,)

    def worker_ended(self, worker: int) -> None:
        """What it had out has ended with it."""
        for row in self._rows.values():
            self._page.clear(row, worker)

    def loads(self) -> dict[str, dict[str, int]]:
        """What all workers have out to each cluster that has limits, by resource."""
        return {
            name: {resource.name.lower(): self._page.total(row, resource) for resource in Resource}
            for name, row in self._rows.items()
        }

    def close(self) -> None:
        """Workers go on with the memory."""
        self._page.close()
        os.close(self._fd)

    def _free_row(self) -> int | None:
        if self._freed:
            return heapq.heappop(self._freed)
        if self._fresh == MAX_ROWS:
            return None
        self._fresh += 1
        return self._fresh - 1
