"""Names of 64 bits for what kernel and proxy must agree on: rules, clusters, paths, header names. Pure.

The agent puts a listener's fingerprint into the kernel with the routes that it compiled, and a worker arms a
flow under the fingerprint of its own config. Equal contents have equal fingerprints in every process, so the
kernel carries a request only by what both hold.
"""

from __future__ import annotations

import enum
import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import Forward, RouteConfig
from meshd.model.snapshot import Snapshot

FORMAT = 3
"""Of what is hashed, and of what the kernel does by it: raised when either changes its meaning."""

FNV_BASIS = 0xCBF29CE484222325
"""The hash of no bytes: that of the path prefix "/"."""
_FNV_PRIME = 0x100000001B3
_MASK = 2**64 - 1

Rules = tuple[Listener, RouteConfig | None, tuple[tuple[str, Cluster | None, EndpointSet | None], ...]]
"""All that decides on a listener's requests; None where a resource that is named does not exist."""
Variant = tuple[str, str]
"""A listener's name, and the namespace of the callers that it is for (one of Listener.caller_namespaces)."""


def fnv1a(data: bytes) -> int:
    """FNV-1a of 64 bits, as the kernel's parser makes it of paths and header names (bpf/fnv.h)."""
    found = FNV_BASIS
    for byte in data:
        found = (found ^ byte) * _FNV_PRIME & _MASK
    return found


@functools.lru_cache(maxsize=65536)
def cluster_id(name: str) -> int:
    """Names a cluster in the kernel; never 0."""
    return _digest(name.encode())


def rules_fingerprint(snapshot: Snapshot, listener: Listener) -> int:
    """Names all that decides on the listener's requests; never 0, which the kernel takes for no rules.

    ``listener``: as it is seen from the callers' namespace. That of the others names the namespaces that have
    rules of their own, so it is another one as soon as these are others.
    """
    return _fingerprint(_rules(snapshot, listener))


class Fingerprints:
    """The fingerprints of all variants of a snapshot's listeners, but for cold ones, brought from snapshot to
    snapshot.

    Only what refers to another object than in the last snapshot is looked at: ``Snapshot.apply`` keeps what a
    delta does not touch.
    """

    __slots__ = ("_last", "_of_listener", "_users", "_values")

    def __init__(self) -> None:
        self._last = Snapshot()
        self._values: dict[Variant, int] = {}
        self._of_listener: dict[str, _Uses] = {}
        self._users: dict[_Used, set[str]] = defaultdict(set)
        """The listeners whose fingerprints a route config, a cluster or its endpoints are part of."""

    def update(self, snapshot: Snapshot) -> Mapping[Variant, Listener | None]:
        """Take the next snapshot. The variants whose fingerprint is new or another; None: they are gone."""
        last, self._last = self._last, snapshot
        stale = set(last.listeners.others(snapshot.listeners))
        for config in last.route_configs.others(snapshot.route_configs):
            stale |= self._users.get((True, config), _NOBODY)
        for cluster in chain(
            last.clusters.others(snapshot.clusters), last.endpoints.others(snapshot.endpoints)
        ):
            stale |= self._users.get((False, cluster), _NOBODY)
        affected: dict[Variant, Listener | None] = {}
        for name in sorted(stale):
            before = self._forget(name)
            affected.update(dict.fromkeys(before))
            listener = snapshot.listeners.get(name)
            if listener is None or listener.cold:
                continue
            variants = [(name, namespace) for namespace in listener.caller_namespaces]
            used: set[_Used] = set()
            for variant in variants:
                seen = listener.seen_from(variant[1])
                rules = _rules(snapshot, seen)
                used.add((True, seen.route_config))
                used.update((False, cluster) for cluster, _, _ in rules[2])
                self._values[variant] = _fingerprint(rules)
                if before.get(variant) != self._values[variant]:
                    affected[variant] = seen
                else:
                    del affected[variant]
            self._of_listener[name] = _Uses(tuple(variants), frozenset(used))
            for each in used:
                self._users[each].add(name)
        return affected

    def _forget(self, name: str) -> dict[Variant, int]:
        """Returns the fingerprints that a listener had."""
        uses = self._of_listener.pop(name, None)
        if uses is None:
            return {}
        for each in uses.used:
            users = self._users[each]
            users.discard(name)
            if not users:
                del self._users[each]
        return {variant: self._values.pop(variant) for variant in uses.variants}

    def __iter__(self) -> Iterator[Variant]:
        """All variants of the snapshot's listeners."""
        return iter(self._values)

    def __getitem__(self, variant: Variant) -> int:
        """The fingerprint of one of them. Raises KeyError."""
        return self._values[variant]


_Used = tuple[bool, str]
"""Whether it is a route config (or a cluster), and its name."""
_NOBODY: frozenset[str] = frozenset()


class _Uses(NamedTuple):
    variants: tuple[Variant, ...]
    used: frozenset[_Used]


def cluster_names(snapshot: Snapshot, listener: Listener) -> tuple[str, ...]:
    """The clusters that a listener and its routes forward to, whether there are such or not; sorted."""
    names = {listener.cluster} if listener.cluster else set()
    config = snapshot.route_configs.get(listener.route_config)
    for host in config.virtual_hosts if config else ():
        for route in host.routes:
            if isinstance(route.action, Forward):
                names.update(share.name for share in route.action.clusters)
    return tuple(sorted(names))


def _rules(snapshot: Snapshot, listener: Listener) -> Rules:
    clusters = cluster_names(snapshot, listener)
    return (
        listener,
        snapshot.route_configs.get(listener.route_config),
        tuple((name, snapshot.clusters.get(name), snapshot.endpoints.get(name)) for name in clusters),
    )


def _fingerprint(rules: Rules) -> int:
    return _digest(msgspec.msgpack.encode((FORMAT, _plain(rules))))


def _plain(value: Any) -> Any:
    """The value as nested lists that spell out every field.

    msgspec's own encoding leaves out a default by the identity of its value, which is no matter of content;
    and a number that came as an integer is one of floating point after a journey.
    """
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, msgspec.Struct):
        return [type(value).__name__, *map(_plain, msgspec.structs.astuple(value))]
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, enum.Enum):
        return value.value
    return float(value)


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") or 1
