"""Finding the routes that may take a request: the virtual host by its Host, then candidates by path.

Both keep Envoy's meaning of the config (RouteMatcher::findVirtualHost, VirtualHostImpl): first match wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from meshd.model.regex import Regex
from meshd.model.routes import PathExact, PathMatch, PathPrefix, RouteConfig, VirtualHost
from proxy.requests.rewriting import split_port


class Ordered(Protocol):
    """Something with a place in its virtual host's list of routes."""

    @property
    def order(self) -> int:
        """From 0; the lower wins."""


_R = TypeVar("_R", bound=Ordered)
_T = TypeVar("_T")


class PathIndex(Generic[_R]):
    """Routes by path, so that a thousand of them cost a request a few dictionary look-ups."""

    __slots__ = ("_catch_all", "_exact", "_lengths", "_only_catch_all", "_prefixes", "_regexes")

    def __init__(self, routes: Iterable[tuple[PathMatch, _R]]) -> None:
        """``routes`` in their order. Raises meshd.model.regex.RegexError."""
        self._exact: dict[str, list[_R]] = {}
        self._prefixes: dict[str, list[_R]] = {}
        self._catch_all: list[_R] = []
        self._regexes: list[tuple[Regex, _R]] = []
        for match, route in routes:
            if isinstance(match, PathExact):
                self._exact.setdefault(match.value, []).append(route)
            elif isinstance(match, PathPrefix):
                prefix = match.value.rstrip("/")
                at = self._prefixes.setdefault(prefix, []) if prefix else self._catch_all
                at.append(route)
            else:
                self._regexes.append((Regex(match.value), route))
        # Only lengths that occur are looked up: the config bounds the cost, not the request's slashes.
        self._lengths = tuple(sorted({len(prefix) for prefix in self._prefixes}))
        self._only_catch_all = not (self._exact or self._prefixes or self._regexes)

    def candidates(self, path: str) -> Sequence[_R]:
        """The routes whose path condition ``path`` meets, in their order."""
        rooted = path[:1] == "/"
        if self._only_catch_all:
            return self._catch_all if rooted else ()
        groups: list[Sequence[_R]] = []
        if exact := self._exact.get(path):
            groups.append(exact)
        for length in self._lengths:
            if length > len(path):
                break
            if (length == len(path) or path[length] == "/") and (found := self._prefixes.get(path[:length])):
                groups.append(found)
        if self._regexes and (matched := [route for regex, route in self._regexes if regex.fullmatch(path)]):
            groups.append(matched)
        if self._catch_all and rooted:
            groups.append(self._catch_all)
        if len(groups) == 1:
            return groups[0]
        return sorted((route for group in groups for route in group), key=_order)


def _order(route: Ordered) -> int:
    return route.order


class HostIndex(Generic[_T]):
    """Virtual hosts by domain: exact, then the longest ``*suffix``, then the longest ``prefix*``, then ``*``.

    A domain may name a port only where the config does not ignore the port of the request's Host.
    """

    __slots__ = ("_default", "_exact", "_ignore_port", "_only_default", "_prefixes", "_suffixes")

    def __init__(self, config: RouteConfig, compile_host: Callable[[VirtualHost], _T]) -> None:
        self._ignore_port = config.ignore_port
        self._exact: dict[str, _T] = {}
        self._suffixes: dict[int, dict[str, _T]] = {}
        self._prefixes: dict[int, dict[str, _T]] = {}
        self._default: _T | None = None
        for host in config.virtual_hosts:
            compiled = compile_host(host)
            for domain in map(str.lower, host.domains):
                if domain == "*":
                    self._default = compiled
                elif domain.startswith("*"):
                    self._suffixes.setdefault(len(domain) - 1, {})[domain[1:]] = compiled
                elif domain.endswith("*"):
                    self._prefixes.setdefault(len(domain) - 1, {})[domain[:-1]] = compiled
                else:
                    self._exact[domain] = compiled
        self._suffixes = dict(sorted(self._suffixes.items(), reverse=True))
        self._prefixes = dict(sorted(self._prefixes.items(), reverse=True))
        self._only_default = not (self._exact or self._suffixes or self._prefixes)

    def find(self, host: str) -> _T | None:
        """The virtual host for a Host value; None where none takes it."""
        if self._only_default:
            return self._default
        name = (split_port(host)[0] if self._ignore_port else host).lower()
        if (found := self._exact.get(name)) is not None:
            return found
        # A wildcard stands for at least one character: *.example.com is not .example.com.
        for length, suffixes in self._suffixes.items():
            if length < len(name) and (found := suffixes.get(name[-length:])) is not None:
                return found
        for length, prefixes in self._prefixes.items():
            if length < len(name) and (found := prefixes.get(name[:length])) is not None:
                return found
        return self._default
