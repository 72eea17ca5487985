"""What an API server holds the rules of an HTTPRoute to: what route_rules.py has not for all kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meshd.kube.duration import seconds
from meshd.kube.httproute import (
    Cors,
    Filter,
    PathMatch,
    PathModifier,
    Retry,
    Rule,
    Timeouts,
)
from meshd.kube.regex_rules import regex_problems
from meshd.model.status import Problem

_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")


def rule_problems(rule: Rule, where: str) -> Iterator[Problem]:
    """What is wrong with a rule, as far as other kinds of routes do not have it."""
    for i, match in enumerate(rule.matches):
        here = f"{where}.matches[{i}]"
        yield from _path(match.path, f"{here}.path")
        for j, parameter in enumerate(match.query_params):
            if parameter.type == "RegularExpression":
                yield from regex_problems(parameter.value, f"{here}.queryParams[{j}].value")
    yield from _filters(rule.filters, rule, f"{where}.filters")
    for i, backend in enumerate(rule.backend_refs):
        yield from _filters(backend.filters, rule, f"{where}.backendRefs[{i}].filters")
    yield from _timeouts(rule.timeouts, f"{where}.timeouts")
    if rule.retry is not None:
        yield from _retry(rule.retry, f"{where}.retry")
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


def _filters(filters: tuple[Filter, ...], rule: Rule, where: str) -> Iterator[Problem]:
    types = [f.type for f in filters]
    if "RequestRedirect" in types and "URLRewrite" in types:
        yield Problem(field=where, message="RequestRedirect and URLRewrite cannot be combined")
    for i, item in enumerate(filters):
        here = f"{where}[{i}]"
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
