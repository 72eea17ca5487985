"""The rules of one route to model routes, for one service port."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from meshd.gateway import filters
from meshd.gateway.actions import Taken, actions
from meshd.gateway.filters import IncompatibleFiltersError, UnsupportedValueError
from meshd.gateway.matches import matches
from meshd.gateway.precedence import Ranked, rank
from meshd.gateway.references import Backends, service_parents
from meshd.gateway.sessions import session
from meshd.kube.grpcroute import RequestRoute, RequestRule
from meshd.model.routes import Action, Forward, Route, RouteMatch


def ranked_routes(route: RequestRoute, port: int, backends: Backends) -> list[Ranked]:
    """A route's rules on a service port.

    Raises UnsupportedValueError if any rule asks for what is not supported: then none of it is to be used.
    """
    ranked: list[Ranked] = []
    meta = route.metadata
    rules: Sequence[RequestRule] = route.spec.rules
    for i, rule in enumerate(rules):
        where = f"spec.rules[{i}]"
        effect = filters.combine(rule.filters, f"{where}.filters")
        parts = actions(rule, effect, port, route, backends, where)
        name = f"{meta.namespace}/{meta.name}/{rule.name or i}"
        for j, (condition, specificity) in enumerate(matches(rule)):
            for part in parts:
                found = Route(
                    name=name,
                    match=msgspec.structs.replace(condition, share=part.share),
                    action=_with_session(part, rule, name, condition, route, backends, where),
                    request_headers=effect.request_headers,
                    response_headers=part.response_headers,
                    cors=part.cors,
                )
                ranked.append(rank(found, specificity, meta, i, j))
    return ranked


def _with_session(
    part: Taken,
    rule: RequestRule,
    name: str,
    match: RouteMatch,
    route: RequestRoute,
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
