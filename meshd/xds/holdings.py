"""Resources by kind and name, and which of them refer to which. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from typing import NamedTuple

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.snapshot import Delta, Snapshot
from meshd.xds.warming import referred_clusters


class Names(NamedTuple):
    """Some resources."""

    listeners: set[str]
    route_configs: set[str]
    clusters: set[str]
    """And the endpoints of the same names."""

    @classmethod
    def none(cls) -> Names:
        """Not one."""
        return cls(set(), set(), set())

    @classmethod
    def of(cls, delta: Delta) -> Names:
        """All that a delta sets or removes."""
        return cls(
            {*(each.name for each in delta.listeners), *delta.removed_listeners},
            {*(each.name for each in delta.route_configs), *delta.removed_route_configs},
            {
                *(each.name for each in delta.clusters),
                *(each.name for each in delta.endpoints),
                *delta.removed_clusters,
                *delta.removed_endpoints,
            },
        )

    def __or__(self, other: Names) -> Names:
        return Names(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))


class Holdings:
    """Some config."""

    def __init__(self) -> None:
        self.listeners: dict[str, Listener] = {}
        self.route_configs: dict[str, RouteConfig] = {}
        self.clusters: dict[str, Cluster] = {}
        self.endpoints: dict[str, EndpointSet] = {}
        self._clusters_of: dict[str, frozenset[str]] = {}
        """Of a route config."""
        self._by_cluster: dict[str, set[str]] = defaultdict(set)
        """The route configs that refer to a cluster."""
        self._listeners_by_cluster: dict[str, set[str]] = defaultdict(set)
        self._listeners_by_config: dict[str, set[str]] = defaultdict(set)

    def put_listener(self, listener: Listener) -> None:
        """Take it in the place of the one of its name."""
        self.drop_listener(listener.name)
        self.listeners[listener.name] = listener
        for cluster in listener.clusters:
            self._listeners_by_cluster[cluster].add(listener.name)
        for config in listener.route_configs:
            self._listeners_by_config[config].add(listener.name)

    def drop_listener(self, name: str) -> None:
        """It is gone, if it was there."""
        listener = self.listeners.pop(name, None)
        if listener is not None:
            for cluster in listener.clusters:
                _take(self._listeners_by_cluster, cluster, name)
            for config in listener.route_configs:
                _take(self._listeners_by_config, config, name)

    def put_route_config(self, config: RouteConfig) -> None:
        """Take it in the place of the one of its name."""
        self.drop_route_config(config.name)
        self.route_configs[config.name] = config
        clusters = self._clusters_of[config.name] = frozenset(referred_clusters(config))
        for cluster in clusters:
            self._by_cluster[cluster].add(config.name)

    def drop_route_config(self, name: str) -> None:
        """It is gone, if it was there."""
        if self.route_configs.pop(name, None) is not None:
            for cluster in self._clusters_of.pop(name):
                _take(self._by_cluster, cluster, name)

    def apply(self, delta: Delta) -> None:
        """Take a change."""
        for name in delta.removed_listeners:
            self.drop_listener(name)
        for name in delta.removed_route_configs:
            self.drop_route_config(name)
        for name in delta.removed_clusters:
            self.clusters.pop(name, None)
        for name in delta.removed_endpoints:
            self.endpoints.pop(name, None)
        self.clusters.update((each.name, each) for each in delta.clusters)
        self.endpoints.update((each.name, each) for each in delta.endpoints)
        for config in delta.route_configs:
            self.put_route_config(config)
        for listener in delta.listeners:
            self.put_listener(listener)

    def refers_to_config(self, name: str) -> bool:
        """Whether some listener does."""
        return name in self._listeners_by_config

    def refers_to_cluster(self, name: str) -> bool:
        """Whether some listener or route config does."""
        return name in self._listeners_by_cluster or name in self._by_cluster

    def clusters_of(self, config: str) -> Set[str]:
        """The names of those that a route config refers to; none where it is not there."""
        return self._clusters_of.get(config, frozenset())

    def referring(self, names: Names) -> Names:
        """These, and whatever refers to one of them."""
        configs = names.route_configs.union(*_of(self._by_cluster, names.clusters))
        listeners = names.listeners.union(
            *_of(self._listeners_by_cluster, names.clusters), *_of(self._listeners_by_config, configs)
        )
        return Names(listeners, configs, names.clusters)

    def referred(self, names: Names) -> Names:
        """These, and whatever one of them refers to."""
        listeners = [self.listeners[name] for name in names.listeners if name in self.listeners]
        configs = names.route_configs.union(*(listener.route_configs for listener in listeners))
        clusters = names.clusters.union(
            *(listener.clusters for listener in listeners),
            *(self._clusters_of[name] for name in configs if name in self._clusters_of),
        )
        return Names(names.listeners, configs, clusters)

    def part(self, names: Names) -> Snapshot:
        """Those of these names that there are."""
        return Snapshot(
            0,
            {name: self.listeners[name] for name in names.listeners if name in self.listeners},
            {name: self.route_configs[name] for name in names.route_configs if name in self.route_configs},
            {name: self.clusters[name] for name in names.clusters if name in self.clusters},
            {name: self.endpoints[name] for name in names.clusters if name in self.endpoints},
        )


def _take(index: dict[str, set[str]], key: str, name: str) -> None:
    names = index[key]
    names.discard(name)
    if not names:
        del index[key]


def _of(index: dict[str, set[str]], keys: Iterable[str]) -> Iterable[set[str]]:
    return (index[key] for key in keys if key in index)
