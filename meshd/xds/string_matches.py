"""StringMatch and its xDS counterparts: StringMatcher, and what matches one header field."""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2

from meshd.model.regex import Regex, RegexError
from meshd.model.request_policies import StringMatch
from meshd.xds.unsupported import UnsupportedError, only


def write(model: StringMatch) -> string_pb2.StringMatcher:
    """The matcher of the value; the name goes elsewhere."""
    if model.regex:
        return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=model.value))
    return string_pb2.StringMatcher(exact=model.value)


def read(message: string_pb2.StringMatcher, key: str, name: str, where: str) -> StringMatch:
    """The reverse of ``write``. Raises UnsupportedError."""
    kind = message.WhichOneof("match_pattern")
    if kind not in ("exact", "safe_regex") or message.ignore_case:
        raise UnsupportedError(name, where, "only exact and safe_regex, case-sensitive")
    if kind == "exact":
        return StringMatch(name=key, value=message.exact)
    only(message.safe_regex, {"regex"}, name, f"{where}.safe_regex")
    return StringMatch(name=key, value=regex(message.safe_regex.regex, name, where), regex=True)


def regex(pattern: str, name: str, where: str) -> str:
    """A pattern that compiles; both ends of the stream check, for either may be somebody else's."""
    try:
        Regex(pattern)
    except RegexError as error:
        raise UnsupportedError(name, where, str(error)) from None
    return pattern


def headers(models: Iterable[StringMatch]) -> list[route_components_pb2.HeaderMatcher]:
    """Matchers of header fields."""
    return [route_components_pb2.HeaderMatcher(name=each.name, string_match=write(each)) for each in models]


def read_header(message: route_components_pb2.HeaderMatcher, name: str, where: str) -> StringMatch:
    """The reverse, for one; pseudo-headers keep their names. Raises UnsupportedError."""
    only(message, {"name", "string_match"}, name, where)
    return read(message.string_match, message.name.lower(), name, f"{where}.string_match")
