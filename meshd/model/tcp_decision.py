"""Which route takes a TCP connection, and which of its clusters.

The proxy decides here, and the agent explains by it.
"""

from __future__ import annotations

import bisect
import itertools

from meshd.model.listeners import Listener
from meshd.model.routes import WeightedCluster
from meshd.model.tcp_routes import TcpRoute

DEFAULT_ROUTE = "default"
"""Name of the route of a port that has none: to the service's own endpoints."""


class TcpRouteTable:
    """The routes of one listener as callers of one namespace have them."""

    __slots__ = ("_default", "_exact", "_suffixes", "reads_names")

    def __init__(self, listener: Listener) -> None:
        """``listener``: as seen from that namespace."""
        self._exact: dict[str, TcpRoute] = {}
        self._suffixes: dict[str, TcpRoute] = {}
        """By what follows the asterisk."""
        self._default: TcpRoute | None = None
        for route in listener.tcp_routes or _own(listener):
            for name in route.server_names:
                if name.startswith("*."):
                    self._suffixes.setdefault(name[1:], route)
                else:
                    self._exact.setdefault(name, route)
            if not route.server_names and self._default is None:
                self._default = route
        self.reads_names = bool(self._exact or self._suffixes)
        """Whether the client's first bytes matter. Else nobody waits for them: the server may speak first."""

    def route(self, server_name: str) -> TcpRoute | None:
        """For a connection whose client asks for that name; empty: for none. None: it is not to be made."""
        found = self._exact.get(server_name)
        at = server_name.find(".", 1)
        while found is None and at > 0:
            found = self._suffixes.get(server_name[at:])
            at = server_name.find(".", at + 1)
        return found or self._default


def _own(listener: Listener) -> tuple[TcpRoute, ...]:
    clusters = (WeightedCluster(name=listener.cluster),)
    return (TcpRoute(name=DEFAULT_ROUTE, clusters=clusters, idle_timeout=0.0, connect_attempts=4),)


def draw(route: TcpRoute, random: float) -> str:
    """The name of one of a route's clusters, by weight. ``random``: uniform in [0, 1)."""
    bounds = list(itertools.accumulate(cluster.weight for cluster in route.clusters))
    index = bisect.bisect_right(bounds, random * bounds[-1])
    return route.clusters[min(index, len(bounds) - 1)].name
