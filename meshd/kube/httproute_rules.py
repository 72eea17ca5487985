"""What an API server holds an HTTPRoute to beyond its types: the CRD's CEL rules, regexes that compile."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meshd.kube import cross_fields
from meshd.kube.duration import seconds
from meshd.kube.httproute import (
    BackendRef,
    Cors,
    Filter,
    HTTPRoute,
    PathMatch,
    PathModifier,
    RequestMirror,
    Retry,
    Rule,
    SessionPersistence,
    Timeouts,
)
from meshd.model.regex import Regex, RegexError
from meshd.model.status import Problem

MAX_MATCHES = 128
"""Matches in all rules of a route together."""
_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")
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


def problems(route: HTTPRoute) -> Iterator[Problem]:
    """All that is wrong with a route by itself."""
    rules = route.spec.rules
    if sum(len(rule.matches) for rule in rules) > MAX_MATCHES:
        yield Problem(field="spec.rules", message=f"more than {MAX_MATCHES} matches in all rules together")
    names = [rule.name for rule in rules if rule.name]
    if len(names) != len(set(names)):
        yield Problem(field="spec.rules", message="two rules have the same name")
    for i, parent in enumerate(route.spec.parent_refs):
        if parent in route.spec.parent_refs[:i]:
            yield Problem(field=f"spec.parentRefs[{i}]", message="is there twice")
    for i, rule in enumerate(rules):
        yield from _rule(rule, f"spec.rules[{i}]")


def _rule(rule: Rule, where: str) -> Iterator[Problem]:
    for i, match in enumerate(rule.matches):
        here = f"{where}.matches[{i}]"
        yield from _path(match.path, f"{here}.path")
        for j, header in enumerate(match.headers):
            if header.type == "RegularExpression":
                yield from regex_problems(header.value, f"{here}.headers[{j}].value")
        for j, parameter in enumerate(match.query_params):
            if parameter.type == "RegularExpression":
                yield from regex_problems(parameter.value, f"{here}.queryParams[{j}].value")
    yield from _filters(rule.filters, rule, f"{where}.filters")
    for i, backend in enumerate(rule.backend_refs):
        yield from _backend(backend, rule, f"{where}.backendRefs[{i}]")
    yield from _timeouts(rule.timeouts, f"{where}.timeouts")
    if rule.retry is not None:
        yield from _retry(rule.retry, f"{where}.retry")
    if rule.session_persistence is not None:
        yield from _session(rule.session_persistence, f"{where}.sessionPersistence")
    if rule.backend_refs and any(f.type == "RequestRedirect" for f in rule.filters):
        yield Problem(
            field=f"{where}.backendRefs", message="must be empty in a rule with a RequestRedirect filter"
        )


def _timeouts(timeouts: Timeouts, where: str) -> Iterator[Problem]:
    if 0 < seconds(timeouts.request) < seconds(timeouts.backend_request):
        message = f"{timeouts.backend_request} is more than request, {timeouts.request}"
        yield Problem(field=f"{where}.backendRequest", message=message)


def _retry(retry: Retry, where: str) -> Iterator[Problem]:
    if len(retry.codes) != len(set(retry.codes)):
        yield Problem(field=f"{where}.codes", message="names a code twice")


def _session(session: SessionPersistence, where: str) -> Iterator[Problem]:
    cookie = session.cookie_config
    if cookie is not None and session.type != "Cookie":
        yield Problem(field=f"{where}.cookieConfig", message=f"must not be set with type {session.type}")
    if cookie is not None and cookie.lifetime_type == "Permanent" and session.absolute_timeout is None:
        yield Problem(field=f"{where}.absoluteTimeout", message="must be set for lifetimeType Permanent")


def _mirror(mirror: RequestMirror, where: str) -> Iterator[Problem]:
    ref, fraction = mirror.backend_ref, mirror.fraction
    if ref.port is None and (ref.group, ref.kind) == ("", "Service"):
        yield Problem(field=f"{where}.backendRef.port", message="must be set for a Service")
    if mirror.percent is not None and fraction is not None:
        yield Problem(field=f"{where}.fraction", message="must not be set beside percent")
    yield from cross_fields.problems(fraction, f"{where}.fraction")


def _cors(cors: Cors, where: str) -> Iterator[Problem]:
    for field, values in (
        ("allowOrigins", cors.allow_origins),
        ("allowMethods", cors.allow_methods),
        ("allowHeaders", cors.allow_headers),
        ("exposeHeaders", cors.expose_headers),
    ):
        if len(values) != len(set(values)):
            yield Problem(field=f"{where}.{field}", message="names one twice")
        if field != "exposeHeaders" and "*" in values and len(values) > 1:
            yield Problem(field=f"{where}.{field}", message="must not name others beside *")


def _backend(backend: BackendRef, rule: Rule, where: str) -> Iterator[Problem]:
    if backend.port is None and (backend.group, backend.kind) == ("", "Service"):
        yield Problem(field=f"{where}.port", message="must be set for a Service")
    yield from _filters(backend.filters, rule, f"{where}.filters")


def _path(path: PathMatch, where: str) -> Iterator[Problem]:
    where = f"{where}.value"
    if path.type == "RegularExpression":
        yield from regex_problems(path.value, where)
        return
    if not path.value.startswith("/"):
        yield Problem(field=where, message=f"{path.value!r} must begin with a slash")
        return
    for part in ("//", "/./", "/../", "%2f", "%2F", "#"):
        if part in path.value:
            yield Problem(field=where, message=f"{path.value!r} must not contain {part}")
    if path.value.endswith(("/..", "/.")):
        yield Problem(field=where, message=f"{path.value!r} must not end with /. or /..")
    if not _PATH.fullmatch(path.value):
        yield Problem(
            field=where, message=f"{path.value!r} has characters that no path has; percent-encode them"
        )


def regex_problems(pattern: str, where: str) -> Iterator[Problem]:
    """Why a regular expression does not compile."""
    try:
        Regex(pattern)
    except RegexError as error:
        yield Problem(field=where, message=str(error))


def _filters(filters: tuple[Filter, ...], rule: Rule, where: str) -> Iterator[Problem]:
    types = [f.type for f in filters]
    if "RequestRedirect" in types and "URLRewrite" in types:
        yield Problem(field=where, message="RequestRedirect and URLRewrite cannot be combined")
    for kind in sorted(set(types)):
        if types.count(kind) > 1 and kind not in _REPEATABLE:
            yield Problem(field=where, message=f"{kind} cannot be repeated")
    for i, item in enumerate(filters):
        here = f"{where}[{i}]"
        for kind, attribute in _FILTER_FIELDS.items():
            is_set = getattr(item, attribute) is not None
            camel = attribute.split("_")[0] + "".join(p.title() for p in attribute.split("_")[1:])
            if is_set and kind != item.type:
                yield Problem(
                    field=f"{here}.{camel}", message=f"must not be set in a filter of type {item.type}"
                )
            if not is_set and kind == item.type:
                yield Problem(field=f"{here}.{camel}", message="must be set")
        if item.request_mirror is not None:
            yield from _mirror(item.request_mirror, f"{here}.requestMirror")
        if item.cors is not None:
            yield from _cors(item.cors, f"{here}.cors")
        if item.request_redirect is not None:
            yield from _path_modifier(item.request_redirect.path, rule, f"{here}.requestRedirect.path")
        if item.url_rewrite is not None:
            yield from _path_modifier(item.url_rewrite.path, rule, f"{here}.urlRewrite.path")


def _path_modifier(path: PathModifier | None, rule: Rule, where: str) -> Iterator[Problem]:
    if path is None:
        return
    for kind, field, value in (
        ("ReplaceFullPath", "replaceFullPath", path.replace_full_path),
        ("ReplacePrefixMatch", "replacePrefixMatch", path.replace_prefix_match),
    ):
        if path.type == kind and value is None:
            yield Problem(field=f"{where}.{field}", message="must be set")
        if path.type != kind and value is not None:
            yield Problem(field=f"{where}.{field}", message=f"must not be set with type {path.type}")
        # An empty prefix means "/"; anything else is a path.
        if value and not (value.startswith("/") and _PATH.fullmatch(value)):
            yield Problem(field=f"{where}.{field}", message=f"{value!r} is no path that begins with a slash")
    one_prefix = not rule.matches or (len(rule.matches) == 1 and rule.matches[0].path.type == "PathPrefix")
    if path.type == "ReplacePrefixMatch" and not one_prefix:
        yield Problem(
            field=where, message="ReplacePrefixMatch needs exactly one match, and that of type PathPrefix"
        )
