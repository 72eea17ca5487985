"""What the kernel makes of a request by compiled rules: bpf/routes.h, said again in Python. Pure.

For people (``meshd explain``) and for tests, which hold it to the proxy's route table on the one side and the
kernel to it on the other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from meshd.datapath.rules.compilation import METHODS, Candidate, CompiledRules, FieldCondition, Share
from meshd.datapath.rules.paths import PathKey

Headers = Sequence[tuple[str, str]]


class Carried(NamedTuple):
    """The kernel takes the request."""

    route: int
    shares: tuple[Share, ...]


class Reason(enum.Enum):
    """Names of enum upcall."""

    METHOD = "method"
    ROUTE = "route"
    CONDITION = "condition"


class Upcall(NamedTuple):
    """The kernel gives the request to the proxy."""

    reason: Reason
    route: int | None = None
    """The one that it cannot decide on, or not serve; None: it knows none that might take the request."""


class _Holds(enum.Enum):
    YES = 1
    NO = 2
    UNDECIDED = 3


def decide(
    rules: CompiledRules, method: str, path: str, has_query: bool = False, headers: Headers = ()
) -> Carried | Upcall:
    """The decision on a request that the kernel's parser takes. ``path``: raw, without its query."""
    if method not in METHODS:
        return Upcall(Reason.METHOD)
    fields = _indexed(rules, headers)
    for candidate in rules.paths.get(_longest(rules, path), ()):
        holds = _candidate_holds(candidate, method, has_query, fields)
        if holds is _Holds.NO:
            continue
        if holds is _Holds.UNDECIDED:
            return Upcall(Reason.CONDITION, candidate.route)
        if not candidate.shares:
            return Upcall(Reason.ROUTE, candidate.route)
        return Carried(candidate.route, candidate.shares)
    return Upcall(Reason.ROUTE)


def _longest(rules: CompiledRules, path: str) -> PathKey:
    encoded = path.encode("utf-8", "surrogateescape")
    known = (key for key in _keys(rules, encoded) if key in rules.paths)
    return next(known, PathKey(False, b""))


def _keys(rules: CompiledRules, path: bytes) -> Iterator[PathKey]:
    """Where the kernel looks, in its order."""
    yield PathKey(True, path)
    yield PathKey(False, path)
    ends = [at for at in range(1, len(path)) if path[at] == ord("/")]
    for end in reversed(ends[: rules.prefixes]):
        yield PathKey(False, path[:end])


def _indexed(rules: CompiledRules, headers: Headers) -> list[list[bytes]]:
    """The values of each indexed field."""
    found: list[list[bytes]] = [[] for _ in rules.headers]
    for name, value in headers:
        if name.lower() in rules.headers:
            found[rules.headers.index(name.lower())].append(value.encode("utf-8", "surrogateescape"))
    return found


def _condition_holds(condition: FieldCondition, fields: Sequence[Sequence[bytes]]) -> _Holds:
    values = fields[condition.header]
    if not values:
        return _Holds.NO
    if len(values) > 1 or condition.value is None:
        return _Holds.UNDECIDED
    return _Holds.YES if values[0] == condition.value else _Holds.NO


def _candidate_holds(
    candidate: Candidate, method: str, has_query: bool, fields: Sequence[Sequence[bytes]]
) -> _Holds:
    tests = [_condition_holds(condition, fields) for condition in candidate.conditions]
    if candidate.query:
        tests.append(_Holds.UNDECIDED if has_query else _Holds.NO)
    if candidate.method not in ("", method) or _Holds.NO in tests:
        return _Holds.NO
    return _Holds.UNDECIDED if _Holds.UNDECIDED in tests else _Holds.YES
