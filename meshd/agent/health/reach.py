"""Which clusters the workloads of a node can use at all. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from meshd.model.routes import Forward
from meshd.model.snapshot import Snapshot


def clusters_in_reach(snapshot: Snapshot, namespaces: Collection[str]) -> frozenset[str]:
    """Names of the clusters that callers of these namespaces can be led to; some may not exist."""
    found: set[str] = set()
    route_configs: set[str] = set()
    for listener in (each for each in snapshot.listeners.values() if not each.cold):
        for namespace in namespaces:
            seen = listener.seen_from(namespace)
            found.add(seen.cluster)
            found.update(cluster.name for route in seen.tcp_routes for cluster in route.clusters)
            route_configs.add(seen.route_config)
    for name in route_configs:
        found.update(_led_to(snapshot, name))
    found.discard("")
    return frozenset(found)


def _led_to(snapshot: Snapshot, route_config: str) -> Iterator[str]:
    config = snapshot.route_configs.get(route_config)
    for host in config.virtual_hosts if config is not None else ():
        for route in host.routes:
            if isinstance(route.action, Forward):
                yield from (share.name for share in route.action.clusters)
                yield from (mirror.cluster for mirror in route.action.mirrors)
