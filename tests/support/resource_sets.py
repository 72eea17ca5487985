"""Resource sets from whole snapshots. The control plane itself makes them of what has changed only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from meshd.model.snapshot import Delta, Snapshot
from meshd.model.status import ConfigStatus
from meshd.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTE_CONFIG,
    STATUS,
    ResourceSet,
    next_set,
    status_name,
)

_Source = TypeVar("_Source")


def resource_set(
    snapshot: Snapshot, status: ConfigStatus, previous: ResourceSet | None = None
) -> ResourceSet:
    """What equals its counterpart in ``previous`` is taken from there."""
    old = previous or ResourceSet()

    def changed(type_url: str, wanted: Mapping[str, _Source]) -> tuple[_Source, ...]:
        before = old.of(type_url)
        return tuple(
            source for name, source in wanted.items() if name not in before or before[name].source != source
        )

    def removed(type_url: str, wanted: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(name for name in old.of(type_url) if name not in wanted)

    statuses = {status_name(each.kind, each.namespace, each.name): each for each in status.objects}
    config = Delta(
        generation=0,
        listeners=changed(LISTENER, snapshot.listeners),
        route_configs=changed(ROUTE_CONFIG, snapshot.route_configs),
        clusters=changed(CLUSTER, snapshot.clusters),
        endpoints=changed(ENDPOINTS, snapshot.endpoints),
        removed_listeners=removed(LISTENER, snapshot.listeners),
        removed_route_configs=removed(ROUTE_CONFIG, snapshot.route_configs),
        removed_clusters=removed(CLUSTER, snapshot.clusters),
        removed_endpoints=removed(ENDPOINTS, snapshot.endpoints),
    )
    return next_set(old, config, changed(STATUS, statuses), removed(STATUS, statuses))
