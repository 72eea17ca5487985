"""PathRewrite and its xDS counterparts.

Envoy's ``prefix_rewrite`` swaps characters, not path elements: /a to / turns /a/b into //b, and / to /x
turns /b into /xb. So a rewrite is written in the form in which Envoy does what Gateway API says of
ReplacePrefixMatch (apis/v1/httproute_types.go, the table at HTTPPathModifier.replacePrefixMatch), and only
those forms are read.
"""

from __future__ import annotations

import re

from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import regex_pb2

from meshd.model.routes import PathMatch, PathPrefix, PathRewrite, ReplaceFullPath, ReplacePrefix
from meshd.xds.unsupported import UnsupportedError, only

_WHOLE = "^.*$"
_SPECIAL = re.compile(r"([^A-Za-z0-9_/])")


def _quoted(text: str) -> str:
    """``text`` as an RE2 pattern that matches it alone."""
    return _SPECIAL.sub(r"\\\1", text)


def _below(prefix: str) -> str:
    """The pattern of a prefix and the slash behind it."""
    return f"^{_quoted(prefix)}/?"


def _regex(pattern: str, substitution: str) -> regex_pb2.RegexMatchAndSubstitute:
    return regex_pb2.RegexMatchAndSubstitute(
        pattern=regex_pb2.RegexMatcher(regex=pattern), substitution=substitution.replace("\\", "\\\\")
    )


def write(
    action: route_components_pb2.RouteAction | route_components_pb2.RedirectAction,
    rewrite: PathRewrite | None,
    match: PathMatch,
) -> None:
    """Put a rewrite into a route or redirect action of a route with this match. Raises ValueError."""
    if rewrite is None:
        return
    if isinstance(rewrite, ReplaceFullPath):
        if isinstance(action, route_components_pb2.RedirectAction):
            action.path_redirect = rewrite.value
        else:
            action.regex_rewrite.CopyFrom(_regex(_WHOLE, rewrite.value))
        return
    if not isinstance(match, PathPrefix):
        raise ValueError("a prefix is replaced in a route that matches no prefix")
    if match.value == "/":
        action.prefix_rewrite = "/" if rewrite.value == "/" else rewrite.value + "/"
    elif rewrite.value == "/":
        action.regex_rewrite.CopyFrom(_regex(_below(match.value), "/"))
    else:
        action.prefix_rewrite = rewrite.value


def read(
    action: route_components_pb2.RouteAction | route_components_pb2.RedirectAction,
    match: PathMatch,
    resource: str,
    where: str,
) -> PathRewrite | None:
    """The reverse of ``write``. Raises UnsupportedError."""
    if action.HasField("regex_rewrite"):
        return _read_regex(action.regex_rewrite, match, resource, f"{where}.regex_rewrite")
    if isinstance(action, route_components_pb2.RedirectAction) and action.path_redirect:
        if "?" in action.path_redirect or "#" in action.path_redirect:
            raise UnsupportedError(resource, f"{where}.path_redirect", "a query or fragment in the new path")
        return ReplaceFullPath(action.path_redirect)
    if not action.prefix_rewrite:
        return None
    where = f"{where}.prefix_rewrite"
    value = str(action.prefix_rewrite)
    if not isinstance(match, PathPrefix):
        raise UnsupportedError(resource, where, "only together with a prefix match")
    if not value.startswith("/"):
        raise UnsupportedError(resource, where, "must begin with a slash")
    if match.value == "/" and value.endswith("/"):
        return ReplacePrefix(value.rstrip("/") or "/")
    if match.value != "/" and not value.endswith("/"):
        return ReplacePrefix(value)
    raise UnsupportedError(
        resource, where, f"{match.value} to {value} does not end where a path element ends"
    )


def _read_regex(
    rewrite: regex_pb2.RegexMatchAndSubstitute, match: PathMatch, resource: str, where: str
) -> PathRewrite:
    only(rewrite, {"pattern", "substitution"}, resource, where)
    only(rewrite.pattern, {"regex"}, resource, f"{where}.pattern")
    literal = rewrite.substitution.replace("\\\\", "\\")
    plain = literal.replace("\\", "\\\\") == rewrite.substitution
    if plain and rewrite.pattern.regex == _WHOLE and literal.startswith("/"):
        return ReplaceFullPath(literal)
    if isinstance(match, PathPrefix) and rewrite.pattern.regex == _below(match.value) and literal == "/":
        return ReplacePrefix("/")
    raise UnsupportedError(
        resource, where, "only the whole path, or the matched prefix by /, can be replaced"
    )
