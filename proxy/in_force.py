"""The config by which a worker decides, compiled. Updates come between two requests, never within."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import chain

from meshd import log
from meshd.datapath.rules.fingerprint import cluster_names
from meshd.datapath.rules.splicing import Splicing, splicing
from meshd.model.cluster_policies import Maglev
from meshd.model.clusters import EndpointSet
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
_MOST_AHEAD = 8
"""Clusters: so what one change takes stays far below the time that the agent gives it."""
_Seen = tuple[str, str]
"""A listener's name, and the callers' namespace."""


class ListenerState:
    """A listener as the connections from one namespace see it: they hold this, and an update changes it."""

    __slots__ = ("listener", "made_of", "options", "removed", "routes", "rules", "splicing", "tcp")

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
        self.made_of: frozenset[str] = frozenset()
        """The names of the resources that all of this follows from."""


class ConfigInForce:
    """All listeners, route tables and balancers of one snapshot."""

    __slots__ = (
        "_ahead",
        "_by_address",
        "_clock",
        "_in_sessions",
        "_made_of",
        "_states",
        "_tables",
        "balancers",
        "snapshot",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock``: the loop's."""
        self._clock = clock
        self.snapshot = Snapshot()
        self.balancers: dict[str, Balancer] = {}
        """By cluster name. A cluster whose endpoints have not come yet has none to pick."""
        self._ahead: dict[str, Balancer] = {}
        """Of clusters, as they will be after the next change."""
        self._tables: dict[str, RouteTable] = {}
        self._in_sessions: Counter[str] = Counter()
        """The clusters that routes' sessions are with: those of how many tables."""
        self._states: dict[_Seen, ListenerState] = {}
        """Of each listener and namespace of which a connection has come."""
        self._made_of: dict[str, set[_Seen]] = defaultdict(set)
        """Those of the states that a listener, route config or cluster of that name has to do with."""
        self._by_address: dict[tuple[str, int], tuple[str, ...]] = {}
        """Of several listeners the first one has it, as in the kernel."""

    def listener_at(self, address: str, port: int, namespace: str) -> ListenerState | None:
        """The listener of a service's VIP (canonical text) and port, as callers of a namespace see it.

        None: it, or the routes that the namespace has of its own, are not here.
        """
        names = self._by_address.get((address, port))
        if names is None:
            return None
        state = self._states.get((names[0], namespace))
        if state is None:
            listener = self.snapshot.listeners[names[0]].seen_from(namespace)
            state = ListenerState(listener, self._routes_of(listener))
            self._keep((names[0], namespace), state)
        listener = state.listener
        return state if listener.route_config or listener.protocol is Protocol.TCP else None

    def ahead(self, delta: Delta) -> Iterator[None]:
        """Make what takes long of a change before ``apply`` puts it into force, in steps: between them
        requests are served by what is in force.

        Of many clusters at once it is made when their first requests come.
        """
        changed = _clusters(delta)
        if len(changed) > _MOST_AHEAD:
            return
        after = self.snapshot.apply(delta)
        for name in changed & after.clusters.keys():
            if isinstance(after.clusters[name].balancing, Maglev):
                balancer = self._ahead[name] = self._balancer(name, after)
                yield from balancer.in_steps()

    def apply(self, delta: Delta) -> None:
        """Put the next snapshot in force. Only what changed, and what is made of it, is compiled anew."""
        last, self.snapshot = self.snapshot, self.snapshot.apply(delta)
        for name in delta.removed_route_configs:
            self._put_table(name, None)
        for config in delta.route_configs:
            try:
                self._put_table(config.name, RouteTable(config))
            except RegexError as error:
                # The agent refuses such a config; a worker that is newer or older keeps what it had.
                log.event(_logger, logging.ERROR, "route config refused", name=config.name, reason=str(error))
        clusters = _clusters(delta)
        for name in clusters:
            self._compile_cluster(name)
        self._ahead.clear()
        listeners = {*(each.name for each in delta.listeners), *delta.removed_listeners}
        for name in listeners:
            self._place(name, last.listeners.get(name))
        configs = {*(each.name for each in delta.route_configs), *delta.removed_route_configs}
        affected = (self._made_of.get(name, ()) for name in clusters | listeners | configs)
        for seen in set(chain.from_iterable(affected)):
            self._renew(seen)

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

    def _put_table(self, name: str, table: RouteTable | None) -> None:
        """In the place of the one of that name; None: it is gone."""
        old = self._tables.pop(name, None)
        if old is not None:
            self._in_sessions.subtract(old.session_clusters)
        if table is not None:
            self._tables[name] = table
            self._in_sessions.update(table.session_clusters)
        for cluster in old.session_clusters if old is not None else ():
            if not self._in_sessions[cluster]:
                del self._in_sessions[cluster]

    def _compile_cluster(self, name: str) -> None:
        if name not in self.snapshot.clusters:
            self.balancers.pop(name, None)
            return
        ahead = self._ahead.get(name)
        if ahead is not None and ahead.is_of(self.snapshot.clusters[name], self.snapshot.endpoints.get(name)):
            self.balancers[name] = ahead
        else:
            self.balancers[name] = self._balancer(name, self.snapshot)

    def _balancer(self, name: str, snapshot: Snapshot) -> Balancer:
        endpoints = snapshot.endpoints.get(name) or EndpointSet(name=name)
        return Balancer(snapshot.clusters[name], endpoints, self.balancers.get(name), self._clock())

    def _place(self, name: str, before: Listener | None) -> None:
        """A listener is another than before, or there is one more or less."""
        for at in _vips(before):
            left = tuple(each for each in self._by_address[at] if each != name)
            if left:
                self._by_address[at] = left
            else:
                del self._by_address[at]
        for at in _vips(self.snapshot.listeners.get(name)):
            self._by_address[at] = tuple(sorted({*self._by_address.get(at, ()), name}))

    def _keep(self, seen: _Seen, state: ListenerState) -> None:
        self._states[seen] = state
        listener = state.listener
        state.made_of = frozenset(
            (listener.name, listener.route_config, *cluster_names(self.snapshot, listener))
        )
        for name in state.made_of:
            self._made_of[name].add(seen)

    def _renew(self, seen: _Seen) -> None:
        """Something that a state is made of has changed."""
        state = self._states.pop(seen)
        for name in state.made_of:
            self._made_of[name].discard(seen)
            if not self._made_of[name]:
                del self._made_of[name]
        found = self.snapshot.listeners.get(seen[0])
        if found is None or found.protocol is not state.listener.protocol:
            state.removed = True
            return
        listener = found.seen_from(seen[1])
        if listener != state.listener:
            state.tcp = TcpRouteTable(listener)
        state.listener, state.options, state.routes = listener, listener.http, self._routes_of(listener)
        state.rules = state.splicing = None
        self._keep(seen, state)

    def _routes_of(self, listener: Listener) -> RouteTable:
        return self._tables.get(listener.route_config) or _NO_ROUTES


def _clusters(delta: Delta) -> set[str]:
    """Those that are others, or whose endpoints are."""
    return {
        *(each.name for each in delta.clusters),
        *(each.name for each in delta.endpoints),
        *delta.removed_clusters,
        *delta.removed_endpoints,
    }


def _vips(listener: Listener | None) -> frozenset[tuple[str, int]]:
    if listener is None:
        return frozenset()
    return frozenset((address, listener.port) for address in listener.addresses)


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
