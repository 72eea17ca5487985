"""The model as xDS v3 protos, such that Envoy does with them what our own proxy does.

What xDS has no field for travels in the resource's metadata (meshd.xds.metadata).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import wrappers_pb2

from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.request_policies import MILLION
from meshd.model.routes import DirectResponse, RouteConfig
from meshd.xds import encode_route, http2_options, http_filters, http_versions, metadata, tcp_chains
from meshd.xds.packing import duration, number, pack
from meshd.xds.policies import balancing, health_checks, limits, outliers

CONSUMERS = "consumers"
"""The fact of a listener that names the RouteConfiguration for the callers of each namespace with its own."""
TCP_CONSUMERS = "tcp_consumers"
"""The same of a TCP listener: its TCP routes for the callers of each namespace, in JSON."""
HCM_FILTER = "envoy.filters.network.http_connection_manager"
HTTP_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

LATENCY_FACTOR, HEALTH_PORT = "outlier_latency_factor", "health_check_port"
"""Facts of a cluster: Outlier.latency_factor, HealthCheck.port."""
ACCESS_LOG_SHARE = "access_log_share"
"""The fact of a listener: HttpOptions.access_log_share."""
_HELLO_SECONDS = 15.0
"""listener_filters_timeout where it is not set."""
_MAX_WEIGHT = 2**32 - 1
_DIRECT_RESPONSE_BYTES = 4096
"""RouteConfiguration.max_direct_response_body_size_bytes where it is not set."""
HEALTH = {Health.HEALTHY: "HEALTHY", Health.UNHEALTHY: "UNHEALTHY", Health.DRAINING: "DRAINING"}


def _address(address: str, port: int) -> address_pb2.Address:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def ads() -> config_source_pb2.ConfigSource:
    """A config source that says: over the same ADS stream."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
    )


def listener(model: Listener) -> listener_pb2.Listener:
    """A listener: HTTP with routes over RDS, or TCP with a filter chain for each of its routes."""
    facts: dict[str, str | bool | int | Mapping[str, str]] = {
        "service": model.service,
        "failure_policy": model.failure_policy.value,
    }
    if model.http.access_log_share != MILLION:
        facts[ACCESS_LOG_SHARE] = model.http.access_log_share
    if model.protocol is Protocol.HTTP:
        facts["cluster"] = model.cluster
        if not model.http.forwarded_proto:
            facts["forwarded_proto"] = False
        if not model.fast_path:
            facts["fast_path"] = False
        if model.http2_fast_path:
            facts["http2_fast_path"] = True
        if model.consumers:
            facts[CONSUMERS] = dict(model.consumers)
        network_filter = listener_components_pb2.Filter(name=HCM_FILTER, typed_config=pack(_http(model)))
        chains = [listener_components_pb2.FilterChain(filters=[network_filter])]
    elif model.tcp_routes:
        facts["cluster"] = model.cluster
        chains = list(tcp_chains.write(model.name, model.tcp_routes))
    else:
        chains = [tcp_chains.plain(model.name, model.cluster)]
    if model.tcp_fast_path:
        facts["tcp_fast_path"] = True
    if model.tcp_consumers:
        facts[TCP_CONSUMERS] = {
            namespace: msgspec.json.encode(routes).decode() for namespace, routes in model.tcp_consumers
        }
    first, *further = model.addresses
    message = listener_pb2.Listener(
        name=model.name,
        address=_address(first, model.port),
        additional_addresses=[
            listener_pb2.AdditionalAddress(address=_address(address, model.port)) for address in further
        ],
        bind_to_port=wrappers_pb2.BoolValue(value=False),
        traffic_direction=base_pb2.TrafficDirection.OUTBOUND,
        metadata=metadata.write(facts),
        filter_chains=chains,
    )
    if any(route.server_names for route in model.tcp_routes):
        message.listener_filters.append(tcp_chains.inspector())
    if model.hello_timeout != _HELLO_SECONDS:
        message.listener_filters_timeout.CopyFrom(duration(model.hello_timeout))
    return message


def _http(model: Listener) -> http_connection_manager_pb2.HttpConnectionManager:
    options: HttpOptions = model.http
    hcm = http_connection_manager_pb2.HttpConnectionManager
    return hcm(
        stat_prefix=model.name,
        rds=http_connection_manager_pb2.Rds(route_config_name=model.route_config, config_source=ads()),
        http_filters=http_filters.chain(),
        common_http_protocol_options=protocol_pb2.HttpProtocolOptions(
            idle_timeout=duration(options.idle_timeout)
        ),
        stream_idle_timeout=duration(options.stream_idle_timeout),
        request_headers_timeout=duration(options.request_headers_timeout),
        max_request_headers_kb=wrappers_pb2.UInt32Value(value=-(-options.max_request_head_bytes // 1024)),
        use_remote_address=wrappers_pb2.BoolValue(value=True),
        skip_xff_append=not options.forwarded_for,
        generate_request_id=wrappers_pb2.BoolValue(value=options.request_id),
        preserve_external_request_id=True,
        via=options.via,
        # What our proxy does unasked: leaves the Server field alone; WebSocket, also over HTTP/2, HTTP/1.0,
        # trailers.
        server_header_transformation=hcm.PASS_THROUGH,
        upgrade_configs=[hcm.UpgradeConfig(upgrade_type="websocket")],
        http_protocol_options=protocol_pb2.Http1ProtocolOptions(accept_http_10=True, enable_trailers=True),
        http2_protocol_options=http2_options.write(options.http2),
    )


def route_config(model: RouteConfig) -> route_pb2.RouteConfiguration:
    """A route configuration. Raises ValueError for a model that no listener could have."""
    message = route_pb2.RouteConfiguration(
        name=model.name,
        virtual_hosts=[encode_route.virtual_host(host) for host in model.virtual_hosts],
        ignore_port_in_host_matching=model.ignore_port,
    )
    actions = (route.action for host in model.virtual_hosts for route in host.routes)
    longest = max((len(a.body.encode()) for a in actions if isinstance(a, DirectResponse)), default=0)
    if longest > _DIRECT_RESPONSE_BYTES:
        message.max_direct_response_body_size_bytes.CopyFrom(number(longest))
    return message


def cluster(model: Cluster) -> cluster_pb2.Cluster:
    """A cluster whose endpoints come by EDS; TCP proxying ignores what is said of HTTP."""
    options = http_versions.write(model.http_version, model.http2)
    options.common_http_protocol_options.idle_timeout.CopyFrom(duration(model.idle_timeout))
    facts: dict[str, str | bool | float | Sequence[str] | Mapping[str, str]] = {}
    message = cluster_pb2.Cluster(
        name=model.name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=ads()),
        connect_timeout=duration(model.connect_timeout),
        common_lb_config=cluster_pb2.Cluster.CommonLbConfig(
            healthy_panic_threshold=percent_pb2.Percent(value=model.panic_percent)
        ),
        circuit_breakers=limits.write(model.limits),
        typed_extension_protocol_options={HTTP_PROTOCOL_OPTIONS: pack(options)},
    )
    balancing.write(message, model.balancing)
    if model.health_check is not None:
        message.health_checks.append(health_checks.write(model.health_check))
        # An endpoint that is withdrawn gets nothing more, however well it is.
        message.ignore_health_on_host_removal = True
        if model.health_check.port:
            facts[HEALTH_PORT] = model.health_check.port
    if model.outlier is not None:
        message.outlier_detection.CopyFrom(outliers.write(model.outlier))
        if model.outlier.latency_factor:
            facts[LATENCY_FACTOR] = model.outlier.latency_factor
    if model.policies:
        facts[metadata.POLICIES] = model.policies
    if facts:
        message.metadata.CopyFrom(metadata.write(facts))
    return message


def endpoints(model: EndpointSet) -> endpoint_pb2.ClusterLoadAssignment:
    """The endpoints, grouped by priority and locality."""
    groups: dict[tuple[int, str], list[Endpoint]] = {}
    for endpoint in model.endpoints:
        groups.setdefault((endpoint.priority, endpoint.locality), []).append(endpoint)
    message = endpoint_pb2.ClusterLoadAssignment(
        cluster_name=model.name,
        endpoints=[_locality(*key, several) for key, several in groups.items()],
    )
    if model.overprovisioning_percent != EndpointSet(name="").overprovisioning_percent:
        message.policy.overprovisioning_factor.CopyFrom(number(model.overprovisioning_percent))
    return message


def _locality(
    priority: int, locality: str, several: list[Endpoint]
) -> endpoint_components_pb2.LocalityLbEndpoints:
    region, zone, sub_zone = (*locality.split("/"), "", "")[:3]
    return endpoint_components_pb2.LocalityLbEndpoints(
        lb_endpoints=[_endpoint(endpoint) for endpoint in several],
        priority=priority,
        # gRPC's clients leave out localities without a name or a weight.
        locality=base_pb2.Locality(region=region, zone=zone, sub_zone=sub_zone),
        load_balancing_weight=number(min(sum(endpoint.weight for endpoint in several), _MAX_WEIGHT)),
    )


def _endpoint(model: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    message = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=_address(model.address, model.port)),
        health_status=HEALTH[model.health],
        load_balancing_weight=number(model.weight),
        metadata=metadata.write({"workload": model.workload} if model.workload else {}),
    )
    if model.health_port:
        message.endpoint.health_check_config.port_value = model.health_port
    return message
