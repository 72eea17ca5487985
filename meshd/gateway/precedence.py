"""Which of two matches of HTTPRoutes attached to the same port is tried first.

Gateway API, HTTPRouteRule.matches: exact path, longest prefix, method, number of header matches, number of
query parameter matches; then the oldest route, then by namespace/name, then the order in the route. Where a
regular expression stands it leaves to the implementation: here after exact paths and before all prefixes,
longer patterns first, as regexes are usually written for what a prefix cannot say.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from meshd.kube.objects import ObjectMeta
from meshd.model.routes import PathExact, PathRegex, Route, RouteMatch


class Ranked(NamedTuple):
    """A route with its place among all. Sorts by the place, which only parts of one rule share."""

    path_kind: int
    path_length: int
    method: int
    headers: int
    query: int
    created: datetime
    namespace: str
    name: str
    rule: int
    match: int
    route: Route


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


def rank(route: Route, meta: ObjectMeta, rule: int, match: int) -> Ranked:
    """A route's place, from its match and from where it was written."""
    kind, length = _path(route.match)
    return Ranked(
        kind,
        length,
        0 if route.match.method else 1,
        -len(route.match.headers),
        -len(route.match.query),
        created(meta),
        meta.namespace,
        meta.name,
        rule,
        match,
        route,
    )
