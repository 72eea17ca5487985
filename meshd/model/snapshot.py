"""One version of all config, and the difference between two versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import compress, filterfalse
from operator import is_not
from types import MappingProxyType
from typing import TypeVar

import msgspec

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig

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


def _frozen(resources: Mapping[str, _T] | None) -> MappingProxyType[str, _T]:
    """A copy; what is frozen already is shared."""
    return resources if isinstance(resources, MappingProxyType) else MappingProxyType(dict(resources or {}))


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
        self.listeners = _frozen(listeners)
        self.route_configs = _frozen(route_configs)
        self.clusters = _frozen(clusters)
        self.endpoints = _frozen(endpoints)

    def apply(self, delta: Delta) -> Snapshot:
        """The snapshot after ``delta``. Removing what is not there changes nothing."""

        def merged(
            old: MappingProxyType[str, _T], changed: dict[str, _T], removed: tuple[str, ...]
        ) -> Mapping[str, _T]:
            if not changed and not removed:
                return old
            # A proxy's own "|" copies its dictionary; dict() would ask for one name after another.
            new = old | changed
            for name in removed:
                new.pop(name, None)
            return MappingProxyType(new)

        return Snapshot(
            delta.generation,
            merged(self.listeners, {r.name: r for r in delta.listeners}, delta.removed_listeners),
            merged(self.route_configs, {r.name: r for r in delta.route_configs}, delta.removed_route_configs),
            merged(self.clusters, {r.name: r for r in delta.clusters}, delta.removed_clusters),
            merged(self.endpoints, {r.name: r for r in delta.endpoints}, delta.removed_endpoints),
        )

    def as_delta(self) -> Delta:
        """The delta from nothing to this snapshot: what a newly started worker is sent."""
        return Delta(
            generation=self.generation,
            listeners=tuple(self.listeners.values()),
            route_configs=tuple(self.route_configs.values()),
            clusters=tuple(self.clusters.values()),
            endpoints=tuple(self.endpoints.values()),
        )


def others(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    """The names of what is new, gone or another object: ``apply`` keeps what a delta does not touch.

    All in C: where there is much that has not changed, this is what a change takes.
    """
    if before is not after:
        yield from _new_or_other(before, after)
        yield from _gone(before, after)


def _new_or_other(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    return compress(after, map(is_not, map(before.get, after), after.values()))


def _gone(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    return filterfalse(after.__contains__, before)


def difference(old: Snapshot, new: Snapshot) -> Delta:
    """The delta that makes ``new`` of ``old``; it has the new generation."""

    def changed(before: Mapping[str, _T], after: Mapping[str, _T]) -> tuple[_T, ...]:
        if before is after:
            return ()
        return tuple(r for name in _new_or_other(before, after) if before.get(name) != (r := after[name]))

    def removed(before: Mapping[str, _T], after: Mapping[str, _T]) -> tuple[str, ...]:
        return () if before is after else tuple(sorted(_gone(before, after)))

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
