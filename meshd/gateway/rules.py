"""The rules of one route to model routes, for one service port."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from meshd.gateway import filters
from meshd.gateway.cors import cors
from meshd.gateway.filters import Filters, UnsupportedValueError
from meshd.gateway.matches import matches
from meshd.gateway.precedence import Ranked, rank
from meshd.gateway.references import Backends, service_parents
from meshd.gateway.retries import retry
from meshd.gateway.sessions import session
from meshd.gateway.shares import parts_per_million
from meshd.kube.duration import seconds
from meshd.kube.grpcroute import GRPCRoute, RequestBackendRef, RequestRoute, RequestRule
from meshd.model.request_policies import Mirror
from meshd.model.routes import (
    Action,
    DirectResponse,
    Forward,
    Route,
    RouteMatch,
    WeightedCluster,
)

INVALID_BACKEND_STATUS, UNAVAILABLE = 500, 503
"""What a request to a backend that does not resolve gets (HTTPRouteRule.backendRefs), and the one that a gRPC
client is told as UNAVAILABLE (GRPCRouteRule.backendRefs)."""


def ranked_routes(route: RequestRoute, port: int, backends: Backends) -> list[Ranked]:
    """A route's rules on a service port.

    Raises UnsupportedValueError if any rule asks for what is not supported: then none of it is to be used.
    """
    ranked: list[Ranked] = []
    meta = route.metadata
    rules: Sequence[RequestRule] = route.spec.rules
    for i, rule in enumerate(rules):
        where = f"spec.rules[{i}]"
        effect = filters.combine(rule.filters, f"{where}.filters", on_backend=False)
        action = _action(rule, effect, port, route, backends, where)
        name = f"{meta.namespace}/{meta.name}/{rule.name or i}"
        for j, (condition, specificity) in enumerate(matches(rule)):
            found = Route(
                name=name,
                match=condition,
                action=_with_session(action, rule, name, condition, route, backends, where),
                request_headers=effect.request_headers,
                response_headers=effect.response_headers,
                cors=cors(effect.cors) if effect.cors is not None else None,
            )
            ranked.append(rank(found, specificity, meta, i, j))
    return ranked


def _with_session(
    action: Action,
    rule: RequestRule,
    name: str,
    match: RouteMatch,
    route: RequestRoute,
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


def _action(
    rule: RequestRule, effect: Filters, port: int, route: RequestRoute, backends: Backends, where: str
) -> Action:
    if effect.redirect is not None:
        return filters.redirect(effect.redirect, port, f"{where}.filters.requestRedirect")
    is_grpc = isinstance(route, GRPCRoute)
    invalid = UNAVAILABLE if is_grpc else INVALID_BACKEND_STATUS
    clusters: list[WeightedCluster] = []
    refs: Sequence[RequestBackendRef] = rule.backend_refs
    for i, ref in enumerate(refs):
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
        return DirectResponse(status=invalid)
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
        deadline_limit=0.0 if is_grpc else None,
        retry=retry(rule),
        mirrors=tuple(
            Mirror(cluster=backends.cluster(mirror.backend_ref, route), share=parts_per_million(mirror))
            for mirror in effect.mirrors
            if backends.resolves(mirror.backend_ref, route)
        ),
        host=rewrite.hostname or "" if rewrite else "",
        path=filters.path_rewrite(rewrite.path, f"{where}.filters.urlRewrite.path") if rewrite else None,
        missing_cluster_status=invalid,
    )
