"""EndpointSlices to endpoint sets."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from meshd.kube.objects import EndpointSlice, Service, ServicePort, SliceEndpoint
from meshd.model.clusters import Endpoint, EndpointSet, Health, Nearness

SERVICE_NAME = "kubernetes.io/service-name"
"""The label by which a slice belongs to a service (discovery/v1, LabelServiceName)."""


def endpoint_set(
    name: str, service: Service, port: ServicePort, slices: Iterable[EndpointSlice], health_port: int = 0
) -> EndpointSet:
    """The endpoints of one port, from the service's slices. ``health_port``: where they are probed.

    Ready endpoints are healthy. Terminating ones that still serve drain, unless nothing else is left: then
    they go on taking requests, as kube-proxy has it (KEP-1669). All others are left out. With
    publishNotReadyAddresses readiness says nothing.
    """
    found: dict[tuple[str, int], Endpoint] = {}
    for slice_ in slices:
        if slice_.address_type == "FQDN":
            continue
        # A slice's port is the service's port of the same name, its target already resolved.
        numbers = [
            p.port for p in slice_.ports if p.port is not None and p.protocol == "TCP" and p.name == port.name
        ]
        for item in slice_.endpoints:
            health = _health(item, service.spec.publish_not_ready_addresses)
            if health is None:
                continue
            for number in numbers:
                for address in item.addresses:
                    endpoint = _endpoint(item, address, number, health, health_port)
                    same = found.get((endpoint.address, number))
                    # While an address moves from one slice to another it is in both.
                    if same is None or same.health is not Health.HEALTHY:
                        found[endpoint.address, number] = endpoint
    endpoints = sorted(found.values(), key=_order)
    nearness = _nearness(service, endpoints)
    if nearness is not Nearness.HINTED:
        endpoints = [_without_hints(each) for each in endpoints]
    if all(endpoint.health is Health.DRAINING for endpoint in endpoints):
        endpoints = [msgspec.structs.replace(endpoint, health=Health.HEALTHY) for endpoint in endpoints]
    return EndpointSet(name=name, endpoints=tuple(endpoints), nearness=nearness)


def _nearness(service: Service, endpoints: list[Endpoint]) -> Nearness:
    """internalTrafficPolicy is a bound, hints and trafficDistribution a wish within it.

    Hints are what the cluster made of trafficDistribution, or of the annotation topology-mode. They count
    where every ready endpoint has some (kubernetes pkg/proxy/topology.go).
    """
    if service.spec.internal_traffic_policy == "Local":
        return Nearness.NODE_ONLY
    ready = [each for each in endpoints if each.health is Health.HEALTHY]
    if ready and (all(each.for_nodes for each in ready) or all(each.for_zones for each in ready)):
        return Nearness.HINTED
    match service.spec.traffic_distribution:
        case "PreferClose" | "PreferSameZone":
            return Nearness.ZONE
        case "PreferSameNode":
            return Nearness.NODE
    return Nearness.ANY


def _without_hints(endpoint: Endpoint) -> Endpoint:
    if not endpoint.for_nodes and not endpoint.for_zones:
        return endpoint
    return msgspec.structs.replace(endpoint, for_nodes=(), for_zones=())


def _health(item: SliceEndpoint, publish_not_ready: bool) -> Health | None:
    conditions = item.conditions
    if conditions.terminating and not (conditions.ready and publish_not_ready):
        serving = conditions.ready if conditions.serving is None else conditions.serving
        return Health.DRAINING if serving else None
    return Health.HEALTHY if conditions.ready or publish_not_ready else None


def _endpoint(item: SliceEndpoint, address: str, port: int, health: Health, health_port: int) -> Endpoint:
    target = item.target_ref
    workload = f"{target.namespace}/{target.name}" if target.kind == "Pod" and target.name else ""
    locality = f"/{item.zone}/{item.node_name}" if item.zone or item.node_name else ""
    return Endpoint(
        address=str(ipaddress.ip_address(address)),
        port=port,
        health=health,
        locality=locality,
        workload=workload,
        health_port=health_port,
        for_nodes=tuple(hint.name for hint in item.hints.for_nodes),
        for_zones=tuple(hint.name for hint in item.hints.for_zones),
    )


def _order(endpoint: Endpoint) -> tuple[int, int, int]:
    address = ipaddress.ip_address(endpoint.address)
    return address.version, int(address), endpoint.port
