"""What an API server holds Services and EndpointSlices to beyond their types."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from meshd.kube.objects import EndpointSlice, Service
from meshd.model.status import Problem, Severity

DISTRIBUTIONS = frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"})
"""Values of trafficDistribution (core/v1, ServiceTrafficDistribution*)."""


def service_problems(service: Service) -> Iterator[Problem]:
    """All that is wrong with a Service by itself, and what it asks for that the mesh does not do."""
    spec = service.spec
    seen_ports: set[tuple[str, int]] = set()
    seen_names: set[str] = set()
    for i, port in enumerate(spec.ports):
        where = f"spec.ports[{i}]"
        if len(spec.ports) > 1 and not port.name:
            yield Problem(field=f"{where}.name", message="must be set when there are several ports")
        if port.name and port.name in seen_names:
            yield Problem(field=f"{where}.name", message=f"{port.name} is another port's name already")
        if (port.protocol, port.port) in seen_ports:
            yield Problem(field=f"{where}.port", message=f"{port.protocol} {port.port} is there twice")
        seen_names.add(port.name)
        seen_ports.add((port.protocol, port.port))
    for field, addresses in (("clusterIP", (spec.cluster_ip,)), ("clusterIPs", spec.cluster_ips)):
        for address in addresses:
            if address not in ("", "None") and not is_ip(address):
                yield Problem(field=f"spec.{field}", message=f"{address!r} is no IP address")
    if spec.cluster_ips and spec.cluster_ip not in ("", spec.cluster_ips[0]):
        yield Problem(field="spec.clusterIPs[0]", message=f"must equal clusterIP, {spec.cluster_ip}")
    if spec.traffic_distribution not in ("", *DISTRIBUTIONS):
        known = ", ".join(sorted(DISTRIBUTIONS))
        yield Problem(
            field="spec.trafficDistribution",
            message=f"{spec.traffic_distribution} is none of {known}: it does nothing",
            severity=Severity.WARNING,
        )


def endpoint_slice_problems(slice_: EndpointSlice) -> Iterator[Problem]:
    """Addresses that are not of the slice's addressType."""
    version = {"IPv4": 4, "IPv6": 6}.get(slice_.address_type)
    if version is None:
        return
    for i, endpoint in enumerate(slice_.endpoints):
        for j, address in enumerate(endpoint.addresses):
            if not is_ip(address) or ipaddress.ip_address(address).version != version:
                yield Problem(
                    field=f"endpoints[{i}].addresses[{j}]",
                    message=f"{address!r} is no {slice_.address_type} address",
                )


def is_ip(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address, without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
