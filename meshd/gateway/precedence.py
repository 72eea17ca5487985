"""Which of two matches of routes attached to the same port is tried first.

HTTPRouteRule.matches: exact path, longest prefix, method, number of header matches, number of query parameter
matches. Where a regular expression stands it leaves to the implementation: here after exact paths and before
all prefixes, longer patterns first, as regexes are usually written for what a prefix cannot say.

GRPCRouteRule.matches: most characters of the service, then of the method, then number of header matches. Of
regular expressions it says nothing: here they come after all names, longer patterns first.

Both go on with the oldest route, then by namespace/name, then the order in the route. Routes of different
kinds are never on the same port.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from meshd.kube.grpcroute import GrpcMatch
from meshd.kube.objects import ObjectMeta
from meshd.model.routes import PathExact, PathRegex, Route, RouteMatch

_ANY = (2, 0)


class Ranked(NamedTuple):
    """A route with its place among all. Sorts by the place, which only parts of one rule share."""

    specificity: tuple[int, ...]
    """The smaller the more specific; comparable among routes of a kind."""
    created: datetime
    namespace: str
    name: str
    rule: int
    match: int
    route: Route


def http_specificity(match: RouteMatch) -> tuple[int, ...]:
    """Of an HTTPRoute's match."""
    return (*_path(match), 0 if match.method else 1, -len(match.headers), -len(match.query))


def grpc_specificity(match: GrpcMatch) -> tuple[int, ...]:
    """Of a GRPCRoute's match."""
    method = match.method
    headers = -len({header.name.lower() for header in match.headers})
    if method is None:
        return (*_ANY, *_ANY, headers)
    kind = 1 if method.type == "RegularExpression" else 0
    service, name = ((kind, -len(text)) if text else _ANY for text in (method.service, method.method))
    return (*service, *name, headers)


def _path(match: RouteMatch) -> tuple[int, int]:
    if isinstance(match.path, PathExact):
        return 0, 0
    if isinstance(match.path, PathRegex):
        return 1, -len(match.path.value)
    return 2, -len(match.path.value)


def created(meta: ObjectMeta) -> datetime:
    """When an object was made. Those without a timestamp, as those in files are, count as the newest."""
    found = meta.creation_timestamp or datetime.max
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def rank(route: Route, specificity: tuple[int, ...], meta: ObjectMeta, rule: int, match: int) -> Ranked:
    """A route's place, from its match and from where it was written."""
    return Ranked(specificity, created(meta), meta.namespace, meta.name, rule, match, route)
