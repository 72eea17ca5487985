"""The decision on a request: where it goes and as what, or what it is answered.

The meaning is Envoy's for the same xDS resources (tests/differential holds it to that), and where the Gateway
API says more, the Gateway API's. Everything that does not depend on the request is worked out beforehand.
"""

from __future__ import annotations

import bisect
import copy
import functools
import itertools
from collections.abc import Iterator

from meshd.model.request_policies import MILLION, Mirror, Retry
from meshd.model.routes import DirectResponse, Forward, Redirect, Route, RouteConfig, VirtualHost
from proxy.filters.chain import Filters, filters_of
from proxy.requests.header_edit import Edit
from proxy.requests.match import predicate
from proxy.requests.request_head import RequestHead
from proxy.requests.rewriting import location, rewrite_path, with_query
from proxy.routing.affinity import RouteAffinity
from proxy.routing.share import Share
from proxy.routing.virtual_host import HostIndex, PathIndex
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag

__all__ = ["Answer", "Decision", "ForwardTo", "RequestHead", "RouteTable"]


class ForwardTo:
    """Send the request to a cluster."""

    __slots__ = (
        "affinity",
        "cluster",
        "deadline_limit",
        "filters",
        "host",
        "mirrors",
        "missing_cluster_status",
        "request_edit",
        "response_edit",
        "retry",
        "route",
        "target",
        "timeout",
    )

    def __init__(
        self,
        route: Route,
        cluster: str,
        target: str,
        host: str | None,
        request_edit: Edit,
        response_edit: Edit,
        timeout: float,
        retry: Retry | None,
        missing_cluster_status: int,
        affinity: RouteAffinity | None = None,
    ) -> None:
        """``target``: new origin form with its query. ``host``: the new Host; None: as it was.

        ``timeout``: seconds, 0: none. ``missing_cluster_status``: the answer if ``cluster`` does not exist.
        ``affinity``: what ties the request to an endpoint; None: nothing does.
        """
        self.route = route
        self.cluster = cluster
        self.target = target
        self.host = host
        self.request_edit = request_edit
        self.response_edit = response_edit
        self.timeout = timeout
        self.retry = retry
        self.missing_cluster_status = missing_cluster_status
        self.affinity = affinity
        self.deadline_limit: float | None = None
        """As Forward.deadline_limit."""
        self.mirrors: tuple[Mirror, ...] = ()
        """Who gets a copy."""
        self.filters: Filters | None = None
        """What comes before it is sent."""

    def instead_to(self, share: Share) -> ForwardTo:
        """The same, to another cluster of the route."""
        other = copy.copy(self)
        other.cluster = share.cluster
        other.request_edit = share.request_edit
        other.response_edit = share.response_edit
        return other


class Answer:
    """Answer the request without asking a server. Content-Length is left to whoever frames the response."""

    __slots__ = ("body", "details", "filters", "flags", "headers", "message", "route", "status")

    def __init__(
        self,
        route: Route | None,
        status: int,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        flags: str = "",
        details: str = response_flags.DIRECT_RESPONSE,
    ) -> None:
        """``route``: None where no route took the request. ``flags``, ``details``: for log and metrics."""
        self.route = route
        self.status = status
        self.headers = headers
        self.body = body
        self.flags = flags
        self.details = details
        self.message = body
        """What a gRPC client is told, whose answers have no body."""
        self.filters: Filters | None = None
        """What comes before it is answered."""


Decision = ForwardTo | Answer

_NO_ROUTE = Answer(
    None, 404, flags=response_flags.joined(Flag.NO_ROUTE), details=response_flags.ROUTE_NOT_FOUND
)


_NO_ROUTE.message = b"no route takes the request"


class _Forwarding:
    __slots__ = (
        "_affinity",
        "_again",
        "_bounds",
        "_forward",
        "_host",
        "_no_share",
        "_route",
        "_shares",
        "_single",
    )

    def __init__(self, route: Route, forward: Forward, routes_share: bool) -> None:
        """``routes_share``: the request's number has decided between routes already."""
        self._route = route
        self._again = MILLION if routes_share else 1
        self._forward = forward
        self._host = forward.host or None
        shares = [Share(route, cluster) for cluster in forward.clusters]
        self._shares = [share for share in shares if share.weight > 0]
        self._bounds = list(itertools.accumulate(share.weight for share in self._shares))
        self._single = self._shares[0] if len(self._shares) == 1 else None
        self._affinity = RouteAffinity(forward, shares) or None
        self._no_share = Answer(route, 500, details=response_flags.NO_WEIGHT)

    def decide(self, request: RequestHead, random: float) -> Decision:
        share = self._single
        if share is None:
            if not self._shares:
                return self._no_share
            # The digits of the number that no route's share has looked at.
            index = bisect.bisect_right(self._bounds, random * self._again % 1.0 * self._bounds[-1])
            share = self._shares[min(index, len(self._shares) - 1)]
        forward = self._forward
        path = request.path
        if forward.path is not None:
            path = rewrite_path(path, self._route.match.path, forward.path)
        decision = ForwardTo(
            self._route,
            share.cluster,
            path if request.query is None else with_query(path, request.query),
            self._host,
            share.request_edit,
            share.response_edit,
            forward.timeout,
            forward.retry,
            forward.missing_cluster_status,
            self._affinity,
        )
        decision.mirrors = forward.mirrors
        decision.deadline_limit = forward.deadline_limit
        return decision


class _Redirecting:
    __slots__ = ("_edit", "_redirect", "_route")

    def __init__(self, route: Route, redirect: Redirect) -> None:
        self._route = route
        self._redirect = redirect
        self._edit = Edit((route.response_headers,))

    def decide(self, request: RequestHead, random: float) -> Decision:
        new = location(request, self._route.match.path, self._redirect)
        headers = self._edit.of_answer((("location", new),))
        return Answer(self._route, self._redirect.status, headers)


class _Responding:
    __slots__ = ("_answer",)

    def __init__(self, route: Route, direct: DirectResponse) -> None:
        headers = Edit((route.response_headers,)).of_answer(())
        # These have no content, whatever the config says (RFC 9110, 15.3.5 and 15.4.5).
        body = b"" if direct.status in (204, 304) else direct.body.encode()
        if body and not any(name == "content-type" for name, _ in headers):
            headers = (*headers, ("content-type", "text/plain"))
        self._answer = Answer(route, direct.status, headers, body)

    def decide(self, request: RequestHead, random: float) -> Decision:
        return self._answer


class _CompiledRoute:
    __slots__ = ("_filters", "_take", "holds", "order", "share")

    def __init__(self, order: int, route: Route, filters: Filters | None, routes_share: bool) -> None:
        self.order = order
        self.share = route.match.share
        self._filters = filters
        self.holds = predicate(route.match)
        action = route.action
        if isinstance(action, Forward):
            self._take = _Forwarding(route, action, routes_share).decide
        elif isinstance(action, Redirect):
            self._take = _Redirecting(route, action).decide
        else:
            self._take = _Responding(route, action).decide

    def decide(self, request: RequestHead, random: float) -> Decision:
        decision = self._take(request, random)
        decision.filters = self._filters
        return decision


def _compile(config: str, host: VirtualHost) -> PathIndex[_CompiledRoute]:
    routes_share = any(route.match.share < MILLION for route in host.routes)
    return PathIndex(
        (route.match.path, _CompiledRoute(i, route, filters_of(config, host, route), routes_share))
        for i, route in enumerate(host.routes)
    )


def _session_clusters(config: RouteConfig) -> Iterator[str]:
    for host in config.virtual_hosts:
        for route in host.routes:
            if isinstance(route.action, Forward) and route.action.session is not None:
                yield from (cluster.name for cluster in route.action.clusters)


class RouteTable:
    """A RouteConfig, ready to decide. Immutable."""

    __slots__ = ("_hosts", "config", "session_clusters")

    def __init__(self, config: RouteConfig) -> None:
        """Raises meshd.model.regex.RegexError."""
        self.config = config
        self.session_clusters = frozenset(_session_clusters(config))
        """The clusters that sessions are with."""
        self._hosts = HostIndex(config, functools.partial(_compile, config.name))

    def decide(self, request: RequestHead, random: float) -> Decision:
        """What becomes of ``request``.

        ``random``: uniform in [0, 1), it picks among weighted clusters and routes with a share.
        """
        routes = self._hosts.find(request.host)
        if routes is not None:
            for route in routes.candidates(request.path):
                if (route.holds is None or route.holds(request)) and random * MILLION < route.share:
                    return route.decide(request, random)
        return _NO_ROUTE
