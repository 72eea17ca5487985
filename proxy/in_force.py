"""The config by which a worker decides, compiled. Updates come between two requests, never within."""

from __future__ import annotations

import logging
from collections.abc import Callable

from meshd import log
from meshd.datapath.rules.splicing import Splicing, splicing
from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.regex import RegexError
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.tcp_decision import TcpRouteTable
from proxy.balancing.balancer import Balancer
from proxy.routing.decision import RouteTable
from proxy.routing.listener_rules import ListenerRules

_logger = logging.getLogger("meshd.proxy.config")

EndpointKey = tuple[str, str, int]
"""Cluster, address and port: what an upstream connection is to."""


class ListenerState:
    """A listener as the connections from one namespace see it: they hold this, and an update changes it."""

    __slots__ = ("listener", "options", "removed", "routes", "rules", "splicing", "tcp")

    def __init__(self, listener: Listener, routes: RouteTable) -> None:
        self.listener = listener
        self.options: HttpOptions = listener.http
        self.routes = routes
        """Those for callers of that namespace."""
        self.tcp = TcpRouteTable(listener)
        """The same, where the port is no HTTP port."""
        self.removed = False
        """The service port is gone, or speaks another protocol: HTTP connections end after the request in
        flight."""
        self.rules: ListenerRules | None = None
        """What the kernel knows it by, when somebody has asked since the last change."""
        self.splicing: Splicing | str | None = None
        """Likewise, what becomes of HTTP/2 connections to it."""


class ConfigInForce:
    """All listeners, route tables and balancers of one snapshot."""

    __slots__ = ("_by_address", "_clock", "_in_sessions", "_states", "_tables", "balancers", "snapshot")

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock``: the loop's."""
        self._clock = clock
        self.snapshot = Snapshot()
        self.balancers: dict[str, Balancer] = {}
        """By cluster name. A cluster whose endpoints have not come yet has none to pick."""
        self._tables: dict[str, RouteTable] = {}
        self._in_sessions: set[str] = set()
        """The clusters that some route's sessions are with."""
        self._states: dict[tuple[str, str], ListenerState] = {}
        """By a listener's name and the callers' namespace: of each pair of which a connection has come."""
        self._by_address: dict[tuple[str, int], str] = {}

    def listener_at(self, address: str, port: int, namespace: str) -> ListenerState | None:
        """The listener of a service's VIP (canonical text) and port, as callers of a namespace see it.

        None: it, or the routes that the namespace has of its own, are not here.
        """
        name = self._by_address.get((address, port))
        if name is None:
            return None
        state = self._states.get((name, namespace))
        if state is None:
            listener = self.snapshot.listeners[name].seen_from(namespace)
            state = self._states[name, namespace] = ListenerState(listener, self._routes_of(listener))
        listener = state.listener
        return state if listener.route_config or listener.protocol is Protocol.TCP else None

    def apply(self, delta: Delta) -> None:
        """Put the next snapshot in force. Only what changed is compiled anew."""
        snapshot = self.snapshot.apply(delta)
        for config in delta.route_configs:
            try:
                self._tables[config.name] = RouteTable(config)
            except RegexError as error:
                # The agent refuses such a config; a worker that is newer or older keeps what it had.
                log.event(_logger, logging.ERROR, "route config refused", name=config.name, reason=str(error))
        for name in self._tables.keys() - snapshot.route_configs.keys():
            del self._tables[name]
        if delta.route_configs or delta.removed_route_configs:
            self._in_sessions = {name for table in self._tables.values() for name in table.session_clusters}
        self._compile_clusters(snapshot, delta)
        self._renew_listeners(snapshot)
        self.snapshot = snapshot

    def is_usable(self, key: EndpointKey) -> bool:
        """Whether new requests may go to an endpoint."""
        cluster, address, port = key
        balancer = self.balancers.get(cluster)
        return balancer is not None and balancer.is_usable((address, port), cluster in self._in_sessions)

    def splicing(self, state: ListenerState) -> Splicing | str:
        """What becomes of an HTTP/2 connection to a listener; else why it is not spliced."""
        if state.splicing is None:
            state.splicing = splicing(self.snapshot, state.listener)
        return state.splicing

    def _compile_clusters(self, snapshot: Snapshot, delta: Delta) -> None:
        changed = {cluster.name for cluster in delta.clusters}
        changed.update(endpoints.name for endpoints in delta.endpoints)
        changed.update(delta.removed_endpoints)
        for name in changed & snapshot.clusters.keys():
            cluster: Cluster = snapshot.clusters[name]
            endpoints = snapshot.endpoints.get(name) or EndpointSet(name=name)
            self.balancers[name] = Balancer(cluster, endpoints, self.balancers.get(name), self._clock())
        for name in self.balancers.keys() - snapshot.clusters.keys():
            del self.balancers[name]

    def _renew_listeners(self, snapshot: Snapshot) -> None:
        self._by_address = {
            (address, listener.port): name
            for name, listener in snapshot.listeners.items()
            for address in listener.addresses
        }
        for (name, namespace), state in tuple(self._states.items()):
            found = snapshot.listeners.get(name)
            if found is None or found.protocol is not state.listener.protocol:
                self._states.pop((name, namespace)).removed = True
                continue
            listener = found.seen_from(namespace)
            if listener != state.listener:
                state.tcp = TcpRouteTable(listener)
            state.listener, state.options, state.routes = listener, listener.http, self._routes_of(listener)
            state.rules = state.splicing = None

    def _routes_of(self, listener: Listener) -> RouteTable:
        return self._tables.get(listener.route_config) or _NO_ROUTES


_NO_ROUTES = RouteTable(RouteConfig(name=""))


def unavailable(listener: Listener) -> ListenerState:
    """A service whose config did not come: its requests are answered as Envoy answers those to a cluster that
    it could not get on demand, with 503 and the flag NC, and its connections end.
    """
    missing = Forward(clusters=(WeightedCluster(name=listener.name),))
    host = VirtualHost(name=listener.name, routes=(Route(name="", action=missing),))
    state = ListenerState(listener, RouteTable(RouteConfig(name=listener.name, virtual_hosts=(host,))))
    state.removed = True
    return state
