"""New paths and Locations: what a rewrite or a redirect makes of a request's target."""

from __future__ import annotations

from meshd.model.routes import PathMatch, PathPrefix, PathRewrite, Redirect, ReplaceFullPath
from proxy.requests.request_head import RequestHead

_DEFAULT_PORTS = {"http": 80, "https": 443}


def rewrite_path(path: str, match: PathMatch, rewrite: PathRewrite) -> str:
    """``path`` (no query), which ``match`` matched, after ``rewrite``.

    ReplacePrefix follows the table at Gateway API's HTTPPathModifier.replacePrefixMatch: a trailing slash of
    the prefix or of its replacement does not count, and an empty result is "/". Where the route did not match
    by prefix the matched part is the whole path (Envoy's prefix_rewrite with path or safe_regex).
    """
    if isinstance(rewrite, ReplaceFullPath):
        return rewrite.value
    if not isinstance(match, PathPrefix):
        return rewrite.value or "/"
    rest = path[len(match.value.rstrip("/")) :]
    return rewrite.value.rstrip("/") + rest or "/"


def with_query(path: str, query: str | None) -> str:
    """``path?query``; a path that brings a query of its own keeps that one (RedirectAction.path_redirect)."""
    if query is None or "?" in path:
        return path
    return f"{path}?{query}"


def split_port(host: str) -> tuple[str, str]:
    """``host:port`` as (host, port); port is empty where there is none. [IPv6] keeps its brackets."""
    colon = host.rfind(":")
    if colon < 0 or host.find("]", colon) >= 0:
        return host, ""
    return host[:colon], host[colon + 1 :]


def location(request: RequestHead, match: PathMatch, redirect: Redirect) -> str:
    """The Location of a redirect (Gateway API HTTPRequestRedirectFilter; Envoy Http::Utility::newUri).

    What the redirect leaves open is the request's. The request's own port goes when the redirect names a host
    or a port, and when the scheme changes away from the one whose default the port is. A port that is the
    default of the resulting scheme is not written, though Envoy writes it (Gateway API,
    HTTPRequestRedirectFilter.port: SHOULD NOT).
    """
    scheme = redirect.scheme or request.scheme
    host = redirect.host
    if not host:
        host, port = split_port(request.host)
        stale = scheme != request.scheme and port == str(_DEFAULT_PORTS.get(request.scheme))
        if port and not redirect.port and not stale:
            host = request.host
    if redirect.port and redirect.port != _DEFAULT_PORTS.get(scheme):
        host = f"{host}:{redirect.port}"
    path = request.path if redirect.path is None else rewrite_path(request.path, match, redirect.path)
    return f"{scheme}://{host}{with_query(path, request.query)}"
