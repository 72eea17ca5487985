"""Which paths a service's rules know, and which routes may take a request whose longest path each is. Pure.

The meaning is that of the proxy's route table (proxy/routing/virtual_host.py): an exact path, a prefix by
elements, or a regular expression over the whole path.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from meshd.model.regex import Regex
from meshd.model.routes import PathExact, PathMatch, PathPrefix


class PathKey(NamedTuple):
    """A key of the paths map. The prefix of all paths is the empty path."""

    exact: bool
    path: bytes


class Place(NamedTuple):
    """A route in a path's list."""

    route: int
    """Its index in the virtual host."""
    certain: bool
    """Its path condition holds for all requests that come here; False: it may."""


class PathTree:
    """The routes of a virtual host by path."""

    def __init__(self, matches: Sequence[PathMatch], max_elements: int, max_bytes: int) -> None:
        """``max_elements``, ``max_bytes``: of a path of the map.

        Requests with a longer path are upcalls, so a path that is longer needs no entry. But a prefix of more
        elements would go unseen: its routes stand, uncertain, under its first elements.
        """
        self._max_bytes = max_bytes
        self._matches = matches
        self._exact: dict[str, list[int]] = {}
        self._below: dict[str, list[Place]] = {}
        for index, match in enumerate(matches):
            if isinstance(match, PathExact):
                self._exact.setdefault(match.value, []).append(index)
                continue
            if isinstance(match, PathPrefix):
                prefix, certain = match.value.rstrip("/"), True
            else:
                prefix, certain = _literal_folder(match.value), False
            elements = prefix.split("/")
            if len(elements) > max_elements + 1:
                prefix, certain = "/".join(elements[: max_elements + 1]), False
            self._below.setdefault(prefix, []).append(Place(index, certain))

    def entries(self) -> Iterator[tuple[PathKey, Iterator[Place]]]:
        """All paths with their routes in order. Iterating over those raises meshd.model.regex.RegexError."""
        for path in self._below:
            if (key := self._key(False, path)) is not None:
                yield key, heapq.merge(*self._at_or_above(path))
        for path, own in self._exact.items():
            if (key := self._key(True, path)) is not None:
                yield key, heapq.merge((Place(route, True) for route in own), self._holding(path))

    def _key(self, exact: bool, path: str) -> PathKey | None:
        """None: no request that the kernel's parser takes has such a path."""
        encoded = path.encode("utf-8", "surrogateescape")
        if len(encoded) > self._max_bytes or ((exact or path) and path[:1] != "/"):
            return None
        return PathKey(exact, encoded)

    def _at_or_above(self, path: str) -> Iterator[list[Place]]:
        yield self._below.get("", [])
        for at in range(1, len(path)):
            if path[at] == "/":
                yield self._below.get(path[:at], [])
        if path:
            yield self._below.get(path, [])

    def _holding(self, path: str) -> Iterator[Place]:
        """The prefixes and patterns that a path meets."""
        for place in heapq.merge(*self._at_or_above(path)):
            if place.certain or _holds(self._matches[place.route], path):
                yield Place(place.route, True)


def _holds(match: PathMatch, path: str) -> bool:
    if isinstance(match, PathPrefix):
        prefix = match.value.rstrip("/")
        return path == prefix or path.startswith(prefix + "/")
    return Regex(match.value).fullmatch(path)


_LITERAL = re.compile(r"(?:[A-Za-z0-9_~%/-](?![*+?{]))*")


def _literal_folder(pattern: str) -> str:
    """A prefix, by elements, of all paths that the pattern matches: ``/api/v[0-9]+`` gives ``/api``.

    Cautious: what is not plainly a literal ends it, and an alternation anywhere means that nothing is known.
    """
    if "|" in pattern:
        return ""
    literal = _LITERAL.match(pattern)
    return literal[0].rpartition("/")[0] if literal else ""
