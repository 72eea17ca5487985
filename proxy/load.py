"""What is out to each cluster: this worker's own counts, and with an agent's memory those of all workers."""

from __future__ import annotations

from collections.abc import Container, Mapping
from weakref import WeakValueDictionary

from meshd.limit_page import LimitPage, Resource

__all__ = ["Load", "Loads", "Resource"]


class Load:
    """One cluster's."""

    __slots__ = ("__weakref__", "_counts", "_page", "_row", "_worker")

    def __init__(self) -> None:
        self._counts = [0] * len(Resource)
        self._page: LimitPage | None = None
        self._row = 0
        self._worker = 0

    def add(self, resource: Resource, amount: int = 1) -> None:
        """So many more are out; less than 0: fewer."""
        self._counts[resource] += amount
        if self._page is not None:
            self._page.set(self._row, resource, self._worker, self._counts[resource])

    def remove(self, resource: Resource) -> None:
        """One that ``add`` counted is out no more."""
        self.add(resource, -1)

    def total(self, resource: Resource) -> int:
        """Of all workers of the node where they share their counts (the cluster has limits); else ours."""
        if self._page is None:
            return self._counts[resource]
        return self._page.total(self._row, resource)

    def has_room(self, resource: Resource, limit: int) -> bool:
        """Whether one more is within the limit; 0: there is none."""
        return not limit or self.total(resource) < limit

    def share(self, page: LimitPage, row: int, worker: int) -> None:
        """Count there from now on, as this worker."""
        self._page, self._row, self._worker = page, row, worker
        for resource in Resource:
            page.set(row, resource, worker, self._counts[resource])

    def stop_sharing(self, taken: Container[int] = ()) -> None:
        """Count for ourselves from now on. ``taken``: rows that are somebody's, ours or another cluster's."""
        if self._page is not None and self._row not in taken:
            self._page.clear(self._row, self._worker)
        self._page = None


class Loads:
    """Those of all clusters, of one worker."""

    def __init__(self) -> None:
        # Whoever counts holds what he counts in; what nobody holds is zero.
        self._loads: WeakValueDictionary[str, Load] = WeakValueDictionary()
        self._page: LimitPage | None = None
        self._rows: Mapping[str, int] = {}
        self._worker = 0

    def of(self, cluster: str) -> Load:
        """A cluster's, by its name."""
        load = self._loads.get(cluster)
        if load is None:
            load = self._loads[cluster] = Load()
            if self._page is not None and cluster in self._rows:
                load.share(self._page, self._rows[cluster], self._worker)
        return load

    def share(self, page: LimitPage, rows: Mapping[str, int], worker: int) -> None:
        """Count in an agent's memory, taken over: the clusters of ``rows`` there, all others here only."""
        taken = frozenset(rows.values())
        for load in self._loads.values():
            load.stop_sharing(taken)
        for row in taken:
            page.clear(row, worker)
        for cluster, load in self._loads.items():
            if cluster in rows:
                load.share(page, rows[cluster], worker)
        old, self._page = self._page, page
        self._rows, self._worker = rows, worker
        if old is not None:
            old.close()

    def close(self) -> None:
        """Leave the memory to the others."""
        for load in self._loads.values():
            load.stop_sharing()
        if self._page is not None:
            self._page.close()
            self._page = None
