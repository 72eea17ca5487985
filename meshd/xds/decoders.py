"""From a packed resource to the model, by its type. What cannot be taken is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.message import Message

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.status import ObjectStatus
from meshd.xds import decode, decode_listener, decode_route
from meshd.xds.packing import unpack
from meshd.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG, STATUS, status_from
from meshd.xds.unsupported import UnsupportedError

_Message = TypeVar("_Message", bound=Message)
Model = Cluster | EndpointSet | Listener | RouteConfig | ObjectStatus


def _status(message: wrappers_pb2.StringValue) -> ObjectStatus:
    try:
        return status_from(message)
    except msgspec.MsgspecError as error:
        raise UnsupportedError("status", "value", str(error)) from None


def _decoder(kind: type[_Message], read: Callable[[_Message], Model]) -> Callable[[any_pb2.Any, str], Model]:
    def decoded(packed: any_pb2.Any, name: str) -> Model:
        message = kind()
        unpack(packed, message, name, "resource")
        return read(message)

    return decoded


DECODERS = {
    CLUSTER: _decoder(cluster_pb2.Cluster, decode.cluster),
    ENDPOINTS: _decoder(endpoint_pb2.ClusterLoadAssignment, decode.endpoints),
    LISTENER: _decoder(listener_pb2.Listener, decode_listener.listener),
    ROUTE_CONFIG: _decoder(route_pb2.RouteConfiguration, decode_route.route_config),
    STATUS: _decoder(wrappers_pb2.StringValue, _status),
}
"""By type URL: given the resource and its name. They raise UnsupportedError."""
