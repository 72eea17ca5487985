"""What becomes of a service port's requests: matches, and the actions that follow from them.

Where a field has an xDS counterpart, its docstring names it.
"""

from __future__ import annotations

import msgspec

from meshd.model.request_policies import (
    MILLION,
    Cors,
    Fault,
    HashKey,
    Mirror,
    RateLimit,
    Retry,
    Session,
    StringMatch,
)


class PathExact(msgspec.Struct, frozen=True, tag="exact"):
    """The path is ``value``."""

    value: str


class PathPrefix(msgspec.Struct, frozen=True, tag="prefix"):
    """The path begins with ``value``, element by element: /a matches /a and /a/b, not /ab.

    ``value`` has no trailing slash; the prefix of all paths is "/" (xDS: path_separated_prefix; prefix "/").
    """

    value: str


class PathRegex(msgspec.Struct, frozen=True, tag="regex"):
    """The whole path, without its query, matches ``value`` (RE2 syntax; xDS: safe_regex)."""

    value: str


PathMatch = PathExact | PathPrefix | PathRegex


class RouteMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a request must be for a route to take it. Everything given must hold."""

    path: PathMatch = PathPrefix("/")
    method: str = ""
    """Empty: any."""
    headers: tuple[StringMatch, ...] = ()
    query: tuple[StringMatch, ...] = ()
    share: int = MILLION
    """Parts per million of the requests (runtime_fraction). A request draws one number for all: where
    one with 300,000 comes before one with 500,000 and is else alike, the second gets 200,000."""


class HeaderEdit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Header modifier: ``set`` overwrites, ``add`` appends, ``remove`` deletes. Names in lower case."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class ReplaceFullPath(msgspec.Struct, frozen=True, tag="full"):
    """The whole path becomes ``value``; the query stays."""

    value: str


class ReplacePrefix(msgspec.Struct, frozen=True, tag="prefix"):
    """The part that the route's PathPrefix matched becomes ``value`` (Gateway API ReplacePrefixMatch)."""

    value: str


PathRewrite = ReplaceFullPath | ReplacePrefix


class WeightedCluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One share of a route's requests. Shares are proportional to weight; a weight of 0 gets none."""

    name: str
    weight: int = 1
    request_headers: HeaderEdit = HeaderEdit()
    response_headers: HeaderEdit = HeaderEdit()


class Forward(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="forward"):
    """Send the request to one of the clusters. xDS: RouteAction."""

    clusters: tuple[WeightedCluster, ...]
    timeout: float = 0.0
    """Seconds from the request's last byte to the response's last byte; 0: none (RouteAction.timeout)."""
    host: str = ""
    """Replaces Host (host_rewrite_literal); empty: kept."""
    path: PathRewrite | None = None
    retry: Retry | None = None
    mirrors: tuple[Mirror, ...] = ()
    hash_keys: tuple[HashKey, ...] = ()
    """The first that the request has decides."""
    session: Session | None = None
    missing_cluster_status: int = 503
    """The answer when the chosen cluster does not exist (cluster_not_found_response_code)."""


class Redirect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="redirect"):
    """Answer with a Location; what is empty is taken from the request. xDS: RedirectAction."""

    scheme: str = ""
    host: str = ""
    port: int = 0
    path: PathRewrite | None = None
    status: int = 302


class DirectResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="direct"):
    """Answer by ourselves. xDS: DirectResponseAction."""

    status: int
    body: str = ""


Action = Forward | Redirect | DirectResponse


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One match and what follows from it. A virtual host's routes are tried in their order."""

    name: str
    """Whose rule it is: ``namespace/route/rule-index`` or ``.../rule-name``; shown in logs and metrics."""
    match: RouteMatch = RouteMatch()
    action: Action
    request_headers: HeaderEdit = HeaderEdit()
    response_headers: HeaderEdit = HeaderEdit()
    cors: Cors | None = None
    fault: Fault | None = None
    rate_limit: RateLimit | None = None
    """Takes the place of its virtual host's."""
    fast_path: bool = True
    """Whether the kernel may carry its requests."""
    policies: tuple[str, ...] = ()
    """Which policies shaped it, for people: ``RoutePolicy namespace/name``."""


class VirtualHost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The routes for a set of Host values (exact, ``*.suffix``, ``prefix.*`` or ``*``, most exact first)."""

    name: str
    domains: tuple[str, ...] = ("*",)
    routes: tuple[Route, ...] = ()
    rate_limit: RateLimit | None = None
    """For all its routes together, but for those that have their own."""


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All routes of an HTTP listener. xDS: RouteConfiguration."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...] = ()
    ignore_port: bool = True
    """Match Host without its port, as the Gateway API does (xDS: ignore_port_in_host_matching)."""
