"""Speaks the state-of-the-world variant of ADS in the place of delta, to servers that know no other.

Without I/O, both ways: what a delta client says becomes requests of that variant, and what its server says
becomes what a delta server would have said (xDS protocol, "Basic Protocol Overview").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.message import DecodeError

from meshd.xds.resources import CLUSTER, LISTENER, ROUTE_CONFIG, STATUS, WILDCARD_BY_DEFAULT

_WHOLE = frozenset({CLUSTER, LISTENER})
"""The types of which each response has all that was asked for: what is not in it does not exist."""
_WRAPPER = "type.googleapis.com/envoy.service.discovery.v3.Resource"


@dataclass(slots=True)
class _Kind:
    """One resource type on this stream."""

    wildcard: bool
    names: set[str] = field(default_factory=set)
    """What is asked for; of a wildcard: nothing by name."""
    is_asked: bool = False
    acknowledged: frozenset[str] = frozenset()
    """Those in the request that acknowledged the last response: the next one answers to them at least."""
    version: str = ""
    """That was accepted last."""
    offered: str = ""
    nonce: str = ""
    """Of the last response, as is ``offered``."""
    told: dict[str, str] = field(default_factory=dict)
    """The digest by name of what has been passed on."""
    held: set[str] = field(default_factory=set)
    """What the client has from an earlier stream, and this one has not told of yet."""


class StateOfTheWorld:
    """One stream's."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def requests(self, said: discovery_pb2.DeltaDiscoveryRequest) -> Iterator[discovery_pb2.DiscoveryRequest]:
        """What a delta client says, as this variant has it: one request, or none."""
        if said.type_url == STATUS:
            return  # a type of meshd's own, whose control plane speaks delta
        kind = self._kinds.get(said.type_url)
        if kind is None:
            wildcard = said.type_url in WILDCARD_BY_DEFAULT and not said.resource_names_subscribe
            kind = self._kinds[said.type_url] = _Kind(wildcard, held=set(said.initial_resource_versions))
        is_first_since = bool(said.response_nonce) or not kind.nonce
        kind.names.update(said.resource_names_subscribe)
        for name in said.resource_names_unsubscribe:
            kind.names.discard(name)
            kind.held.discard(name)
            kind.told.pop(name, None)
        if not (kind.wildcard or kind.names or kind.is_asked):
            return  # no names would be all, until there have been some
        kind.is_asked = True
        if said.response_nonce and not said.HasField("error_detail"):
            kind.version = kind.offered
        if is_first_since:
            kind.acknowledged = frozenset(kind.names)
        request = discovery_pb2.DiscoveryRequest(
            type_url=said.type_url,
            resource_names=() if kind.wildcard else sorted(kind.names),
            version_info=kind.version,
            response_nonce=kind.nonce,
        )
        if said.HasField("error_detail"):
            request.error_detail.CopyFrom(said.error_detail)
        if said.HasField("node"):
            request.node.CopyFrom(said.node)
        yield request

    def responses(
        self, said: discovery_pb2.DiscoveryResponse
    ) -> Iterator[discovery_pb2.DeltaDiscoveryResponse]:
        """A response of this variant, as a delta server would have given it: what is new, what is gone."""
        answer = discovery_pb2.DeltaDiscoveryResponse(
            type_url=said.type_url, nonce=said.nonce, system_version_info=said.version_info
        )
        kind = self._kinds.get(said.type_url)
        if kind is None:
            yield answer  # a type that was not asked for: who takes the answer says so
            return
        kind.nonce, kind.offered = said.nonce, said.version_info
        came = set()
        for number, packed in enumerate(said.resources):
            name, resource = _named(packed, number)
            came.add(name)
            digest = hashlib.blake2b(resource.value, digest_size=8).hexdigest()
            if kind.told.get(name) != digest:
                kind.told[name] = digest
                answer.resources.add(name=name, version=digest, resource=resource)
        kind.held -= came
        if said.type_url in _WHOLE:
            gone = (kind.told.keys() | (kind.names & kind.acknowledged)) - came
            if said.type_url == LISTENER:
                gone |= kind.held
                kind.held.clear()
            for name in gone:
                kind.told.pop(name, None)
            kind.held -= gone
            answer.removed_resources.extend(sorted(gone))
        yield answer
        clusters = self._kinds.get(CLUSTER)
        if clusters is not None and clusters.held and clusters.nonce and self._is_led_anew():
            yield discovery_pb2.DeltaDiscoveryResponse(
                type_url=CLUSTER, removed_resources=sorted(clusters.held)
            )
            clusters.held.clear()

    def _is_led_anew(self) -> bool:
        """Whether all that leads to clusters has come: what went without a stream may go only now."""
        listeners, routes = self._kinds.get(LISTENER), self._kinds.get(ROUTE_CONFIG)
        if listeners is None or not listeners.nonce:
            return False
        return routes is None or not routes.names or bool(routes.nonce)


def _named(packed: any_pb2.Any, number: int) -> tuple[str, any_pb2.Any]:
    """A resource and its name, which in each type is the first field. What has none is refused as such."""
    try:
        if packed.type_url == _WRAPPER:
            wrapped = discovery_pb2.Resource.FromString(packed.value)
            if wrapped.name:
                return wrapped.name, wrapped.resource
            packed = wrapped.resource
        name = wrappers_pb2.StringValue.FromString(packed.value).value
    except DecodeError:
        name = ""
    return name or f"resource {number} of the response", packed
