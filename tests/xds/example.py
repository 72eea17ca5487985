"""A small config, and resource sets of it."""

from __future__ import annotations

from collections.abc import Iterable

from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Snapshot
from meshd.model.status import ConfigStatus
from meshd.xds.resources import ResourceSet
from tests.support.resource_sets import resource_set


def cluster(name: str, connect_timeout: float = 5.0) -> Cluster:
    return Cluster(name=name, connect_timeout=connect_timeout)


def endpoints(name: str, *addresses: str) -> EndpointSet:
    return EndpointSet(name=name, endpoints=tuple(Endpoint(address=a, port=8080) for a in addresses))


def route_config(name: str, *clusters: str) -> RouteConfig:
    routes = tuple(
        Route(name=c, action=Forward(clusters=(WeightedCluster(name=c),), missing_cluster_status=500))
        for c in clusters
    )
    return RouteConfig(name=name, virtual_hosts=(VirtualHost(name=name, routes=routes),))


def listener(name: str, address: str = "10.0.0.1", cluster: str = "") -> Listener:
    return Listener(
        name=name,
        service=name,
        addresses=(address,),
        port=80,
        protocol=Protocol.HTTP,
        cluster=cluster or name,
        route_config=name,
    )


def snapshot(
    listeners: Iterable[Listener] = (),
    routes: Iterable[RouteConfig] = (),
    clusters: Iterable[Cluster] = (),
    endpoint_sets: Iterable[EndpointSet] = (),
) -> Snapshot:
    return Snapshot(
        0,
        {x.name: x for x in listeners},
        {x.name: x for x in routes},
        {x.name: x for x in clusters},
        {x.name: x for x in endpoint_sets},
    )


def service(*names: str, address: str = "10.1.0.1") -> Snapshot:
    """HTTP services of these names, each with one endpoint."""
    return snapshot(
        (listener(n, f"10.0.0.{i + 1}") for i, n in enumerate(names)),
        (route_config(n, n) for n in names),
        (cluster(n) for n in names),
        (endpoints(n, address) for n in names),
    )


def resources(config: Snapshot, previous: ResourceSet | None = None) -> ResourceSet:
    return resource_set(config, ConfigStatus(), previous)
