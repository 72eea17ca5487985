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
from google.protobuf import struct_pb2

from meshd.model.cluster_policies import GrpcProbe, HealthCheck, Outlier
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health, HttpVersion
from meshd.xds import http_versions, metadata
from meshd.xds.encode import HEALTH_PORT, HTTP_PROTOCOL_OPTIONS, LATENCY_FACTOR
from meshd.xds.packing import seconds, unpack, wrapped
from meshd.xds.policies import balancing, health_checks, limits, outliers
from meshd.xds.unsupported import UnsupportedError, only

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
DEFAULT_PANIC_PERCENT = 50
_MAX_PORT, _MAX_FACTOR = 65535, 2**32 - 1


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
        {"name", "alt_stat_name", "type", "eds_cluster_config", "lb_policy", "round_robin_lb_config",
         "least_request_lb_config", "ring_hash_lb_config", "maglev_lb_config", "load_balancing_policy",
         "connect_timeout", "metadata", "common_lb_config", "circuit_breakers", "health_checks",
         "ignore_health_on_host_removal", "outlier_detection", "typed_extension_protocol_options"},
        name,
    )  # fmt: skip
    if message.WhichOneof("cluster_discovery_type") != "type" or message.type != cluster_pb2.Cluster.EDS:
        raise UnsupportedError(name, "type", "only EDS")
    eds = message.eds_cluster_config
    over_ads(eds.eds_config, name, "eds_cluster_config.eds_config")
    if eds.service_name not in ("", name):
        raise UnsupportedError(name, "eds_cluster_config.service_name", "must be the cluster's name")
    facts = metadata.own_fields(message.metadata)
    metadata.only(facts, {HEALTH_PORT, LATENCY_FACTOR, metadata.POLICIES}, name, "metadata")
    where = f"typed_extension_protocol_options[{HTTP_PROTOCOL_OPTIONS}]"
    options = _http_options(message, where)
    version, http2 = http_versions.read(options, name, where)
    health_check = _health_check(message, facts)
    if version is HttpVersion.HTTP1 and health_check and isinstance(health_check.probe, GrpcProbe):
        raise UnsupportedError(name, "health_checks[0].grpc_health_check", "only where HTTP/2 is spoken")
    return Cluster(
        name=name,
        http_version=version,
        http2=http2,
        balancing=balancing.read(message),
        panic_percent=_panic_percent(message),
        health_check=health_check,
        outlier=_outlier(message, facts),
        limits=limits.read(message.circuit_breakers, name, "circuit_breakers"),
        connect_timeout=seconds(message, "connect_timeout", DEFAULT_CONNECT_TIMEOUT),
        idle_timeout=seconds(options.common_http_protocol_options, "idle_timeout", DEFAULT_IDLE_TIMEOUT),
        policies=metadata.texts(facts, metadata.POLICIES, name, "metadata"),
    )


def _panic_percent(message: cluster_pb2.Cluster) -> int:
    name, where = str(message.name), "common_lb_config"
    only(message.common_lb_config, {"healthy_panic_threshold"}, name, where)
    if not message.common_lb_config.HasField("healthy_panic_threshold"):
        return DEFAULT_PANIC_PERCENT
    value = message.common_lb_config.healthy_panic_threshold.value
    if not (value.is_integer() and 0 <= value <= 100):
        raise UnsupportedError(
            name, f"{where}.healthy_panic_threshold", "must be a whole number from 0 to 100"
        )
    return int(value)


def _health_check(message: cluster_pb2.Cluster, facts: Mapping[str, struct_pb2.Value]) -> HealthCheck | None:
    name = str(message.name)
    if not message.health_checks:
        return None
    if len(message.health_checks) != 1:
        raise UnsupportedError(name, "health_checks", "one is supported")
    port = metadata.count(facts, HEALTH_PORT, 0, _MAX_PORT, name, "metadata")
    return health_checks.read(message.health_checks[0], port, name, "health_checks[0]")


def _outlier(message: cluster_pb2.Cluster, facts: Mapping[str, struct_pb2.Value]) -> Outlier | None:
    name = str(message.name)
    if not message.HasField("outlier_detection"):
        return None
    latency = metadata.count(facts, LATENCY_FACTOR, 0, _MAX_FACTOR, name, "metadata")
    return outliers.read(message.outlier_detection, latency, name, "outlier_detection")


def _http_options(message: cluster_pb2.Cluster, where: str) -> http_protocol_options_pb2.HttpProtocolOptions:
    """What the cluster says of HTTP; its defaults where it says nothing."""
    name = str(message.name)
    for key in message.typed_extension_protocol_options:
        if key != HTTP_PROTOCOL_OPTIONS:
            raise UnsupportedError(name, f"typed_extension_protocol_options[{key}]", "not supported")
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if HTTP_PROTOCOL_OPTIONS in message.typed_extension_protocol_options:
        unpack(message.typed_extension_protocol_options[HTTP_PROTOCOL_OPTIONS], options, name, where)
        only(
            options,
            {"common_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config"},
            name,
            where,
        )
        only(
            options.common_http_protocol_options,
            {"idle_timeout"},
            name,
            f"{where}.common_http_protocol_options",
        )
    return options


def endpoints(message: endpoint_pb2.ClusterLoadAssignment) -> EndpointSet:
    """A cluster's endpoints. Raises UnsupportedError.

    A locality's own weight says nothing where clusters are not balanced by such weights, and those are
    refused (locality_weighted_lb_config).
    """
    name = str(message.cluster_name)
    only(message, {"cluster_name", "endpoints", "policy"}, name)
    only(message.policy, {"overprovisioning_factor"}, name, "policy")
    found: list[Endpoint] = []
    for i, group in enumerate(message.endpoints):
        where = f"endpoints[{i}]"
        only(group, {"locality", "lb_endpoints", "load_balancing_weight", "priority"}, name, where)
        locality = _locality(group.locality, name, f"{where}.locality")
        for j, endpoint in enumerate(group.lb_endpoints):
            here = f"{where}.lb_endpoints[{j}]"
            found.append(_endpoint(endpoint, locality, int(group.priority), name, here))
    default = EndpointSet(name=name)
    factor = wrapped(message.policy, "overprovisioning_factor", default.overprovisioning_percent)
    if factor < 1:
        raise UnsupportedError(name, "policy.overprovisioning_factor", "must be above 0")
    return EndpointSet(name=name, endpoints=tuple(found), overprovisioning_percent=factor)


def _locality(message: base_pb2.Locality, name: str, where: str) -> str:
    parts = (message.region, message.zone, message.sub_zone)
    if any("/" in part for part in parts):
        raise UnsupportedError(name, where, "no name may contain a slash")
    return "/".join(parts) if any(parts) else ""


def _endpoint(
    message: endpoint_components_pb2.LbEndpoint, locality: str, priority: int, name: str, where: str
) -> Endpoint:
    only(message, {"endpoint", "health_status", "load_balancing_weight", "metadata"}, name, where)
    only(message.endpoint, {"address", "hostname", "health_check_config"}, name, f"{where}.endpoint")
    ip, port = address(message.endpoint.address, name, f"{where}.endpoint.address")
    if message.health_status not in _HEALTH:
        status = _STATUS.Name(message.health_status)
        raise UnsupportedError(name, f"{where}.health_status", f"{status} is not supported")
    weight = wrapped(message, "load_balancing_weight", 1)
    if weight < 1:
        raise UnsupportedError(name, f"{where}.load_balancing_weight", "must be 1 or more")
    check, here = message.endpoint.health_check_config, f"{where}.endpoint.health_check_config"
    only(check, {"port_value"}, name, here)
    if check.port_value > _MAX_PORT:
        raise UnsupportedError(name, f"{here}.port_value", f"must be up to {_MAX_PORT}")
    facts = metadata.own_fields(message.metadata)
    metadata.only(facts, {"workload"}, name, f"{where}.metadata")
    return Endpoint(
        address=ip,
        port=port,
        weight=weight,
        health=_HEALTH[message.health_status],
        locality=locality,
        priority=priority,
        workload=metadata.text(facts, "workload", "", name, f"{where}.metadata"),
        health_port=int(check.port_value),
    )
