"""What the matches of a rule are in the model, and how specific each is."""

from __future__ import annotations

from collections.abc import Iterator

from meshd.gateway.precedence import grpc_specificity, http_specificity
from meshd.kube.grpcroute import GrpcMatch, GrpcRule, MethodMatch, RequestRule
from meshd.kube.httproute import HeaderMatch, PathMatch, QueryParamMatch
from meshd.kube.httproute import RouteMatch as HttpMatch
from meshd.model.request_policies import StringMatch
from meshd.model.routes import PathExact, PathPrefix, PathRegex, RouteMatch

_ANY_NAME = "[^/]+"
"""Of a service or a method, in the path that names both (gRPC over HTTP2, "Requests": Path)."""


def matches(rule: RequestRule) -> Iterator[tuple[RouteMatch, tuple[int, ...]]]:
    """Each match of a rule, in their order. A rule without any matches all requests of its kind."""
    if isinstance(rule, GrpcRule):
        for call in rule.matches or (GrpcMatch(),):
            yield _grpc(call), grpc_specificity(call)
    else:
        for request in rule.matches or (HttpMatch(),):
            condition = _http(request)
            yield condition, http_specificity(condition)


def _grpc(match: GrpcMatch) -> RouteMatch:
    return RouteMatch(path=_method(match.method), headers=_first(match.headers), grpc=True)


def _method(method: MethodMatch | None) -> PathExact | PathPrefix | PathRegex:
    """The paths of a call: ``/SERVICE/METHOD``. A method's name stands for itself in a pattern."""
    if method is None:
        return PathPrefix("/")
    if method.type == "RegularExpression":
        service, name = (f"(?:{each})" if each else _ANY_NAME for each in (method.service, method.method))
        return PathRegex(f"/{service}/{name}")
    if method.service and method.method:
        return PathExact(f"/{method.service}/{method.method}")
    return PathPrefix(f"/{method.service}") if method.service else PathRegex(f"/{_ANY_NAME}/{method.method}")


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


def _http(match: HttpMatch) -> RouteMatch:
    return RouteMatch(
        path=_path(match.path),
        method=match.method,
        headers=_first(match.headers),
        query=_first(match.query_params),
    )
