"""A listener's routes, compiled for the kernel: by path, the routes that may take a request, in order. Pure.

The kernel (bpf/routes.h; here: rule_decision.py) looks for the longest path that the rules know, and takes
the first route there whose conditions hold. So each path carries all routes that may take a request whose
longest path it is: its own, and those of the shorter prefixes. Whatever the kernel cannot test or do by
itself stays in the list at its place as an upcall.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meshd.datapath.rules.fingerprint import cluster_id
from meshd.datapath.rules.paths import PathKey, PathTree, Place
from meshd.model import cluster_policies
from meshd.model.cluster_policies import RandomEndpoint, RoundRobin
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.grpc import CONTENT_TYPE_PATTERN
from meshd.model.listeners import Listener, Protocol
from meshd.model.regex import RegexError
from meshd.model.request_policies import MILLION, StringMatch
from meshd.model.routes import Forward, HeaderEdit, Redirect, Route, RouteConfig, WeightedCluster

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
"""The names of enum method. A request with another one is an upcall."""
PARSED_FIELDS = frozenset(
    (
        *("host", "connection", "keep-alive", "proxy-connection", "content-length", "transfer-encoding"),
        *("te", "trailer", "upgrade", "http2-settings", "expect", "via"),
        *("x-forwarded-for", "x-forwarded-proto", "x-request-id"),
    )
)
"""Fields that the kernel's parser treats itself: it does not index them for conditions."""

_DRAWN = RoundRobin | RandomEndpoint
"""What the kernel balances, by drawing: the workers tell it from which endpoints, and when not to
(proxy.balancing.balancer.Balancer.weights)."""
_NO_EDIT = HeaderEdit()
_IS_GRPC = (StringMatch(name="content-type", value=CONTENT_TYPE_PATTERN, regex=True),)
_MAX_TOTAL = 2**32 - 1


class Limits(NamedTuple):
    """What the maps and the parser have room for: bpf/consts.h."""

    path_bytes: int = 256
    prefix_elements: int = 8
    candidates: int = 4
    route_clusters: int = 4
    conditions: int = 2
    condition_bytes: int = 32
    headers: int = 4
    header_name_bytes: int = 32
    request_head: int = 2048


DEFAULT_LIMITS = Limits()


class FieldCondition(NamedTuple):
    """A header field is there, with exactly this value."""

    header: int
    """Index in CompiledRules.headers."""
    value: bytes | None
    """None: only the proxy can test it."""


class Share(NamedTuple):
    """A cluster's share of a route's requests: from the bound of the one before to ``bound``."""

    cluster: int
    """fingerprint.cluster_id of its name."""
    bound: int
    judged: bool = False
    """The cluster ejects endpoints by their answers: the agent is to hear of them."""


class Candidate(NamedTuple):
    """One route, as the kernel tries it."""

    route: int
    """Index in CompiledRules.routes."""
    method: str
    """Empty: any."""
    query: bool
    """It has conditions on the query: only the proxy can test them."""
    conditions: tuple[FieldCondition, ...]
    shares: tuple[Share, ...]
    """Where its requests go; empty: they are the proxy's."""

    @property
    def unconditional(self) -> bool:
        """Whether no route after it is ever tried."""
        return not (self.method or self.query or self.conditions)


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """What the maps rule_sets and paths hold of one listener, and the names of what they number."""

    exact: bool
    """Some route names an exact path."""
    prefixes: int
    """Most elements of a prefix."""
    headers: tuple[str, ...]
    """Indexed names, in lower case."""
    paths: Mapping[PathKey, tuple[Candidate, ...]]
    routes: tuple[str, ...]
    """Names of the routes, by their index in the virtual host."""
    clusters: Mapping[int, str]
    """Names of the clusters that requests may be carried to, by cluster_id."""
    access_log_share: int = MILLION
    """Parts per million of the requests that are the proxy's, where there is an access log. MILLION: the node
    says how many."""


def compile_rules(
    listener: Listener,
    config: RouteConfig | None,
    clusters: Mapping[str, Cluster],
    limits: Limits = DEFAULT_LIMITS,
) -> CompiledRules | str:
    """The listener's rules, or why the kernel carries none of its requests.

    ``config``: its routes; None: they do not exist. ``clusters``: of the snapshot, by name.
    """
    reason = _why_none(listener, config, limits)
    if reason or config is None:
        return reason
    routes = config.virtual_hosts[0].routes
    index = _HeaderIndex(limits)
    candidates = [_candidate(i, route, clusters, index, limits) for i, route in enumerate(routes)]
    try:
        tree = PathTree([route.match.path for route in routes], limits.prefix_elements, limits.path_bytes)
        paths = {key: _listed(places, candidates, limits) for key, places in tree.entries()}
    except RegexError as error:
        return str(error)
    return CompiledRules(
        exact=any(key.exact for key in paths),
        prefixes=max((key.path.count(b"/") for key in paths if not key.exact), default=0),
        headers=tuple(index.names),
        paths=paths,
        routes=tuple(route.name for route in routes),
        clusters=_names(routes),
        access_log_share=listener.http.access_log_share,
    )


def why_upcall(route: Route, clusters: Mapping[str, Cluster], limits: Limits = DEFAULT_LIMITS) -> str:
    """Why a route's requests are the proxy's, whatever they look like; empty: they need not be."""
    action = route.action
    if route.match.share < MILLION:
        return "the route takes a share of the requests"
    if not isinstance(action, Forward):
        return "the route redirects" if isinstance(action, Redirect) else "the route answers by itself"
    shares = [share for share in action.clusters if share.weight > 0]
    if reason := why_not_untouched(route, action, shares):
        return reason
    if len(shares) > limits.route_clusters or sum(share.weight for share in shares) > _MAX_TOTAL:
        return f"the route has more than {limits.route_clusters} clusters, or weights over {_MAX_TOTAL}"
    for share in shares:
        cluster = clusters.get(share.name)
        if cluster is None:
            return f"there is no cluster {share.name}"
        if cluster.http_version is HttpVersion.HTTP2:
            return f"cluster {share.name} speaks HTTP/2"
        # Retries are the proxy's whoever sent the first try.
        if cluster.limits != cluster_policies.Limits(retries=cluster.limits.retries):
            return f"cluster {share.name} has limits"
        if not isinstance(cluster.balancing, _DRAWN):
            return f"cluster {share.name} is balanced by {type(cluster.balancing).__name__}"
    return ""


def why_not_untouched(route: Route, action: Forward, shares: Sequence[WeightedCluster]) -> str:
    """What a route does to its requests that only the proxy can; empty: nothing.

    ``action``: the route's; ``shares``: those of its clusters that have a weight.
    """
    if policy := _proxy_policy(route, action):
        return policy
    if action.path is not None or action.host:
        return "the route rewrites the path or Host"
    edits = [route.request_headers, route.response_headers]
    edits += [edit for share in shares for edit in (share.request_headers, share.response_headers)]
    if any(edit != _NO_EDIT for edit in edits):
        return "the route changes header fields"
    return "" if shares else "the route has no cluster with a weight"


def _proxy_policy(route: Route, action: Forward) -> str:
    """Which of the route's policies only the proxy can keep; empty: none."""
    if not route.fast_path:
        return "off by policy"
    retry = action.retry
    if action.deadline_limit is not None:
        return "the route keeps deadlines"
    if retry is not None and (retry.reset or retry.statuses or retry.grpc_statuses):
        return "the route sends requests again"
    if retry is not None and retry.per_try_timeout:
        return "the route has a timeout for each try"
    if any(mirror.share > 0 for mirror in action.mirrors):
        return "the route mirrors requests"
    if action.session is not None:
        return "the route keeps sessions"
    if route.cors is not None:
        return "the route checks the origin"
    if route.fault is not None and (route.fault.delay_share > 0 or route.fault.abort_share > 0):
        return "the route makes faults"
    if route.rate_limit is not None:
        return "the route has a rate limit"
    return ""


def _why_none(listener: Listener, config: RouteConfig | None, limits: Limits) -> str:
    if listener.protocol is not Protocol.HTTP:
        return "opaque TCP"
    if not listener.fast_path:
        return "off for the service"
    if listener.http.via:
        return "Via is added"
    if listener.http.max_request_head_bytes < limits.request_head:
        return f"request heads are limited to less than {limits.request_head} bytes"
    if config is None:
        return "it has no routes"
    if len(config.virtual_hosts) != 1 or "*" not in config.virtual_hosts[0].domains:
        return "virtual hosts"
    if config.virtual_hosts[0].rate_limit is not None:
        return "the service has a rate limit"
    return ""


class _HeaderIndex:
    """Gives header names their index, as long as there is room."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.names: dict[str, int] = {}

    def add(self, name: str) -> int | None:
        """The index of a name; None: the kernel cannot look for it."""
        if name in self.names:
            return self.names[name]
        if not name.isascii() or not 0 < len(name) <= self._limits.header_name_bytes:
            return None
        if name in PARSED_FIELDS or len(self.names) >= self._limits.headers:
            return None
        self.names[name] = len(self.names)
        return self.names[name]


def _candidate(
    number: int, route: Route, clusters: Mapping[str, Cluster], index: _HeaderIndex, limits: Limits
) -> Candidate | None:
    """None: it takes no request that the kernel's parser takes."""
    match = route.match
    if match.method and match.method not in METHODS:
        return None
    headers = match.headers + (_IS_GRPC if match.grpc else ())
    conditions = _conditions(headers, index, limits)
    shares: tuple[Share, ...] = ()
    if (
        len(conditions) == len(headers)
        and isinstance(route.action, Forward)
        and not why_upcall(route, clusters, limits)
    ):
        weighted = [share for share in route.action.clusters if share.weight > 0]
        bounds = itertools.accumulate(share.weight for share in weighted)
        shares = tuple(
            Share(cluster_id(share.name), bound, clusters[share.name].outlier is not None)
            for share, bound in zip(weighted, bounds, strict=True)
        )
    return Candidate(number, match.method, bool(match.query), conditions, shares)


def _conditions(
    headers: tuple[StringMatch, ...], index: _HeaderIndex, limits: Limits
) -> tuple[FieldCondition, ...]:
    """Those of the conditions on headers that the kernel can rule the route out by."""
    found: list[FieldCondition] = []
    for header in headers:
        number = index.add(header.name.lower()) if len(found) < limits.conditions else None
        if number is not None:
            value = header.value.encode("utf-8", "surrogateescape")
            testable = not header.regex and len(value) <= limits.condition_bytes
            found.append(FieldCondition(number, value if testable else None))
    return tuple(found)


def _listed(
    places: Iterator[Place], candidates: list[Candidate | None], limits: Limits
) -> tuple[Candidate, ...]:
    found: list[Candidate] = []
    for place in places:
        candidate = candidates[place.route]
        if candidate is None:
            continue
        if not place.certain:
            candidate = candidate._replace(shares=())
        found.append(candidate)
        # What would come after the last one that has room is an upcall.
        if candidate.unconditional or len(found) == limits.candidates:
            break
    return tuple(found)


def _names(routes: tuple[Route, ...]) -> dict[int, str]:
    actions = (route.action for route in routes)
    named = {share.name for action in actions if isinstance(action, Forward) for share in action.clusters}
    return {cluster_id(name): name for name in named}
