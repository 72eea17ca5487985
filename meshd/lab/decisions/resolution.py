"""What VIPs and names lead to: what hosts files and service rules are both made from. Pure."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable

from meshd.lab.manifests.objects import EndpointSlice, Service


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A VIP's port and the servers behind it."""

    vip: str
    port: int
    protocol: str
    servers: tuple[tuple[str, int], ...]
    """Address and port; none: refuse."""


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """A Service's name and the addresses it stands for: its VIPs, or its pods' when it is headless."""

    namespace: str
    name: str
    addresses: tuple[str, ...]


def targets(
    services: Iterable[tuple[Service, tuple[str, ...]]], slices: Iterable[EndpointSlice]
) -> list[Target]:
    """All VIP ports of services (each with its VIPs), in a stable order."""
    by_service = _by_service(slices)
    found = []
    for service, vips in services:
        own = by_service.get((service.metadata.namespace, service.metadata.name), [])
        for vip in vips:
            family = "IPv6" if ":" in vip else "IPv4"
            for port in service.spec.ports:
                servers = _servers([s for s in own if s.address_type == family], port.name, port.protocol)
                found.append(Target(vip, port.port, port.protocol, servers))
    return sorted(found, key=lambda t: (t.vip, t.port, t.protocol))


def names(services: Iterable[tuple[Service, tuple[str, ...]]], slices: Iterable[EndpointSlice]) -> list[Name]:
    """All service names that resolve, in a stable order."""
    by_service = _by_service(slices)
    found = []
    for service, vips in services:
        namespace, name = service.metadata.namespace, service.metadata.name
        if service.headless:
            members = (e for s in by_service.get((namespace, name), []) for e in s.endpoints if e.ready)
            addresses = tuple(sorted({ip for e in members for ip in e.addresses}))
        else:
            addresses = vips
        if addresses:
            found.append(Name(namespace, name, addresses))
    return sorted(found, key=lambda n: (n.namespace, n.name))


def _by_service(slices: Iterable[EndpointSlice]) -> dict[tuple[str, str], list[EndpointSlice]]:
    found: defaultdict[tuple[str, str], list[EndpointSlice]] = defaultdict(list)
    for one in slices:
        found[one.service].append(one)
    return found


def _servers(slices: list[EndpointSlice], port_name: str, protocol: str) -> tuple[tuple[str, int], ...]:
    """The ready servers; without any, those that still serve while they end (kube-proxy, KEP-1669)."""
    members = [
        (endpoint, port.port)
        for one in slices
        for port in one.ports
        if port.name == port_name and port.protocol == protocol and port.port is not None
        for endpoint in one.endpoints
    ]
    chosen = [m for m in members if m[0].ready] or [m for m in members if m[0].draining]
    return tuple(sorted({(endpoint.addresses[0], port) for endpoint, port in chosen}))
