"""The xDS resource types, and a snapshot in the form in which it is served: named, versioned, packed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.snapshot import Snapshot
from meshd.model.status import ConfigStatus
from meshd.xds import encode, http_filters

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTE_CONFIG = PREFIX + "envoy.config.route.v3.RouteConfiguration"
STATUS = PREFIX + "google.protobuf.Struct"
"""meshd's own: one resource, ``STATUS_NAME``, the ConfigStatus. Only meshd agents ask for it."""
STATUS_NAME = "io.meshd/status"

ORDER = (CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG, STATUS)
"""Make before break: what is referred to goes out before what refers to it (xDS protocol, "Eventual
consistency considerations"); removals go the other way."""

SHORT = {CLUSTER: "CDS", ENDPOINTS: "EDS", LISTENER: "LDS", ROUTE_CONFIG: "RDS", STATUS: "status"}
"""For people."""

WILDCARD_BY_DEFAULT = frozenset({CLUSTER, LISTENER})
"""The types where a first request without names asks for all (xDS protocol, "How the client specifies what
resources to return")."""

_Source = Cluster | EndpointSet | Listener | RouteConfig | ConfigStatus


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as it is sent."""

    name: str
    version: str
    """A hash of the content: equal across restarts and replicas of the control plane."""
    packed: any_pb2.Any
    source: _Source
    """What it was encoded from."""
    filters: frozenset[str] = frozenset()
    """Of a listener: what its routes use."""


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All that a control plane serves, by type URL and name."""

    version: str = ""
    by_type: Mapping[str, Mapping[str, Resource]] = field(default_factory=dict)

    def of(self, type_url: str) -> Mapping[str, Resource]:
        """The resources of a type; none when nothing of it is served."""
        return self.by_type.get(type_url, {})

    def union(self, older: ResourceSet) -> ResourceSet:
        """This set plus what only the older one has, for while clients move from one to the other."""
        by_type = {
            type_url: {**older.of(type_url), **self.of(type_url)}
            for type_url in {**older.by_type, **self.by_type}
        }
        return ResourceSet(self.version, by_type)


def digest(parts: Mapping[str, str]) -> str:
    """A short hash of names and versions, whatever their order."""
    content = "".join(f"{name}\0{version}\0" for name, version in sorted(parts.items()))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def pack(name: str, message: Message, source: _Source, filters: frozenset[str] = frozenset()) -> Resource:
    """Pack and version a message. Serialisation is deterministic, so equal content has equal versions."""
    packed = any_pb2.Any()
    packed.type_url = PREFIX + message.DESCRIPTOR.full_name
    packed.value = message.SerializeToString(deterministic=True)
    return Resource(name, hashlib.sha256(packed.value).hexdigest()[:16], packed, source, filters)


def status_message(status: ConfigStatus) -> struct_pb2.Struct:
    """The ConfigStatus as the Struct that carries it."""
    message = struct_pb2.Struct()
    message.update(msgspec.to_builtins(status))
    return message


def status_from(message: struct_pb2.Struct) -> ConfigStatus:
    """The reverse of ``status_message``. Raises msgspec.ValidationError."""
    return msgspec.convert(_with_integers(MessageToDict(message)), ConfigStatus)


def _with_integers(value: object) -> object:
    """A Struct knows one kind of numbers only."""
    if isinstance(value, dict):
        return {name: _with_integers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_integers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_health_port(model: EndpointSet, cluster: Cluster | None) -> EndpointSet:
    """The endpoints, each saying where it is probed: in xDS that is the endpoint's affair."""
    port = cluster.health_check.port if cluster is not None and cluster.health_check is not None else 0
    if not port:
        return model
    each = (msgspec.structs.replace(e, health_port=e.health_port or port) for e in model.endpoints)
    return msgspec.structs.replace(model, endpoints=tuple(each))


def resource_set(
    snapshot: Snapshot, status: ConfigStatus, previous: ResourceSet | None = None
) -> ResourceSet:
    """Encode a snapshot. What equals its counterpart in ``previous`` is taken from there.

    The set's version covers the snapshot, not the status, which itself names the version.
    """
    old = previous or ResourceSet()

    def kept(
        type_url: str, name: str, source: _Source, filters: frozenset[str] = frozenset()
    ) -> Resource | None:
        before = old.of(type_url).get(name)
        same = before is not None and (before.source, before.filters) == (source, filters)
        return before if same else None

    def listener(model: Listener) -> Resource:
        configs = [snapshot.route_configs[n] for n in model.route_configs if n in snapshot.route_configs]
        filters = http_filters.used(configs)
        return kept(LISTENER, model.name, model, filters) or pack(
            model.name, encode.listener(model, filters), model, filters
        )

    def endpoints(model: EndpointSet) -> Resource:
        model = _with_health_port(model, snapshot.clusters.get(model.name))
        return kept(ENDPOINTS, model.name, model) or pack(model.name, encode.endpoints(model), model)

    by_type: dict[str, dict[str, Resource]] = {
        CLUSTER: {
            n: kept(CLUSTER, n, c) or pack(n, encode.cluster(c), c) for n, c in snapshot.clusters.items()
        },
        ENDPOINTS: {n: endpoints(e) for n, e in snapshot.endpoints.items()},
        LISTENER: {n: listener(x) for n, x in snapshot.listeners.items()},
        ROUTE_CONFIG: {
            n: kept(ROUTE_CONFIG, n, r) or pack(n, encode.route_config(r), r)
            for n, r in snapshot.route_configs.items()
        },
    }
    version = digest({f"{t}/{n}": r.version for t, rs in by_type.items() for n, r in rs.items()})
    status = msgspec.structs.replace(status, version=version)
    by_type[STATUS] = {
        STATUS_NAME: kept(STATUS, STATUS_NAME, status) or pack(STATUS_NAME, status_message(status), status)
    }
    return ResourceSet(version, by_type)
