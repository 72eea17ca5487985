"""Which route takes a request: the rules of the proxy's route table, read one by one. Pure.

For people who ask (``meshd explain``): the agent does not know the proxy's insides, and need not be fast.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshd.model.grpc import is_grpc
from meshd.model.regex import Regex
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    PathExact,
    PathMatch,
    PathPrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
)
from meshd.model.view import ExplainedRequest


def find_route(config: RouteConfig, request: ExplainedRequest) -> tuple[int, Route] | None:
    """The route, and its index in its virtual host; None: no route takes the request.

    Raises meshd.model.regex.RegexError.
    """
    host = virtual_host_of(config, request.host)
    for index, route in enumerate(host.routes if host else ()):
        if _path_holds(route.match.path, request.path) and _conditions_hold(route.match, request):
            return index, route
    return None


def virtual_host_of(config: RouteConfig, host: str) -> VirtualHost | None:
    """That of a Host value, with the most exact domain: a name, ``*suffix``, ``prefix*``, ``*``; of two alike
    the longer."""
    name = (_without_port(host) if config.ignore_port else host).lower()
    found = [
        (rank, virtual_host)
        for virtual_host in config.virtual_hosts
        for domain in virtual_host.domains
        if (rank := _rank(domain.lower(), name)) is not None
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def _rank(domain: str, name: str) -> tuple[int, int] | None:
    if domain == "*":
        return 0, 0
    literal = domain.strip("*")
    if domain == literal:
        return (3, 0) if name == literal else None
    # A wildcard stands for at least one character.
    if len(literal) >= len(name):
        return None
    if domain.startswith("*"):
        return (2, len(literal)) if name.endswith(literal) else None
    return (1, len(literal)) if name.startswith(literal) else None


def _without_port(host: str) -> str:
    colon = host.rfind(":")
    return host if colon < 0 or "]" in host[colon:] else host[:colon]


def _path_holds(match: PathMatch, path: str) -> bool:
    match match:
        case PathExact(value=value):
            return path == value
        case PathPrefix(value=value):
            prefix = value.rstrip("/")
            return path == prefix or path.startswith(prefix + "/")
    return Regex(match.value).fullmatch(path)


def _conditions_hold(match: RouteMatch, request: ExplainedRequest) -> bool:
    if match.method not in ("", request.method) or not headers_hold(match.headers, request):
        return False
    if match.grpc and not any(is_grpc(value) for value in _values(request.headers, "content-type")[:1]):
        return False
    for parameter in match.query:
        first = _values(_parameters(request.query), parameter.name)[:1]
        if not any(_is(parameter, value) for value in first):
            return False
    return True


def headers_hold(headers: Sequence[StringMatch], request: ExplainedRequest) -> bool:
    """Whether a request has all of ``headers``. Raises meshd.model.regex.RegexError."""
    for header in headers:
        values = [request.host] if header.name == "host" else _values(request.headers, header.name)
        if not any(_is(header, value) for value in values):
            return False
    return True


def _values(pairs: Sequence[tuple[str, str]], name: str) -> list[str]:
    return [value for each, value in pairs if each == name]


def _parameters(query: str | None) -> list[tuple[str, str]]:
    split = [parameter.partition("=") for parameter in (query or "").split("&")] if query else []
    return [(name, value) for name, _, value in split]


def _is(match: StringMatch, value: str) -> bool:
    return Regex(match.value).fullmatch(value) if match.regex else value == match.value
