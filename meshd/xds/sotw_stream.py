"""The server's end of one state-of-the-world ADS stream, without I/O.

As DeltaStream: no queue, one response per type out at a time, make before break. Since a response lists all
that there is, breaking is a stage of its own: first the new set together with what may still be referred to,
and when that is acknowledged the new set alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2

from meshd.xds.resources import CLUSTER, ENDPOINTS, WILDCARD_BY_DEFAULT, Resource, ResourceSet, digest
from meshd.xds.server_stream import WARMED_BY, WILDCARD, Rejection, bridging, check_bounds, in_order


@dataclass(slots=True)
class _Subscription:
    names: frozenset[str]
    wildcard: bool
    version: str
    """Of what the client was sent, or says that it has."""
    sent: dict[str, str] = field(default_factory=dict)
    nonce: str = ""
    """Of the last response."""
    outstanding: bool = False
    asked: bool = False
    """Something was asked for that was not subscribed to before: answer, changed or not."""


class SotwStream:
    """State of one stream (xDS protocol, "The xDS transport protocol", state of the world variant)."""

    def __init__(self, resources: ResourceSet) -> None:
        self._stages = [resources]
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonce = 0

    def publish(self, resources: ResourceSet) -> None:
        """From now on serve these resources."""
        self._stages = [bridging(resources, self._stages[0]), resources]

    def received(self, request: discovery_pb2.DiscoveryRequest) -> Rejection | None:
        """Take a request. Returns the NACK that it carries. Raises StreamError."""
        type_url = request.type_url
        names = frozenset(request.resource_names)
        check_bounds(len(self._subscriptions), len(names))
        subscription = self._subscriptions.get(type_url)
        if subscription is None:
            wildcard = WILDCARD in names or (not names and type_url in WILDCARD_BY_DEFAULT)
            self._subscriptions[type_url] = _Subscription(names, wildcard, request.version_info)
            return None
        if request.response_nonce != subscription.nonce:
            return None  # An answer to an older response: a newer one is on its way.
        rejection = None
        if subscription.outstanding and request.HasField("error_detail"):
            rejection = Rejection(type_url, request.response_nonce, request.error_detail.message)
        subscription.outstanding = False
        if names != subscription.names:
            # "All" by naming none holds only as long as the stream has never named any.
            subscription.wildcard = WILDCARD in names
            subscription.asked = bool(names - subscription.names)
            subscription.names = names
        return rejection

    def next_response(self) -> discovery_pb2.DiscoveryResponse | None:
        """The next response to write, if there is one now."""
        while True:
            unacknowledged = ""
            for type_url, subscription in in_order(self._subscriptions):
                if unacknowledged and WARMED_BY.get(unacknowledged) != type_url:
                    return None
                if subscription.outstanding:
                    unacknowledged = type_url
                    continue
                selected = self._selected(type_url, subscription)
                version = digest({resource.name: resource.version for resource in selected})
                if subscription.asked or version != subscription.version:
                    return self._respond(type_url, subscription, selected, version)
            if unacknowledged or len(self._stages) == 1:
                return None
            del self._stages[0]

    def _selected(self, type_url: str, subscription: _Subscription) -> list[Resource]:
        available = self._stages[0].of(type_url)
        if subscription.wildcard:
            return [available[name] for name in sorted(available)]
        return [available[name] for name in sorted(subscription.names) if name in available]

    def _respond(
        self, type_url: str, subscription: _Subscription, selected: list[Resource], version: str
    ) -> discovery_pb2.DiscoveryResponse:
        self._nonce += 1
        versions = {resource.name: resource.version for resource in selected}
        if type_url == CLUSTER and any(
            subscription.sent.get(name, after) != after for name, after in versions.items()
        ):
            # A changed cluster is warmed anew, and waits for its endpoints even if they have not changed.
            endpoints = self._subscriptions.get(ENDPOINTS)
            if endpoints is not None:
                endpoints.asked = True
        subscription.version, subscription.sent = version, versions
        subscription.nonce = str(self._nonce)
        subscription.outstanding, subscription.asked = True, False
        return discovery_pb2.DiscoveryResponse(
            version_info=version,
            resources=[resource.packed for resource in selected],
            type_url=type_url,
            nonce=subscription.nonce,
        )
