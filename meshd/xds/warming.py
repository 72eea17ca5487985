"""Which of the resources received may be put into force: none before what it needs is there.

Envoy does the same (docs, "xDS API", "Warming"): a request must not meet a cluster whose endpoints have not
arrived, nor a listener without its routes, only because they travel separately.
"""

from __future__ import annotations

from collections.abc import Set

from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import Forward, RouteConfig
from meshd.model.snapshot import Snapshot


def referred_clusters(config: RouteConfig) -> Set[str]:
    """The names of all clusters that some route of it forwards to, or sends copies to."""
    found: set[str] = set()
    for host in config.virtual_hosts:
        for route in host.routes:
            if isinstance(route.action, Forward):
                found.update(cluster.name for cluster in route.action.clusters)
                found.update(mirror.cluster for mirror in route.action.mirrors)
    return found


def warm(received: Snapshot, current: Snapshot, expected: Set[str] = frozenset()) -> Snapshot:
    """What to put into force, given what has been received and what is in force.

    What has to wait keeps its old version in force, if it has one. ``expected``: clusters that will come, or
    be said not to exist. Any other that nobody announced keeps nothing waiting: it may never come, and routes
    say what then.
    """
    clusters = {n: c for n, c in received.clusters.items() if n in received.endpoints}
    waiting = (received.clusters.keys() | expected) - clusters.keys()
    endpoints = {n: received.endpoints[n] for n in clusters}
    for name in waiting & current.clusters.keys():
        clusters[name] = current.clusters[name]
        endpoints[name] = current.endpoints[name]
    waiting -= clusters.keys()

    routes: dict[str, RouteConfig] = {}
    for name, config in received.route_configs.items():
        if waiting.isdisjoint(referred_clusters(config)):
            routes[name] = config
        elif name in current.route_configs:
            routes[name] = current.route_configs[name]

    listeners: dict[str, Listener] = {}
    for name, listener in received.listeners.items():
        has_routes = listener.protocol is not Protocol.HTTP or routes.keys() >= set(listener.route_configs)
        if has_routes and waiting.isdisjoint(listener.clusters):
            listeners[name] = listener
        elif name in current.listeners:
            kept = listeners[name] = current.listeners[name]
            for config_name in kept.route_configs:
                if config_name not in routes:
                    routes[config_name] = current.route_configs[config_name]
    return Snapshot(received.generation, listeners, routes, clusters, endpoints)
