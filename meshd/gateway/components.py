"""Which objects have to do with each other: those that share nothing are translated apart. Pure."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from meshd.gateway.endpoints import SERVICE_NAME
from meshd.kube.objects import EndpointSlice, Key, Service
from meshd.kube.parse import KubeObject

_ADDRESS = "address"
"""Kind of a node that stands for a VIP: of two Services that claim one, the first by name has it."""


class Links:
    """Objects, and the nodes that each touches: itself, and whatever it names. Who shares one is linked."""

    def __init__(self) -> None:
        self._nodes: dict[Key, frozenset[Key]] = {}
        self._touching: dict[Key, set[Key]] = defaultdict(set)

    def put(self, key: Key, value: KubeObject | None) -> None:
        """Take an object in the place of what was there of that key; None: only a name, with problems."""
        self.remove(key)
        nodes = self._nodes[key] = frozenset(_nodes(key, value))
        for node in nodes:
            self._touching[node].add(key)

    def remove(self, key: Key) -> None:
        """It is gone, if it was there."""
        for node in self._nodes.pop(key, ()):
            touching = self._touching[node]
            touching.discard(key)
            if not touching:
                del self._touching[node]

    def component(self, key: Key) -> frozenset[Key]:
        """All that is linked with an object, by any number of links, and itself."""
        found, new = {key}, [key]
        while new:
            for node in self._nodes[new.pop()]:
                more = self._touching[node] - found
                found |= more
                new += more
        return frozenset(found)


def _nodes(key: Key, value: KubeObject | None) -> Iterator[Key]:
    yield key
    if isinstance(value, Service):
        for address in value.spec.cluster_ips or (value.spec.cluster_ip,):
            if address not in ("", "None"):
                yield Key(_ADDRESS, "", str(ipaddress.ip_address(address)))
    elif isinstance(value, EndpointSlice):
        if owner := value.metadata.labels.get(SERVICE_NAME):
            yield Key("Service", key.namespace, owner)
    elif value is not None:
        yield from _references(value, key.namespace)


def _references(value: object, namespace: str) -> Iterator[Key]:
    """Whatever an object names: parentRefs, backendRefs and targetRefs have a kind and a name."""
    if isinstance(value, msgspec.Struct):
        kind, name = getattr(value, "kind", None), getattr(value, "name", None)
        if isinstance(kind, str) and isinstance(name, str):
            yield Key(kind, getattr(value, "namespace", None) or namespace, name)
        for field in value.__struct_fields__:
            yield from _references(getattr(value, field), namespace)
    elif isinstance(value, tuple):
        for each in value:
            yield from _references(each, namespace)


def partition(links: Links, keys: Iterable[Key]) -> Iterator[frozenset[Key]]:
    """The components that have any of these objects, each once."""
    left = set(keys)
    while left:
        found = links.component(left.pop())
        left -= found
        yield found
