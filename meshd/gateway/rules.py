"""The rules of one HTTPRoute to model routes, for one service port."""

from __future__ import annotations

import msgspec

from meshd.gateway import filters
from meshd.gateway.cors import cors
from meshd.gateway.filters import Filters, UnsupportedValueError
from meshd.gateway.precedence import Ranked, rank
from meshd.gateway.references import Backends, service_parents
from meshd.gateway.retries import retry
from meshd.gateway.sessions import session
from meshd.gateway.shares import parts_per_million
from meshd.kube.duration import seconds
from meshd.kube.httproute import HeaderMatch, HTTPRoute, PathMatch, QueryParamMatch, Rule
from meshd.kube.httproute import RouteMatch as KubeMatch
from meshd.model.request_policies import Mirror, StringMatch
from meshd.model.routes import (
    Action,
    DirectResponse,
    Forward,
    PathExact,
    PathPrefix,
    PathRegex,
    Route,
    RouteMatch,
    WeightedCluster,
)

INVALID_BACKEND_STATUS = 500
"""What a request to a backend that does not resolve gets (HTTPRouteRule.backendRefs)."""


def ranked_routes(route: HTTPRoute, port: int, backends: Backends) -> list[Ranked]:
    """A route's rules on a service port.

    Raises UnsupportedValueError if any rule asks for what is not supported: then none of it is to be used.
    """
    ranked: list[Ranked] = []
    meta = route.metadata
    for i, rule in enumerate(route.spec.rules):
        where = f"spec.rules[{i}]"
        effect = filters.combine(rule.filters, f"{where}.filters", on_backend=False)
        action = _action(rule, effect, port, route, backends, where)
        name = f"{meta.namespace}/{meta.name}/{rule.name or i}"
        for j, match in enumerate(rule.matches or (KubeMatch(),)):
            condition = _match(match)
            found = Route(
                name=name,
                match=condition,
                action=_with_session(action, rule, name, condition, route, backends, where),
                request_headers=effect.request_headers,
                response_headers=effect.response_headers,
                cors=cors(effect.cors) if effect.cors is not None else None,
            )
            ranked.append(rank(found, meta, i, j))
    return ranked


def _with_session(
    action: Action,
    rule: Rule,
    name: str,
    match: RouteMatch,
    route: HTTPRoute,
    backends: Backends,
    where: str,
) -> Action:
    """A session's cookie is for the path of one match."""
    asked = rule.session_persistence
    if asked is None:
        return action
    where = f"{where}.sessionPersistence"
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


def _action(
    rule: Rule, effect: Filters, port: int, route: HTTPRoute, backends: Backends, where: str
) -> Action:
    if effect.redirect is not None:
        return filters.redirect(effect.redirect, port, f"{where}.filters.requestRedirect")
    clusters: list[WeightedCluster] = []
    for i, ref in enumerate(rule.backend_refs):
        own = filters.combine(ref.filters, f"{where}.backendRefs[{i}].filters", on_backend=True)
        clusters.append(
            WeightedCluster(
                name=backends.cluster(ref, route),
                weight=ref.weight,
                request_headers=own.request_headers,
                response_headers=own.response_headers,
            )
        )
    if not any(cluster.weight for cluster in clusters):
        return DirectResponse(status=INVALID_BACKEND_STATUS)
    if len(clusters) == 1:
        # Its weight is relative to nothing.
        clusters = [
            WeightedCluster(
                name=clusters[0].name,
                request_headers=clusters[0].request_headers,
                response_headers=clusters[0].response_headers,
            )
        ]
    rewrite = effect.rewrite
    return Forward(
        clusters=tuple(clusters),
        timeout=seconds(rule.timeouts.request),
        retry=retry(rule),
        mirrors=tuple(
            Mirror(cluster=backends.cluster(mirror.backend_ref, route), share=parts_per_million(mirror))
            for mirror in effect.mirrors
            if backends.resolves(mirror.backend_ref, route)
        ),
        host=rewrite.hostname or "" if rewrite else "",
        path=filters.path_rewrite(rewrite.path, f"{where}.filters.urlRewrite.path") if rewrite else None,
        missing_cluster_status=INVALID_BACKEND_STATUS,
    )
