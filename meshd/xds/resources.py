"""The xDS resource types, and a snapshot in the form in which it is served: named, versioned, packed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.message import Message

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.shared_map import SharedMap
from meshd.model.snapshot import Delta
from meshd.model.status import ObjectStatus
from meshd.xds import encode

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTE_CONFIG = PREFIX + "envoy.config.route.v3.RouteConfiguration"
STATUS = PREFIX + "google.protobuf.StringValue"
"""meshd's own: one resource for each ObjectStatus, as JSON. Only meshd agents ask for it."""
_STATUS_NAME = "io.meshd/status/"

ORDER = (CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG, STATUS)
"""Make before break: what is referred to goes out before what refers to it (xDS protocol, "Eventual
consistency considerations"); removals go the other way."""

SHORT = {CLUSTER: "CDS", ENDPOINTS: "EDS", LISTENER: "LDS", ROUTE_CONFIG: "RDS", STATUS: "status"}
"""For people."""

WILDCARD_BY_DEFAULT = frozenset({CLUSTER, LISTENER})
"""The types where a first request without names asks for all (xDS protocol, "How the client specifies what
resources to return")."""

_Source = Cluster | EndpointSet | Listener | RouteConfig | ObjectStatus
_SUM = 2**64


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as it is sent."""

    name: str
    version: str
    """A hash of the content: equal across restarts and replicas of the control plane."""
    packed: any_pb2.Any
    source: _Source
    """What it was encoded from."""


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All that a control plane serves, by type URL and name."""

    version: str = ""
    by_type: Mapping[str, Mapping[str, Resource]] = field(default_factory=dict)
    changed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By type, the names of what is not as in the set that this one ``follows``."""
    follows: object = None
    """The ``identity`` of the set that this one was made from."""
    identity: object = field(default_factory=object)

    def of(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of a type; none when nothing of it is served."""
        return self.by_type.get(type_url, {})

    def union(self, older: ResourceSet) -> ResourceSet:
        """This set plus what only the older one has, for while clients move from one to the other."""
        merged = {type_url: _both(older.of(type_url), self.of(type_url)) for type_url in older.by_type}
        return ResourceSet(self.version, {**self.by_type, **merged})


def _both(older: Mapping[str, Resource], newer: Mapping[str, Resource]) -> SharedMap[str, Resource]:
    """All of the newer ones, and the older ones that have gone."""
    before, after = SharedMap.of(older), SharedMap.of(newer)
    return after.changed({name: before[name] for name in before.others(after) if name not in after})


def digest(parts: Mapping[str, str]) -> str:
    """A short hash of names and versions, whatever their order."""
    content = "".join(f"{name}\0{version}\0" for name, version in sorted(parts.items()))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def pack(name: str, message: Message, source: _Source) -> Resource:
    """Pack and version a message. Serialisation is deterministic, so equal content has equal versions."""
    packed = any_pb2.Any()
    packed.type_url = PREFIX + message.DESCRIPTOR.full_name
    packed.value = message.SerializeToString(deterministic=True)
    return Resource(name, hashlib.sha256(packed.value).hexdigest()[:16], packed, source)


def status_message(status: ObjectStatus) -> wrappers_pb2.StringValue:
    """The ObjectStatus in the message that carries it."""
    return wrappers_pb2.StringValue(value=msgspec.json.encode(status).decode())


def status_from(message: wrappers_pb2.StringValue) -> ObjectStatus:
    """The reverse of ``status_message``. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(message.value, type=ObjectStatus)


def status_name(kind: str, namespace: str, name: str) -> str:
    """The name of an object's status, as a resource."""
    return f"{_STATUS_NAME}{kind}/{namespace}/{name}"


def _named(status: ObjectStatus) -> str:
    return status_name(status.kind, status.namespace, status.name)


def next_set(
    old: ResourceSet, config: Delta, statuses: Iterable[ObjectStatus], removed_statuses: Iterable[str]
) -> ResourceSet:
    """The set after a change, of which alone it takes time; ``removed_statuses`` by ``status_name``."""
    return _following(
        old,
        {
            CLUSTER: config.clusters,
            ENDPOINTS: config.endpoints,
            LISTENER: config.listeners,
            ROUTE_CONFIG: config.route_configs,
            STATUS: statuses,
        },
        {
            CLUSTER: config.removed_clusters,
            ENDPOINTS: config.removed_endpoints,
            LISTENER: config.removed_listeners,
            ROUTE_CONFIG: config.removed_route_configs,
            STATUS: removed_statuses,
        },
    )


def _following(
    old: ResourceSet, changed: Mapping[str, Iterable[_Source]], removed: Mapping[str, Iterable[str]]
) -> ResourceSet:
    by_type = dict(old.by_type)
    names: dict[str, frozenset[str]] = {}
    total = int(old.version or "0", 16)
    for type_url, sources in changed.items():
        fresh = [_encoded(source) for source in sources]
        gone = list(removed[type_url])
        before = SharedMap.of(old.of(type_url))
        if type_url in by_type and not fresh and not gone:
            continue
        by_type[type_url] = before.changed({resource.name: resource for resource in fresh}, gone)
        names[type_url] = frozenset(gone).union(resource.name for resource in fresh)
        if type_url != STATUS:  # which is about this version, and no part of it
            total -= sum(_weight(type_url, before[name]) for name in names[type_url] if name in before)
            total += sum(_weight(type_url, resource) for resource in fresh)
    return ResourceSet(f"{total % _SUM:016x}", by_type, names, old.identity)


def _weight(type_url: str, resource: Resource) -> int:
    """A set's version is the sum of its resources': it follows from what there is, whatever the way there."""
    named = f"{type_url}/{resource.name}\0{resource.version}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8])


def _encoded(source: _Source) -> Resource:
    if isinstance(source, Cluster):
        return pack(source.name, encode.cluster(source), source)
    if isinstance(source, EndpointSet):
        return pack(source.name, encode.endpoints(source), source)
    if isinstance(source, Listener):
        return pack(source.name, encode.listener(source), source)
    if isinstance(source, RouteConfig):
        return pack(source.name, encode.route_config(source), source)
    return pack(_named(source), status_message(source), source)
