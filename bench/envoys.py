"""Envoys to compare with: static bootstraps made of the very messages that meshd's control plane sends."""

from __future__ import annotations

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from meshd.model.config import (
    Cluster,
    Endpoint,
    EndpointSet,
    Forward,
    Listener,
    Protocol,
    Route,
    RouteConfig,
    VirtualHost,
    WeightedCluster,
)
from meshd.xds import encode
from tests.support import envoy

NAME = "bench/web:80"


def listener_for(address: str, port: int) -> Listener:
    """The one listener of the measurement."""
    return Listener(
        name=NAME,
        service="bench/web",
        addresses=(address,),
        port=port,
        protocol=Protocol.HTTP,
        cluster=NAME,
        route_config=NAME,
    )


ROUTES = RouteConfig(
    name=NAME,
    virtual_hosts=(
        VirtualHost(
            name="web",
            routes=(Route(name="all", action=Forward(clusters=(WeightedCluster(name=NAME),))),),
        ),
    ),
)
CLUSTER = Cluster(name=NAME)


def endpoints_at(address: str, port: int) -> EndpointSet:
    """The one endpoint of the measurement."""
    return EndpointSet(name=NAME, endpoints=(Endpoint(address=address, port=port),))


def _bound(model: Listener) -> listener_pb2.Listener:
    """The listener with a socket of its own and its routes within: there is no control plane to ask."""
    message = encode.listener(model)
    message.bind_to_port.value = True
    config = message.filter_chains[0].filters[0].typed_config
    manager = http_connection_manager_pb2.HttpConnectionManager()
    config.Unpack(manager)
    manager.route_config.CopyFrom(encode.route_config(ROUTES))
    config.Pack(manager)
    return message


def bootstrap(node: str, listen: tuple[str, int], upstream: tuple[str, int]) -> bootstrap_pb2.Bootstrap:
    """An Envoy that listens on one address and forwards all requests to another."""
    message = envoy.bootstrap(node)
    message.static_resources.listeners.append(_bound(listener_for(*listen)))
    cluster = encode.cluster(CLUSTER)
    cluster.type = cluster.STATIC
    cluster.ClearField("eds_cluster_config")
    cluster.load_assignment.CopyFrom(encode.endpoints(endpoints_at(*upstream)))
    message.static_resources.clusters.append(cluster)
    return message
