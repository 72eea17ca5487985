"""Listeners from xDS v3 protos."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import struct_pb2

from meshd.model.listeners import FailurePolicy, HttpOptions, Listener, Protocol
from meshd.model.request_policies import MILLION
from meshd.model.tcp_routes import TcpRoute
from meshd.xds import http2_options, http_filters, metadata, tcp_chains
from meshd.xds.decode import address, over_ads
from meshd.xds.encode import ACCESS_LOG_SHARE, CONSUMERS, TCP_CONSUMERS
from meshd.xds.packing import seconds, unpack
from meshd.xds.unsupported import UnsupportedError, only

_HCM = http_connection_manager_pb2.HttpConnectionManager
_HCM_FIELDS = {
    "codec_type", "stat_prefix", "rds", "http_filters", "common_http_protocol_options", "stream_idle_timeout",
    "request_headers_timeout", "max_request_headers_kb", "use_remote_address", "skip_xff_append", "via",
    "generate_request_id", "preserve_external_request_id", "server_header_transformation", "upgrade_configs",
    "http_protocol_options", "http2_protocol_options",
}  # fmt: skip
_FIELDS = {
    "name", "address", "additional_addresses", "bind_to_port", "traffic_direction", "metadata",
    "filter_chains", "stat_prefix",
}  # fmt: skip
_TCP_FIELDS = {"listener_filters", "listener_filters_timeout"}
_tcp_routes = msgspec.json.Decoder(tuple[TcpRoute, ...])
_FACTS = {
    "service", "failure_policy", "cluster", "forwarded_proto", "fast_path", "tcp_fast_path",
    "http2_fast_path", ACCESS_LOG_SHARE,
}  # fmt: skip


def listener(message: listener_pb2.Listener) -> Listener:
    """A listener with a filter chain that ends in HTTP routes, or with some that end in clusters.

    Raises UnsupportedError.
    """
    name = str(message.name)
    is_http = _is_http(message)
    only(message, _FIELDS if is_http else _FIELDS | _TCP_FIELDS, name)
    if not message.HasField("bind_to_port") or message.bind_to_port.value:
        raise UnsupportedError(name, "bind_to_port", "only false: service addresses are captured, not bound")
    first, port = address(message.address, name, "address")
    addresses = [first]
    for i, further in enumerate(message.additional_addresses):
        where = f"additional_addresses[{i}]"
        only(further, {"address"}, name, where)
        ip, other_port = address(further.address, name, f"{where}.address")
        if other_port != port:
            raise UnsupportedError(name, f"{where}.address", f"must have the first address's port, {port}")
        addresses.append(ip)
    fields = metadata.own_fields(message.metadata)
    consumers = _consumers(fields.pop(CONSUMERS, None), name)
    tcp_consumers = _tcp_consumers(fields.pop(TCP_CONSUMERS, None), name)
    metadata.only(fields, _FACTS, name, "metadata")
    service = metadata.text(fields, "service", name, name, "metadata")
    policy = _failure_policy(fields, name)
    if is_http:
        if tcp_consumers:
            raise UnsupportedError(name, f"metadata.{TCP_CONSUMERS}", "only of a TCP listener")
        where = "filter_chains[0].filters[0].typed_config"
        hcm = _HCM()
        unpack(_only_filter(message, name).typed_config, hcm, name, where)
        return Listener(
            name=name,
            service=service,
            addresses=tuple(addresses),
            port=port,
            protocol=Protocol.HTTP,
            cluster=metadata.text(fields, "cluster", "", name, "metadata"),
            route_config=_route_config_name(hcm, name, where),
            consumers=consumers,
            failure_policy=policy,
            http=_http(hcm, fields, name, where),
            fast_path=metadata.flag(fields, "fast_path", True, name, "metadata"),
            http2_fast_path=metadata.flag(fields, "http2_fast_path", False, name, "metadata"),
        )
    if consumers:
        raise UnsupportedError(name, f"metadata.{CONSUMERS}", "only where there are routes")
    routes = tcp_chains.read(message, name)
    cluster = metadata.text(fields, "cluster", "", name, "metadata")
    if "cluster" not in fields and tcp_chains.is_plain(routes):
        cluster, routes = routes[0].clusters[0].name, ()
    default = Listener(name="", service="", addresses=(), port=0, protocol=Protocol.TCP)
    return Listener(
        name=name,
        service=service,
        addresses=tuple(addresses),
        port=port,
        protocol=Protocol.TCP,
        cluster=cluster,
        tcp_routes=routes,
        tcp_consumers=tcp_consumers,
        hello_timeout=seconds(message, "listener_filters_timeout", default.hello_timeout),
        failure_policy=policy,
        tcp_fast_path=metadata.flag(fields, "tcp_fast_path", False, name, "metadata"),
        http=HttpOptions(access_log_share=_access_log_share(fields, name)),
    )


def _is_http(message: listener_pb2.Listener) -> bool:
    """What its first filter says; the others have to be like it."""
    filters = [each for chain in message.filter_chains[:1] for each in chain.filters[:1]]
    return any(each.typed_config.Is(_HCM.DESCRIPTOR) for each in filters)


def _access_log_share(fields: Mapping[str, struct_pb2.Value], name: str) -> int:
    return metadata.count(fields, ACCESS_LOG_SHARE, MILLION, MILLION, name, "metadata")


def _tcp_consumers(value: struct_pb2.Value | None, name: str) -> tuple[tuple[str, tuple[TcpRoute, ...]], ...]:
    """The TCP routes for callers of some namespaces."""
    if value is None:
        return ()
    try:
        return tuple(
            sorted(
                (namespace, _tcp_routes.decode(each.string_value))
                for namespace, each in value.struct_value.fields.items()
            )
        )
    except msgspec.MsgspecError as error:
        raise UnsupportedError(name, f"metadata.{TCP_CONSUMERS}", str(error)) from None


def _failure_policy(fields: Mapping[str, struct_pb2.Value], name: str) -> FailurePolicy:
    value = metadata.text(fields, "failure_policy", FailurePolicy.OPEN.value, name, "metadata")
    try:
        return FailurePolicy(value)
    except ValueError as error:
        raise UnsupportedError(name, "metadata.failure_policy", str(error)) from None


def _consumers(value: struct_pb2.Value | None, name: str) -> tuple[tuple[str, str], ...]:
    """The names of the route configs for callers of some namespaces."""
    if value is None:
        return ()
    configs = value.struct_value.fields
    if not configs or any(not each.string_value or not namespace for namespace, each in configs.items()):
        raise UnsupportedError(name, f"metadata.{CONSUMERS}", "must name a route config for each namespace")
    return tuple(sorted((namespace, each.string_value) for namespace, each in configs.items()))


def _only_filter(message: listener_pb2.Listener, name: str) -> listener_components_pb2.Filter:
    """The one filter of the one filter chain."""
    if len(message.filter_chains) != 1:
        raise UnsupportedError(name, "filter_chains", f"one is supported, not {len(message.filter_chains)}")
    chain = message.filter_chains[0]
    only(chain, {"filters", "name"}, name, "filter_chains[0]")
    if len(chain.filters) != 1:
        raise UnsupportedError(
            name, "filter_chains[0].filters", f"one is supported, not {len(chain.filters)}"
        )
    only(chain.filters[0], {"name", "typed_config"}, name, "filter_chains[0].filters[0]")
    return chain.filters[0]


def _route_config_name(hcm: http_connection_manager_pb2.HttpConnectionManager, name: str, where: str) -> str:
    if not hcm.HasField("rds"):
        raise UnsupportedError(name, f"{where}.route_specifier", "only rds")
    over_ads(hcm.rds.config_source, name, f"{where}.rds.config_source")
    if not hcm.rds.route_config_name:
        raise UnsupportedError(name, f"{where}.rds.route_config_name", "must be set")
    return str(hcm.rds.route_config_name)


def _http(
    hcm: http_connection_manager_pb2.HttpConnectionManager,
    facts: Mapping[str, struct_pb2.Value],
    name: str,
    where: str,
) -> HttpOptions:
    only(hcm, _HCM_FIELDS, name, where)
    if hcm.codec_type not in (_HCM.AUTO, _HCM.HTTP1):
        raise UnsupportedError(name, f"{where}.codec_type", "only AUTO and HTTP1")
    if hcm.server_header_transformation == _HCM.APPEND_IF_ABSENT:
        raise UnsupportedError(name, f"{where}.server_header_transformation", "only PASS_THROUGH")
    http_filters.read_chain(hcm.http_filters, name, f"{where}.http_filters")
    for i, upgrade in enumerate(hcm.upgrade_configs):
        here = f"{where}.upgrade_configs[{i}]"
        only(upgrade, {"upgrade_type"}, name, here)
        if upgrade.upgrade_type.lower() != "websocket":
            raise UnsupportedError(name, here, f"{upgrade.upgrade_type} is not supported")
    only(hcm.common_http_protocol_options, {"idle_timeout"}, name, f"{where}.common_http_protocol_options")
    only(
        hcm.http_protocol_options,
        {"accept_http_10", "enable_trailers"},
        name,
        f"{where}.http_protocol_options",
    )
    default = HttpOptions()
    return HttpOptions(
        idle_timeout=seconds(hcm.common_http_protocol_options, "idle_timeout", default.idle_timeout),
        stream_idle_timeout=seconds(hcm, "stream_idle_timeout", default.stream_idle_timeout),
        request_headers_timeout=seconds(hcm, "request_headers_timeout", 0.0),
        max_request_head_bytes=(
            hcm.max_request_headers_kb.value * 1024
            if hcm.HasField("max_request_headers_kb")
            else default.max_request_head_bytes
        ),
        forwarded_for=hcm.use_remote_address.value and not hcm.skip_xff_append,
        forwarded_proto=metadata.flag(facts, "forwarded_proto", True, name, "metadata"),
        request_id=hcm.generate_request_id.value if hcm.HasField("generate_request_id") else True,
        access_log_share=_access_log_share(facts, name),
        via=hcm.via,
        http2=http2_options.read(hcm.http2_protocol_options, name, f"{where}.http2_protocol_options", True),
    )
