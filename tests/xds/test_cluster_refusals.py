"""What a cluster or its endpoints ask for beyond what we do is refused by field, never ignored."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2, health_check_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.load_balancing_policies.common.v3 import common_pb2
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as _Options
from google.protobuf import any_pb2, duration_pb2, wrappers_pb2
from google.protobuf.message import Message

from meshd.model.cluster_policies import Outlier
from meshd.model.clusters import HttpVersion
from meshd.xds import decode, encode
from meshd.xds.packing import unpack
from meshd.xds.unsupported import UnsupportedError
from tests.xds.example import cluster, endpoints


def _policy(message: cluster_pb2.Cluster, config: Message) -> None:
    policy = message.load_balancing_policy.policies.add()
    policy.typed_extension_config.typed_config.Pack(config)


def _slow_start(message: cluster_pb2.Cluster) -> None:
    message.round_robin_lb_config.slow_start_config.SetInParent()


def _check() -> health_check_pb2.HealthCheck:
    one, second = wrappers_pb2.UInt32Value(value=1), duration_pb2.Duration(seconds=1)
    return health_check_pb2.HealthCheck(
        interval=second, timeout=second, healthy_threshold=one, unhealthy_threshold=one
    )


def _check_with_payload() -> health_check_pb2.HealthCheck:
    check = _check()
    check.tcp_health_check.send.text = "00"
    return check


def _grpc_check_of_http1(message: cluster_pb2.Cluster) -> None:
    check = _check()
    check.grpc_health_check.SetInParent()
    message.health_checks.append(check)
    message.typed_extension_protocol_options.clear()


_HTTP = f"typed_extension_protocol_options[{encode.HTTP_PROTOCOL_OPTIONS}]"


def _say(message: cluster_pb2.Cluster, options: _Options) -> None:
    message.typed_extension_protocol_options[encode.HTTP_PROTOCOL_OPTIONS].Pack(options)


CLUSTERS: list[tuple[str, Callable[[cluster_pb2.Cluster], object]]] = [
    ("type", lambda m: setattr(m, "type", cluster_pb2.Cluster.STRICT_DNS)),
    ("lb_policy", lambda m: setattr(m, "lb_policy", cluster_pb2.Cluster.CLUSTER_PROVIDED)),
    ("ring_hash_lb_config", lambda m: m.ring_hash_lb_config.SetInParent()),
    ("round_robin_lb_config.slow_start_config.slow_start_window", _slow_start),
    ("load_balancing_policy", lambda m: m.load_balancing_policy.SetInParent()),
    ("load_balancing_policy", lambda m: _policy(m, wrr_locality_pb2.WrrLocality())),
    (
        "load_balancing_policy.policies[0].typed_extension_config.typed_config.locality_lb_config",
        lambda m: _policy(m, random_pb2.Random(locality_lb_config=common_pb2.LocalityLbConfig())),
    ),
    (
        "load_balancing_policy.policies[0].typed_extension_config.typed_config.table_size",
        lambda m: _policy(m, maglev_pb2.Maglev(table_size=wrappers_pb2.UInt64Value(value=100))),
    ),
    ("eds_cluster_config.service_name", lambda m: setattr(m.eds_cluster_config, "service_name", "x")),
    ("eds_cluster_config.eds_config", lambda m: m.eds_cluster_config.eds_config.Clear()),
    ("circuit_breakers.per_host_thresholds", lambda m: m.circuit_breakers.per_host_thresholds.add()),
    ("circuit_breakers.thresholds", lambda m: m.circuit_breakers.thresholds.add()),
    (
        "circuit_breakers.thresholds[0].max_requests",
        lambda m: m.circuit_breakers.thresholds[0].max_requests.Clear(),
    ),
    (
        "circuit_breakers.thresholds[0].priority",
        lambda m: setattr(m.circuit_breakers.thresholds[0], "priority", base_pb2.HIGH),
    ),
    (
        "circuit_breakers.thresholds[0].retry_budget.budget_percent",
        lambda m: m.circuit_breakers.thresholds[0].retry_budget.budget_percent.SetInParent(),
    ),
    (
        "outlier_detection.enforcing_success_rate",
        lambda m: setattr(m.outlier_detection.enforcing_success_rate, "value", 50),
    ),
    (
        "outlier_detection.enforcing_failure_percentage",
        lambda m: m.outlier_detection.enforcing_failure_percentage.SetInParent(),
    ),
    (
        "outlier_detection.always_eject_one_host",
        lambda m: m.outlier_detection.always_eject_one_host.SetInParent(),
    ),
    ("outlier_detection.interval", lambda m: m.outlier_detection.interval.SetInParent()),
    ("health_checks[0].interval", lambda m: m.health_checks.add()),
    ("health_checks[0].health_checker", lambda m: m.health_checks.append(_check())),
    ("health_checks[0].tcp_health_check.send", lambda m: m.health_checks.append(_check_with_payload())),
    ("health_checks[0].grpc_health_check", _grpc_check_of_http1),
    ("health_checks", lambda m: m.health_checks.extend((_check(), _check()))),
    (
        "metadata.health_check_port",
        lambda m: (
            m.health_checks.append(_check()),
            m.metadata.filter_metadata["io.meshd"].update({"health_check_port": 65536}),
        ),
    ),
    ("transport_socket", lambda m: m.transport_socket.SetInParent()),
    (
        "common_lb_config.healthy_panic_threshold",
        lambda m: setattr(m.common_lb_config.healthy_panic_threshold, "value", 0.5),
    ),
    ("typed_extension_protocol_options[x]", lambda m: m.typed_extension_protocol_options["x"].SetInParent()),
    (f"{_HTTP}.auto_config", lambda m: _say(m, _Options(auto_config=_Options.AutoHttpConfig()))),
    (
        f"{_HTTP}.explicit_http_config",
        lambda m: _say(m, _Options(explicit_http_config=_Options.ExplicitHttpConfig())),
    ),
    (
        f"{_HTTP}.use_downstream_protocol_config.http3_protocol_options",
        lambda m: _say(
            m,
            _Options(
                use_downstream_protocol_config=_Options.UseDownstreamHttpConfig(
                    http3_protocol_options=protocol_pb2.Http3ProtocolOptions()
                )
            ),
        ),
    ),
    (
        f"{_HTTP}.explicit_http_config.http2_protocol_options.hpack_table_size",
        lambda m: _say(
            m,
            _Options(
                explicit_http_config=_Options.ExplicitHttpConfig(
                    http2_protocol_options=protocol_pb2.Http2ProtocolOptions(
                        hpack_table_size=wrappers_pb2.UInt32Value(value=1)
                    )
                )
            ),
        ),
    ),
]
ENDPOINTS: list[tuple[str, Callable[[endpoint_pb2.ClusterLoadAssignment], object]]] = [
    ("policy.drop_overloads", lambda m: m.policy.drop_overloads.add()),
    ("policy.overprovisioning_factor", lambda m: m.policy.overprovisioning_factor.SetInParent()),
    ("endpoints[0].proximity", lambda m: m.endpoints[0].proximity.SetInParent()),
    ("endpoints[0].locality", lambda m: setattr(m.endpoints[0].locality, "zone", "a/b")),
    (
        "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address",
        lambda m: setattr(
            m.endpoints[0].lb_endpoints[0].endpoint.address.socket_address, "address", "example.org"
        ),
    ),
    (
        "endpoints[0].lb_endpoints[0].load_balancing_weight",
        lambda m: m.endpoints[0].lb_endpoints[0].load_balancing_weight.CopyFrom(wrappers_pb2.UInt32Value()),
    ),
    (
        "endpoints[0].lb_endpoints[0].endpoint.health_check_config.disable_active_health_check",
        lambda m: setattr(
            m.endpoints[0].lb_endpoints[0].endpoint.health_check_config, "disable_active_health_check", True
        ),
    ),
]


def _fields(table: list[tuple[str, Callable[..., object]]]) -> list[str]:
    return [field for field, _ in table]


@pytest.mark.parametrize(("field", "edit"), CLUSTERS, ids=_fields(CLUSTERS))
def test_cluster(field: str, edit: Callable[[cluster_pb2.Cluster], object]) -> None:
    message = encode.cluster(cluster("a"))
    edit(message)
    with pytest.raises(UnsupportedError) as refused:
        decode.cluster(message)
    assert (refused.value.resource, refused.value.field) == ("a", field)


@pytest.mark.parametrize(("field", "edit"), ENDPOINTS, ids=_fields(ENDPOINTS))
def test_endpoints(field: str, edit: Callable[[endpoint_pb2.ClusterLoadAssignment], object]) -> None:
    message = encode.endpoints(endpoints("a", "10.0.0.1"))
    edit(message)
    with pytest.raises(UnsupportedError) as refused:
        decode.endpoints(message)
    assert (refused.value.resource, refused.value.field) == ("a", field)


def test_defaults_of_what_is_not_set_are_envoys() -> None:
    message = cluster_pb2.Cluster(name="a", type=cluster_pb2.Cluster.EDS)
    message.eds_cluster_config.eds_config.ads.SetInParent()
    assert decode.cluster(message) == msgspec.structs.replace(
        cluster("a"), panic_percent=50, http_version=HttpVersion.HTTP1
    )
    message.outlier_detection.SetInParent()
    outlier = Outlier(consecutive_5xx=5, consecutive_gateway=0, success_rate_factor=1900)
    assert decode.cluster(message).outlier == outlier


def test_packed_garbage_is_refused() -> None:
    packed = any_pb2.Any(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster", value=b"\xff")
    with pytest.raises(UnsupportedError, match="cannot be decoded"):
        unpack(packed, cluster_pb2.Cluster(), "a", "resource")
    packed.Pack(duration_pb2.Duration())
    with pytest.raises(UnsupportedError, match=r"holds .*Duration"):
        unpack(packed, cluster_pb2.Cluster(), "a", "resource")
