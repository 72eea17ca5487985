"""The model as xDS v3 protos, such that Envoy does with them what our own proxy does.

What xDS has no field for travels in ``metadata.filter_metadata["io.meshd"]``, which Envoy ignores.
"""

from __future__ import annotations

from collections.abc import Mapping

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2, duration_pb2, struct_pb2, wrappers_pb2
from google.protobuf.message import Message

from meshd.model.cluster_policies import Balancing, LeastRequest, RandomEndpoint, RoundRobin
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.routes import RouteConfig
from meshd.xds import encode_route

METADATA = "io.meshd"
CONSUMERS = "consumers"
"""The fact of a listener that names the RouteConfiguration for the callers of each namespace with its own."""
HCM_FILTER = "envoy.filters.network.http_connection_manager"
TCP_FILTER = "envoy.filters.network.tcp_proxy"
ROUTER_FILTER = "envoy.filters.http.router"
HTTP_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

BALANCING: dict[Balancing, cluster_pb2.Cluster.LbPolicy] = {
    RoundRobin(): cluster_pb2.Cluster.ROUND_ROBIN,
    LeastRequest(): cluster_pb2.Cluster.LEAST_REQUEST,
    RandomEndpoint(): cluster_pb2.Cluster.RANDOM,
}
HEALTH = {Health.HEALTHY: "HEALTHY", Health.UNHEALTHY: "UNHEALTHY", Health.DRAINING: "DRAINING"}


def _any(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message, deterministic=True)
    return packed


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a Duration, to the nanosecond."""
    nanos = round(seconds * 1e9)
    return duration_pb2.Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


Facts = Mapping[str, str | bool | Mapping[str, str]]


def _metadata(facts: Facts) -> base_pb2.Metadata:
    struct = struct_pb2.Struct()
    struct.update(facts)
    return base_pb2.Metadata(filter_metadata={METADATA: struct})


def _address(address: str, port: int) -> address_pb2.Address:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def ads() -> config_source_pb2.ConfigSource:
    """A config source that says: over the same ADS stream."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
    )


def listener(model: Listener) -> listener_pb2.Listener:
    """A listener with one filter chain: HTTP with routes over RDS, or TCP to the cluster."""
    facts: dict[str, str | bool | Mapping[str, str]] = {
        "service": model.service,
        "failure_policy": model.failure_policy.value,
    }
    if model.protocol is Protocol.HTTP:
        facts["cluster"] = model.cluster
        if not model.http.forwarded_proto:
            facts["forwarded_proto"] = False
        if not model.fast_path:
            facts["fast_path"] = False
        if model.consumers:
            facts[CONSUMERS] = dict(model.consumers)
        network_filter = listener_components_pb2.Filter(name=HCM_FILTER, typed_config=_any(_http(model)))
    else:
        proxy = tcp_proxy_pb2.TcpProxy(
            stat_prefix=model.name, cluster=model.cluster, idle_timeout=duration(0)
        )
        network_filter = listener_components_pb2.Filter(name=TCP_FILTER, typed_config=_any(proxy))
    first, *further = model.addresses
    return listener_pb2.Listener(
        name=model.name,
        address=_address(first, model.port),
        additional_addresses=[
            listener_pb2.AdditionalAddress(address=_address(address, model.port)) for address in further
        ],
        bind_to_port=wrappers_pb2.BoolValue(value=False),
        traffic_direction=base_pb2.TrafficDirection.OUTBOUND,
        metadata=_metadata(facts),
        filter_chains=[listener_components_pb2.FilterChain(filters=[network_filter])],
    )


def _http(model: Listener) -> http_connection_manager_pb2.HttpConnectionManager:
    options: HttpOptions = model.http
    hcm = http_connection_manager_pb2.HttpConnectionManager
    return hcm(
        stat_prefix=model.name,
        rds=http_connection_manager_pb2.Rds(route_config_name=model.route_config, config_source=ads()),
        http_filters=[
            http_connection_manager_pb2.HttpFilter(name=ROUTER_FILTER, typed_config=_any(router_pb2.Router()))
        ],
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
        # What our proxy does unasked: leaves the Server field alone; WebSocket, HTTP/1.0, trailers.
        server_header_transformation=hcm.PASS_THROUGH,
        upgrade_configs=[hcm.UpgradeConfig(upgrade_type="websocket")],
        http_protocol_options=protocol_pb2.Http1ProtocolOptions(accept_http_10=True, enable_trailers=True),
    )


def route_config(model: RouteConfig) -> route_pb2.RouteConfiguration:
    """A route configuration. Raises ValueError for a model that no listener could have."""
    return route_pb2.RouteConfiguration(
        name=model.name,
        virtual_hosts=[encode_route.virtual_host(host) for host in model.virtual_hosts],
        ignore_port_in_host_matching=model.ignore_port,
    )


def cluster(model: Cluster) -> cluster_pb2.Cluster:
    """A cluster whose endpoints come by EDS, speaking HTTP/1.1 upstream; TCP proxying ignores that."""
    options = http_protocol_options_pb2.HttpProtocolOptions(
        common_http_protocol_options=protocol_pb2.HttpProtocolOptions(
            idle_timeout=duration(model.idle_timeout)
        ),
        explicit_http_config=http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
            http_protocol_options=protocol_pb2.Http1ProtocolOptions(enable_trailers=True)
        ),
    )
    return cluster_pb2.Cluster(
        name=model.name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=ads()),
        lb_policy=BALANCING[model.balancing],
        connect_timeout=duration(model.connect_timeout),
        # No panic mode: with few healthy endpoints the unhealthy ones still get nothing.
        common_lb_config=cluster_pb2.Cluster.CommonLbConfig(
            healthy_panic_threshold=percent_pb2.Percent(value=0.0)
        ),
        typed_extension_protocol_options={HTTP_PROTOCOL_OPTIONS: _any(options)},
    )


def endpoints(model: EndpointSet) -> endpoint_pb2.ClusterLoadAssignment:
    """All endpoints in one locality: there is no locality-aware balancing to ask for."""
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=model.name,
        endpoints=[
            endpoint_components_pb2.LocalityLbEndpoints(
                lb_endpoints=[_endpoint(endpoint) for endpoint in model.endpoints]
            )
        ]
        if model.endpoints
        else [],
    )


def _endpoint(model: Endpoint) -> endpoint_components_pb2.LbEndpoint:
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=_address(model.address, model.port)),
        health_status=HEALTH[model.health],
        load_balancing_weight=wrappers_pb2.UInt32Value(value=model.weight),
        metadata=_metadata({"workload": model.workload}) if model.workload else None,
    )
