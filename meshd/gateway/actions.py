"""What becomes of a rule's requests: one action, or one for each backend where those differ in more.

A backend's header modifiers go with its weight. Its other filters cannot: Envoy's weighted clusters know no
mirror, no path and no redirect of their own. So such a rule's backends become routes of one cluster each,
alike but for their shares (RouteMatch.share), which are the weights.
"""

from __future__ import annotations

import itertools

from msgspec import Struct

from meshd.gateway import filters
from meshd.gateway.cors import cors
from meshd.gateway.filters import Filters, IncompatibleFiltersError
from meshd.gateway.references import Backends
from meshd.gateway.retries import retry
from meshd.gateway.shares import parts_per_million
from meshd.kube.duration import seconds
from meshd.kube.httproute import BackendRef, HTTPRoute, Rule
from meshd.model.request_policies import MILLION, Cors, Mirror
from meshd.model.routes import Action, DirectResponse, Forward, HeaderEdit, WeightedCluster

INVALID_BACKEND_STATUS = 500
"""What a request to a backend that does not resolve gets (HTTPRouteRule.backendRefs)."""
_NO_EDIT = HeaderEdit()


class Taken(Struct, frozen=True):
    """What is done to a share of a rule's requests."""

    action: Action
    response_headers: HeaderEdit
    cors: Cors | None
    share: int = MILLION
    """As RouteMatch.share: with those of the parts before it."""
    apart: bool = False
    """It is one backend's, by that one's own filters."""


class _Backend(Struct, frozen=True):
    ref: BackendRef
    effect: Filters
    """Of its own filters."""
    where: str


def actions(
    rule: Rule, effect: Filters, port: int, route: HTTPRoute, backends: Backends, where: str
) -> tuple[Taken, ...]:
    """What becomes of a rule's requests; ``effect``: of its own filters. The last one's share is all.

    Raises UnsupportedValueError.
    """
    several: list[_Backend] = []
    for i, ref in enumerate(rule.backend_refs):
        here = f"{where}.backendRefs[{i}]"
        several.append(_Backend(ref, filters.combine(ref.filters, f"{here}.filters"), here))
    own = cors(effect.cors) if effect.cors is not None else None
    if effect.redirect is not None:
        answer = filters.redirect(effect.redirect, port, f"{where}.filters.requestRedirect")
        return (Taken(answer, effect.response_headers, own),)
    if not any(each.effect.apart for each in several):
        action = _forward(rule, several, effect, route, backends, where)
        return (Taken(action, effect.response_headers, own),)
    weights = [each.ref.weight for each in several]
    bounds = itertools.accumulate(weights)
    return tuple(
        _apart(rule, each, effect, port, route, backends, round(MILLION * bound / sum(weights)), where)
        for each, bound in zip(several, bounds, strict=True)
        if each.ref.weight
    ) or (Taken(DirectResponse(status=INVALID_BACKEND_STATUS), effect.response_headers, own),)


def _apart(
    rule: Rule,
    backend: _Backend,
    effect: Filters,
    port: int,
    route: HTTPRoute,
    backends: Backends,
    share: int,
    where: str,
) -> Taken:
    """A backend as a route of its own: the rule's filters and the backend's."""
    both = _together(effect, backend.effect, f"{backend.where}.filters")
    own = cors(both.cors) if both.cors is not None else None
    if both.redirect is None:
        action = _forward(
            rule, [backend], both, route, backends, backend.where if backend.effect.rewrite else where
        )
        return Taken(action, effect.response_headers, own, share, True)
    answer: Action = DirectResponse(status=INVALID_BACKEND_STATUS)
    if backends.resolves(backend.ref, route):
        answer = filters.redirect(both.redirect, port, f"{backend.where}.filters.requestRedirect")
    return Taken(answer, both.response_headers, own, share, True)


def _together(rule: Filters, backend: Filters, where: str) -> Filters:
    """Raises IncompatibleFiltersError where both say the same kind of thing, and only one can be done."""
    for kind, first, second in (
        ("URLRewrite or RequestRedirect", rule.rewrite, backend.rewrite or backend.redirect),
        ("CORS", rule.cors, backend.cors),
    ):
        if first is not None and second is not None:
            raise IncompatibleFiltersError(where, f"{kind} is among the rule's filters, too")
    response = rule.response_headers
    if backend.redirect is not None:
        filters.refuse_mirrored(rule.mirrors, where)
        if _NO_EDIT not in (rule.response_headers, backend.response_headers):
            message = (
                "ResponseHeaderModifier is among the rule's filters, too, and RequestRedirect has the answer"
            )
            raise IncompatibleFiltersError(where, message)
        response = rule.response_headers if backend.response_headers == _NO_EDIT else backend.response_headers
    return Filters(
        response_headers=response,
        redirect=backend.redirect,
        rewrite=rule.rewrite or backend.rewrite,
        cors=rule.cors or backend.cors,
        mirrors=(*rule.mirrors, *backend.mirrors),
    )


def _forward(
    rule: Rule, several: list[_Backend], effect: Filters, route: HTTPRoute, backends: Backends, where: str
) -> Action:
    clusters = tuple(
        WeightedCluster(
            name=backends.cluster(each.ref, route),
            # One by itself has a weight that is relative to nothing.
            weight=each.ref.weight if len(several) > 1 else min(each.ref.weight, 1),
            request_headers=each.effect.request_headers,
            response_headers=each.effect.response_headers,
        )
        for each in several
    )
    if not any(cluster.weight for cluster in clusters):
        return DirectResponse(status=INVALID_BACKEND_STATUS)
    rewrite = effect.rewrite
    return Forward(
        clusters=clusters,
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
