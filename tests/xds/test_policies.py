"""Policies in forms that we do not write ourselves: what they are read as, and what of them is refused."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
    client_side_weighted_round_robin_pb2,
)
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from google.protobuf import duration_pb2, wrappers_pb2
from google.protobuf.message import Message

from meshd.model.cluster_policies import (
    Balancing,
    LeastRequest,
    Maglev,
    RandomEndpoint,
    RingHash,
    RoundRobin,
    SlowStart,
)
from meshd.model.request_policies import Cors, Fault, RateLimit, Retry, SessionCookie, TokenBucket
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.xds import decode, decode_route, encode, http_filters
from meshd.xds.unsupported import UnsupportedError
from tests.xds.example import cluster

_DIRECT = Forward(clusters=(WeightedCluster(name="a"),))


def _message(route: Route) -> route_pb2.RouteConfiguration:
    host = VirtualHost(name="v", routes=(route,))
    return encode.route_config(RouteConfig(name="a", virtual_hosts=(host,)))


def _read(message: route_pb2.RouteConfiguration) -> Route:
    return decode_route.route_config(message).virtual_hosts[0].routes[0]


def _read_retry(policy: route_components_pb2.RetryPolicy) -> Retry | None:
    message = _message(
        Route(name="r", action=msgspec.structs.replace(_DIRECT, retry=Retry(connect_failure=False)))
    )
    policy.retry_host_predicate.extend(
        message.virtual_hosts[0].routes[0].route.retry_policy.retry_host_predicate
    )
    message.virtual_hosts[0].routes[0].route.retry_policy.CopyFrom(policy)
    action = _read(message).action
    assert isinstance(action, Forward)
    return action.retry


@pytest.mark.parametrize(
    ("retry_on", "retry"),
    [
        ("5xx", Retry(reset=True, statuses=tuple(range(500, 600)))),
        ("gateway-error", Retry(reset=True, statuses=(502, 503, 504))),
        ("reset", Retry(reset=True)),
        ("reset-before-request", Retry()),
        ("connect-failure,refused-stream", Retry()),
        ("refused-stream", Retry(connect_failure=False)),
        ("retriable-4xx, connect-failure", Retry(statuses=(409,))),
        ("retriable-status-codes,gateway-error", Retry(reset=True, statuses=(429, 502, 503, 504))),
        ("", Retry(connect_failure=False)),
    ],
)
def test_conditions_of_retries(retry_on: str, retry: Retry) -> None:
    policy = route_components_pb2.RetryPolicy(retry_on=retry_on, retriable_status_codes=[429])
    assert _read_retry(policy) == retry


def test_backoff_that_names_no_maximum() -> None:
    policy = route_components_pb2.RetryPolicy(retry_on="reset")
    policy.retry_back_off.base_interval.FromMilliseconds(200)
    assert _read_retry(policy) == Retry(reset=True, backoff=0.2, max_backoff=2.0)


def _balancing(*policies: Message) -> Balancing:
    message = encode.cluster(cluster("a"))
    for policy in policies:
        config = message.load_balancing_policy.policies.add().typed_extension_config
        config.name = "any"
        config.typed_config.Pack(policy)
    return decode.cluster(message).balancing


def test_load_balancing_policies() -> None:
    maglev = maglev_pb2.Maglev(table_size=wrappers_pb2.UInt64Value(value=251))
    ring = ring_hash_pb2.RingHash(minimum_ring_size=wrappers_pb2.UInt64Value(value=10))
    slow = round_robin_pb2.RoundRobin()
    slow.slow_start_config.slow_start_window.FromSeconds(5)
    assert _balancing(round_robin_pb2.RoundRobin()) == RoundRobin()
    assert _balancing(slow) == RoundRobin(slow_start=SlowStart(window=5.0))
    assert _balancing(least_request_pb2.LeastRequest()) == LeastRequest()
    assert _balancing(random_pb2.Random()) == RandomEndpoint()
    assert _balancing(ring) == RingHash(min_size=10)
    assert _balancing(maglev) == Maglev(table_size=251)


def test_first_load_balancing_policy_that_is_known() -> None:
    unknown = client_side_weighted_round_robin_pb2.ClientSideWeightedRoundRobin()
    assert _balancing(unknown, random_pb2.Random(), round_robin_pb2.RoundRobin()) == RandomEndpoint()


def test_what_a_foreign_filter_policy_is_read_as() -> None:
    message = _message(Route(name="r", action=_DIRECT))
    configs = message.virtual_hosts[0].routes[0].typed_per_filter_config
    configs[http_filters.CORS].Pack(cors_pb2.CorsPolicy(allow_methods="GET,PUT"))
    fault = fault_pb2.HTTPFault()
    fault.abort.http_status, fault.abort.percentage.numerator = 503, 50  # of a hundred
    configs[http_filters.FAULT].Pack(fault)
    configs[http_filters.SESSION].Pack(stateful_session_pb2.StatefulSessionPerRoute(disabled=True))
    route = _read(message)
    assert route.cors == Cors(origins=(), methods=("GET", "PUT"), max_age=-1, forward_unmatched=True)
    assert route.fault == Fault(abort=503, abort_share=500_000)
    assert route.action == _DIRECT


_POLICIES = Route(
    name="r",
    action=msgspec.structs.replace(_DIRECT, session=SessionCookie(name="s")),
    cors=Cors(origins=()),
    fault=Fault(delay=1.0, delay_share=1, abort=500, abort_share=1),
    rate_limit=RateLimit(each_client=TokenBucket(tokens=1, interval=1.0, burst=1)),
)
_Limit = local_rate_limit_pb2.LocalRateLimit
_Session = stateful_session_pb2.StatefulSessionPerRoute
_REFUSED: list[tuple[str, Message, str, Callable[..., object]]] = [
    (http_filters.CORS, cors_pb2.CorsPolicy(), "max_age", lambda m: setattr(m, "max_age", "long")),
    (http_filters.CORS, cors_pb2.CorsPolicy(), "filter_enabled", lambda m: m.filter_enabled.SetInParent()),
    (http_filters.CORS, cors_pb2.CorsPolicy(), "shadow_enabled", lambda m: m.shadow_enabled.SetInParent()),
    (
        http_filters.FAULT,
        fault_pb2.HTTPFault(),
        "response_rate_limit",
        lambda m: m.response_rate_limit.SetInParent(),
    ),
    (http_filters.FAULT, fault_pb2.HTTPFault(), "", lambda m: m.abort.header_abort.SetInParent()),
    (
        http_filters.FAULT,
        fault_pb2.HTTPFault(),
        "abort.grpc_status",
        lambda m: setattr(m.abort, "grpc_status", 1),
    ),
    (http_filters.RATE_LIMIT, _Limit(), "status", lambda m: setattr(m.status, "code", 503)),
    (http_filters.RATE_LIMIT, _Limit(), "filter_enforced", lambda m: m.ClearField("filter_enforced")),
    (http_filters.RATE_LIMIT, _Limit(), "token_bucket.max_tokens", lambda m: m.token_bucket.Clear()),
    (http_filters.RATE_LIMIT, _Limit(), "descriptors", lambda m: m.descriptors.add()),
    (
        http_filters.RATE_LIMIT,
        _Limit(),
        "descriptors[0].entries",
        lambda m: setattr(m.descriptors[0].entries[0], "value", "10.0.0.1"),
    ),
    (http_filters.RATE_LIMIT, _Limit(), "rate_limits", lambda m: m.rate_limits.add()),
    (http_filters.RATE_LIMIT, _Limit(), "stage", lambda m: setattr(m, "stage", 1)),
    (
        http_filters.SESSION,
        _Session(),
        "stateful_session.strict",
        lambda m: setattr(m.stateful_session, "strict", True),
    ),
    (
        http_filters.SESSION,
        _Session(),
        "stateful_session.session_state.typed_config",
        lambda m: m.stateful_session.session_state.typed_config.Pack(duration_pb2.Duration()),
    ),
]


@pytest.mark.parametrize(
    ("kind", "into", "field", "edit"), _REFUSED, ids=[f"{each[0]}-{each[2]}" for each in _REFUSED]
)
def test_what_a_filter_does_not_do(kind: str, into: Message, field: str, edit: Callable[..., object]) -> None:
    message = _message(_POLICIES)
    config = message.virtual_hosts[0].routes[0].typed_per_filter_config[kind]
    config.Unpack(into)
    edit(into)
    config.Pack(into)
    with pytest.raises(UnsupportedError) as refused:
        _read(message)
    where = f"virtual_hosts[0].routes[0].typed_per_filter_config[{kind}]"
    assert (refused.value.resource, refused.value.field) == ("a", f"{where}.{field}".rstrip("."))


def test_policies_that_contradict_themselves_are_not_encoded() -> None:
    both = Fault(delay=1.0, delay_share=1, by_header=True)
    with pytest.raises(ValueError, match="fixed, or the request's"):
        _message(Route(name="r", action=_DIRECT, fault=both))
    with pytest.raises(ValueError, match="without a bucket"):
        _message(Route(name="r", action=_DIRECT, rate_limit=RateLimit()))


def test_balancing_config_of_another_policy_is_refused() -> None:
    message = encode.cluster(cluster("a"))
    message.lb_policy = cluster_pb2.Cluster.RING_HASH
    message.maglev_lb_config.SetInParent()
    with pytest.raises(UnsupportedError, match="maglev_lb_config: is not the config of lb_policy"):
        decode.cluster(message)
