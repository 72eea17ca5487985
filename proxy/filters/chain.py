"""A route's filters together, compiled: cors, fault, rate limit, in this order (as Envoy's are ordered)."""

from __future__ import annotations

from meshd.model.request_policies import Cors, Fault, RateLimit
from meshd.model.routes import Forward, Route, VirtualHost
from proxy.filters.cors import CorsPolicy
from proxy.filters.faults import FaultPolicy
from proxy.filters.rate_limits import RateLimits

_NO_LIMIT = RateLimit()


class Filters:
    """Those of one route. None: the route has no such filter."""

    __slots__ = ("cors", "fault", "limits")

    def __init__(self, cors: Cors | None, fault: Fault | None, limits: RateLimits | None) -> None:
        """Raises meshd.model.regex.RegexError."""
        self.cors = None if cors is None else CorsPolicy(cors)
        self.fault = None if fault is None else FaultPolicy(fault)
        self.limits = limits


def filters_of(config: str, host: VirtualHost, route: Route) -> Filters | None:
    """A route's; None: it has none. ``config``: the name of the RouteConfig.

    CORS is for what is sent on: an answer of our own shares nothing (Envoy's filter needs a route entry).
    Raises meshd.model.regex.RegexError.
    """
    cors = route.cors if isinstance(route.action, Forward) else None
    limits = _limits(config, host, route)
    if cors is None and route.fault is None and limits is None:
        return None
    return Filters(cors, route.fault, limits)


def _limits(config: str, host: VirtualHost, route: Route) -> RateLimits | None:
    """The route's own takes the place of its virtual host's. All matches of a rule are one route here."""
    limit = host.rate_limit if route.rate_limit is None else route.rate_limit
    if limit is None or limit == _NO_LIMIT:
        return None
    owner = ("host",) if route.rate_limit is None else ("route", route.name)
    return RateLimits(limit, config, host.name, *owner)
