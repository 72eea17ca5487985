"""Whether a service port's HTTP/2 connections may be spliced, each as a whole. Pure.

All requests of such a connection go to one server, and nobody reads them on the way: so that is for ports
that ask for it, all of whose requests are decided alike, with nothing to be done for any.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from meshd.datapath.rules.compilation import why_not_untouched
from meshd.model.cluster_policies import LeastRequest, RandomEndpoint, RoundRobin
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.http2 import Http2Options
from meshd.model.listeners import Listener
from meshd.model.routes import Forward, Route, RouteMatch
from meshd.model.snapshot import Snapshot

NOT_ASKED_FOR = "its HTTP/2 connections are not to be spliced"
LOGGED = "the access log has its requests"
_ANY_REQUEST = RouteMatch()
_PLAIN = Http2Options()
_BALANCED = RoundRobin | RandomEndpoint | LeastRequest
"""Without a look at the request."""


class Splicing(NamedTuple):
    """Where all of a port's requests go."""

    route: str
    """The name of the route that takes them, or the last of several that do the same."""
    cluster: Cluster


def splicing(snapshot: Snapshot, listener: Listener) -> Splicing | str:
    """What becomes of an HTTP/2 connection to a port; else why it is not spliced.

    ``listener``: as it is seen from the callers' namespace.
    """
    if not listener.http2_fast_path:
        return NOT_ASKED_FOR
    if listener.http.via:
        return "Via is added"
    if listener.http.http2 != _PLAIN:
        return "keep-alive or limits of HTTP/2 connections are the proxy's"
    config = snapshot.route_configs.get(listener.route_config)
    if config is None:
        return "it has no routes"
    if len(config.virtual_hosts) != 1 or config.virtual_hosts[0].domains != ("*",):
        return "virtual hosts"
    (host,) = config.virtual_hosts
    if host.rate_limit is not None:
        return "the service has a rate limit"
    clusters: set[str] = set()
    for route in host.routes:
        cluster = _only_cluster(route)
        if isinstance(cluster, str):
            return f"{cluster} ({route.name})"
        clusters.update(cluster)
        if len(clusters) > 1:
            return "not all requests go to one cluster"
        if route.match == _ANY_REQUEST:
            (name,) = clusters
            return _spliced_with(snapshot, route, name)
    return "some requests are taken by no route"


def _only_cluster(route: Route) -> frozenset[str] | str:
    """The cluster that gets a route's requests as they are; else why there is none."""
    action = route.action
    if not isinstance(action, Forward):
        return "the route does not send requests on"
    shares = [share for share in action.clusters if share.weight > 0]
    if not action.deadline_limit:
        # Without a bound a call's deadline is kept by the two ends, too.
        action = msgspec.structs.replace(action, deadline_limit=None)
    if reason := why_not_untouched(route, action, shares):
        return reason
    if action.timeout:
        return "the route has a timeout"
    return frozenset(share.name for share in shares)


def _spliced_with(snapshot: Snapshot, route: Route, name: str) -> Splicing | str:
    cluster = snapshot.clusters.get(name)
    if cluster is None:
        return f"there is no cluster {name}"
    if cluster.http_version is HttpVersion.HTTP1:
        return f"cluster {name} speaks HTTP/1.1"
    if cluster.http2 != _PLAIN:
        return f"cluster {name} has keep-alive or limits of HTTP/2 connections"
    if cluster.limits.requests or cluster.limits.retry_budget_percent:
        return f"cluster {name} has limits on requests"
    if cluster.outlier is not None:
        return f"cluster {name} ejects endpoints by their answers"
    if not isinstance(cluster.balancing, _BALANCED):
        return f"cluster {name} is balanced by {type(cluster.balancing).__name__}"
    return Splicing(route.name, cluster)
