"""What the control plane encodes, the agent decodes to the same."""

from __future__ import annotations

import msgspec
from hypothesis import given

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.status import ObjectStatus, Problem, Severity
from meshd.xds import decode, decode_listener, decode_route, encode
from meshd.xds.resources import status_from, status_message
from tests.xds.strategies import resources as strategies


@given(strategies.clusters)
def test_cluster(model: Cluster) -> None:
    assert decode.cluster(encode.cluster(model)) == model


@given(strategies.endpoint_sets)
def test_endpoints(model: EndpointSet) -> None:
    assert decode.endpoints(encode.endpoints(model)) == model


@given(strategies.listeners)
def test_listener(model: Listener) -> None:
    assert decode_listener.listener(encode.listener(model)) == model


@given(strategies.route_configs())
def test_route_config(model: RouteConfig) -> None:
    assert decode_route.route_config(encode.route_config(model)) == model


@given(strategies.route_configs())
def test_encoding_is_deterministic(model: RouteConfig) -> None:
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(model), type=RouteConfig)
    first, second = encode.route_config(model), encode.route_config(again)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_status() -> None:
    problems = (Problem(message="m", field="f"), Problem(message="w", severity=Severity.WARNING))
    status = ObjectStatus(kind="Service", namespace="a", name="b", problems=problems)
    assert status_from(status_message(status)) == status
