"""What a resource asks for beyond what we do is refused by field, never ignored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from envoy.config.core.v3 import address_pb2, base_pb2, protocol_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import wrappers_pb2
from google.protobuf.message import Message

from meshd.model.routes import (
    Forward,
    PathExact,
    PathPrefix,
    ReplacePrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.xds import decode_listener, decode_route, encode
from meshd.xds.unsupported import UnsupportedError
from tests.xds.example import listener, route_config


def _set_hcm(
    message: listener_pb2.Listener,
    edit: Callable[[http_connection_manager_pb2.HttpConnectionManager], object],
) -> None:
    config = message.filter_chains[0].filters[0].typed_config
    hcm = http_connection_manager_pb2.HttpConnectionManager()
    config.Unpack(hcm)
    edit(hcm)
    config.Pack(hcm)


def _add_filter(hcm: http_connection_manager_pb2.HttpConnectionManager, name: str, config: Message) -> None:
    hcm.http_filters.add(name=name).typed_config.Pack(config)


def _set_port(message: listener_pb2.Listener) -> None:
    message.address.socket_address.ClearField("port_value")
    message.address.socket_address.named_port = "http"


LISTENERS: list[tuple[str, Callable[[listener_pb2.Listener], object]]] = [
    ("bind_to_port", lambda m: m.ClearField("bind_to_port")),
    ("listener_filters", lambda m: m.listener_filters.add(name="x")),
    ("use_original_dst", lambda m: m.use_original_dst.SetInParent()),
    ("address.socket_address.named_port", _set_port),
    ("address.pipe", lambda m: m.address.CopyFrom(address_pb2.Address(pipe=address_pb2.Pipe(path="/x")))),
    ("filter_chains", lambda m: m.filter_chains.add()),
    ("filter_chains[0].filter_chain_match", lambda m: m.filter_chains[0].filter_chain_match.SetInParent()),
    ("filter_chains[0].transport_socket", lambda m: m.filter_chains[0].transport_socket.SetInParent()),
    ("filter_chains[0].filters", lambda m: m.filter_chains[0].filters.add()),
    (
        "filter_chains[0].filters[0].typed_config",
        lambda m: m.filter_chains[0].filters[0].typed_config.Clear(),
    ),
    (
        "metadata.filter_metadata[io.meshd].misspelt",
        lambda m: m.metadata.filter_metadata["io.meshd"].update({"misspelt": "x"}),
    ),
    (
        "metadata.failure_policy",
        lambda m: m.metadata.filter_metadata["io.meshd"].update({"failure_policy": "x"}),
    ),
]
HCM: list[tuple[str, Callable[[http_connection_manager_pb2.HttpConnectionManager], object]]] = [
    ("tracing", lambda m: m.tracing.SetInParent()),
    ("normalize_path", lambda m: m.normalize_path.SetInParent()),
    (
        "http2_protocol_options.max_concurrent_streams",
        lambda m: m.http2_protocol_options.max_concurrent_streams.SetInParent(),
    ),
    (
        "http2_protocol_options.initial_stream_window_size",
        lambda m: m.http2_protocol_options.initial_stream_window_size.SetInParent(),
    ),
    (
        "http2_protocol_options.override_stream_error_on_invalid_http_message",
        lambda m: m.http2_protocol_options.override_stream_error_on_invalid_http_message.SetInParent(),
    ),
    (
        "http2_protocol_options.connection_keepalive.timeout",
        lambda m: m.http2_protocol_options.connection_keepalive.SetInParent(),
    ),
    (
        "http2_protocol_options.connection_keepalive.interval",
        lambda m: _keep_alive(m).interval.SetInParent(),
    ),
    (
        "http2_protocol_options.connection_keepalive.interval_jitter",
        lambda m: setattr(_keep_alive(m).interval_jitter, "value", 101),
    ),
    (
        "http2_protocol_options.connection_keepalive.connection_idle_interval",
        lambda m: _keep_alive(m).connection_idle_interval.FromSeconds(1),
    ),
    ("access_log", lambda m: m.access_log.add(name="x")),
    ("codec_type", lambda m: setattr(m, "codec_type", m.HTTP2)),
    ("http_filters[5].typed_config", lambda m: m.http_filters.add(name="envoy.filters.http.cors")),
    ("http_filters", lambda m: m.ClearField("http_filters")),
    ("http_filters[5]", lambda m: m.http_filters.append(m.http_filters[0])),
    ("http_filters[4].disabled", lambda m: setattr(m.http_filters[4], "disabled", True)),
    ("http_filters[0].is_optional", lambda m: setattr(m.http_filters[0], "is_optional", True)),
    ("http_filters[5]", lambda m: _add_filter(m, "envoy.filters.http.cors", cors_pb2.Cors())),
    ("http_filters[5].name", lambda m: _add_filter(m, "mine", cors_pb2.Cors())),
    (
        "http_filters[1].typed_config.max_active_faults",
        lambda m: m.http_filters[1].typed_config.Pack(
            fault_pb2.HTTPFault(max_active_faults=wrappers_pb2.UInt32Value())
        ),
    ),
    ("upgrade_configs[1]", lambda m: m.upgrade_configs.add(upgrade_type="CONNECT")),
    ("rds.config_source", lambda m: m.rds.config_source.path_config_source.SetInParent()),
    ("route_specifier", lambda m: m.route_config.SetInParent()),
    (
        "common_http_protocol_options.max_headers_count",
        lambda m: m.common_http_protocol_options.max_headers_count.SetInParent(),
    ),
]


def _keep_alive(
    message: http_connection_manager_pb2.HttpConnectionManager,
) -> protocol_pb2.KeepaliveSettings:
    settings = message.http2_protocol_options.connection_keepalive
    settings.timeout.FromSeconds(1)
    return settings


ROUTES: list[tuple[str, Callable[[route_components_pb2.Route], object]]] = [
    ("match.prefix", lambda m: setattr(m.match, "prefix", "/a")),
    ("match.path_specifier", lambda m: m.match.ClearField("path_separated_prefix")),
    ("match.case_sensitive", lambda m: m.match.case_sensitive.SetInParent()),
    (
        "route.max_stream_duration.grpc_timeout_header_offset",
        lambda m: m.route.max_stream_duration.grpc_timeout_header_offset.SetInParent(),
    ),
    ("match.safe_regex", lambda m: setattr(m.match.safe_regex, "regex", "(")),
    ("match.headers[0].invert_match", lambda m: m.match.headers.add(name="x", invert_match=True)),
    ("match.headers[0].string_match", lambda m: m.match.headers.add(name="x").string_match.SetInParent()),
    (
        "match.query_parameters[0].present_match",
        lambda m: m.match.query_parameters.add(name="x", present_match=True),
    ),
    (
        "route.retry_policy.retry_on",
        lambda m: setattr(m.route.retry_policy, "retry_on", "connect-failure,envoy-ratelimited"),
    ),
    (
        "route.retry_policy.retry_host_predicate",
        lambda m: setattr(m.route.retry_policy, "retry_on", "connect-failure"),
    ),
    (
        "route.retry_policy.retry_back_off.base_interval",
        lambda m: m.route.retry_policy.retry_back_off.SetInParent(),
    ),
    ("route.retry_policy.retriable_headers", lambda m: m.route.retry_policy.retriable_headers.add()),
    ("route.request_mirror_policies[0].cluster", lambda m: m.route.request_mirror_policies.add()),
    (
        "route.request_mirror_policies[0].cluster_header",
        lambda m: m.route.request_mirror_policies.add(cluster_header="x"),
    ),
    ("route.hash_policy[0]", lambda m: m.route.hash_policy.add()),
    (
        "route.hash_policy[0].filter_state",
        lambda m: m.route.hash_policy.add().filter_state.SetInParent(),
    ),
    (
        "route.hash_policy[0].terminal",
        lambda m: [m.route.hash_policy.add().header.SetInParent() for _ in range(2)],
    ),
    (
        "route.hash_policy[0].cookie.ttl",
        lambda m: m.route.hash_policy.add().cookie.ttl.SetInParent(),
    ),
    ("route.rate_limits", lambda m: m.route.rate_limits.add()),
    ("route.cluster_header", lambda m: setattr(m.route, "cluster_header", "x")),
    ("route.prefix_rewrite", lambda m: setattr(m.route, "prefix_rewrite", "/x/")),
    ("route.regex_rewrite", lambda m: setattr(m.route.regex_rewrite, "substitution", "/x")),
    ("route.weighted_clusters", lambda m: m.route.weighted_clusters.clusters.add(name="x")),
    ("action", lambda m: m.ClearField("route")),
    ("typed_per_filter_config[x]", lambda m: m.typed_per_filter_config["x"].SetInParent()),
    (
        "metadata.filter_metadata[io.meshd].x",
        lambda m: m.metadata.filter_metadata["io.meshd"].update({"x": 1}),
    ),
    (
        "metadata.fast_path",
        lambda m: m.metadata.filter_metadata["io.meshd"].update({"fast_path": "no"}),
    ),
    (
        "metadata.policies",
        lambda m: m.metadata.filter_metadata["io.meshd"].update({"policies": [1]}),
    ),
    (
        "metadata.least_backoff",
        lambda m: m.metadata.filter_metadata["io.meshd"].update({"least_backoff": -1}),
    ),
    (
        "request_headers_to_add[0].header.value",
        lambda m: m.request_headers_to_add.add().header.CopyFrom(
            base_pb2.HeaderValue(key="a", value="%REQ(x)%")
        ),
    ),
    (
        "request_headers_to_add[0].append_action",
        lambda m: m.request_headers_to_add.add(
            append_action=base_pb2.HeaderValueOption.ADD_IF_ABSENT
        ).header.CopyFrom(base_pb2.HeaderValue(key="a", value="b")),
    ),
]


def _fields(table: list[tuple[str, Callable[..., object]]]) -> list[str]:
    return [field for field, _ in table]


@pytest.mark.parametrize(("field", "edit"), LISTENERS, ids=_fields(LISTENERS))
def test_listener(field: str, edit: Callable[[listener_pb2.Listener], object]) -> None:
    message = encode.listener(listener("a"))
    edit(message)
    with pytest.raises(UnsupportedError) as refused:
        decode_listener.listener(message)
    assert (refused.value.resource, refused.value.field) == ("a", field)


@pytest.mark.parametrize(("field", "edit"), HCM, ids=_fields(HCM))
def test_http_connection_manager(
    field: str, edit: Callable[[http_connection_manager_pb2.HttpConnectionManager], object]
) -> None:
    message = encode.listener(listener("a"))
    _set_hcm(message, edit)
    with pytest.raises(UnsupportedError) as refused:
        decode_listener.listener(message)
    assert refused.value.field == f"filter_chains[0].filters[0].typed_config.{field}"


@pytest.mark.parametrize(("field", "edit"), ROUTES, ids=_fields(ROUTES))
def test_route(field: str, edit: Callable[[route_components_pb2.Route], object]) -> None:
    route = Route(
        name="r",
        match=RouteMatch(path=PathPrefix("/a")),
        action=Forward(clusters=(WeightedCluster(name="a"),)),
    )
    config = RouteConfig(name="a", virtual_hosts=(VirtualHost(name="v", routes=(route,)),))
    message = encode.route_config(config)
    edit(message.virtual_hosts[0].routes[0])
    with pytest.raises(UnsupportedError) as refused:
        decode_route.route_config(message)
    assert (refused.value.resource, refused.value.field) == ("a", f"virtual_hosts[0].routes[0].{field}")


def test_virtual_hosts_and_their_domains() -> None:
    message = encode.route_config(route_config("a", "a"))
    message.virtual_hosts.add(name="b", domains=["*"])
    with pytest.raises(UnsupportedError, match=r"\* is given twice"):
        decode_route.route_config(message)
    message.virtual_hosts[1].ClearField("domains")
    with pytest.raises(UnsupportedError, match="must not be empty"):
        decode_route.route_config(message)


def test_unknown_field_on_the_wire_of_a_foreign_server() -> None:
    message = route_pb2.RouteConfiguration(name="a", vhds=route_pb2.Vhds())
    with pytest.raises(UnsupportedError, match="a: vhds: not supported"):
        decode_route.route_config(message)


def test_defaults_of_what_is_not_set_are_envoys() -> None:
    route = route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(prefix="/"), route=route_components_pb2.RouteAction(cluster="c")
    )
    host = route_components_pb2.VirtualHost(name="v", domains=["*"], routes=[route])
    config = decode_route.route_config(route_pb2.RouteConfiguration(name="a", virtual_hosts=[host]))
    action = config.virtual_hosts[0].routes[0].action
    assert isinstance(action, Forward)
    assert (action.timeout, action.missing_cluster_status) == (15.0, 503)


def test_routes_that_contradict_themselves_are_not_encoded() -> None:
    def config(route: Route) -> RouteConfig:
        return RouteConfig(name="a", virtual_hosts=(VirtualHost(name="v", routes=(route,)),))

    nothing = Route(name="r", action=Forward(clusters=(WeightedCluster(name="a", weight=0),)))
    with pytest.raises(ValueError, match="weight"):
        encode.route_config(config(nothing))
    replacing = Route(
        name="r",
        match=RouteMatch(path=PathExact("/a")),
        action=Forward(clusters=(WeightedCluster(name="a"),), path=ReplacePrefix("/b")),
    )
    with pytest.raises(ValueError, match="prefix"):
        encode.route_config(config(replacing))
