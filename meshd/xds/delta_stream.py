"""The server's end of one delta ADS stream, without I/O.

Feed it requests and new resource sets; ask it for the next response until it has none. It keeps no queue:
what to send follows from what the client wants, what it was sent, and what there is, so a slow client gets
the latest and not the history. One response per type is out at a time, and a type waits while one that it
refers to is unacknowledged: make before break.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2

from meshd.xds.resources import CLUSTER, ENDPOINTS, LISTENER, WILDCARD_BY_DEFAULT, Resource, ResourceSet
from meshd.xds.server_stream import WARMED_BY, WILDCARD, Rejection, check_bounds, in_order

MAX_RESPONSE_BYTES = 1024 * 1024
"""A response is closed once it is larger: the rest follows after its ACK. Many gRPC clients refuse 4 MiB."""

_ABSENT = ""
"""In place of a version: the client was told that there is no such resource."""


@dataclass(slots=True)
class _Subscription:
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)
    """Version by name, of what the client has: sent by us, or brought along from an earlier stream."""
    stale: set[str] | None = None
    """The names of which the client may not have what there is. None: not known, all have to be looked at."""
    outstanding: str = ""
    """The nonce of the response that is not answered yet."""
    unanswered: bool = False
    """A first wildcard request, which is answered even if there is nothing."""

    def start_wildcard(self) -> None:
        """Ask for all. Who has nothing yet is answered even if there is nothing, or it would wait."""
        self.unanswered = not self.wildcard and not self.sent
        self.wildcard = True
        self.stale = None

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def look_at(self, name: str) -> None:
        if self.stale is not None:
            self.stale.add(name)

    def to_look_at(self, available: Collection[str]) -> set[str]:
        """The stale names; the set is the subscription's own."""
        if self.stale is None:
            self.stale = {*self.names, *self.sent, *(available if self.wildcard else ())}
        return self.stale


class DeltaStream:
    """State of one stream (xDS protocol, "Incremental xDS")."""

    def __init__(self, resources: ResourceSet) -> None:
        self._resources = resources
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonce = 0

    def publish(self, resources: ResourceSet) -> None:
        """From now on serve these resources."""
        following = resources.follows is self._resources.identity
        self._resources = resources
        for type_url, subscription in self._subscriptions.items():
            if not following:
                subscription.stale = None
            elif subscription.stale is not None:
                changed = resources.changed.get(type_url, ())
                subscription.stale.update(name for name in changed if subscription.wants(name))

    def received(self, request: discovery_pb2.DeltaDiscoveryRequest) -> Rejection | None:
        """Take a request. Returns the NACK that it carries. Raises StreamError."""
        type_url = request.type_url
        subscription = self._subscriptions.get(type_url)
        if subscription is None:
            # Only a type's first request on a stream may mean "all" by naming none.
            subscription = _Subscription(sent=dict(request.initial_resource_versions))
            if type_url in WILDCARD_BY_DEFAULT and not request.resource_names_subscribe:
                subscription.start_wildcard()
            self._subscriptions[type_url] = subscription
        self._subscribe(subscription, request)
        check_bounds(len(self._subscriptions), len(subscription.names))
        if not request.response_nonce or request.response_nonce != subscription.outstanding:
            return None
        subscription.outstanding = ""
        if request.HasField("error_detail"):
            return Rejection(type_url, request.response_nonce, request.error_detail.message)
        return None

    def _subscribe(self, subscription: _Subscription, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        brought = request.initial_resource_versions
        for name in request.resource_names_subscribe:
            if name == WILDCARD:
                subscription.start_wildcard()
                continue
            subscription.names.add(name)
            subscription.look_at(name)
            # Asked for again: the client has dropped it and must get it again, changed or not.
            if name not in brought:
                subscription.sent.pop(name, None)
        for name in request.resource_names_unsubscribe:
            if name == WILDCARD:
                subscription.wildcard = False
            else:
                subscription.names.discard(name)
                subscription.sent.pop(name, None)
                subscription.look_at(name)  # who has asked for all, too, gets it again
        if brought or WILDCARD in request.resource_names_unsubscribe:
            subscription.sent = {n: v for n, v in subscription.sent.items() if subscription.wants(n)}

    def next_response(self) -> discovery_pb2.DeltaDiscoveryResponse | None:
        """The next response to write, if there is one now."""
        ordered = list(in_order(self._subscriptions))
        unacknowledged = ""
        for type_url, subscription in ordered:
            if unacknowledged and WARMED_BY.get(unacknowledged) != type_url:
                return None
            if subscription.outstanding:
                unacknowledged = type_url
                continue
            changed, gone = self._changes(type_url, subscription)
            if changed or gone or subscription.unanswered:
                return self._respond(type_url, subscription, changed, gone)
        if unacknowledged:
            return None
        for type_url, subscription in reversed(ordered):
            gone = self._removed(type_url, subscription)
            if gone:
                return self._respond(type_url, subscription, [], gone)
        return None

    def _changes(self, type_url: str, subscription: _Subscription) -> tuple[list[Resource], list[str]]:
        """What is new or changed, and which names can be said to be gone without breaking anything."""
        available = self._resources.of(type_url)
        stale = subscription.to_look_at(available)
        changed, gone, settled = [], [], []
        for name in sorted(stale):
            resource, sent = available.get(name), subscription.sent.get(name)
            if not subscription.wants(name) or sent == (resource.version if resource else _ABSENT):
                settled.append(name)
            elif resource:
                changed.append(resource)
            elif sent is None and name not in subscription.names:
                settled.append(name)
            elif sent is None or type_url == LISTENER:
                # Nothing refers to a listener, and a new one may take over an old one's address.
                gone.append(name)
        stale.difference_update(settled)
        return changed, gone

    def _removed(self, type_url: str, subscription: _Subscription) -> list[str]:
        """The names that are gone: all that is left when there is nothing new to be said."""
        return sorted(subscription.to_look_at(self._resources.of(type_url)))

    def _respond(
        self, type_url: str, subscription: _Subscription, changed: list[Resource], gone: list[str]
    ) -> discovery_pb2.DeltaDiscoveryResponse:
        self._nonce += 1
        response = discovery_pb2.DeltaDiscoveryResponse(
            system_version_info=self._resources.version,
            type_url=type_url,
            nonce=str(self._nonce),
            removed_resources=gone,
        )
        size = 0
        for resource in changed:
            response.resources.append(
                discovery_pb2.Resource(name=resource.name, version=resource.version, resource=resource.packed)
            )
            if type_url == CLUSTER and resource.name in subscription.sent:
                self._resend_endpoints(resource.name)
            subscription.sent[resource.name] = resource.version
            subscription.to_look_at(()).discard(resource.name)
            size += len(resource.packed.value)
            if size >= MAX_RESPONSE_BYTES:
                break
        for name in gone:
            subscription.to_look_at(()).discard(name)
            if name in subscription.names:
                subscription.sent[name] = _ABSENT
            else:
                subscription.sent.pop(name, None)
        subscription.outstanding = response.nonce
        subscription.unanswered = False
        return response

    def _resend_endpoints(self, cluster: str) -> None:
        """A changed cluster is warmed anew, and waits for its endpoints even if they have not changed."""
        endpoints = self._subscriptions.get(ENDPOINTS)
        if endpoints is not None:
            endpoints.sent.pop(cluster, None)
            endpoints.look_at(cluster)
