"""Envoys to compare with: static bootstraps made of the very messages that meshd's control plane sends."""

from __future__ import annotations

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from bench.services import Service
from meshd.xds import encode
from tests.support import envoy


def _bound(service: Service) -> listener_pb2.Listener:
    """The listener with a socket of its own and its routes within: there is no control plane to ask."""
    message = encode.listener(service.listener)
    message.bind_to_port.value = True
    config = message.filter_chains[0].filters[0].typed_config
    manager = http_connection_manager_pb2.HttpConnectionManager()
    config.Unpack(manager)
    manager.route_config.CopyFrom(encode.route_config(service.route_config))
    config.Pack(manager)
    return message


def bootstrap(node: str, listen: tuple[str, int], upstream: tuple[str, int]) -> bootstrap_pb2.Bootstrap:
    """An Envoy that listens on one address and forwards all requests to another."""
    service = Service("web", listen[0], upstream, port=listen[1])
    message = envoy.bootstrap(node)
    message.static_resources.listeners.append(_bound(service))
    cluster = encode.cluster(service.cluster)
    cluster.type = cluster.STATIC
    cluster.ClearField("eds_cluster_config")
    cluster.load_assignment.CopyFrom(encode.endpoints(service.endpoints))
    message.static_resources.clusters.append(cluster)
    return message
