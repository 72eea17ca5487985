"""The services that are measured, in the form in which meshd's control plane has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshd.model.config import (
    Cluster,
    Endpoint,
    EndpointSet,
    Forward,
    Listener,
    PathMatch,
    PathPrefix,
    Protocol,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.model.snapshot import Snapshot

PORT = 80


@dataclass(frozen=True, slots=True)
class Service:
    """An HTTP service with one endpoint, and a route to it for each of some paths."""

    short_name: str
    address: str
    """That it is called by."""
    server: tuple[str, int]
    port: int = PORT
    paths: tuple[PathMatch, ...] = (PathPrefix("/"),)

    @property
    def name(self) -> str:
        """Of its listener, route config and cluster."""
        return f"bench/{self.short_name}:{self.port}"

    @property
    def listener(self) -> Listener:
        return Listener(
            name=self.name,
            service=f"bench/{self.short_name}",
            addresses=(self.address,),
            port=self.port,
            protocol=Protocol.HTTP,
            cluster=self.name,
            route_config=self.name,
        )

    @property
    def route_config(self) -> RouteConfig:
        action = Forward(clusters=(WeightedCluster(name=self.name),))
        routes = tuple(
            Route(name=f"{self.name}/{i}", match=RouteMatch(path=path), action=action)
            for i, path in enumerate(self.paths)
        )
        return RouteConfig(name=self.name, virtual_hosts=(VirtualHost(name=self.short_name, routes=routes),))

    @property
    def cluster(self) -> Cluster:
        return Cluster(name=self.name)

    @property
    def endpoints(self) -> EndpointSet:
        address, port = self.server
        return EndpointSet(name=self.name, endpoints=(Endpoint(address=address, port=port),))


def snapshot(services: Iterable[Service]) -> Snapshot:
    """A node's whole config."""
    every = tuple(services)
    return Snapshot(
        1,
        {service.name: service.listener for service in every},
        {service.name: service.route_config for service in every},
        {service.name: service.cluster for service in every},
        {service.name: service.endpoints for service in every},
    )
