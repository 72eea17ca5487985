"""The agent's end of delta ADS, without I/O: it outlives streams, and resumes where the last one ended.

Listeners it asks for by wildcard. What they refer to is asked for by name, for those that are wanted; where
all are, clusters come by wildcard, too, as from a server that knows them in no other way.

One round: ``received`` takes a response and keeps what of it can be decoded; ``change`` says what that means
for the config in force; the caller puts it into force, calls ``in_force``, and sends what ``answer`` returns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.snapshot import Delta, Snapshot, difference
from meshd.model.status import ConfigStatus, ObjectStatus
from meshd.xds import warming
from meshd.xds.decoders import DECODERS, Model
from meshd.xds.holdings import Holdings, Names
from meshd.xds.interest import Interest, Want
from meshd.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ORDER,
    ROUTE_CONFIG,
    SHORT,
    STATUS,
)
from meshd.xds.server_stream import WILDCARD
from meshd.xds.unsupported import UnsupportedError

MAX_ERROR_DETAIL = 4096
"""Characters of a NACK's message: it has to fit into HTTP/2 frames and log lines."""
_INVALID_ARGUMENT = 3  # google.rpc.Code


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
    unanswered: set[str] = field(default_factory=set)
    """Of what is subscribed to by name, what neither has come nor is said not to exist."""
    seen: bool = False
    """There has been a response of this type."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Reason by name, of resources whose newest version was refused."""


class ClientStream:
    """All that a delta ADS client knows."""

    def __init__(self, node: base_pb2.Node, everything: bool = True) -> None:
        """``everything``: all listeners are wanted, whoever uses them."""
        self._node = node
        self._interest = Interest(everything)
        self._listeners: dict[str, Listener] = {}
        """As they were received."""
        self._kinds = {type_url: _Kind() for type_url in ORDER}
        self._received = Holdings()
        """The listeners as they are wanted, and what they refer to."""
        self._used = Holdings()
        """What is in force."""
        self._in_force = Snapshot()
        """The same."""
        self._open = Names.none()
        """What may have to be put into force: received since the last change, or waiting since before."""
        self._tried = Names.none()
        """What the change that was asked for last has to do with, until it is in force."""
        self._maybe_unreferred: set[str] = set()
        """Route configs that a listener referred to which has changed since subscriptions were looked at."""
        self._maybe_unused: set[str] = set()
        """Likewise clusters that a listener or route config referred to."""
        self._statuses: dict[str, ObjectStatus] = {}
        self._version = ""
        self._to_send: list[discovery_pb2.DeltaDiscoveryRequest] = []
        """The subscriptions that follow from the last response."""

    @property
    def status(self) -> ConfigStatus:
        """What the control plane says of the user's objects; without any where it is not one of meshd's."""
        statuses = sorted(self._statuses.values(), key=lambda each: (each.kind, each.namespace, each.name))
        return ConfigStatus(version=self._version, objects=tuple(statuses))

    def connected(self) -> list[discovery_pb2.DeltaDiscoveryRequest]:
        """The requests that open a stream. Versions brought along keep the server from sending all again."""
        self._kinds[STATUS].subscribed = {WILDCARD}
        self._to_send = []
        requests = []
        for type_url in ORDER:
            kind = self._kinds[type_url]
            wildcard = type_url == LISTENER or (type_url == CLUSTER and self._interest.everything)
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

    def want(self, names: Iterable[str], want: Want) -> None:
        """What is wanted of listeners from now on. ``requests`` and ``change`` follow from it."""
        self._held_anew(self._interest.want(names, want))

    def follow(self, namespaces: Collection[str]) -> None:
        """The namespaces of all callers: for no others are routes wanted. As ``want``."""
        if self._interest.follow(namespaces):
            self._held_anew(self._interest.names)

    def _held_anew(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._listeners:
                self._keep(name, self._listeners[name])
        self._to_send += self._subscriptions()

    def requests(self) -> list[discovery_pb2.DeltaDiscoveryRequest]:
        """The subscriptions that follow from what is wanted, to be sent where there is a stream."""
        requests, self._to_send = self._to_send, []
        return requests

    def received(self, response: discovery_pb2.DeltaDiscoveryResponse) -> Received:
        """Take a response: its good resources are kept, its bad ones refused by name; neither hinders the
        other. The old version of a refused resource stays.
        """
        type_url = response.type_url
        rejected: dict[str, str] = {}
        accepted: list[str] = []
        decoder = DECODERS.get(type_url)
        if decoder is None:
            rejected[type_url] = "a resource type that was not asked for"
            return Received(type_url, response.nonce, response.system_version_info, (), (), rejected)
        kind = self._kinds[type_url]
        kind.seen = True
        self._version = response.system_version_info
        kind.unanswered.difference_update(resource.name for resource in response.resources)
        kind.unanswered.difference_update(response.removed_resources)
        for resource in response.resources:
            name = str(resource.name)
            if self._is_unwanted(type_url, name):
                continue  # sent before the server knew that it is not wanted any more
            try:
                model = decoder(resource.resource, name)
                if not isinstance(model, ObjectStatus) and model.name != name:
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
        # Now: what nothing refers to any more is not to stay in force until the next response.
        self._to_send += self._subscriptions()
        return Received(
            type_url,
            response.nonce,
            response.system_version_info,
            tuple(accepted),
            tuple(response.removed_resources),
            rejected,
        )

    def _is_unwanted(self, type_url: str, name: str) -> bool:
        by_name = not self._interest.everything and type_url in (CLUSTER, ENDPOINTS, ROUTE_CONFIG)
        return by_name and name not in self._kinds[type_url].subscribed

    def _keep(self, name: str, model: Model) -> None:
        if isinstance(model, Cluster):
            self._received.clusters[name] = model
            self._open.clusters.add(name)
        elif isinstance(model, EndpointSet):
            self._received.endpoints[name] = model
            self._open.clusters.add(name)
        elif isinstance(model, Listener):
            self._touch_listener(name)
            self._listeners[name] = model
            self._received.put_listener(self._interest.held(model))
            self._touch_listener(name)
        elif isinstance(model, RouteConfig):
            self._touch_route_config(name)
            self._received.put_route_config(model)
            self._touch_route_config(name)
        else:
            self._statuses[name] = model

    def _touch_listener(self, name: str) -> None:
        self._open.listeners.add(name)
        if name in self._received.listeners:
            self._maybe_unreferred.update(self._received.listeners[name].route_configs)
            self._maybe_unused.update(self._received.listeners[name].clusters)

    def _touch_route_config(self, name: str) -> None:
        self._open.route_configs.add(name)
        self._maybe_unused.update(self._received.clusters_of(name))

    def _drop(self, type_url: str, name: str) -> None:
        kind = self._kinds[type_url]
        kind.versions.pop(name, None)
        kind.rejected.pop(name, None)
        if type_url == CLUSTER:
            self._received.clusters.pop(name, None)
            self._open.clusters.add(name)
        elif type_url == LISTENER:
            self._touch_listener(name)
            self._listeners.pop(name, None)
            self._received.drop_listener(name)
        elif type_url == ROUTE_CONFIG:
            self._touch_route_config(name)
            self._received.drop_route_config(name)
        elif type_url == STATUS:
            self._statuses.pop(name, None)
        else:
            self._open.clusters.add(name)
            if name in kind.subscribed:
                # A cluster that has no endpoints resource has no endpoints; nothing is to be waited for.
                self._received.endpoints[name] = EndpointSet(name=name)
            else:
                self._received.endpoints.pop(name, None)

    def change(self) -> Delta | None:
        """From what is in force to what may now be; None if that is the same.

        Only what has been received is looked at, with what it refers to and what refers to it.
        """
        looked_at = self._open = self._open | self._tried
        self._tried = Names.none()
        names = self._received.referring(looked_at) | self._used.referring(looked_at)
        names = self._received.referred(names) | self._used.referred(names)
        received, used = self._interest.in_force(self._received.part(names)), self._used.part(names)
        warmed = warming.warm(received, used, self._expected)
        delta = difference(used, warmed)
        if self._may_wait(delta):
            return None
        # From here on it takes what comes until the change is in force.
        self._open = Names.of(difference(warmed, received))
        if delta == Delta(generation=delta.generation):
            return None
        self._tried = looked_at
        return delta

    def _may_wait(self, delta: Delta) -> bool:
        """Whether it only brings clusters that nothing in force leads to: what leads there brings them."""
        names = Names.of(delta)
        return (
            bool(names.clusters)
            and not (self._interest.everything or names.listeners or names.route_configs)
            and self._used.clusters.keys().isdisjoint(names.clusters)
            and not any(map(self._used.refers_to_cluster, names.clusters))
        )

    def in_force(self, delta: Delta) -> None:
        """What ``change`` returned is in force now. ``change`` may follow from it, as what it has replaced is
        not wanted any more.
        """
        self._in_force = self._in_force.apply(delta)
        replaced = Names.of(delta)
        for name in replaced.listeners & self._used.listeners.keys():
            self._maybe_unused.update(self._used.listeners[name].clusters)
        for name in replaced.route_configs:
            self._maybe_unused.update(self._used.clusters_of(name))
        self._used.apply(delta)
        self._tried = Names.none()
        self._to_send += self._subscriptions()

    @property
    def snapshot(self) -> Snapshot:
        """What is in force."""
        return self._in_force

    @property
    def synced(self) -> bool:
        """Whether all that is asked for has been answered."""
        return (
            (self._kinds[CLUSTER].seen or not self._interest.everything)
            and self._kinds[LISTENER].seen
            and not any(self._kinds[kind].unanswered for kind in (CLUSTER, ENDPOINTS, ROUTE_CONFIG))
        )

    @property
    def waiting(self) -> tuple[str, ...]:
        """The clusters that are held back until they or their endpoints arrive."""
        clusters, endpoints = self._received.clusters, self._received.endpoints
        without = {n for n in self._open.clusters if n in clusters and n not in endpoints}
        return tuple(sorted(without | self._expected))

    @property
    def _expected(self) -> set[str]:
        """The clusters that are asked for by name and neither have come nor been said not to exist."""
        return self._kinds[CLUSTER].unanswered

    def stop_waiting(self) -> None:
        """Take clusters that have not come as not existing, and those whose endpoints have not come as having
        none (Envoy: initial_fetch_timeout).
        """
        for name in self.waiting:
            self._open.clusters.add(name)
            if name in self._received.clusters:
                self._received.endpoints[name] = EndpointSet(name=name)
                self._kinds[ENDPOINTS].unanswered.discard(name)
            else:
                self._kinds[CLUSTER].unanswered.discard(name)

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
        answer = discovery_pb2.DeltaDiscoveryRequest(
            type_url=received.type_url, response_nonce=received.nonce
        )
        reasons = [f"{name}: {why}" for name, why in received.rejected.items()]
        if failure:
            reasons.append(failure)
        if reasons:
            message = "; ".join(reasons)[:MAX_ERROR_DETAIL]
            answer.error_detail.code, answer.error_detail.message = _INVALID_ARGUMENT, message
        return [*self.requests(), answer]

    def _subscriptions(self) -> list[discovery_pb2.DeltaDiscoveryRequest]:
        """What is referred to by name and not subscribed to yet, or no more."""
        received = self._received
        configs, self._maybe_unreferred = self._maybe_unreferred, set()
        routes = self._subscription(ROUTE_CONFIG, {name: received.refers_to_config(name) for name in configs})
        # Only now: what went with a route config may have been the last that used a cluster, and so on.
        unused, self._maybe_unused = self._maybe_unused, set()
        clusters = None
        if not self._interest.everything:
            clusters = self._subscription(CLUSTER, {name: self._refers_to(name) for name in unused})
        endpoints = self._subscription(
            ENDPOINTS, {name: name in received.clusters for name in self._open.clusters}
        )
        return [request for request in (clusters, endpoints, routes) if request is not None]

    def _refers_to(self, cluster: str) -> bool:
        """Whether something does that is in force, or is to be."""
        return self._received.refers_to_cluster(cluster) or self._used.refers_to_cluster(cluster)

    def _subscription(
        self, type_url: str, wanted: Mapping[str, bool]
    ) -> discovery_pb2.DeltaDiscoveryRequest | None:
        """Of these names, subscribe to those that are wanted and to no others; None: it is so already."""
        kind = self._kinds[type_url]
        more = {name for name, needed in wanted.items() if needed and name not in kind.subscribed}
        fewer = {name for name, needed in wanted.items() if not needed and name in kind.subscribed}
        if not more and not fewer:
            return None
        kind.subscribed |= more
        kind.subscribed -= fewer
        kind.unanswered |= more - kind.versions.keys()
        kind.unanswered -= fewer
        for name in fewer:
            self._drop(type_url, name)
        return discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=sorted(more),
            resource_names_unsubscribe=sorted(fewer),
        )
