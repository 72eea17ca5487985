"""What an API server holds routes to beyond their types: the CRDs' CEL rules, regexes that compile.

Here is what HTTPRoutes and GRPCRoutes have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshd.kube import cross_fields, grpcroute_rules, httproute_rules
from meshd.kube.cross_fields import camel
from meshd.kube.grpcroute import GrpcRule, RequestBackendRef, RequestMatch, RequestRoute, RequestRule
from meshd.kube.httproute import (
    BackendObjectReference,
    CommonFilter,
    ParentRef,
    RequestMirror,
    SessionPersistence,
)
from meshd.kube.regex_rules import header_problems
from meshd.model.status import Problem

MAX_MATCHES = 128
"""Matches in all rules of a route together."""
_FILTER_FIELDS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "RequestMirror": "request_mirror",
    "RequestRedirect": "request_redirect",
    "URLRewrite": "url_rewrite",
    "CORS": "cors",
    "ExternalAuth": "external_auth",
    "ExtensionRef": "extension_ref",
}
_REPEATABLE = frozenset({"RequestMirror", "ExtensionRef", "ExternalAuth"})


def problems(route: RequestRoute) -> Iterator[Problem]:
    """All that is wrong with a route by itself."""
    rules: Sequence[RequestRule] = route.spec.rules
    if sum(len(rule.matches) for rule in rules) > MAX_MATCHES:
        yield Problem(field="spec.rules", message=f"more than {MAX_MATCHES} matches in all rules together")
    names = [rule.name for rule in rules if rule.name]
    if len(names) != len(set(names)):
        yield Problem(field="spec.rules", message="two rules have the same name")
    yield from parent_problems(route.spec.parent_refs)
    for i, rule in enumerate(rules):
        yield from _rule(rule, f"spec.rules[{i}]")


def parent_problems(parents: Sequence[ParentRef]) -> Iterator[Problem]:
    """What is wrong with the parentRefs of a route of any kind."""
    for i, parent in enumerate(parents):
        if parent in parents[:i]:
            yield Problem(field=f"spec.parentRefs[{i}]", message="is there twice")


def backend_problems(backend: BackendObjectReference, where: str) -> Iterator[Problem]:
    """What is wrong with a reference to a backend, whoever has it."""
    if backend.port is None and (backend.group, backend.kind) == ("", "Service"):
        yield Problem(field=f"{where}.port", message="must be set for a Service")


def _rule(rule: RequestRule, where: str) -> Iterator[Problem]:
    matches: Sequence[RequestMatch] = rule.matches
    for i, match in enumerate(matches):
        yield from header_problems(match.headers, f"{where}.matches[{i}].headers")
    yield from _filters(rule.filters, f"{where}.filters")
    backends: Sequence[RequestBackendRef] = rule.backend_refs
    for i, backend in enumerate(backends):
        here = f"{where}.backendRefs[{i}]"
        yield from backend_problems(backend, here)
        yield from _filters(backend.filters, f"{here}.filters")
    if rule.session_persistence is not None:
        yield from _session(rule.session_persistence, f"{where}.sessionPersistence")
    if isinstance(rule, GrpcRule):
        yield from grpcroute_rules.rule_problems(rule, where)
    else:
        yield from httproute_rules.rule_problems(rule, where)


def _filters(filters: tuple[CommonFilter, ...], where: str) -> Iterator[Problem]:
    types = [f.type for f in filters]
    for kind in sorted(set(types)):
        if types.count(kind) > 1 and kind not in _REPEATABLE:
            yield Problem(field=where, message=f"{kind} cannot be repeated")
    for i, item in enumerate(filters):
        here = f"{where}[{i}]"
        for kind, attribute in _FILTER_FIELDS.items():
            is_set = getattr(item, attribute, None) is not None
            if is_set and kind != item.type:
                message = f"must not be set in a filter of type {item.type}"
                yield Problem(field=f"{here}.{camel(attribute)}", message=message)
            if hasattr(item, attribute) and not is_set and kind == item.type:
                yield Problem(field=f"{here}.{camel(attribute)}", message="must be set")
        if item.request_mirror is not None:
            yield from _mirror(item.request_mirror, f"{here}.requestMirror")


def _session(session: SessionPersistence, where: str) -> Iterator[Problem]:
    cookie = session.cookie_config
    if cookie is not None and session.type != "Cookie":
        yield Problem(field=f"{where}.cookieConfig", message=f"must not be set with type {session.type}")
    if cookie is not None and cookie.lifetime_type == "Permanent" and session.absolute_timeout is None:
        yield Problem(field=f"{where}.absoluteTimeout", message="must be set for lifetimeType Permanent")


def _mirror(mirror: RequestMirror, where: str) -> Iterator[Problem]:
    fraction = mirror.fraction
    yield from backend_problems(mirror.backend_ref, f"{where}.backendRef")
    if mirror.percent is not None and fraction is not None:
        yield Problem(field=f"{where}.fraction", message="must not be set beside percent")
    yield from cross_fields.problems(fraction, f"{where}.fraction")
