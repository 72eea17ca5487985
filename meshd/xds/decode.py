"""xDS v3 protos as the model. A resource that asks for what we do not do is refused, never half taken.

The fields that are let pass without a counterpart in the model change nothing about what happens to requests
(stat_prefix, codec_type AUTO, ...) or describe what we do anyway.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import DecodeError, Message

from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.xds.encode import BALANCING, HTTP_PROTOCOL_OPTIONS, METADATA
from meshd.xds.unsupported import UnsupportedError, only

_BALANCING = {policy: balancing for balancing, policy in BALANCING.items()}
_STATUS = health_check_pb2.HealthStatus
_HEALTH = {
    _STATUS.UNKNOWN: Health.HEALTHY,
    _STATUS.HEALTHY: Health.HEALTHY,
    _STATUS.UNHEALTHY: Health.UNHEALTHY,
    _STATUS.TIMEOUT: Health.UNHEALTHY,
    _STATUS.DRAINING: Health.DRAINING,
}
DEFAULT_CONNECT_TIMEOUT = 5.0
DEFAULT_IDLE_TIMEOUT = 3600.0


def unpack(packed: any_pb2.Any, into: Message, resource: str, where: str) -> None:
    """Unpack an Any that must hold the message's type. Raises UnsupportedError."""
    if packed.TypeName() != into.DESCRIPTOR.full_name:
        raise UnsupportedError(resource, where, f"holds {packed.type_url or 'nothing'}")
    try:
        packed.Unpack(into)
    except DecodeError as error:
        raise UnsupportedError(resource, where, f"cannot be decoded: {error}") from None


def seconds(message: Message, field: str, default: float) -> float:
    """A Duration field in seconds, or the default where it is not set."""
    if not message.HasField(field):
        return default
    value = getattr(message, field)
    return float((value.seconds * 10**9 + value.nanos) / 10**9)


def own_fields(metadata: base_pb2.Metadata) -> dict[str, struct_pb2.Value]:
    """meshd's own part of a resource's metadata. Other owners' is none of our business."""
    return dict(metadata.filter_metadata[METADATA].fields) if METADATA in metadata.filter_metadata else {}


def facts(
    fields: Mapping[str, struct_pb2.Value], known: set[str], resource: str, where: str
) -> dict[str, str | bool]:
    """The values of ``own_fields``. Raises UnsupportedError for others than those known."""
    values: dict[str, str | bool] = {}
    for name, value in fields.items():
        kind = value.WhichOneof("kind")
        if name not in known or kind not in ("string_value", "bool_value"):
            raise UnsupportedError(resource, f"{where}.filter_metadata[{METADATA}].{name}", "not supported")
        values[name] = value.string_value if kind == "string_value" else value.bool_value
    return values


def address(message: address_pb2.Address, resource: str, where: str) -> tuple[str, int]:
    """An IP address in canonical form, and a port. Raises UnsupportedError."""
    only(message, {"socket_address"}, resource, where)
    socket = message.socket_address
    where = f"{where}.socket_address"
    only(socket, {"address", "port_value", "protocol"}, resource, where)
    if socket.protocol != address_pb2.SocketAddress.TCP:
        raise UnsupportedError(resource, f"{where}.protocol", "only TCP")
    try:
        canonical = str(ipaddress.ip_address(socket.address))
    except ValueError:
        raise UnsupportedError(resource, f"{where}.address", f"{socket.address!r} is no IP address") from None
    if not 1 <= socket.port_value <= 65535:
        raise UnsupportedError(resource, f"{where}.port_value", "must be from 1 to 65535")
    return canonical, int(socket.port_value)


def over_ads(source: config_source_pb2.ConfigSource, resource: str, where: str) -> None:
    """Refuse a config source other than the stream that we are on. Raises UnsupportedError."""
    if source.WhichOneof("config_source_specifier") not in ("ads", "self"):
        raise UnsupportedError(resource, where, "only ads")
    only(source, {"ads", "self", "resource_api_version", "initial_fetch_timeout"}, resource, where)


def cluster(message: cluster_pb2.Cluster) -> Cluster:
    """A cluster of type EDS. Raises UnsupportedError."""
    name = str(message.name)
    only(
        message,
        {"name", "alt_stat_name", "type", "eds_cluster_config", "lb_policy", "connect_timeout", "metadata",
         "common_lb_config", "typed_extension_protocol_options"},
        name,
    )  # fmt: skip
    if message.WhichOneof("cluster_discovery_type") != "type" or message.type != cluster_pb2.Cluster.EDS:
        raise UnsupportedError(name, "type", "only EDS")
    eds = message.eds_cluster_config
    over_ads(eds.eds_config, name, "eds_cluster_config.eds_config")
    if eds.service_name not in ("", name):
        raise UnsupportedError(name, "eds_cluster_config.service_name", "must be the cluster's name")
    if message.lb_policy not in _BALANCING:
        policy = cluster_pb2.Cluster.LbPolicy.Name(message.lb_policy)
        raise UnsupportedError(name, "lb_policy", f"{policy} is not supported")
    only(message.common_lb_config, {"healthy_panic_threshold"}, name, "common_lb_config")
    if message.common_lb_config.healthy_panic_threshold.value:
        raise UnsupportedError(name, "common_lb_config.healthy_panic_threshold", "only 0: no panic mode")
    facts(own_fields(message.metadata), set(), name, "metadata")
    return Cluster(
        name=name,
        balancing=_BALANCING[message.lb_policy],
        connect_timeout=seconds(message, "connect_timeout", DEFAULT_CONNECT_TIMEOUT),
        idle_timeout=_upstream_idle_timeout(message),
    )


def _upstream_idle_timeout(message: cluster_pb2.Cluster) -> float:
    """What the upstream protocol options say, which must be HTTP/1.1."""
    name, where = str(message.name), "typed_extension_protocol_options"
    for key in message.typed_extension_protocol_options:
        if key != HTTP_PROTOCOL_OPTIONS:
            raise UnsupportedError(name, f"{where}[{key}]", "not supported")
    if HTTP_PROTOCOL_OPTIONS not in message.typed_extension_protocol_options:
        return DEFAULT_IDLE_TIMEOUT
    where = f"{where}[{HTTP_PROTOCOL_OPTIONS}]"
    options = http_protocol_options_pb2.HttpProtocolOptions()
    unpack(message.typed_extension_protocol_options[HTTP_PROTOCOL_OPTIONS], options, name, where)
    only(options, {"common_http_protocol_options", "explicit_http_config"}, name, where)
    only(
        options.common_http_protocol_options, {"idle_timeout"}, name, f"{where}.common_http_protocol_options"
    )
    explicit = options.explicit_http_config
    only(explicit, {"http_protocol_options"}, name, f"{where}.explicit_http_config")
    only(
        explicit.http_protocol_options,
        {"enable_trailers"},
        name,
        f"{where}.explicit_http_config.http_protocol_options",
    )
    return seconds(options.common_http_protocol_options, "idle_timeout", DEFAULT_IDLE_TIMEOUT)


def endpoints(message: endpoint_pb2.ClusterLoadAssignment) -> EndpointSet:
    """A cluster's endpoints, localities flattened. Raises UnsupportedError."""
    name = str(message.cluster_name)
    only(message, {"cluster_name", "endpoints"}, name)
    found: list[Endpoint] = []
    for i, locality in enumerate(message.endpoints):
        where = f"endpoints[{i}]"
        handled = {"locality", "lb_endpoints"}
        if len(message.endpoints) == 1:
            handled.add("load_balancing_weight")
        only(locality, handled, name, where)
        for j, endpoint in enumerate(locality.lb_endpoints):
            found.append(_endpoint(endpoint, name, f"{where}.lb_endpoints[{j}]"))
    return EndpointSet(name=name, endpoints=tuple(found))


def _endpoint(message: endpoint_components_pb2.LbEndpoint, name: str, where: str) -> Endpoint:
    only(message, {"endpoint", "health_status", "load_balancing_weight", "metadata"}, name, where)
    only(message.endpoint, {"address", "hostname"}, name, f"{where}.endpoint")
    ip, port = address(message.endpoint.address, name, f"{where}.endpoint.address")
    if message.health_status not in _HEALTH:
        status = _STATUS.Name(message.health_status)
        raise UnsupportedError(name, f"{where}.health_status", f"{status} is not supported")
    weight = message.load_balancing_weight.value if message.HasField("load_balancing_weight") else 1
    if weight < 1:
        raise UnsupportedError(name, f"{where}.load_balancing_weight", "must be 1 or more")
    own = facts(own_fields(message.metadata), {"workload"}, name, f"{where}.metadata")
    return Endpoint(
        address=ip,
        port=port,
        weight=int(weight),
        health=_HEALTH[message.health_status],
        workload=str(own.get("workload", "")),
    )
