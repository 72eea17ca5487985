"""One version of all config, and the difference between two versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.shared_map import SharedMap

_T = TypeVar("_T")


class Delta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What changes from one generation to the next: resources set (new or replaced) and names removed."""

    generation: int
    """Of the snapshot that results. Grows by every change on one node; not comparable between nodes."""
    listeners: tuple[Listener, ...] = ()
    route_configs: tuple[RouteConfig, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    endpoints: tuple[EndpointSet, ...] = ()
    removed_listeners: tuple[str, ...] = ()
    removed_route_configs: tuple[str, ...] = ()
    removed_clusters: tuple[str, ...] = ()
    removed_endpoints: tuple[str, ...] = ()


class Snapshot:
    """All config of one generation, by kind and name. Immutable: ``apply`` makes the next one."""

    __slots__ = ("clusters", "endpoints", "generation", "listeners", "route_configs")

    def __init__(
        self,
        generation: int = 0,
        listeners: Mapping[str, Listener] | None = None,
        route_configs: Mapping[str, RouteConfig] | None = None,
        clusters: Mapping[str, Cluster] | None = None,
        endpoints: Mapping[str, EndpointSet] | None = None,
    ) -> None:
        self.generation = generation
        self.listeners = SharedMap.of(listeners)
        self.route_configs = SharedMap.of(route_configs)
        self.clusters = SharedMap.of(clusters)
        self.endpoints = SharedMap.of(endpoints)

    def apply(self, delta: Delta) -> Snapshot:
        """The snapshot after ``delta``. Removing what is not there changes nothing."""
        return Snapshot(
            delta.generation,
            self.listeners.changed({r.name: r for r in delta.listeners}, delta.removed_listeners),
            self.route_configs.changed({r.name: r for r in delta.route_configs}, delta.removed_route_configs),
            self.clusters.changed({r.name: r for r in delta.clusters}, delta.removed_clusters),
            self.endpoints.changed({r.name: r for r in delta.endpoints}, delta.removed_endpoints),
        )

    def numbered(self, generation: int) -> Snapshot:
        """The same as another generation."""
        return Snapshot(generation, self.listeners, self.route_configs, self.clusters, self.endpoints)

    def as_delta(self) -> Delta:
        """The delta from nothing to this snapshot: what a newly started worker is sent."""
        return Delta(
            generation=self.generation,
            listeners=_sorted(self.listeners),
            route_configs=_sorted(self.route_configs),
            clusters=_sorted(self.clusters),
            endpoints=_sorted(self.endpoints),
        )


def _sorted(resources: Mapping[str, _T]) -> tuple[_T, ...]:
    return tuple(resources[name] for name in sorted(resources))


def difference(old: Snapshot, new: Snapshot) -> Delta:
    """The delta that makes ``new`` of ``old``, sorted by name; it has the new generation.

    Where one was made from the other by ``apply``, or both from a third, only what differs is looked at.
    """

    def changed(before: SharedMap[str, _T], after: SharedMap[str, _T]) -> tuple[_T, ...]:
        found = (name for name in before.others(after) if name in after)
        return tuple(r for name in sorted(found) if before.get(name) != (r := after[name]))

    def removed(before: SharedMap[str, _T], after: SharedMap[str, _T]) -> tuple[str, ...]:
        return tuple(sorted(name for name in before.others(after) if name not in after))

    return Delta(
        generation=new.generation,
        listeners=changed(old.listeners, new.listeners),
        route_configs=changed(old.route_configs, new.route_configs),
        clusters=changed(old.clusters, new.clusters),
        endpoints=changed(old.endpoints, new.endpoints),
        removed_listeners=removed(old.listeners, new.listeners),
        removed_route_configs=removed(old.route_configs, new.route_configs),
        removed_clusters=removed(old.clusters, new.clusters),
        removed_endpoints=removed(old.endpoints, new.endpoints),
    )
