"""The rules of one HTTPRoute to model routes, for one service port."""

from __future__ import annotations

import msgspec

from meshd.gateway import filters
from meshd.gateway.actions import Taken, actions
from meshd.gateway.filters import IncompatibleFiltersError, UnsupportedValueError
from meshd.gateway.precedence import Ranked, rank
from meshd.gateway.references import Backends, service_parents
from meshd.gateway.sessions import session
from meshd.kube.httproute import HeaderMatch, HTTPRoute, PathMatch, QueryParamMatch, Rule
from meshd.kube.httproute import RouteMatch as KubeMatch
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    Action,
    Forward,
    PathExact,
    PathPrefix,
    PathRegex,
    Route,
    RouteMatch,
)


def ranked_routes(route: HTTPRoute, port: int, backends: Backends) -> list[Ranked]:
    """A route's rules on a service port.

    Raises UnsupportedValueError if any rule asks for what is not supported: then none of it is to be used.
    """
    ranked: list[Ranked] = []
    meta = route.metadata
    for i, rule in enumerate(route.spec.rules):
        where = f"spec.rules[{i}]"
        effect = filters.combine(rule.filters, f"{where}.filters")
        parts = actions(rule, effect, port, route, backends, where)
        name = f"{meta.namespace}/{meta.name}/{rule.name or i}"
        for j, match in enumerate(rule.matches or (KubeMatch(),)):
            condition = _match(match)
            for part in parts:
                found = Route(
                    name=name,
                    match=msgspec.structs.replace(condition, share=part.share),
                    action=_with_session(part, rule, name, condition, route, backends, where),
                    request_headers=effect.request_headers,
                    response_headers=part.response_headers,
                    cors=part.cors,
                )
                ranked.append(rank(found, meta, i, j))
    return ranked


def _with_session(
    part: Taken,
    rule: Rule,
    name: str,
    match: RouteMatch,
    route: HTTPRoute,
    backends: Backends,
    where: str,
) -> Action:
    """A session's cookie is for the path of one match."""
    asked, action = rule.session_persistence, part.action
    if asked is None:
        return action
    where = f"{where}.sessionPersistence"
    if part.apart and len(rule.backend_refs) > 1:
        message = "a session cannot be with several backendRefs that have more filters than header modifiers"
        raise IncompatibleFiltersError(where, message)
    for parent in sorted(service_parents(route)):
        service = backends.services.get(parent)
        if service is not None and service.spec.session_affinity == "ClientIP":
            # "the route MUST be rejected" (GEP-1619)
            message = f"cannot be combined with sessionAffinity ClientIP of Service {'/'.join(parent)}"
            raise UnsupportedValueError(where, message)
    found = session(asked, name, match.path, where)
    return msgspec.structs.replace(action, session=found) if isinstance(action, Forward) else action


def _path(path: PathMatch) -> PathExact | PathPrefix | PathRegex:
    if path.type == "Exact":
        return PathExact(path.value)
    if path.type == "RegularExpression":
        return PathRegex(path.value)
    # "A PathPrefix match only on path elements ... trailing slash is ignored" (PathMatchPathPrefix).
    return PathPrefix(path.value.rstrip("/") or "/")


def _first(matches: tuple[HeaderMatch, ...] | tuple[QueryParamMatch, ...]) -> tuple[StringMatch, ...]:
    """The first match of each name; further ones "MUST be ignored". Query names are case-sensitive."""
    found: dict[str, StringMatch] = {}
    for match in matches:
        name = match.name.lower() if isinstance(match, HeaderMatch) else match.name
        regex = match.type == "RegularExpression"
        found.setdefault(name, StringMatch(name=name, value=match.value, regex=regex))
    return tuple(found.values())


def _match(match: KubeMatch) -> RouteMatch:
    return RouteMatch(
        path=_path(match.path),
        method=match.method,
        headers=_first(match.headers),
        query=_first(match.query_params),
    )
