"""The agent's end of delta ADS, without I/O: it outlives streams, and resumes where the last one ended.

One round: ``received`` takes a response and keeps what of it can be decoded; ``change`` says what that means
for the config in force; the caller puts it into force, calls ``in_force``, and sends what ``answer`` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import Message

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.snapshot import Delta, Snapshot, difference
from meshd.model.status import ConfigStatus
from meshd.xds import decode, decode_listener, decode_route, warming
from meshd.xds.packing import unpack
from meshd.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ORDER,
    ROUTE_CONFIG,
    SHORT,
    STATUS,
    STATUS_NAME,
    status_from,
)
from meshd.xds.unsupported import UnsupportedError

MAX_ERROR_DETAIL = 4096
"""Characters of a NACK's message: it has to fit into HTTP/2 frames and log lines."""
_INVALID_ARGUMENT = 3  # google.rpc.Code

_Message = TypeVar("_Message", bound=Message)
_Model = Cluster | EndpointSet | Listener | RouteConfig | ConfigStatus


def _status(message: struct_pb2.Struct) -> ConfigStatus:
    try:
        return status_from(message)
    except msgspec.ValidationError as error:
        raise UnsupportedError(STATUS_NAME, "resource", str(error)) from None


def _decoder(
    kind: type[_Message], read: Callable[[_Message], _Model]
) -> Callable[[any_pb2.Any, str], _Model]:
    def decoded(packed: any_pb2.Any, name: str) -> _Model:
        message = kind()
        unpack(packed, message, name, "resource")
        return read(message)

    return decoded


_DECODERS = {
    CLUSTER: _decoder(cluster_pb2.Cluster, decode.cluster),
    ENDPOINTS: _decoder(endpoint_pb2.ClusterLoadAssignment, decode.endpoints),
    LISTENER: _decoder(listener_pb2.Listener, decode_listener.listener),
    ROUTE_CONFIG: _decoder(route_pb2.RouteConfiguration, decode_route.route_config),
    STATUS: _decoder(struct_pb2.Struct, _status),
}


@dataclass(frozen=True, slots=True)
class Received:
    """A response taken in: what it was, and which of its resources were refused and why."""

    type_url: str
    nonce: str
    version: str
    """The control plane's name for the whole config (system_version_info); for people."""
    accepted: tuple[str, ...]
    removed: tuple[str, ...]
    rejected: dict[str, str]


@dataclass(slots=True)
class _Kind:
    """One resource type: what is subscribed to and what has arrived."""

    versions: dict[str, str] = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    """Of what is subscribed to by name, what has come or is said not to exist."""
    seen: bool = False
    """There has been a response of this type."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Reason by name, of resources whose newest version was refused."""


class ClientStream:
    """All that a delta ADS client knows."""

    def __init__(self, node: base_pb2.Node) -> None:
        self._node = node
        self._kinds = {type_url: _Kind() for type_url in ORDER}
        self._clusters: dict[str, Cluster] = {}
        self._endpoints: dict[str, EndpointSet] = {}
        self._listeners: dict[str, Listener] = {}
        self._route_configs: dict[str, RouteConfig] = {}
        self._in_force = Snapshot()
        self.status = ConfigStatus()

    def connected(self) -> list[discovery_pb2.DeltaDiscoveryRequest]:
        """The requests that open a stream. Versions brought along keep the server from sending all again."""
        self._kinds[STATUS].subscribed = {STATUS_NAME}
        requests = []
        for type_url in ORDER:
            kind = self._kinds[type_url]
            wildcard = type_url in (CLUSTER, LISTENER)
            if not wildcard and not kind.subscribed:
                continue
            requests.append(
                discovery_pb2.DeltaDiscoveryRequest(
                    type_url=type_url,
                    resource_names_subscribe=sorted(kind.subscribed),
                    initial_resource_versions=kind.versions,
                )
            )
        # The node is said once a stream, in its first request.
        requests[0].node.CopyFrom(self._node)
        return requests

    def received(self, response: discovery_pb2.DeltaDiscoveryResponse) -> Received:
        """Take a response: its good resources are kept, its bad ones refused by name; neither hinders the
        other. The old version of a refused resource stays.
        """
        type_url = response.type_url
        rejected: dict[str, str] = {}
        accepted: list[str] = []
        decoder = _DECODERS.get(type_url)
        if decoder is None:
            rejected[type_url] = "a resource type that was not asked for"
            return Received(type_url, response.nonce, response.system_version_info, (), (), rejected)
        kind = self._kinds[type_url]
        kind.seen = True
        kind.answered.update(resource.name for resource in response.resources)
        kind.answered.update(response.removed_resources)
        for resource in response.resources:
            name = str(resource.name)
            try:
                model = decoder(resource.resource, name)
                if not isinstance(model, ConfigStatus) and model.name != name:
                    raise UnsupportedError(name, "name", f"the resource inside is called {model.name!r}")
            except UnsupportedError as error:
                rejected[name] = kind.rejected[name] = f"{error.field}: {error.why}"
                continue
            self._keep(name, model)
            kind.versions[name] = resource.version
            kind.rejected.pop(name, None)
            accepted.append(name)
        for name in response.removed_resources:
            self._drop(type_url, name)
        return Received(
            type_url,
            response.nonce,
            response.system_version_info,
            tuple(accepted),
            tuple(response.removed_resources),
            rejected,
        )

    def _keep(self, name: str, model: _Model) -> None:
        if isinstance(model, Cluster):
            self._clusters[name] = model
        elif isinstance(model, EndpointSet):
            self._endpoints[name] = model
        elif isinstance(model, Listener):
            self._listeners[name] = model
        elif isinstance(model, RouteConfig):
            self._route_configs[name] = model
        else:
            self.status = model

    def _drop(self, type_url: str, name: str) -> None:
        kind = self._kinds[type_url]
        kind.versions.pop(name, None)
        kind.rejected.pop(name, None)
        if type_url == CLUSTER:
            self._clusters.pop(name, None)
        elif type_url == LISTENER:
            self._listeners.pop(name, None)
        elif type_url == ROUTE_CONFIG:
            self._route_configs.pop(name, None)
        elif type_url == STATUS:
            self.status = ConfigStatus()
        elif name in kind.subscribed:
            # A cluster that has no endpoints resource has no endpoints; nothing is to be waited for.
            self._endpoints[name] = EndpointSet(name=name)
        else:
            self._endpoints.pop(name, None)

    def _snapshot(self) -> Snapshot:
        return Snapshot(0, self._listeners, self._route_configs, self._clusters, self._endpoints)

    def change(self) -> Delta | None:
        """From what is in force to what may now be; None if that is the same."""
        delta = difference(self._in_force, warming.warm(self._snapshot(), self._in_force))
        return None if delta == Delta(generation=delta.generation) else delta

    def in_force(self, delta: Delta) -> None:
        """What ``change`` returned is in force now."""
        self._in_force = self._in_force.apply(delta)

    @property
    def snapshot(self) -> Snapshot:
        """What is in force."""
        return self._in_force

    @property
    def synced(self) -> bool:
        """Whether all that is asked for has been answered."""
        return (
            self._kinds[CLUSTER].seen
            and self._kinds[LISTENER].seen
            and all(names <= self._kinds[kind].answered for kind, names in self._referred().items())
        )

    @property
    def waiting(self) -> tuple[str, ...]:
        """The clusters that are held back until their endpoints arrive."""
        return tuple(sorted(warming.waiting_for_endpoints(self._snapshot())))

    def stop_waiting(self) -> None:
        """Take clusters whose endpoints have not come as having none (Envoy: initial_fetch_timeout)."""
        for name in self.waiting:
            self._endpoints[name] = EndpointSet(name=name)
            self._kinds[ENDPOINTS].answered.add(name)

    @property
    def rejected(self) -> dict[str, str]:
        """Of each resource whose newest version was refused, ``TYPE name``, the reason."""
        return {
            f"{SHORT[type_url]} {name}": why
            for type_url, kind in self._kinds.items()
            for name, why in kind.rejected.items()
        }

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """By type (CDS, ...) and name, the version that was accepted last."""
        return {SHORT[type_url]: dict(kind.versions) for type_url, kind in self._kinds.items()}

    def answer(self, received: Received, failure: str = "") -> list[discovery_pb2.DeltaDiscoveryRequest]:
        """Subscriptions that follow from what was received, then its ACK, or a NACK if resources were refused
        or the change could not be put into force (``failure``).

        Subscriptions come first: so a server that orders by ACKs knows of them before it goes on.
        """
        requests = self._subscriptions()
        answer = discovery_pb2.DeltaDiscoveryRequest(
            type_url=received.type_url, response_nonce=received.nonce
        )
        reasons = [f"{name}: {why}" for name, why in received.rejected.items()]
        if failure:
            reasons.append(failure)
        if reasons:
            message = "; ".join(reasons)[:MAX_ERROR_DETAIL]
            answer.error_detail.code, answer.error_detail.message = _INVALID_ARGUMENT, message
        return [*requests, answer]

    def _referred(self) -> dict[str, set[str]]:
        """The names that other resources refer to, by type."""
        return {
            ENDPOINTS: set(self._clusters),
            ROUTE_CONFIG: {name for x in self._listeners.values() for name in x.route_configs},
        }

    def _subscriptions(self) -> list[discovery_pb2.DeltaDiscoveryRequest]:
        """What is referred to by name and not subscribed to yet, or no more."""
        requests = []
        for type_url, names in self._referred().items():
            kind = self._kinds[type_url]
            more, fewer = names - kind.subscribed, kind.subscribed - names
            if not more and not fewer:
                continue
            kind.subscribed = names
            kind.answered &= names
            for name in fewer:
                self._drop(type_url, name)
            requests.append(
                discovery_pb2.DeltaDiscoveryRequest(
                    type_url=type_url,
                    resource_names_subscribe=sorted(more),
                    resource_names_unsubscribe=sorted(fewer),
                )
            )
        return requests
